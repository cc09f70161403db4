"""Differential pairs of multi-level devices: state, transfer, refresh, read-out.

A pair holds a signed conductance G+ - G-. A PCM device can only be SET gradually, so
a positive step is a SET pulse on G+, a negative one a SET pulse on G-, and nothing is
ever decremented: both devices creep up until a refresh RESETs them and writes back
their difference. Training pulses are blind; a refresh may verify what it writes.
"""

import jax
import jax.numpy as jnp
from flax import struct

from hic_jax.pcm import bits, multilevel
from hic_jax.pcm.multilevel import MultilevelSpec

# A refresh rewrites this share of the pairs at a time: pulses are sequential, so the
# work is gathered from the pairs that need it instead of done for all.
REFRESH_CHUNK = 1 / 32
MIN_REFRESH_CHUNK = 256


@struct.dataclass
class PairState:
    """Differential pairs; a leading axis of 2 holds (G+, G-).

    Attributes:
      g: (2, *shape) float32, uS, as measured ``drift_t0`` after the last write.
      pulses: (2, *shape) uint8, SET pulses since the last RESET.
      written_at: (2, *shape) float32, s, time of the last write.
      nu: (2, *shape) float32 drift exponents; None if all devices share the mean.
      set_pulses: (2, *shape) uint16, SET pulses ever, stops at 65,535; None if wear
        is not tracked.
      resets: (*shape) uint16, RESETs ever (both devices of a pair together); or None.
      stuck: (*shape) uint8, bit 0 says that G+ ignores every pulse, bit 1 that G-
        does; None if no device is stuck.
    """

    g: jax.Array
    pulses: jax.Array
    written_at: jax.Array
    nu: jax.Array | None
    set_pulses: jax.Array | None
    resets: jax.Array | None
    stuck: jax.Array | None


def init(
    key: jax.Array, shape: tuple[int, ...], spec: MultilevelSpec, *, track_wear: bool
) -> PairState:
    """Freshly RESET pairs at time 0.

    Args:
      key: random key: RESET noise, drift exponents, which devices are stuck.
      shape: shape of the weights.
      spec: the device.
      track_wear: whether to count the pulses of every device.
    """
    reset_key, nu_key, stuck_key = jax.random.split(key, 3)
    pair = (2, *shape)
    g = multilevel.reset(jax.random.normal(reset_key, pair, jnp.float32), spec)
    stuck = None
    if spec.stuck_set or spec.stuck_reset:
        fate = jax.random.uniform(stuck_key, pair)
        stuck_set = fate < spec.stuck_set
        stuck = fate < spec.stuck_set + spec.stuck_reset
        g = jnp.where(stuck, jnp.where(stuck_set, spec.g_max, spec.reset_mean), g)
        stuck = bits.pack(stuck)
    nu = None
    if spec.drift_nu_std:
        nu = multilevel.drift_exponents(
            jax.random.normal(nu_key, pair, jnp.float32), spec
        )
    return PairState(
        g=g,
        pulses=jnp.zeros(pair, jnp.uint8),
        written_at=jnp.zeros(pair, jnp.float32),
        nu=nu,
        set_pulses=jnp.zeros(pair, jnp.uint16) if track_wear else None,
        resets=jnp.zeros(shape, jnp.uint16) if track_wear else None,
        stuck=stuck,
    )


def conductances(state: PairState, time: jax.Array, spec: MultilevelSpec) -> jax.Array:
    """Noise-free conductances at ``time``, each drifted since its own last write.

    Returns:
      (2, *shape) float32, uS.
    """
    if state.nu is None and spec.drift_nu == 0:
        return state.g
    nu = spec.drift_nu if state.nu is None else state.nu
    g = multilevel.drifted(state.g, time - state.written_at, nu, spec)
    return _unless_stuck(state, g, state.g)


def read(
    normal: jax.Array | None, state: PairState, time: jax.Array, spec: MultilevelSpec
) -> jax.Array:
    """G+ - G- at ``time``, uS.

    Args:
      normal: (*shape) standard normal draws for the read noise; None reads exactly.
      state: the pairs.
      time: s, hardware time of the read.
      spec: the device.

    Returns:
      (*shape) float32, uS.
    """
    g = conductances(state, time, spec)
    difference = g[0] - g[1]
    if normal is None or not (spec.read_slope or spec.read_offset):
        return difference
    # The two independent read errors of a pair are one Gaussian of summed variance.
    std = jnp.linalg.norm(multilevel.read_std(g, spec), axis=0)
    return difference + std * normal


def set_pulses(
    key: jax.Array,
    state: PairState,
    steps: jax.Array,
    time: jax.Array,
    spec: MultilevelSpec,
) -> tuple[PairState, jax.Array]:
    """Fires ``|steps|`` blind SET pulses at G+ (steps > 0) or G- (steps < 0).

    Args:
      key: programming noise.
      state: the pairs.
      steps: (*shape) int32.
      time: s; the drift clock restarts for devices that get a pulse, and only those.
      spec: the device.

    Returns:
      The new state, and (2, *shape) int32: pulses that met a device already at
      ``g_max``, where none adds anything, or a stuck one.
    """
    count = jnp.stack([jnp.maximum(steps, 0), jnp.maximum(-steps, 0)])
    most = jnp.max(count, initial=0)

    def fire(carry):
        i, g, pulses, futile = carry
        # A weight gets pulses on one side only: one draw serves both devices.
        normal = jax.random.normal(jax.random.fold_in(key, i), steps.shape, jnp.float32)
        new_g, new_pulses = multilevel.set_pulse(g, pulses, normal, spec)
        hit = i < count
        futile = futile + (hit & ((g >= spec.g_max) | _are_stuck(state)))
        new_g = _unless_stuck(state, new_g, g)
        return (
            i + 1,
            jnp.where(hit, new_g, g),
            jnp.where(hit, new_pulses, pulses),
            futile,
        )

    start = (jnp.int32(0), state.g, state.pulses, jnp.zeros_like(count))
    _, g, pulses, futile = jax.lax.while_loop(lambda c: c[0] < most, fire, start)
    worn = state.set_pulses
    return state.replace(
        g=g,
        pulses=pulses,
        written_at=jnp.where(count > 0, time, state.written_at),
        set_pulses=None if worn is None else _add_wear(worn, count),
    ), futile


