"""Differential pairs of multi-level devices: state, transfer, read-out.

A pair holds a signed conductance G+ - G-. A PCM device can only be SET gradually, so
a positive step is a SET pulse on G+, a negative one a SET pulse on G-, and nothing is
ever decremented: both sides creep up until they are RESET and their difference is
written back (`hic_jax.pcm.writing`). Training pulses are blind.

A side may have several devices, the multi-memristive synapse of Boybat et al. (Nat.
Commun. 9:2514, 2018): its conductance is their mean, and a pulse goes to one of them.

Of the devices themselves a pair knows a `DeviceSpec`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from hic_jax.pcm import bits, sides
from hic_jax.pcm.device import DeviceSpec


class PairState(struct.PyTreeNode):
    """Differential pairs; a leading axis of d holds the devices of G+, then of G-.

    Attributes:
      devices: state of the devices, arrays of (d, *shape).
      written_at: (d, *shape) float32, s, time of the last write.
      set_pulses: (d, *shape) uint16, SET pulses ever, stops at 65,535; None if wear
        is not tracked.
      resets: (*shape) uint16, RESETs ever (all devices of a pair together); or None.
      stuck: (*shape) uint8, or uint16 for more than 8 devices, whose bit k says that
        device k ignores every pulse; None if no device is stuck.
    """

    devices: Any
    written_at: jax.Array
    set_pulses: jax.Array | None
    resets: jax.Array | None
    stuck: jax.Array | None

    @property
    def g(self) -> jax.Array:
        """(d, *shape) float32, uS, as written."""
        return self.devices.g

    @property
    def per_sign(self) -> int:
        """Devices on each side."""
        return self.g.shape[0] // 2


def init(
    key: jax.Array,
    shape: tuple[int, ...],
    spec: DeviceSpec,
    *,
    per_sign: int = 1,
    track_wear: bool,
) -> PairState:
    """Freshly RESET pairs at time 0.

    Args:
      key: random key: RESET noise, what differs between devices, which are stuck.
      shape: shape of the weights.
      spec: the device.
      per_sign: devices on each side, at most 8.
      track_wear: whether to count the pulses of every device.
    """
    reset_key, device_key, stuck_key = jax.random.split(key, 3)
    all_devices = (2 * per_sign, *shape)
    devices = spec.init(device_key, all_devices)
    normal = jax.random.normal(reset_key, all_devices, jnp.float32)
    devices = spec.reset(devices, normal)
    stuck = None
    if spec.stuck_set or spec.stuck_reset:
        fate = jax.random.uniform(stuck_key, all_devices)
        stuck_set = fate < spec.stuck_set
        stuck = fate < spec.stuck_set + spec.stuck_reset
        stuck_at = jnp.where(stuck_set, spec.g_max, spec.reset_mean)
        devices = devices.replace(g=jnp.where(stuck, stuck_at, devices.g))
        stuck = bits.pack(stuck)
    return PairState(
        devices=devices,
        written_at=jnp.zeros(all_devices, jnp.float32),
        set_pulses=jnp.zeros(all_devices, jnp.uint16) if track_wear else None,
        resets=jnp.zeros(shape, jnp.uint16) if track_wear else None,
        stuck=stuck,
    )


def conductances(state: PairState, time: jax.Array, spec: DeviceSpec) -> jax.Array:
    """Noise-free conductances at ``time``, each drifted since its own last write.

    Returns:
      (d, *shape) float32, uS.
    """
    g = spec.conductance(state.devices, time - state.written_at)
    return g if state.stuck is None else jnp.where(are_stuck(state), state.g, g)


def answering(g: jax.Array, state: PairState) -> tuple[jax.Array, jax.Array]:
    """Of both sides the devices that are not stuck: all that a RESET can change.

    Which those are a controller knows since it programmed them.

    Args:
      g: (d, *shape), uS, of all devices.
      state: the pairs.

    Returns:
      (2, *shape) uS, what these devices add to each side, and (2, *shape) uS, their
      mean, zero where there are none. On a healthy side both are the conductance.
    """
    if state.stuck is None:
        held = sides.means(g)
        return held, held
    answer = ~jnp.asarray(are_stuck(state))
    held = sides.means(jnp.where(answer, g, 0.0))
    share = sides.means(answer.astype(jnp.float32))
    return held, held / jnp.maximum(share, 1 / state.per_sign)


def read(
    normal: jax.Array | None,
    state: PairState,
    time: jax.Array,
    spec: DeviceSpec,
    *,
    fresh: bool = True,
) -> jax.Array:
    """G+ - G- at ``time``, uS.

    Slow noise is that of the devices, or, before they have any, as new as the rest.

    Args:
      normal: (*shape) standard normal draws for the read noise; None reads exactly.
      state: the pairs.
      time: s, hardware time of the read.
      spec: the device.
      fresh: whether to add what is new in every product, too; False where products do.

    Returns:
      (*shape) float32, uS.
    """
    g = conductances(state, time, spec)
    plus, minus = sides.means(g)
    difference = plus - minus
    if normal is None:
        return difference
    # The independent read errors of all devices are one Gaussian of summed variance.
    std, shares = spec.read_std(g), spec.read_shares(time - state.written_at)
    if shares is not None:
        slow, new, in_products = shares.times(std**2)
        draws = spec.slow_draws(state.devices)
        if draws is None:
            new = new + slow
        else:
            plus, minus = sides.means(jnp.sqrt(slow) * draws)
            difference += plus - minus
        std = jnp.sqrt(new + in_products if fresh else new)
    return difference + jnp.linalg.norm(std, axis=0) / state.per_sign * normal


def fresh_variance(
    state: PairState, time: jax.Array, spec: DeviceSpec
) -> jax.Array | None:
    """Variance of what every product finds anew in G+ - G-, (*shape) uS^2, or None."""
    shares = spec.read_shares(time - state.written_at)
    if shares is None:
        return None
    variance = shares.times(spec.read_std(conductances(state, time, spec)) ** 2).fresh
    return jnp.sum(variance, axis=0) / state.per_sign**2


def set_pulses(
    key: jax.Array,
    state: PairState,
    steps: jax.Array,
    time: jax.Array,
    spec: DeviceSpec,
    turn: jax.Array | int = 0,
) -> tuple[PairState, jax.Array]:
    """Fires ``|steps|`` blind SET pulses at G+ (steps > 0) or G- (steps < 0).

    Of several devices on a side one gets the first pulse, the next one the second, and
    so on in turn: the one arbitration counter of the multi-memristive synapse, which
    all weights share.

    Args:
      key: programming noise.
      state: the pairs.
      steps: (*shape) int32.
      time: s; the drift clock restarts for devices that get a pulse, and only those.
      spec: the device.
      turn: () int32, the counter; its remainder is the device that comes first.

    Returns:
      The new state, and (2, *shape) int32: pulses on each side that met a device
      already at ``g_max``, where none adds anything, or a stuck one.
    """
    signed = jnp.stack([jnp.maximum(steps, 0), jnp.maximum(-steps, 0)])
    count = sides.shares(signed, state.per_sign, turn)
    most = jnp.max(signed, initial=0)

    def fire(carry):
        i, devices, futile = carry
        # In a round a weight gets one pulse: one draw serves all its devices.
        normal = jax.random.normal(jax.random.fold_in(key, i), steps.shape, jnp.float32)
        hit = sides.turns(i < signed, state.per_sign, turn + i)
        futile = futile + (hit & ((devices.g >= spec.g_max) | are_stuck(state)))
        return (
            i + 1,
            where_chosen(hit, pulsed(normal, devices, state, spec), devices),
            futile,
        )

    start = (jnp.int32(0), state.devices, jnp.zeros_like(count))
    _, devices, futile = jax.lax.while_loop(lambda c: c[0] < most, fire, start)
    worn = state.set_pulses
    return state.replace(
        devices=devices,
        written_at=jnp.where(count > 0, time, state.written_at),
        set_pulses=None if worn is None else add_wear(worn, count),
    ), jnp.sum(futile.reshape(2, state.per_sign, *steps.shape), axis=1)


def add_difference(
    key: jax.Array,
    state: PairState,
    difference: jax.Array,
    time: jax.Array,
    spec: DeviceSpec,
    turn: jax.Array | int = 0,
    *,
    max_pulses: int,
) -> tuple[PairState, jax.Array, jax.Array]:
    """Fires SET pulses until the pairs have grown by a difference, without a RESET.

    Every pair is read at first and before each pulse, with read noise, and gets one
    more on the side that brings it nearer as long as that lessens the expected squared
    error.

    Args:
      key: programming noise and read noise.
      state: the pairs.
      difference: (*shape) float32, wanted change of G+ - G-, uS.
      time: s, hardware time of the write; it restarts the drift clock of devices that
        get a pulse, and only those.
      spec: the device.
      turn: () int32, see `set_pulses`.
      max_pulses: SET pulses per pair at the most.

    Returns:
      The new state, (*shape) int32 pulses fired, and (2, *shape) int32, those of them
      that were futile (see `set_pulses`).
    """
    start_key, key = jax.random.split(key)
    normal = jax.random.normal(start_key, difference.shape, jnp.float32)
    start = read(normal, state, time, spec)
    plus = difference > 0
    sign = jnp.where(plus, 1, -1)

    def pulse(carry):
        i, pairs, fired, futile, going = carry
        read_key, set_key = jax.random.split(jax.random.fold_in(key, i))
        normal = jax.random.normal(read_key, difference.shape, jnp.float32)
        missing = sign * (start + difference - read(normal, pairs, time, spec))
        step, std = (
            jnp.where(plus, *sides.means(x)) / pairs.per_sign
            for x in spec.expected_step(pairs.g, pairs.devices)
        )
        going = going & (step**2 + std**2 < 2 * step * missing)
        steps = jnp.where(going, sign, 0)
        pairs, lost = set_pulses(set_key, pairs, steps, time, spec, turn + i)
        return i + 1, pairs, fired + going, futile + lost, going

    begin = (
        jnp.int32(0),
        state,
        jnp.zeros(difference.shape, jnp.int32),
        jnp.zeros((2, *difference.shape), jnp.int32),
        difference != 0,
    )
    _, state, fired, futile, _ = jax.lax.while_loop(
        lambda c: jnp.any(c[4]) & (c[0] < max_pulses), pulse, begin
    )
    return state, fired, futile


def pulsed(normal: jax.Array, devices: Any, state: PairState, spec: DeviceSpec) -> Any:
    """All devices after one pulse more, but for the stuck ones."""
    return unless_stuck(state, spec.pulse(devices, normal), devices)


def unless_stuck(state: PairState, new: Any, devices: Any) -> Any:
    """New devices, but at the old conductance where they ignore every pulse."""
    if state.stuck is None:
        return new
    return new.replace(g=jnp.where(are_stuck(state), devices.g, new.g))


def where_chosen(chosen: jax.Array, new: Any, old: Any) -> Any:
    """The devices of two states, chosen one by one."""
    return jax.tree.map(lambda x, y: jnp.where(chosen, x, y), new, old)


def are_stuck(state: PairState) -> jax.Array | bool:
    """Which devices ignore every pulse, (d, *shape) bool; False if none does."""
    if state.stuck is None:
        return False
    return bits.unpack(state.stuck, state.g.shape[0]).astype(bool)


def add_wear(count: jax.Array, pulses: jax.Array | int) -> jax.Array:
    """Adds to a uint16 counter, which stops at its largest value."""
    total = count.astype(jnp.int32) + jnp.asarray(pulses, jnp.int32)
    return jnp.minimum(total, jnp.iinfo(count.dtype).max).astype(count.dtype)
