"""Differential pairs of multi-level devices: state, transfer, read-out.

A pair holds a signed conductance G+ - G-. A PCM device can only be SET gradually, so
a positive step is a SET pulse on G+, a negative one a SET pulse on G-, and nothing is
ever decremented: both sides creep up until they are RESET and their difference is
written back (`hic_jax.pcm.writing`). Training pulses are blind.

A side may have several devices, the multi-memristive synapse of Boybat et al. (Nat.
Commun. 9:2514, 2018): its conductance is their mean, and a pulse goes to one of them.

Two-sided devices need no pair: a fixed reference takes the place of G-, and a negative
step is a down pulse. In a pair of them all devices take turns, up on one side for down
on the other.

Of the devices themselves a pair knows a `DeviceSpec`.
"""

import typing
from typing import Any, Self

import jax
import jax.numpy as jnp
from flax import struct

from hic_jax.pcm import bits, sides
from hic_jax.pcm.device import DeviceSpec
from hic_jax.pcm.stamps import Stamps

# Counters of pulses are uint16, and stop here.
_MOST = 65_535


class PairState(struct.PyTreeNode):
    """Differential pairs; a leading axis of d holds the devices of G+, then of G-.

    With a reference in the place of G-, it holds those of G+ alone.

    Attributes:
      devices: state of the devices, arrays of (d, *shape); conductances in the format
        that the device has for it.
      written: (d, *shape), when each device was last written.
      set_pulses: (d, *shape) uint16, SET pulses ever, stops at 65,535; None if wear
        is not tracked. Of two-sided devices up pulses.
      resets: (*shape) uint16, RESETs ever (all devices of a pair together); or None. Of
        two-sided devices down pulses, (d, *shape).
      stuck: (*shape) uint8, or uint16 for more than 8 devices, whose bit k says that
        device k ignores every pulse; None if no device is stuck.
      reference: () or (*shape) float32, uS, what stands in the place of G-; None in
        pairs.
    """

    devices: Any
    written: Stamps
    set_pulses: jax.Array | None
    resets: jax.Array | None
    stuck: jax.Array | None
    reference: jax.Array | None = None

    @property
    def all_devices(self) -> tuple[int, ...]:
        """(d, *shape)."""
        return self.devices.g.shape

    @property
    def g(self) -> jax.Array:
        """(d, *shape) float32, uS, as written."""
        return self.devices.g.astype(jnp.float32)

    @property
    def written_at(self) -> jax.Array:
        """(d, *shape) float32, s, times of the last write."""
        return self.written.times

    @property
    def per_sign(self) -> int:
        """Devices on each side that has any."""
        return self.all_devices[0] // (2 if self.reference is None else 1)

    def set_back(self, seconds: jax.Array | float) -> Self:
        """The same devices, whose last writes lie further back."""
        return self.replace(written=self.written.set_back(seconds))

    def following(self, time: jax.Array) -> Self:
        """The same devices, whose stamps follow the clock (`Stamps.following`)."""
        return self.replace(written=self.written.following(time))

    def full_counters(self) -> jax.Array:
        """Number of counters of pulses that have stopped, () float32."""
        counters = [x for x in (self.set_pulses, self.resets) if x is not None]
        full = [jnp.sum((x == _MOST).astype(jnp.float32)) for x in counters]
        return sum(full, jnp.float32(0.0))


def init(
    key: jax.Array,
    shape: tuple[int, ...],
    spec: DeviceSpec,
    *,
    per_sign: int = 1,
    reference: bool = False,
    track_wear: bool,
    seconds_per_step: float = 0.0,
) -> PairState:
    """Freshly RESET pairs at time 0.

    Args:
      key: random key: RESET noise, what differs between devices, which are stuck.
      shape: shape of the weights.
      spec: the device.
      per_sign: devices on each side, at most 8.
      reference: whether the mean conductance of a RESET stands in the place of G-, for
        two-sided devices.
      track_wear: whether to count the pulses of every device.
      seconds_per_step: s, what the clock advances by between writes.
    """
    reset_key, device_key, stuck_key = jax.random.split(key, 3)
    all_devices = (per_sign if reference else 2 * per_sign, *shape)
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
    devices = devices.replace(g=devices.g.astype(spec.g_dtype))
    return PairState(
        devices=devices,
        written=Stamps.at_zero(all_devices, max(spec.young, seconds_per_step)),
        set_pulses=jnp.zeros(all_devices, jnp.uint16) if track_wear else None,
        resets=jnp.zeros(all_devices if spec.TWO_SIDED else shape, jnp.uint16)
        if track_wear
        else None,
        stuck=stuck,
        reference=jnp.float32(spec.reset_mean) if reference else None,
    )


