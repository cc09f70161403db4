"""Pairs written afresh: a RESET, SET pulses up to a difference, and what is missing.

So pairs are programmed at first, and refreshed when both sides have crept up. A write
fires blind, or verifies: it reads before every pulse, and stops where one more would
add to the expected squared error. That is least wrong for a single weight and biased
over many: of `nandakumar_2018` nothing is written below 1.7 uS, 0.4 uS too much at 2 uS
and 0.8 uS too little at 8 uS. A write by chance is right in the mean instead, at more
squared error; or what it left is read, and kept elsewhere (`hic_jax.algorithms`).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from hic_jax.pcm import pair, sides
from hic_jax.pcm.device import DeviceSpec
from hic_jax.pcm.pair import PairState

# A refresh rewrites this share of the pairs at a time: pulses are sequential, so the
# work is gathered from the pairs that need it instead of done for all.
REFRESH_CHUNK = 1 / 32
MIN_REFRESH_CHUNK = 256

# Heights whose mean is known, and devices that each is simulated with.
_HEIGHTS = 65
_SIMULATED = 4096


def write_difference(
    key: jax.Array,
    state: PairState,
    difference: jax.Array,
    time: jax.Array,
    spec: DeviceSpec,
    *,
    max_pulses: int,
    verify: bool,
    by_chance: bool = False,
) -> tuple[PairState, jax.Array]:
    """RESETs all devices of every pair and writes a difference onto one of the sides.

    Each device of that side gets the same target, by itself. Stuck devices get none:
    the others make up for what they hold, on either side.

    Args:
      key: programming noise, read noise and chance.
      state: the pairs.
      difference: (*shape) float32, wanted G+ - G-, uS.
      time: s, hardware time of the write.
      spec: the device.
      max_pulses: SET pulses per device at the most.
      verify: False fires the number of pulses whose mean conductance comes nearest,
        blind. True reads before every pulse (with read noise) and stops where one
        more would add to the expected squared error.
      by_chance: whether each device aims at one of two heights, drawn so that what it
        is written to is right in the mean, as far as pulses reach.

    Returns:
      The new state, and (*shape) float32, uS: what is missing of the difference, by a
      read of the pair after its last pulse (with read noise).
    """
    reset_key, write_key, read_key, chance_key = jax.random.split(key, 4)
    normal = jax.random.normal(reset_key, state.g.shape, jnp.float32)
    fresh = spec.reset(state.devices, normal)
    fresh = pair.unless_stuck(state, fresh, state.devices)
    fresh = pair.where_chosen(True, fresh, state.devices)
    height = _heights(state, difference, spec)
    side = height > 0
    if by_chance:
        uniform = jax.random.uniform(chance_key, height.shape, jnp.float32)
        height = _right_in_the_mean(height, uniform, spec, max_pulses, verify)
    target = jnp.where(side, height + spec.reset_mean, 0.0)
    planned = spec.pulses_for(target, max_pulses)

    def wanting(i, devices, normal):
        if not verify:
            return i < planned
        g = devices.g.astype(jnp.float32)
        measured = g + spec.read_std(g) * normal
        # One more pulse as long as it lessens the expected squared error.
        step, std = spec.expected_step(measured, devices)
        better = step**2 + std**2 < 2 * step * (target - measured)
        return better & (i < max_pulses)

    def fire(carry):
        i, devices, written, hit = carry
        # Only one side is written: its draws serve the other one, too.
        shape = (2, 1, state.per_sign, *difference.shape)
        draw_key = jax.random.fold_in(write_key, i)
        normals = jax.random.normal(draw_key, shape, jnp.float32)
        pulse_normal, read_normal = jnp.broadcast_to(
            normals, (2, 2, *shape[2:])
        ).reshape(2, *state.g.shape)
        hit = hit & wanting(i, devices, read_normal)
        pulsed = pair.pulsed(pulse_normal, devices, state, spec)
        devices = pair.where_chosen(hit, pulsed, devices)
        return i + 1, devices, written + hit, hit

    start = (jnp.int32(0), fresh, jnp.zeros(side.shape, jnp.int32), side)
    _, devices, written, _ = jax.lax.while_loop(lambda c: jnp.any(c[3]), fire, start)
    worn = state.set_pulses
    state = state.replace(
        devices=devices,
        written=state.written.written(time),
        set_pulses=None if worn is None else pair.add_wear(worn, written),
        resets=None if state.resets is None else pair.add_wear(state.resets, 1),
    )
    normal = jax.random.normal(read_key, difference.shape, jnp.float32)
    return state, difference - pair.read(normal, state, time, spec)


def refresh(
    key: jax.Array,
    state: PairState,
    due: jax.Array,
    time: jax.Array,
    spec: DeviceSpec,
    *,
    max_pulses: int,
    verify: bool,
    by_chance: bool = False,
) -> tuple[PairState, jax.Array]:
    """Reads the pairs that are due, RESETs them and writes their difference back.

    Args:
      key: read noise, programming noise and chance.
      state: pairs of flat shape (d, n).
      due: (n,) bool.
      time: s, hardware time of the refresh.
      spec: the device.
      max_pulses: SET pulses per device at the most.
      verify: see `write_difference`.
      by_chance: see `write_difference`.

    Returns:
      The new state, and (n,) float32, uS: what is missing of the differences that were
      to be written back (see `write_difference`); zero for pairs that were not due.
    """
    (n,) = due.shape
    size = min(n, max(MIN_REFRESH_CHUNK, round(n * REFRESH_CHUNK)))

    def rewrite(carry):
        key, state, missing, due = carry
        key, read_key, write_key = jax.random.split(key, 3)
        (chosen,) = jnp.nonzero(due, size=size, fill_value=n)
        # What has no axis all pairs share.
        pairs = jax.tree.map(
            lambda x: jnp.take(x, chosen, axis=-1, mode="clip") if x.ndim else x, state
        )
        normal = jax.random.normal(read_key, chosen.shape, jnp.float32)
        difference = pair.read(normal, pairs, time, spec)
        pairs, left = write_difference(
            write_key, pairs, difference, time, spec,
            max_pulses=max_pulses, verify=verify, by_chance=by_chance,
        )  # fmt: skip
        state, missing = jax.tree.map(
            lambda x, new: x.at[..., chosen].set(new, mode="drop") if x.ndim else x,
            (state, missing),
            (pairs, left),
        )
        return key, state, missing, due.at[chosen].set(False, mode="drop")

    nothing = jnp.zeros(due.shape, jnp.float32)
    _, state, missing, _ = jax.lax.while_loop(
        lambda carry: jnp.any(carry[3]), rewrite, (key, state, nothing, due)
    )
    return state, missing


def _heights(state: PairState, difference: jax.Array, spec: DeviceSpec) -> jax.Array:
    """How far above a RESET each device is to be written, (d, *shape), uS."""
    per_sign = state.per_sign
    if state.stuck is None:
        side = jnp.stack([difference > 0, difference < 0])
        return sides.on_all(jnp.where(side, jnp.abs(difference), 0.0), per_sign)
    answer = ~jnp.asarray(pair.are_stuck(state))
    plus, minus = sides.means(jnp.where(answer, spec.reset_mean, state.g))
    rest = difference - (plus - minus)
    share = sides.means(answer.astype(jnp.float32))
    height = jnp.abs(rest) / jnp.maximum(share, 1 / per_sign)
    side = jnp.stack([rest > 0, rest < 0])
    return jnp.where(answer, sides.on_all(jnp.where(side, height, 0.0), per_sign), 0.0)


def _right_in_the_mean(
    height: jax.Array,
    uniform: jax.Array,
    spec: DeviceSpec,
    max_pulses: int,
    verify: bool,
) -> jax.Array:
    """Heights to aim at: of the two whose means lie around the wanted one, either.

    Args:
      height: wanted above a RESET in the mean, uS.
      uniform: draws from [0, 1), the shape of ``height``.
      spec: the device.
      max_pulses: see `write_difference`.
      verify: see `write_difference`.
    """
    aims, means = (
        jnp.asarray(x, jnp.float32) for x in _written(spec, max_pulses, verify)
    )
    # The last aim whose mean is not above; of aims that fire nothing the largest.
    below = jnp.clip(jnp.searchsorted(means, height, side="right") - 1, 0)
    above = jnp.minimum(below + 1, len(aims) - 1)
    gap = means[above] - means[below]
    upper = (height - means[below]) > uniform * gap
    return jnp.where(upper, aims[above], aims[below])


@functools.lru_cache(maxsize=16)
def _written(
    spec: DeviceSpec, max_pulses: int, verify: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Heights above a RESET that a write may aim at, and what it then writes, uS.

    By simulation: what a controller expects that knows the data sheet, but not the
    device. Means do not decrease.
    """
    trajectory = spec.mean_trajectory(max_pulses)
    # Pulses grow small high up, and a write stops far below where it aims.
    aims = np.linspace(0.0, 2 * (trajectory[-1] - trajectory[0]), _HEIGHTS)

    @jax.jit
    def simulate(key):
        make_key, write_key = jax.random.split(key)
        wanted = jnp.tile(jnp.asarray(aims, jnp.float32)[:, None], _SIMULATED)
        pairs = pair.init(
            make_key, wanted.shape, spec.without("stuck"), track_wear=False
        )
        pairs, _ = write_difference(
            write_key, pairs, wanted, jnp.float32(0.0), spec,
            max_pulses=max_pulses, verify=verify,
        )  # fmt: skip
        return jnp.mean(pairs.g[0], axis=1)

    with jax.ensure_compile_time_eval():
        means = np.asarray(simulate(jax.random.key(0)), np.float64)
    means = np.maximum.accumulate(np.r_[0.0, means[1:] - trajectory[0]])
    for result in (aims, means):
        result.setflags(write=False)
    return aims, means
