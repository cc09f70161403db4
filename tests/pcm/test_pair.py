"""Differential pairs: transfer, drift clocks, read-out, wear."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hic_jax import pcm
from hic_jax.pcm import bits, drifting, pair, stepping
from tests.pcm.pairs import (
    DEVICE,
    IDEAL,
    NOW,
    difference,
    holding,
    pairs,
    refresh,
    refreshed,
    set_pulses,
    written,
)

# Compiled once for a shape and a device, not at every call.
add_difference = jax.jit(
    stepping.add_difference, static_argnames=("spec", "max_pulses")
)


def test_a_carry_sets_the_device_of_its_sign_and_no_other():
    before = pairs(3)
    steps = jnp.array([2, 0, -3])
    after, _ = set_pulses(jax.random.key(1), before, steps, NOW, DEVICE)
    hit = np.array([[True, False, False], [False, False, True]])
    np.testing.assert_array_equal(after.g != before.g, hit)
    np.testing.assert_array_equal(after.devices.pulses, [[2, 0, 0], [0, 0, 3]])
    np.testing.assert_array_equal(after.set_pulses, [[2, 0, 0], [0, 0, 3]])
    # The drift clock restarts for devices that were written, and only for those.
    np.testing.assert_array_equal(after.written_at, np.where(hit, 100.0, 0.0))


def test_several_pulses_are_several_single_ones():
    n = 40_000
    ones = jnp.ones(n, jnp.int32)
    at_once, _ = set_pulses(jax.random.key(1), pairs(n), 3 * ones, NOW, DEVICE)
    one_by_one = pairs(n)
    for i in range(3):
        one_by_one, _ = set_pulses(jax.random.key(2 + i), one_by_one, ones, NOW, DEVICE)
    # Standard error of a mean 0.011 uS, of a standard deviation 0.008 uS.
    assert at_once.g[0].mean() == pytest.approx(float(one_by_one.g[0].mean()), abs=0.06)
    assert at_once.g[0].std() == pytest.approx(float(one_by_one.g[0].std()), abs=0.05)


def test_pulses_at_g_max_are_counted_as_futile():
    state = pairs(2, IDEAL)
    state = holding(state, state.g.at[:, 0].set(IDEAL.g_max))
    _, futile = set_pulses(jax.random.key(0), state, jnp.array([3, 3]), NOW, IDEAL)
    np.testing.assert_array_equal(futile, [[3, 0], [0, 0]])


@pytest.mark.parametrize("per_sign", [1, 4])
def test_reads_are_exact_or_have_the_noise_of_all_devices(per_sign):
    n = 100_000
    g = jnp.repeat(jnp.array([[4.0], [1.0]]), per_sign, axis=0)
    state = holding(pairs(n, per_sign=per_sign), jnp.tile(g, n))
    exact = pair.read(None, state, jnp.float32(0.0), DEVICE)
    np.testing.assert_array_equal(exact, np.full(n, 3.0))
    normal = jax.random.normal(jax.random.key(3), (n,))
    noise = np.asarray(pair.read(normal, state, jnp.float32(0.0), DEVICE)) - 3.0
    std = np.hypot(0.03 * 4 + 0.13, 0.03 * 1 + 0.13) / np.sqrt(per_sign)
    # Standard errors of 0.3 % and 0.2 %.
    assert noise.mean() == pytest.approx(0.0, abs=0.005)
    assert noise.std() == pytest.approx(std, rel=0.01)


def test_each_device_drifts_from_its_own_last_write():
    state = holding(pairs(1), jnp.array([[8.0], [4.0]]))
    later = jnp.array([[False], [True]])
    state = state.replace(written=state.written.written(jnp.float32(1000.0), later))
    g = pair.conductances(state, jnp.float32(1386.0), DEVICE)
    expected = [[8 * (1386 / 38.6) ** -0.04], [4 * 10**-0.04]]
    np.testing.assert_allclose(g, expected, rtol=1e-5)


def test_every_device_drifts_with_its_own_exponent():
    spec = pcm.nandakumar_2018(drift_nu_std=0.01)
    state = holding(pairs(500, spec), jnp.full((2, 500), 5.0))
    g = pair.conductances(state, jnp.float32(386.0), spec)
    z = np.asarray(drifting.unpacked_draws(state.devices.z))
    np.testing.assert_allclose(np.log10(g / 5.0), -(0.04 + 0.01 * z), atol=1e-5)
    # Of 1,000 draws on 255 steps, most of which lie within two standard deviations.
    assert 120 < np.unique(z).size < 255


def test_conductances_in_16_bits_leave_the_moments_as_they_are():
    n, pulses = 20_000, 20
    coarse = pairs(n)
    assert coarse.devices.g.dtype == jnp.float16
    fine = holding(coarse, coarse.g)  # Of float32, with the same draws.
    for key in jax.random.split(jax.random.key(1)):  # 10 pulses, and 20.
        steps = jnp.full(n, pulses // 2)
        coarse, fine = (
            set_pulses(key, x, steps, NOW, DEVICE)[0] for x in (coarse, fine)
        )
        for moment in (np.mean, np.std):
            found, exact = (moment(np.asarray(x.g[0])) for x in (coarse, fine))
            # Rounding to 1/128 uS, of steps whose noise is 0.3 uS or more.
            assert found == pytest.approx(exact, rel=1e-3)
    # What Nandakumar et al. find after 20 pulses (tests/pcm/test_multilevel.py); the
    # standard errors are 0.2 % and 0.5 %.
    assert np.mean(np.asarray(coarse.g[0])) == pytest.approx(9.39, rel=0.01)
    assert np.std(np.asarray(coarse.g[0])) == pytest.approx(2.66, rel=0.01)


def test_only_noise_rounds_conductances_without_a_bias():
    # An ideal step, and one of a table without noise, would be rounded the same way.
    assert pairs(1, IDEAL).devices.g.dtype == jnp.float32
    quiet = dataclasses.replace(DEVICE, noise_slope=0.0, noise_offset=0.05)
    assert quiet.g_dtype == jnp.float32  # 1/64 uS is a quarter of 0.0625 uS.
    assert dataclasses.replace(quiet, noise_offset=0.07).g_dtype == jnp.float16
    assert pcm.PRESETS["reram_hfo2"]().g_dtype == jnp.float32


@pytest.mark.parametrize(
    ("per_sign", "dtype"), [(1, "uint8"), (4, "uint8"), (8, "uint16")]
)
def test_stuck_devices_never_move(per_sign, dtype):
    spec = dataclasses.replace(DEVICE, stuck_set=0.1, stuck_reset=0.2)
    n = 5000
    state = pairs(n, spec, per_sign=per_sign)
    assert state.stuck.dtype == dtype
    stuck = np.asarray(bits.unpack(state.stuck, 2 * per_sign)).astype(bool)
    # Standard error 0.005.
    assert stuck.mean() == pytest.approx(0.3, abs=0.02)
    assert set(np.unique(np.asarray(state.g)[stuck])) == {np.float16(0.1), 20.0}
    steps = jnp.full(n, per_sign)  # One for each device of G+.
    after, futile = set_pulses(jax.random.key(1), state, steps, NOW, spec)
    np.testing.assert_array_equal(
        futile, np.stack([stuck[:per_sign].sum(axis=0), np.zeros(n)])
    )
    moved = np.asarray(after.g != state.g)
    assert not np.any(moved & stuck)
    # Of steps with a deviation of 1 uS some are smaller than the grid of float16.
    assert np.mean(moved[:per_sign] == ~stuck[:per_sign]) > 0.999
    assert not moved[per_sign:].any()
    after, _ = refresh(
        jax.random.key(2), after, jnp.ones(n, bool), NOW, spec,
        max_pulses=20, verify=False,
    )  # fmt: skip
    np.testing.assert_array_equal(
        np.asarray(after.g)[stuck], np.asarray(state.g)[stuck]
    )
    later = pair.conductances(after, jnp.float32(1e7), spec)
    np.testing.assert_array_equal(np.asarray(later)[stuck], np.asarray(state.g)[stuck])


def test_wear_counters_stop_at_their_largest_value():
    state = pairs(1, IDEAL)
    state = state.replace(set_pulses=jnp.full((2, 1), 65_534, jnp.uint16))
    for _ in range(2):
        state, _ = set_pulses(jax.random.key(0), state, jnp.array([3]), NOW, IDEAL)
    np.testing.assert_array_equal(state.set_pulses, [[65_535], [65_534]])


def test_what_is_off_costs_nothing():
    state = pair.init(jax.random.key(0), (5,), DEVICE, track_wear=False)
    assert state.devices.z is state.set_pulses is None
    assert state.resets is state.stuck is None
    # But for the epoch of the stamps, which all share.
    bytes_per_pair = sum(x.nbytes for x in jax.tree.leaves(state) if x.ndim) / 5
    assert bytes_per_pair == 2 * (2 + 1 + 2)


# ---- several devices on each side


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("per_sign", [1, 2, 4, 8])
def test_a_step_of_several_devices_has_the_mean_of_one_and_less_spread(per_sign, sign):
    # From 4 uS, where no step of a device is clipped: 4.4 of its standard deviations.
    n, memory = 20_000, np.exp(-4 / 2.6)
    mean = -0.084 * 4 + 0.880 + 1.40 * memory
    std = (0.091 * 4 + 0.260 + 2.15 * memory) / np.sqrt(per_sign)
    every = (2 * per_sign, n)
    state = pairs(n, per_sign=per_sign)
    state = holding(state, jnp.full(every, 4.0), pulses=jnp.full(every, 3, jnp.uint8))
    steps = jnp.full(n, sign * per_sign)  # A pulse for each device of a side.
    after, _ = set_pulses(jax.random.key(1), state, steps, NOW, DEVICE)
    change = sign * difference(after)
    # Five standard errors of each.
    assert change.mean() == pytest.approx(mean, abs=5 * std / np.sqrt(n))
    assert change.std() == pytest.approx(std, rel=5 / np.sqrt(2 * n))


@pytest.mark.parametrize(("per_sign", "turn"), [(1, 3), (2, 0), (4, 5), (8, 6)])
def test_pulses_go_to_devices_in_turn(per_sign, turn):
    steps = [0, 1, 2, 5, -3, -19]
    expected = np.zeros((2, per_sign, len(steps)), int)
    for weight, step in enumerate(steps):
        for i in range(abs(step)):
            expected[int(step < 0), (turn + i) % per_sign, weight] += 1
    expected = expected.reshape(2 * per_sign, -1)
    before = pairs(len(steps), per_sign=per_sign)
    after, _ = set_pulses(
        jax.random.key(1), before, jnp.array(steps), NOW, DEVICE, jnp.int32(turn)
    )
    np.testing.assert_array_equal(after.set_pulses, expected)
    np.testing.assert_array_equal(after.devices.pulses, expected)
    np.testing.assert_array_equal(after.written_at, np.where(expected, 100.0, 0.0))
    np.testing.assert_array_equal(np.asarray(after.g != before.g), expected > 0)


def test_wear_of_several_devices_is_that_of_all_pulses_and_evenly_shared():
    n, per_sign = 500, 4
    state = pairs(n, per_sign=per_sign)
    fired = np.zeros((2, n), int)
    for count in range(12):
        key, step_key = jax.random.split(jax.random.key(count))
        steps = jax.random.randint(step_key, (n,), -3, 4).at[0].set(1)
        state, _ = set_pulses(key, state, steps, NOW, DEVICE, jnp.int32(count))
        fired += np.maximum([steps, -steps], 0)
    worn = np.asarray(state.set_pulses).reshape(2, per_sign, n)
    np.testing.assert_array_equal(worn.sum(axis=1), fired)
    # A pulse at each of 12 counts: three for every device.
    np.testing.assert_array_equal(worn[:, :, 0], [[3] * 4, [0] * 4])
    after = refreshed(state, 200.0, DEVICE)
    rewritten = np.asarray(after.set_pulses) - np.asarray(state.set_pulses)
    np.testing.assert_array_equal(rewritten, after.devices.pulses)
    np.testing.assert_array_equal(after.resets, np.ones(n))


# ---- adding a difference


def added(state, wanted, spec, *, max_pulses, turn=0):
    """Pairs after ``wanted`` was added; by how much they grew; pulses by side."""
    after, fired, futile = add_difference(
        jax.random.key(3), state, jnp.asarray(wanted, jnp.float32), NOW, spec,
        jnp.int32(turn), max_pulses=max_pulses,
    )  # fmt: skip
    grown = pair.read(None, after, NOW, spec) - pair.read(None, state, NOW, spec)
    worn = np.asarray(after.set_pulses).astype(int) - np.asarray(state.set_pulses)
    worn = worn.reshape(2, state.per_sign, -1).sum(axis=1)
    np.testing.assert_array_equal(worn.sum(axis=0), fired)
    assert (futile <= worn).all()
    return after, np.asarray(grown), worn, np.asarray(futile)


@pytest.mark.parametrize("per_sign", [1, 4])
def test_ideal_devices_grow_by_a_difference_to_the_nearest_step(per_sign):
    step = 0.625 / per_sign
    wanted = np.linspace(-4.9, 4.9, 99)
    before = written(np.tile([2.5, -1.25, 0.0], 33), IDEAL, per_sign=per_sign)
    after, grown, worn, futile = added(before, wanted, IDEAL, max_pulses=40, turn=3)
    nearest = np.rint(wanted / step)
    np.testing.assert_array_equal(worn, np.maximum([nearest, -nearest], 0))
    np.testing.assert_allclose(grown, step * nearest, atol=1e-5)
    assert not futile.any()
    # Of the other side nothing has changed, and nothing was RESET.
    others = np.repeat([wanted <= 0, wanted >= 0], per_sign, axis=0)
    for x, y in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        if x.ndim == 2:
            np.testing.assert_array_equal(np.asarray(x)[others], np.asarray(y)[others])
    np.testing.assert_array_equal(after.resets, before.resets)


@pytest.mark.parametrize(("per_sign", "most"), [(1, 1.0), (4, 0.3)])
def test_noisy_devices_grow_by_a_difference_within_a_pulse(per_sign, most):
    # A pulse errs by about 1 uS as the state is, and by less where a side has several
    # devices: what is found is 0.88 and 0.26 uS.
    n = 10_000
    wanted = np.where(np.arange(n) % 2, 4.0, -4.0)
    before = written(np.ones(n), verify=True, per_sign=per_sign)
    _, grown, worn, _ = added(before, wanted, DEVICE, max_pulses=20)
    assert np.sqrt(np.mean((grown - wanted) ** 2)) < most
    assert not worn[0, wanted < 0].any() and not worn[1, wanted > 0].any()
    assert worn.max() <= 20


def test_a_difference_that_is_out_of_reach_takes_the_most_pulses_and_no_more():
    # 32 pulses fill a device; others ask for nothing, and for no number.
    wanted = np.array([30.0, -30.0, 0.0, np.nan])
    _, grown, worn, futile = added(pairs(4, IDEAL), wanted, IDEAL, max_pulses=40)
    np.testing.assert_array_equal(worn, [[40, 0, 0, 0], [0, 40, 0, 0]])
    np.testing.assert_array_equal(grown, [20.0, -20.0, 0.0, 0.0])
    np.testing.assert_array_equal(futile, [[8, 0, 0, 0], [0, 8, 0, 0]])


def test_adding_a_difference_reads_with_noise():
    spec = dataclasses.replace(IDEAL, read_offset=1.0)
    wanted = np.full(4000, 4.0)
    _, grown, _, _ = added(pairs(wanted.size, IDEAL), wanted, spec, max_pulses=40)
    # Without noise all lie 0.25 uS below; a read of two devices errs by 1.4 uS, and two
    # of them are compared. The first one of several that is too high ends it.
    assert grown.mean() < 3.5
    assert 0.7 < grown.std() < 2.0
