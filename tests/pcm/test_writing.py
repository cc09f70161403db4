"""Pairs written afresh: programming, refresh, what is missing, stuck devices."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hic_jax import pcm
from hic_jax.pcm import bits, pair, writing
from tests.pcm.pairs import (
    DEVICE,
    IDEAL,
    NOW,
    difference,
    holding,
    pairs,
    refresh,
    refreshed,
    write_difference,
    written,
)


@pytest.mark.parametrize("verify", [False, True])
def test_ideal_devices_are_written_to_the_nearest_step(verify):
    wanted = np.array([0.0, 0.3, 0.32, -3.1, 5.0])
    state = written(wanted, IDEAL, verify=verify)
    np.testing.assert_array_equal(difference(state), [0.0, 0.0, 0.625, -3.125, 5.0])
    np.testing.assert_array_equal(state.resets, np.ones(5))


def test_verifying_comes_closer_than_firing_blind():
    wanted = np.repeat([-6.0, 2.0, 4.0], 5000)
    blind, verified = (
        np.square(difference(written(wanted, verify=verify)) - wanted)
        .reshape(3, -1)
        .mean(axis=1)
        for verify in (False, True)
    )
    assert (verified < 0.8 * blind).all()


@pytest.mark.parametrize(
    ("n", "verify"),
    [(7, True), (9000, True), (9000, False)],  # 9,000: more than one chunk is due.
)
def test_refresh_rewrites_what_is_due_and_nothing_else(n, verify):
    state = written(jnp.full(n, 2.5), IDEAL)
    state = holding(state, state.g + 10.0, pulses=jnp.ones((2, n), jnp.uint8))
    due = jnp.arange(n) % 3 == 0
    after, _ = refresh(
        jax.random.key(5), state, due, NOW, IDEAL, max_pulses=20, verify=verify
    )
    np.testing.assert_array_equal(difference(after), difference(state))
    np.testing.assert_array_equal(after.g[1], np.where(due, 0.0, 10.0))
    np.testing.assert_array_equal(
        after.written_at, np.tile(np.where(due, 100.0, 0.0), (2, 1))
    )
    np.testing.assert_array_equal(after.resets - state.resets, due)
    np.testing.assert_array_equal(after.devices.pulses[0], np.where(due, 4, 1))
    np.testing.assert_array_equal(
        after.set_pulses - state.set_pulses, [4 * due, 0 * due]
    )


def test_refresh_keeps_the_weight_as_well_as_its_noise_allows():
    n = 3000
    state = written(jnp.full(n, 3.0), verify=True)
    state = holding(state, state.g + 4.0)
    after, _ = refresh(
        jax.random.key(5), state, jnp.ones(n, bool), NOW, DEVICE,
        max_pulses=20, verify=True,
    )  # fmt: skip
    error = difference(after) - difference(state)
    # A pulse of 1 to 2 uS cannot do better than about 1 uS.
    assert np.abs(error.mean()) < 0.3
    assert error.std() < 1.4


def test_expected_trajectory_is_what_blind_writes_reach_in_the_mean():
    target = float(DEVICE.mean_trajectory(20)[6] - DEVICE.reset_mean)
    state = written(jnp.full(20_000, target))
    np.testing.assert_array_equal(state.devices.pulses[0], np.full(20_000, 6))
    # Standard error 0.017 uS; the trajectory itself errs by up to 0.1 uS.
    assert difference(state).mean() == pytest.approx(target, abs=0.15)


def test_a_refresh_reads_with_noise():
    # Blind and otherwise ideal: only the read errs, by 1 uS on each of two devices, and
    # what it finds is rounded to steps of 0.625 uS.
    spec = dataclasses.replace(IDEAL, read_offset=1.0)
    before = written(np.full(4000, 5.0), IDEAL)
    error = difference(refreshed(before, 0.0, spec)) - difference(before)
    expected = np.sqrt(2 * 1.0**2 + 0.625**2 / 12)
    # Five standard errors of each.
    assert error.std() == pytest.approx(expected, abs=5 * expected / np.sqrt(8000))
    assert error.mean() == pytest.approx(0, abs=5 * expected / np.sqrt(4000))


def test_a_refresh_finds_what_has_drifted():
    spec = dataclasses.replace(IDEAL, drift_nu=0.1)  # From an age of 1 s on.
    before = written(np.full(300, 10.0), IDEAL)
    for time, factor in ((0.0, 1.0), (1024.0, 0.5), (2.0**20, 0.25)):
        after = refreshed(before, time, spec)
        np.testing.assert_allclose(difference(after), 10 * factor, atol=0.625 / 2)
        np.testing.assert_array_equal(after.written_at, np.full((2, 300), time))


@pytest.mark.parametrize("verify", [True, False])
def test_chunks_of_a_refresh_draw_noise_of_their_own(verify):
    before = written(np.full(3 * writing.MIN_REFRESH_CHUNK, 5.0), verify=True, key=2)
    before = holding(before, jnp.full_like(before.g, 0.1).at[0].set(5.1))
    after = difference(refreshed(before, 0.0, DEVICE, verify=verify)).reshape(3, -1)
    correlation = np.corrcoef(after) - np.eye(3)
    assert np.abs(correlation).max() < 5 / np.sqrt(writing.MIN_REFRESH_CHUNK)


@pytest.mark.parametrize("verify", [False, True])
def test_devices_of_a_side_are_written_with_errors_of_their_own(verify):
    wanted = np.full(10_000, 4.0)
    one, four = (
        difference(written(wanted, verify=verify, per_sign=per_sign))
        for per_sign in (1, 4)
    )
    # Five standard errors.
    assert four.std() == pytest.approx(one.std() / 2, rel=5 / np.sqrt(wanted.size))
    assert four.mean() == pytest.approx(
        one.mean(), abs=5 * np.hypot(1, 0.5) * one.std() / np.sqrt(wanted.size)
    )


# ---- what a write leaves


def rewritten(wanted, spec=DEVICE, *, verify=True, by_chance=False, per_sign=1):
    """Differences after they were written, and what is missing of them by a read."""
    wanted = jnp.asarray(wanted, jnp.float32)
    state, missing = write_difference(
        jax.random.key(1), pairs(wanted.size, spec, per_sign=per_sign), wanted,
        jnp.float32(0.0), spec, max_pulses=20, verify=verify, by_chance=by_chance,
    )  # fmt: skip
    return difference(state), np.asarray(missing)


TARGETS = np.array([0.5, 1.0, 2.0, -4.0, 6.0, -8.0])
EACH = 4000


@pytest.mark.parametrize(
    ("verify", "per_sign"), [(True, 1), (True, 4), (False, 1)], ids=str
)
def test_written_by_chance_a_difference_is_right_in_the_mean(verify, per_sign):
    wanted = np.repeat(TARGETS, EACH)
    biases = []
    for by_chance in (False, True):
        found, _ = rewritten(
            wanted, verify=verify, by_chance=by_chance, per_sign=per_sign
        )
        error = np.sign(wanted) * (found - wanted)
        biases.append(error.reshape(6, -1).mean(axis=1))
    dropped, chance = biases
    # Blind, the nearest number of pulses is off by less than half a pulse.
    expected = [-0.5, -1.0, 0.4, -0.15, -0.37, -0.83] if verify else dropped
    # Five standard errors of at most 2.5 uS, divided by the devices.
    error = 5 * (1.6 if verify else 2.5) / np.sqrt(EACH * per_sign)
    np.testing.assert_allclose(dropped, expected, atol=error)
    # And what 4,096 simulated devices leave uncertain.
    np.testing.assert_allclose(chance, np.zeros(6), atol=error + 0.06)
    assert np.abs(dropped).max() > 3 * np.abs(chance).max()


def test_by_chance_large_differences_err_less_and_small_ones_more():
    wanted = np.repeat([1.0, 8.0], EACH)
    dropped, chance = (
        np.sqrt(np.mean((found - wanted).reshape(2, -1) ** 2, axis=1))
        for found, _ in (rewritten(wanted, by_chance=c) for c in (False, True))
    )
    # 1.0 and 1.42 uS at 1, 1.13 and 0.91 uS at 8.
    assert dropped[0] < 0.8 * chance[0]
    assert chance[1] < 0.9 * dropped[1]


@pytest.mark.parametrize("verify", [True, False])
def test_by_chance_ideal_devices_are_written_to_a_step_beside(verify):
    # Steps of 0.625 uS: of what lies between, the upper one by its share.
    wanted = np.repeat([0.1, 1.0, -2.5, 3.0, 15.0], EACH)
    found, missing = rewritten(wanted, IDEAL, verify=verify, by_chance=True)
    np.testing.assert_allclose(found + missing, wanted, atol=1e-5)
    found = found.reshape(5, -1)
    steps = [(0.0, 0.625), (0.625, 1.25), (-2.5, -2.5), (2.5, 3.125), (12.5, 12.5)]
    for values, (low, high) in zip(found, steps, strict=True):
        assert set(np.unique(values)) == {low, high}
    # Five standard errors, and what 4,096 simulated devices leave uncertain; twenty
    # pulses reach 12.5 uS.
    np.testing.assert_allclose(
        found.mean(axis=1), [0.1, 1.0, -2.5, 3.0, 12.5], atol=0.03
    )


@pytest.mark.parametrize("per_sign", [1, 4])
def test_what_is_missing_is_what_a_noisy_read_does_not_find(per_sign):
    wanted = np.repeat(TARGETS, EACH)
    found, missing = rewritten(wanted, per_sign=per_sign)
    noise = (found + missing - wanted).reshape(6, -1)
    # With it a difference is right in the mean; five standard errors of 0.4 uS.
    np.testing.assert_allclose(noise.mean(axis=1), np.zeros(6), atol=0.032)
    # Nothing is written at 0.5 uS: both sides are read at 0.1 uS.
    std = np.sqrt(2) * (0.03 * 0.1 + 0.13) / np.sqrt(per_sign)
    assert noise[0].std() == pytest.approx(std, rel=5 / np.sqrt(2 * EACH))
    assert abs(np.corrcoef(noise[5], found.reshape(6, -1)[5])[0, 1]) < 0.1


def test_of_pairs_that_are_not_due_nothing_is_missing():
    state = written(np.full(600, 1.0), IDEAL)
    due = jnp.arange(600) % 2 == 0
    _, missing = refresh(
        jax.random.key(5), state, due, NOW, dataclasses.replace(IDEAL, step_offset=2.5),
        max_pulses=20, verify=True,
    )  # fmt: skip
    # 1.25 uS was written, and is half a step of another device.
    np.testing.assert_allclose(missing, np.where(due, difference(state), 0.0))


# ---- stuck devices


@pytest.mark.parametrize("per_sign", [1, 2, 4, 8])
def test_devices_that_answer_make_up_for_those_that_are_stuck(per_sign):
    spec = dataclasses.replace(pcm.ideal(g_max=10.0), stuck_set=0.15, stuck_reset=0.15)
    n = 3000
    before = pairs(n, spec, per_sign=per_sign)
    wanted = np.linspace(-4.0, 4.0, n).astype(np.float32)
    after, missing = write_difference(
        jax.random.key(1), before, jnp.asarray(wanted), NOW, spec,
        max_pulses=20, verify=True,
    )  # fmt: skip
    stuck = np.asarray(bits.unpack(before.stuck, 2 * per_sign)).astype(bool)
    held = np.where(stuck, before.g, 0.0).reshape(2, per_sign, n).mean(axis=1)
    answer = (~stuck).reshape(2, per_sign, n).sum(axis=1)
    rest = wanted - (held[0] - held[1])
    devices = np.where(rest > 0, answer[0], answer[1])
    height = np.abs(rest) * per_sign / np.maximum(devices, 1)
    # As near as steps of 0.625 uS come, where devices that answer reach.
    reach = (devices > 0) & (height <= 10.0)
    error = np.abs(difference(after) - wanted)
    bound = 0.3126 * devices / per_sign
    assert reach.mean() > 0.6
    assert (error <= bound)[reach].all()
    np.testing.assert_allclose(np.abs(missing), error, atol=1e-5)
    # Beyond, all of them are at their end.
    side = np.stack([rest > 0, rest < 0]).repeat(per_sign, axis=0)
    beyond = side & ~stuck & (height > 10.0)
    assert (np.asarray(after.g)[beyond] == 10.0).all()
    assert not np.asarray(after.set_pulses)[stuck].any()
    np.testing.assert_array_equal(after.resets, np.ones(n))


@pytest.mark.parametrize("per_sign", [1, 2, 8])
def test_what_a_reset_can_change_is_what_answers(per_sign):
    spec = dataclasses.replace(DEVICE, stuck_set=0.2, stuck_reset=0.1)
    state = pairs(500, spec, per_sign=per_sign)
    g = jax.random.uniform(jax.random.key(0), state.g.shape, maxval=10.0)
    held, height = map(np.asarray, pair.answering(g, state))
    stuck = np.asarray(bits.unpack(state.stuck, 2 * per_sign)).astype(bool)
    moving = np.ma.masked_array(g, stuck).reshape(2, per_sign, 500)
    np.testing.assert_allclose(held, moving.filled(0).sum(axis=1) / per_sign, rtol=1e-5)
    np.testing.assert_allclose(height, moving.mean(axis=1).filled(0), rtol=1e-5)
    healthy = ~stuck.any(axis=0)
    expected = np.asarray(pair.answering(g, state.replace(stuck=None))[0])
    for found in (held, height):
        np.testing.assert_array_equal(found[:, healthy], expected[:, healthy])
