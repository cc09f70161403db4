"""Learning rates at the start, after the warm-up, in the middle and at the end."""

import numpy as np
import pytest

from hic_jax.training.schedules import SCHEDULES

PEAK, STEPS = 0.5, 100


@pytest.mark.parametrize(
    ("name", "shares"),  # of the peak at steps 10, 49, 50, 55, 74, 75, 99 and 100
    [
        ("cosine", [1.0, *(0.5 + 0.5 * np.cos(np.pi * k / 90) for k in
                           (39, 40, 45, 64, 65, 89, 90))]),
        ("linear", [1 - k / 90 for k in (0, 39, 40, 45, 64, 65, 89, 90)]),
        ("constant", [1.0] * 8),
        ("staircase", [1.0, 1.0, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01]),
    ],
)  # fmt: skip
def test_after_warmup(name, shares):
    schedule = SCHEDULES[name](PEAK, STEPS, 10)
    values = [schedule(step) for step in (10, 49, 50, 55, 74, 75, 99, 100)]
    # float32 of values up to the peak.
    np.testing.assert_allclose(values, PEAK * np.array(shares), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_warmup_rises_in_a_line_from_zero(name):
    schedule = SCHEDULES[name](PEAK, STEPS, 10)
    values = [schedule(step) for step in range(11)]
    np.testing.assert_allclose(values, PEAK * np.arange(11) / 10, rtol=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_without_warmup_the_first_step_is_at_the_peak(name):
    assert SCHEDULES[name](PEAK, STEPS, 0)(0) == PEAK


@pytest.mark.parametrize("name", SCHEDULES)
def test_warmup_may_last_the_whole_run(name):
    schedule = SCHEDULES[name](PEAK, STEPS, STEPS)
    np.testing.assert_allclose(schedule(STEPS // 2), PEAK / 2, rtol=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup", [0, 10])
def test_never_above_the_peak_nor_below_zero(name, warmup):
    schedule = SCHEDULES[name](PEAK, STEPS, warmup)
    values = np.array([schedule(step) for step in range(0, STEPS + 50, 3)])
    assert values.min() >= 0
    assert values.max() <= PEAK
    assert np.all(np.diff(values[warmup // 3 + 1 :]) <= 0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_run_of_one_step(name):
    assert 0 < SCHEDULES[name](PEAK, 1, 0)(0) <= PEAK


def test_staircase_of_two_drops_at_once():
    # 1/2 and 3/4 of the run lie both within the warm-up.
    schedule = SCHEDULES["staircase"](PEAK, STEPS, 80)
    np.testing.assert_allclose(schedule(81), PEAK / 100, rtol=1e-6)
