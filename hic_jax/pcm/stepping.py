"""Pairs stepped to a difference by verified pulses, without a RESET.

So cells of `hic_jax.algorithms.volatile` are transferred, and two-sided devices
programmed; and these are led to their symmetric points, by alternating pulses.
"""

import math

import jax
import jax.numpy as jnp

from hic_jax.pcm import pair, sides
from hic_jax.pcm.device import DeviceSpec


def add_difference(
    key: jax.Array,
    state: pair.PairState,
    difference: jax.Array,
    time: jax.Array,
    spec: DeviceSpec,
    turn: jax.Array | int = 0,
    *,
    max_pulses: int,
) -> tuple[pair.PairState, jax.Array, jax.Array]:
    """Fires SET pulses until the pairs have grown by a difference, without a RESET.

    Every pair is read at first and before each pulse, with read noise, and gets one
    more on the side that brings it nearer as long as that lessens the expected squared
    error. Two-sided devices may turn round.

    Args:
      key: programming noise and read noise.
      state: the pairs.
      difference: (*shape) float32, wanted change of G+ - G-, uS.
      time: s, hardware time of the write; it restarts the drift clock of devices that
        get a pulse, and only those.
      spec: the device.
      turn: () int32, see `hic_jax.pcm.pair.set_pulses`.
      max_pulses: SET pulses per pair at the most.

    Returns:
      The new state, (*shape) int32 pulses fired, and (2, *shape) int32, those of them
      that were futile (see `hic_jax.pcm.pair.set_pulses`).
    """
    start_key, key = jax.random.split(key)
    normal = jax.random.normal(start_key, difference.shape, jnp.float32)
    start = pair.read(normal, state, time, spec)
    return step_to(
        key, state, start + difference, time, spec, turn,
        upwards=None if spec.TWO_SIDED else difference > 0,
        going=difference != 0, max_pulses=max_pulses,
    )  # fmt: skip


def step_to(
    key: jax.Array,
    state: pair.PairState,
    target: jax.Array,
    time: jax.Array,
    spec: DeviceSpec,
    turn: jax.Array | int = 0,
    *,
    upwards: jax.Array | None = None,
    going: jax.Array | bool = True,
    max_pulses: int,
) -> tuple[pair.PairState, jax.Array, jax.Array]:
    """Fires verified pulses until one more would add to the expected squared error.

    Args:
      key: programming noise and read noise.
      state: the pairs.
      target: (*shape) float32, wanted G+ - G-, uS.
      time: s, see `add_difference`.
      spec: the device.
      turn: () int32, see `hic_jax.pcm.pair.set_pulses`.
      upwards: (*shape) bool, the only direction that pulses may lead in; None lets
        every read decide.
      going: (*shape) bool, the pairs that get any.
      max_pulses: pulses per pair at the most.

    Returns:
      As `add_difference`.
    """

    def pulse(carry):
        i, pairs, fired, futile, going = carry
        read_key, set_key = jax.random.split(jax.random.fold_in(key, i))
        normal = jax.random.normal(read_key, target.shape, jnp.float32)
        missing = target - pair.read(normal, pairs, time, spec)
        plus = missing > 0 if upwards is None else upwards
        sign = jnp.where(plus, 1, -1)
        step, std = _expected_step(pairs, plus, spec)
        going = going & (step**2 + std**2 < 2 * step * (sign * missing))
        steps = jnp.where(going, sign, 0)
        pairs, lost = pair.set_pulses(set_key, pairs, steps, time, spec, turn + i)
        return i + 1, pairs, fired + going, futile + lost, going

    begin = (
        jnp.int32(0),
        state,
        jnp.zeros(target.shape, jnp.int32),
        jnp.zeros((2, *target.shape), jnp.int32),
        jnp.broadcast_to(going, target.shape),
    )
    _, state, fired, futile, _ = jax.lax.while_loop(
        lambda c: jnp.any(c[4]) & (c[0] < max_pulses), pulse, begin
    )
    return state, fired, futile