def write_difference(
    key: jax.Array,
    state: PairState,
    difference: jax.Array,
    time: jax.Array,
    spec: MultilevelSpec,
    *,
    max_pulses: int,
    verify: bool,
) -> PairState:
    """RESETs both devices of every pair and writes a difference onto one of them.

    Args:
      key: programming noise (and, when verifying, read noise).
      state: the pairs.
      difference: (*shape) float32, wanted G+ - G-, uS.
      time: s, hardware time of the write.
      spec: the device.
      max_pulses: SET pulses per device at the most.
      verify: False fires the number of pulses whose mean conductance comes nearest,
        blind. True reads before every pulse (with read noise) and stops where one
        more would add to the expected squared error.
    """
    reset_key, key = jax.random.split(key)
    g = multilevel.reset(jax.random.normal(reset_key, state.g.shape, jnp.float32), spec)
    g = _unless_stuck(state, g, state.g)
    # RESET leaves reset_mean on both sides: the target stands above that.
    side = jnp.stack([difference > 0, difference < 0])
    target = jnp.where(side, jnp.abs(difference) + spec.reset_mean, 0.0)
    planned = multilevel.pulses_for(target, spec, max_pulses)

    def wanting(i, g, pulses, normal):
        if not verify:
            return i < planned
        measured = g + multilevel.read_std(g, spec) * normal
        # One more pulse as long as it lessens the expected squared error.
        step, std = multilevel.set_step(measured, pulses, spec)
        better = step**2 + std**2 < 2 * step * (target - measured)
        return better & (i < max_pulses)

    def fire(carry):
        i, g, pulses, hit = carry
        pulse_normal, read_normal = jax.random.normal(
            jax.random.fold_in(key, i), (2, *difference.shape), jnp.float32
        )
        hit = hit & wanting(i, g, pulses, read_normal)
        new_g, new_pulses = multilevel.set_pulse(g, pulses, pulse_normal, spec)
        new_g = _unless_stuck(state, new_g, g)
        g = jnp.where(hit, new_g, g)
        pulses = jnp.where(hit, new_pulses, pulses)
        return i + 1, g, pulses, hit

    start = (jnp.int32(0), g, jnp.zeros_like(state.pulses), side)
    _, g, pulses, _ = jax.lax.while_loop(lambda c: jnp.any(c[3]), fire, start)
    worn = state.set_pulses
    return state.replace(
        g=g,
        pulses=pulses,
        written_at=jnp.broadcast_to(time, state.g.shape),
        set_pulses=None if worn is None else _add_wear(worn, pulses),
        resets=None if state.resets is None else _add_wear(state.resets, 1),
    )


def refresh(
    key: jax.Array,
    state: PairState,
    due: jax.Array,
    time: jax.Array,
    spec: MultilevelSpec,
    *,
    max_pulses: int,
    verify: bool,
) -> PairState:
    """Reads the pairs that are due, RESETs them and writes their difference back.

    Args:
      key: read noise and programming noise.
      state: pairs of flat shape (2, n).
      due: (n,) bool.
      time: s, hardware time of the refresh.
      spec: the device.
      max_pulses: SET pulses per device at the most.
      verify: see `write_difference`.
    """
    (n,) = due.shape
    size = min(n, max(MIN_REFRESH_CHUNK, round(n * REFRESH_CHUNK)))

    def rewrite(carry):
        key, state, due = carry
        key, read_key, write_key = jax.random.split(key, 3)
        (chosen,) = jnp.nonzero(due, size=size, fill_value=n)
        pairs = jax.tree.map(lambda x: jnp.take(x, chosen, axis=-1, mode="clip"), state)
        normal = jax.random.normal(read_key, chosen.shape, jnp.float32)
        difference = read(normal, pairs, time, spec)
        pairs = write_difference(
            write_key, pairs, difference, time, spec,
            max_pulses=max_pulses, verify=verify,
        )  # fmt: skip
        state = jax.tree.map(
            lambda x, new: x.at[..., chosen].set(new, mode="drop"), state, pairs
        )
        return key, state, due.at[chosen].set(False, mode="drop")

    _, state, _ = jax.lax.while_loop(
        lambda carry: jnp.any(carry[2]), rewrite, (key, state, due)
    )
    return state


def _unless_stuck(state: PairState, new_g: jax.Array, g: jax.Array) -> jax.Array:
    """``new_g``, but ``g`` where a device ignores every pulse; (2, *shape) all."""
    return new_g if state.stuck is None else jnp.where(_are_stuck(state), g, new_g)


def _are_stuck(state: PairState) -> jax.Array | bool:
    """Which devices ignore every pulse, (2, *shape) bool; False if none does."""
    return False if state.stuck is None else bits.unpack(state.stuck, 2)


def _add_wear(count: jax.Array, pulses: jax.Array | int) -> jax.Array:
    """Adds to a uint16 counter, which stops at its largest value."""
    total = count.astype(jnp.int32) + jnp.asarray(pulses, jnp.int32)
    return jnp.minimum(total, jnp.iinfo(count.dtype).max).astype(count.dtype)
