"""What a weight is held by, a pair or a device and a reference; made and first written.

Devices that only a RESET lowers come in pairs. A two-sided one does with a reference in
the place of the other: in the middle of the range, or, after zero-shifting, at the
symmetric point of the device.
"""

import dataclasses
import functools
import typing
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from hic_jax import checks, streams
from hic_jax.pcm import pair, stepping, writing
from hic_jax.pcm.device import SMALLEST_STEP_US, DeviceSpec

if TYPE_CHECKING:
    from hic_jax.algorithms.pairs import PairSpec

Arrangement = typing.Literal["auto", "pair", "reference"]

_OF_TWO_SIDED = frozenset({"arrangement", "zero_shift_pulses"})
_OF_ONE_SIDED = frozenset(
    {
        "refresh_every",
        "refresh_above",
        "refresh_common",
        "refresh_pulses",
        "refresh_verify",
    }
)


def of_no_use(device: DeviceSpec) -> frozenset[str]:
    """Fields of a `PairSpec` that make no difference with such a device.

    A device that only a RESET lowers needs a pair, and a two-sided one no refresh.
    """
    return _OF_ONE_SIDED if device.TWO_SIDED else _OF_TWO_SIDED


def has_reference(spec: "PairSpec") -> bool:
    """Whether a reference stands in the place of the second device of a pair."""
    if spec.arrangement == "auto":
        return spec.multilevel.TWO_SIDED
    return spec.arrangement == "reference"


def check(spec: "PairSpec") -> None:
    """Raises `ValueError` where the devices cannot be arranged, or used, like that."""
    device, shift = spec.multilevel, spec.zero_shift_pulses
    checks.one_of("arrangement", spec.arrangement, typing.get_args(Arrangement))
    if spec.arrangement == "reference" and not device.TWO_SIDED:
        raise ValueError(
            "arrangement='reference': must be 'auto' or 'pair', because only a RESET "
            f"lowers {device.name}"
        )
    checks.integer("zero_shift_pulses", shift, 0, 100_000)
    if shift % 2:
        raise ValueError(f"zero_shift_pulses={shift}: must be even, as many up as down")
    if shift and not has_reference(spec):
        raise ValueError(
            f"zero_shift_pulses={shift}: must be 0, because a pair of {device.name} "
            "has no reference to shift"
        )
    if not device.TWO_SIDED:
        return
    if device.swing < SMALLEST_STEP_US:
        raise ValueError(
            f"reset_mean={device.reset_mean}: must leave room to pulse {device.name} "
            "up and down, or it holds no weights"
        )
    usual = {field.name: field.default for field in dataclasses.fields(spec)}
    for name in sorted(of_no_use(device)):
        value = getattr(spec, name)
        if value != usual[name] and (name, value) != ("refresh_every", 0):
            raise ValueError(
                f"{name}={value}: must be left at {usual[name]}, because {device.name} "
                "is two-sided, and never refreshed"
            )


@functools.partial(jax.jit, static_argnames="spec")
def program(
    make_key: jax.Array, write_key: jax.Array, target: jax.Array, spec: "PairSpec"
) -> tuple[pair.PairState, jax.Array]:
    """Makes pairs and writes signed conductances onto them, at time 0.

    Args:
      make_key: what differs from device to device.
      write_key: programming noise, and read noise.
      target: (n,) float32, uS.
      spec: the algorithm and its hardware.

    Returns:
      The pairs, and (n,) float32, uS: what is missing of the target by a read.
    """
    device, time = spec.multilevel, jnp.float32(0.0)
    pairs = pair.init(
        make_key,
        target.shape,
        device,
        per_sign=spec.devices_per_sign,
        reference=has_reference(spec),
        track_wear=spec.track_wear,
        seconds_per_step=spec.seconds_per_step,
    )
    if not device.TWO_SIDED:
        return writing.write_difference(
            write_key, pairs, target, time, device, **spec.write_rule
        )
    if spec.zero_shift_pulses:
        shift_key = streams.stream(write_key, "zero-shifting")
        pairs = stepping.with_symmetric_reference(
            shift_key, pairs, spec.zero_shift_pulses, time, device
        )
    by_chance = spec.rewrite_residue == "chance"
    return stepping.write_two_sided(
        write_key, pairs, target, time, device, by_chance=by_chance
    )
