"""Weights on pairs of devices: how they are written, refreshed and read, in common.

Every algorithm of this package that trains PCM is a subclass of `PairSpec` with an
`update`. What it keeps beside the pairs is a subclass of `PairWeight`.
"""

import abc
import dataclasses
import functools
import math
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from hic_jax import checks
from hic_jax.algorithms.events import Events, total
from hic_jax.algorithms.scaling import weight_scale
from hic_jax.kernel_axes import KernelAxes
from hic_jax.pcm import pair
from hic_jax.pcm.device import SMALLEST_STEP_US, DeviceSpec
from hic_jax.pcm.presets import nandakumar_2018
from hic_jax.weights import AnalogWeight, Pulses

DEVICES_PER_SIGN = (1, 2, 4, 8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairSpec(abc.ABC):
    r"""A training algorithm on pairs of devices, in one frozen object.

    A weight is :math:`W = (G^+ - G^-) / s`, with :math:`s = 2^{b_M - 1} \epsilon /
    w_{max}` uS per unit of weight (``w_max`` not above what ``refresh_pulses`` reach
    in the mean), epsilon the mean conductance of one SET pulse and :math:`w_{max} =
    \alpha\,\mathrm{rms}(W)` at initialisation; smaller where single weights are too
    large for that (`hic_jax.algorithms.scaling.weight_scale`).

    A subclass is an algorithm: it has an `update`, and perhaps a weight, events and
    an `init` of its own.

    Attributes:
      multilevel: the devices of the pairs.
      devices_per_sign: devices on each side of a pair, 1, 2, 4 or 8. A side is their
        mean, and a pulse goes to one of them, in turn: it moves the weight by as many
        times less, with as much less noise.
      multilevel_bits: nominal width of a pair of multi-level devices (b_M), bits, 2 to
        8. Sets how much conductance the initial weights use, as far as pulses reach,
        and what is counted as the size of the model, once for each device on a side.
      w_max_sigmas: the weight of full nominal range (w_max) over the root mean square
        of a layer's initial weights, 0.001 to 1000. A pulse's noise does not shrink
        with the weights, so they had better be large in uS. Beyond w_max there is room
        as far as SET pulses reach: with `nandakumar_2018`, 9.3 uS after the 20 of a
        refresh, where w_max is 6.2.
      refresh_every: training steps between looks for pairs to refresh; 0 for never.
      refresh_above: conductance above which one side of a pair must be for a refresh,
        uS. Low, because the mean of a pulse falls faster with conductance than its
        noise.
      refresh_common: conductance above which both sides of a pair must be for a
        refresh, uS: what they hold in common is the room that a rewrite gains. Not
        below the mean of a RESET, if there are refreshes.
      refresh_pulses: most SET pulses that a device gets when a pair is written, 1 to
        255.
      refresh_verify: whether the writing of a pair reads before every pulse and stops
        at its target, or fires a planned number of pulses blind.
      seconds_per_step: time that one training step takes on the hardware, s.
      track_wear: whether the pulses of every device are counted.
    """

    multilevel: DeviceSpec = dataclasses.field(default_factory=nandakumar_2018)
    devices_per_sign: int = 1
    multilevel_bits: int = 4
    w_max_sigmas: float = 1.5
    refresh_every: int = 10
    refresh_above: float = 2.5
    refresh_common: float = 0.5
    refresh_pulses: int = 20
    refresh_verify: bool = True
    seconds_per_step: float = 0.1
    track_wear: bool = True

    # Whether training fires its pulses blind, without a read before each.
    blind: ClassVar[bool] = True

    def __post_init__(self):
        if not isinstance(self.multilevel, DeviceSpec):
            raise ValueError(f"multilevel={self.multilevel!r}: must be a DeviceSpec")
        checks.integer("devices_per_sign", self.devices_per_sign, 1, 8)
        if self.devices_per_sign not in DEVICES_PER_SIGN:
            raise ValueError(
                f"devices_per_sign={self.devices_per_sign}: must be 1, 2, 4 or 8"
            )
        checks.integer("multilevel_bits", self.multilevel_bits, 2, 8)
        checks.above("w_max_sigmas", self.w_max_sigmas, 0.0)
        # Beyond, every weight is clipped, or none uses as much as a pulse.
        checks.within("w_max_sigmas", self.w_max_sigmas, 1e-3, 1e3)
        checks.integer("refresh_every", self.refresh_every, 0)
        checks.at_least("refresh_above", self.refresh_above, 0.0)
        checks.at_least("refresh_common", self.refresh_common, 0.0)
        if self.refresh_every and self.refresh_common < self.multilevel.reset_mean:
            raise ValueError(
                f"refresh_common={self.refresh_common}: must be at least "
                f"{self.multilevel.reset_mean}, the reset_mean of the device, or a "
                "rewrite gains no room"
            )
        checks.integer("refresh_pulses", self.refresh_pulses, 1, 255)
        if self.full_scale < SMALLEST_STEP_US:
            raise ValueError(
                f"refresh_pulses={self.refresh_pulses}: must be as many as add "
                f"{SMALLEST_STEP_US} uS to the mean conductance of the device after a "
                "RESET, or it holds no weights"
            )
        checks.above("seconds_per_step", self.seconds_per_step, 0.0)
        checks.at_most("seconds_per_step", self.seconds_per_step, checks.SECONDS_MAX)
        for name in ("refresh_verify", "track_wear"):
            checks.boolean(name, getattr(self, name))

    # ---- what an algorithm is

    @property
    def unit(self) -> float:
        """Conductance that 1 in the updates which `update` takes stands for, uS."""
        return self.step

    def init(self, key: jax.Array, target: jax.Array, **common: Any) -> "PairWeight":
        """Makes devices and writes weights onto them, at time 0.

        Args:
          key: device variation, programming noise.
          target: (n,) float32, wanted signed conductances, uS.
          **common: ``scale``, ``time``, ``time_rest`` and ``axes`` of the weight.
        """
        make_key, write_key = jax.random.split(key)
        pairs = self.program(make_key, write_key, target)
        return PairWeight(multilevel=pairs, spec=self, **common)

    @abc.abstractmethod
    def update(
        self,
        key: jax.Array,
        weight: Any,
        update: jax.Array,
        count: jax.Array,
    ) -> tuple[Any, Events]:
        """One step's writes.

        Args:
          key: all that it draws.
          weight: as `init` made it, of packed tensors.
          update: (n,) float32, wanted changes of the weights, in units of `unit`.
          count: () int32, number of this update, from 1.

        Returns:
          The devices after the writes, at the same time, and what happened.
        """

    def no_events(self) -> Events:
        """What `update` returns beside the devices, of nothing."""
        return Events.of()

    # ---- how large weights are on its devices

    @property
    def step(self) -> float:
        """Mean change of a weight by one SET pulse, uS."""
        return self.multilevel.mean_step / self.devices_per_sign

    @property
    def reach(self) -> float:
        """Difference that ``refresh_pulses`` SET pulses write in the mean, uS.

        9.3 uS for the 20 pulses of the default on `nandakumar_2018`, whose pulses add
        nothing in the mean at 10.5 uS.
        """
        trajectory = self.multilevel.mean_trajectory(self.refresh_pulses)
        return float(trajectory[-1] - trajectory[0])

    @property
    def full_scale(self) -> float:
        """Conductance of a weight of w_max, uS.

        That of 2^(b_M - 1) steps, or of as many as a device has: a fifth bit finds 9.3
        instead of 12.3 uS on `nandakumar_2018`, and more bits the same.
        """
        return min(
            2 ** (self.multilevel_bits - 1) * self.multilevel.mean_step, self.reach
        )

    @property
    def write_error(self) -> float:
        """About what a write leaves between a difference and its target, uS.

        A step, below which nothing is written, and the noise of a pulse halfway up:
        1.0 uS on `nandakumar_2018`, where 1.1 is found of weights that are normally
        distributed.
        """
        device = self.multilevel
        return math.hypot(device.mean_step, device.step_std(self.reach / 2))

    def scale(self, weight: jax.Array, axes: KernelAxes | None) -> jax.Array:
        """Scale of a tensor, uS per unit of weight, broadcastable to it."""
        return weight_scale(weight, self, axes)

    # ---- pairs

    def program(
        self, make_key: jax.Array, write_key: jax.Array, target: jax.Array
    ) -> pair.PairState:
        """Makes pairs and writes signed conductances onto them, at time 0.

        Args:
          make_key: what differs from device to device.
          write_key: programming noise, and read noise.
          target: (n,) float32, uS.
        """
        return _program(make_key, write_key, target, self)

    def refreshed(
        self,
        key: jax.Array,
        pairs: pair.PairState,
        time: jax.Array,
        count: jax.Array,
    ) -> tuple[pair.PairState, dict[str, jax.Array]]:
        """Rewrites the pairs that are due, every ``refresh_every`` steps.

        Args:
          key: read noise and programming noise.
          pairs: of packed tensors.
          time: s, hardware time.
          count: () int32, number of this update, from 1.

        Returns:
          The pairs, and the events ``refreshed_pairs`` and ``refresh_error``.
        """

        def refresh(pairs):
            due = self.refresh_due(pairs)
            new = pair.refresh(
                key, pairs, due, time, self.multilevel,
                max_pulses=self.refresh_pulses, verify=self.refresh_verify,
            )  # fmt: skip
            error = pair.read(None, new, time, self.multilevel)
            error -= pair.read(None, pairs, time, self.multilevel)
            return new, total(due), total(jnp.where(due, error, 0.0))

        def leave(pairs):
            zero = jnp.zeros((), jnp.float32)
            return pairs, zero, zero

        number = error = jnp.zeros((), jnp.float32)
        if self.refresh_every:
            pairs, number, error = jax.lax.cond(
                count % self.refresh_every == 0, refresh, leave, pairs
            )
        return pairs, {"refreshed_pairs": number, "refresh_error": error}

    def refresh_due(self, pairs: pair.PairState) -> jax.Array:
        """Pairs whose sides are high, and hold much in common: (n,) bool.

        The look is ideal: at what was written, without read noise and drift since.
        """
        sides = pairs.sides
        high = jnp.max(sides, axis=0) > self.refresh_above
        return high & (jnp.min(sides, axis=0) > self.refresh_common)


class PairWeight(AnalogWeight):
    """Weights on pairs of multi-level devices, which alone are the weight.

    The following holds, for a weight tensor of shape S:
      * weight = (G+ - G-) / scale, with G drifted to ``time``
      * the device arrays are authoritative: float weights are a view of them
      * devices were made at time 0

    Packed weights (`AnalogState.weights`) hold tuples as ``scale`` and ``axes``, with
    an entry for each tensor.

    Attributes:
      multilevel: pairs of multi-level devices, shape S.
      spec: the algorithm and its hardware, static.
    """

    multilevel: pair.PairState
    spec: PairSpec = struct.field(pytree_node=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight tensor."""
        return self.multilevel.g.shape[1:]

    @property
    def read_shape(self) -> tuple[int, ...]:
        """A draw for each pair: Gaussian read errors of its devices are one."""
        return self.shape

    @property
    def chip_shape(self) -> tuple[int, ...]:
        """As many draws for each device as differ between chips."""
        return (self.spec.multilevel.chip_draws, *self.multilevel.g.shape)

    def conductance(self, normal: jax.Array | None, *, fresh: bool = True) -> jax.Array:
        """G+ - G- at ``time``, uS."""
        device = self.spec.multilevel
        return pair.read(normal, self.multilevel, self.time, device, fresh=fresh)

    def fresh_variance(self) -> jax.Array | None:
        """Variance of the weights that is new in every product; None without any."""
        device = self.spec.multilevel
        variance = pair.fresh_variance(self.multilevel, self.time, device)
        return None if variance is None else (jnp.sqrt(variance) / self.scale) ** 2

    def on_another_chip(self, normal: jax.Array) -> Self:
        """The same conductances on devices that age otherwise."""
        device = self.spec.multilevel
        devices = device.on_another_chip(self.multilevel.devices, normal)
        return self.replace(multilevel=self.multilevel.replace(devices=devices))

    def without(self, *names: str) -> Self:
        """The same devices, as if they had never had some of their non-idealities.

        What these have done to the conductances in training stays.
        """
        device = self.spec.multilevel.without(*names)
        return self.replace(spec=dataclasses.replace(self.spec, multilevel=device))

    def set_back(self, seconds: jax.Array | float) -> Self:
        """The devices ``seconds`` older at the same time: writes lie further back."""
        # A map, because an nnx.Optimizer holds variables instead of arrays.
        before = jax.tree.map(lambda x: x - seconds, self.multilevel.written_at)
        return self.replace(multilevel=self.multilevel.replace(written_at=before))

    def bits(self) -> dict[str, int]:
        """Nominal bits, ``multilevel_bits`` for each device on a side."""
        spec = self.spec
        bits = self.size * spec.multilevel_bits * spec.devices_per_sign
        return {"inference": bits, "training": bits}

    def devices(self) -> dict[str, int]:
        """Number of multi-level devices."""
        return {"multilevel": self.multilevel.g.size}

    def pulses(self) -> dict[str, Pulses]:
        """SETs and RESETs of every multi-level device, (d, n) each."""
        sets, resets = self.multilevel.set_pulses, self.multilevel.resets
        if sets is None or resets is None:
            raise ValueError("track_wear=False: pulses of the devices are not known")
        return {"multilevel": flat_pulses(sets, jnp.broadcast_to(resets, sets.shape))}

    def reads(self, steps: int) -> dict[str, int]:
        """Every device is read at every look for pairs to refresh."""
        every = self.spec.refresh_every
        looks = steps // every if every else 0
        return {"multilevel": looks * self.multilevel.g.size}


def flat_pulses(sets: jax.Array, resets: jax.Array) -> Pulses:
    """Pulses of shape (d, *shape) as NumPy arrays (d, n)."""
    return _flat_rows(sets), _flat_rows(resets)


def _flat_rows(x: jax.Array) -> np.ndarray:
    return np.asarray(x).reshape(len(x), -1)


@functools.partial(jax.jit, static_argnames="spec")
def _program(
    make_key: jax.Array, write_key: jax.Array, target: jax.Array, spec: PairSpec
) -> pair.PairState:
    pairs = pair.init(
        make_key,
        target.shape,
        spec.multilevel,
        per_sign=spec.devices_per_sign,
        track_wear=spec.track_wear,
    )
    return pair.write_difference(
        write_key,
        pairs,
        target,
        jnp.float32(0.0),
        spec.multilevel,
        max_pulses=spec.refresh_pulses,
        verify=spec.refresh_verify,
    )