def conductances(state: PairState, time: jax.Array, spec: DeviceSpec) -> jax.Array:
    """Noise-free conductances at ``time``, each drifted since its own last write.

    Returns:
      (d, *shape) float32, uS.
    """
    g = spec.conductance(state.devices, state.written.ages(time))
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
    difference = _difference(g, state)
    if state.reference is not None:
        difference = difference - state.reference
    if normal is None:
        return difference
    # The independent read errors of all devices are one Gaussian of summed variance.
    std, shares = spec.read_std(g), spec.read_shares(state.written.ages(time))
    if shares is not None:
        slow, new, in_products = shares.times(std**2)
        draws = spec.slow_draws(state.devices)
        if draws is None:
            new = new + slow
        else:
            difference += _difference(jnp.sqrt(slow) * draws, state)
        std = jnp.sqrt(new + in_products if fresh else new)
    return difference + jnp.linalg.norm(std, axis=0) / state.per_sign * normal


def _difference(x: jax.Array, state: PairState) -> jax.Array:
    """(d, *shape) of all devices to (*shape), the mean of G+ less that of G-."""
    if state.reference is not None:
        return jnp.mean(x, axis=0)
    plus, minus = sides.means(x)
    return plus - minus


def fresh_variance(
    state: PairState, time: jax.Array, spec: DeviceSpec
) -> jax.Array | None:
    """Variance of what every product finds anew in G+ - G-, (*shape) uS^2, or None."""
    shares = spec.read_shares(state.written.ages(time))
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
    all weights share. Of two-sided devices all take turns, up on G+ and down on G- for
    steps > 0, the other way for steps < 0.

    Args:
      key: programming noise.
      state: the pairs.
      steps: (*shape) int32.
      time: s; the drift clock restarts for devices that get a pulse, and only those.
      spec: the device.
      turn: () int32, the counter; its remainder is the device that comes first.

    Returns:
      The new state, and (2, *shape) int32: pulses of steps > 0, and of steps < 0, that
      met a device already at the end they led to, where none moves it, or a stuck one.
    """
    up = lead_up(steps > 0, state, spec)
    signed = jnp.stack([jnp.maximum(steps, 0), jnp.maximum(-steps, 0)])
    groups = jnp.abs(steps)[None] if spec.TWO_SIDED else signed
    per_group = len(state.g) // len(groups)
    count = sides.shares(groups, per_group, turn)
    most = jnp.max(groups, initial=0)

    def fire(carry):
        i, devices, futile = carry
        # In a round a weight gets one pulse: one draw serves all its devices.
        normal = jax.random.normal(jax.random.fold_in(key, i), steps.shape, jnp.float32)
        hit = sides.turns(i < groups, per_group, turn + i)
        lost = hit & (spec.is_at_end(devices, up) | are_stuck(state))
        return (
            i + 1,
            where_chosen(hit, pulsed(normal, devices, state, spec, up), devices),
            futile + jnp.any(lost, axis=0),
        )

    start = (jnp.int32(0), state.devices, jnp.zeros(steps.shape, jnp.int32))
    _, devices, futile = jax.lax.while_loop(lambda c: c[0] < most, fire, start)
    state = state.replace(
        devices=devices,
        written=state.written.written(time, count > 0),
    )
    futile = jnp.where(signed > 0, futile, 0)
    if not spec.TWO_SIDED:
        return worn(state, count, None), futile
    return worn(state, jnp.where(up, count, 0), jnp.where(up, 0, count)), futile


def set_both(
    key: jax.Array,
    state: PairState,
    ups: jax.Array,
    downs: jax.Array,
    time: jax.Array,
    spec: DeviceSpec,
    turn: jax.Array | int = 0,
) -> tuple[PairState, jax.Array]:
    """Fires pulses both ways at the same pairs, in random order; see `set_pulses`.

    As examples come that ask for the one or the other: each pair has an order of its
    own, of which all are equally likely.

    Args:
      key: order and programming noise.
      state: the pairs.
      ups: (*shape) int32 pulses that raise a weight, not negative.
      downs: (*shape) int32 pulses that lower it, not negative.
      time: s.
      spec: the device.
      turn: () int32, the counter; it goes on with every pulse.

    Returns:
      What `set_pulses` does.
    """
    most = jnp.max(ups + downs, initial=0)

    def fire(carry):
        i, state, ups, downs, futile = carry
        order_key, pulse_key = jax.random.split(jax.random.fold_in(key, i))
        left = ups + downs
        uniform = jax.random.uniform(order_key, left.shape, jnp.float32)
        is_up = uniform * left < ups
        step = jnp.where(left > 0, jnp.where(is_up, 1, -1), 0)
        state, lost = set_pulses(pulse_key, state, step, time, spec, turn + i)
        return i + 1, state, ups - (step > 0), downs - (step < 0), futile + lost

    futile = jnp.zeros((2, *ups.shape), jnp.int32)
    start = (jnp.int32(0), state, ups, downs, futile)
    *_, futile = end = jax.lax.while_loop(lambda c: c[0] < most, fire, start)
    return end[1], futile


def lead_up(
    plus: jax.Array, state: PairState, spec: DeviceSpec
) -> jax.Array | typing.Literal[True]:
    """Which devices a pulse raises that is to move pairs up (or down, not ``plus``).

    Returns:
      (d, *shape) bool; True of devices that no pulse lowers.
    """
    if not spec.TWO_SIDED:
        return True
    both = [plus] if state.reference is not None else [plus, ~plus]
    return sides.on_all(jnp.stack(both), state.per_sign)


def pulsed(
    normal: jax.Array,
    devices: Any,
    state: PairState,
    spec: DeviceSpec,
    up: jax.Array | bool = True,
) -> Any:
    """All devices after one pulse more, but for the stuck ones."""
    polarity = (up,) if spec.TWO_SIDED else ()
    return unless_stuck(state, spec.pulse(devices, normal, *polarity), devices)


def unless_stuck(state: PairState, new: Any, devices: Any) -> Any:
    """New devices, but at the old conductance where they ignore every pulse."""
    if state.stuck is None:
        return new
    return new.replace(g=jnp.where(are_stuck(state), devices.g, new.g))


def where_chosen(chosen: jax.Array | bool, new: Any, old: Any) -> Any:
    """The devices of two states, chosen one by one, in the formats of the old one."""
    return jax.tree.map(lambda x, y: jnp.where(chosen, x.astype(y.dtype), y), new, old)


def are_stuck(state: PairState) -> jax.Array | bool:
    """Which devices ignore every pulse, (d, *shape) bool; False if none does."""
    if state.stuck is None:
        return False
    return bits.unpack(state.stuck, state.g.shape[0]).astype(bool)


def worn(state: PairState, ups: jax.Array, downs: jax.Array | None) -> PairState:
    """The pairs with (d, *shape) up and down pulses counted; None for no down ones."""
    sets, resets = state.set_pulses, state.resets
    if sets is None or resets is None:
        return state
    sets = add_wear(sets, ups)
    resets = resets if downs is None else add_wear(resets, downs)
    return state.replace(set_pulses=sets, resets=resets)


def add_wear(count: jax.Array, pulses: jax.Array | int) -> jax.Array:
    """Adds to a uint16 counter, which stops at its largest value."""
    total = count.astype(jnp.int32) + jnp.asarray(pulses, jnp.int32)
    return jnp.minimum(total, _MOST).astype(count.dtype)