def _expected_step(
    state: pair.PairState, plus: jax.Array, spec: DeviceSpec
) -> tuple[jax.Array, jax.Array]:
    """What a controller expects of a pulse that moves a pair up, or down, in uS.

    Returns:
      Mean and standard deviation, (*shape) each: of the devices that it may go to.
    """
    if not spec.TWO_SIDED:
        both = spec.expected_step(state.g, state.devices)
        sided = [sides.means(x) for x in both]
        mean, std = (jnp.where(plus, x[0], x[1]) for x in sided)
    else:
        up = pair.lead_up(plus, state, spec)
        both = spec.expected_step(state.g, state.devices, up)
        mean, std = (jnp.mean(x, axis=0) for x in both)
    return mean / state.per_sign, std / state.per_sign


def write_two_sided(
    key: jax.Array,
    state: pair.PairState,
    difference: jax.Array,
    time: jax.Array,
    spec: DeviceSpec,
    *,
    by_chance: bool = False,
) -> tuple[pair.PairState, jax.Array]:
    """Steps two-sided devices up and down to a difference, from wherever they are.

    Args:
      key: programming noise, read noise and chance.
      state: the pairs.
      difference: (*shape) float32, wanted G+ - G-, uS.
      time: s, hardware time of the write.
      spec: the device.
      by_chance: whether a target is drawn about the difference, as far as a write
        stops away from it, so that what is written is right in the mean.

    Returns:
      The new state, and (*shape) float32, uS: what is missing of the difference, by a
      read of the pair after its last pulse (with read noise).
    """
    step_key, read_key, chance_key = jax.random.split(key, 3)
    target = difference
    if by_chance:
        step, std = _expected_step(state, difference > 0, spec)
        # Within so much of a target no pulse lessens the expected squared error.
        reach = (step**2 + std**2) / (2 * step)
        uniform = jax.random.uniform(chance_key, difference.shape, minval=-1.0)
        target = difference + reach * uniform
    # Four times as many as lead all devices to an end: steps shrink, noise leads back.
    most = 4 * len(state.g) * math.ceil(spec.swing / spec.mean_step)
    state, _, _ = step_to(step_key, state, target, time, spec, max_pulses=most)
    normal = jax.random.normal(read_key, difference.shape, jnp.float32)
    return state, difference - pair.read(normal, state, time, spec)


def with_symmetric_reference(
    key: jax.Array,
    state: pair.PairState,
    pulses: int,
    time: jax.Array,
    spec: DeviceSpec,
) -> pair.PairState:
    """Two-sided devices at their symmetric points, each with a reference that is alike.

    Zero-shifting: up and down pulses in turn lead every device to where both move it
    alike, which is zero from then on. The reference is the mean of the reads after the
    second half of the pulses; that it is itself a device, written with an error, is
    left out.

    Args:
      key: programming noise and read noise.
      state: devices with a reference.
      pulses: of each device, as many up as down, at least 2; the wear counts them.
      time: s, hardware time of the last of them.
      spec: the device.

    References:
      Kim et al., Zero-shifting technique for deep neural network training on resistive
      cross-point arrays, arXiv:1907.10228 (2019).
    """
    shape = state.g.shape[1:]

    def fire(carry, i):
        devices, summed = carry
        pulse_key, read_key = jax.random.split(jax.random.fold_in(key, i))
        normal = jax.random.normal(pulse_key, state.g.shape, jnp.float32)
        pulsed = pair.pulsed(normal, devices, state, spec, i % 2 == 0)
        devices = pair.where_chosen(True, pulsed, devices)
        now = state.replace(devices=devices, reference=jnp.float32(0.0))
        normal = jax.random.normal(read_key, shape, jnp.float32)
        seen = pair.read(normal, now, time, spec)
        return (devices, summed + jnp.where(2 * i >= pulses, seen, 0.0)), None

    start = state.devices, jnp.zeros(shape, jnp.float32)
    (devices, summed), _ = jax.lax.scan(fire, start, jnp.arange(pulses))
    state = state.replace(
        devices=devices,
        written=state.written.written(time),
        reference=summed / (pulses - (pulses + 1) // 2),
    )
    each = jnp.full(state.g.shape, pulses // 2)
    return pair.worn(state, each, each)
