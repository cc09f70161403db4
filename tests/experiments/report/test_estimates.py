"""Statistics over seeds, against numbers by hand and SciPy's Welch test."""

import math

import numpy as np
import pytest
import scipy.stats

from experiments.report import accuracy, drift, estimates, size
from experiments.report.estimates import Estimate
from hic_jax import HOUR, YEAR


def _runs(algorithm, points):
    """Runs by (width, size in kB, accuracies of the seeds)."""
    return [
        {
            "algorithm": algorithm,
            "width": width,
            "seed": seed,
            "accuracy": accuracy,
            "size_kb": size,
            "drift": [],
            "wear": None,
        }
        for width, size, accuracies in points
        for seed, accuracy in enumerate(accuracies)
    ]


def _curve(*points):
    return accuracy.curve(_runs("hic", points), "hic")


def test_mean_spread_and_interval_by_hand():
    two = estimates.estimate([90.0, 92.0])
    assert (two.mean, two.seeds) == (91.0, 2)
    assert two.std == pytest.approx(math.sqrt(2))
    # Student's t of one degree of freedom: tan(0.475 pi) = 12.706.
    assert two.interval == pytest.approx((91 - 12.7062, 91 + 12.7062), abs=1e-3)
    three = estimates.estimate([1.0, 2.0, 3.0])
    assert three.interval == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-4)


def test_intervals_end_where_values_do():
    counts = estimates.estimate([100.0, 300.0], estimates.COUNTS)
    # Of the unbounded one -1070 to 1470.
    assert counts.interval == pytest.approx((0.0, 1470.6), abs=0.1)
    assert counts.std == pytest.approx(100 * math.sqrt(2))
    (point,) = _curve((1.0, 30.0, [98.0, 100.0]))
    assert point.accuracy.interval == pytest.approx((99 - 12.7062, 100.0), abs=1e-3)


def test_equal_values_have_no_spread():
    # NumPy's standard deviation of these is 1.7e-17.
    assert estimates.estimate([0.1, 0.1, 0.1]).std == 0.0


def test_one_seed_has_no_spread():
    assert estimates.estimate([3.0]) == Estimate(3.0, None, 1, None)
    several = estimates.estimate([1.0, 2.0])
    mixed = estimates.combine([1, -1], [several, estimates.estimate([1.0])])
    assert mixed == Estimate(0.5, None, 1, None)


def test_a_difference_has_the_interval_of_welch():
    a, b = [3.0, 5.0, 4.5, 7.0], [1.0, 1.5, 0.5]
    ours = estimates.combine([1, -1], [estimates.estimate(a), estimates.estimate(b)])
    theirs = scipy.stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    assert ours.interval == pytest.approx((theirs.low, theirs.high))
    assert ours.std == pytest.approx(np.hypot(np.std(a, ddof=1), 0.5))
    assert ours.seeds == 3


def test_what_counts_nothing_takes_no_part():
    one, two = estimates.estimate([1.0]), estimates.estimate([2.0, 4.0])
    assert estimates.combine([0, 1], [one, two]) == two


def test_a_curve_is_sorted_by_size_and_pools_seeds():
    points = _curve((1, 32.0, (90.0, 92.0)), (0.5, 8.0, (80.0,)))
    assert [p.size_kb for p in points] == [8.0, 32.0]
    assert points[1].accuracies == (90.0, 92.0)
    assert points[1].accuracy.mean == 91.0
    assert accuracy.curve(_runs("hic", [(1, 1.0, (1.0,))]), "fp32") == []


def test_interpolation_is_linear_in_log_size():
    points = _curve((1, 10.0, (80.0,)), (2, 1000.0, (90.0,)))
    assert accuracy.at_size(points, 100.0) == pytest.approx([0.5, 0.5])
    assert accuracy.at_size(points, 1000.0) == [0.0, 1.0]


def test_gain_at_equal_size_by_hand():
    fp32 = _curve((0.5, 10.0, (79.0, 81.0)), (1, 1000.0, (89.0, 91.0)))
    hic = _curve(
        (1, 1.0, (70.0, 72.0)), (2, 10.0, (82.0,) * 2), (3, 100.0, (92.0,) * 2)
    )
    gain = accuracy.gain_at_equal_size(fp32, hic)
    assert gain.sizes_kb == (10.0, 100.0)
    # FP32 has 80 % at 10 kB and 85 % at 100 kB.
    assert [at.mean for at in gain.at] == pytest.approx([2.0, 7.0])
    assert gain.mean.mean == pytest.approx(4.5)
    # Over the range FP32 weighs 3/4 of its first width and 1/4 of its second; the
    # spread of each is sqrt(2), that of HIC nothing.
    assert gain.mean.std == pytest.approx(math.sqrt(2 * (9 + 1) / 16))
    freedom = (9 + 1) ** 2 / (9**2 + 1)
    half = scipy.stats.t.ppf(0.975, freedom) * math.sqrt(10 / 16)
    assert gain.mean.interval == pytest.approx((4.5 - half, 4.5 + half))


def test_one_common_size_is_enough_and_none_is_none():
    fp32, hic = (
        _curve((1, 10.0, (80.0,))),
        _curve((1, 1.0, (70.0,)), (2, 10.0, (82.0,))),
    )
    assert accuracy.gain_at_equal_size(fp32, hic).mean.mean == pytest.approx(2.0)
    assert accuracy.gain_at_equal_size(fp32, hic[:1]) is None
    assert accuracy.gain_at_equal_size([], hic) is None


def test_the_smallest_that_reaches_an_accuracy():
    points = _curve((1, 10.0, (80.0,)), (2, 1000.0, (90.0,)), (3, 2000.0, (89.0,)))
    between = size.smallest_reaching(points, 85.0)
    assert (between.width, between.smallest) == (None, False)
    assert between.size_kb == pytest.approx(100.0)
    assert between.accuracy == 85.0
    measured = size.smallest_reaching(points, 90.0)
    assert (measured.size_kb, measured.width) == (1000.0, 2)
    first = size.smallest_reaching(points, 79.0)
    assert (first.size_kb, first.smallest) == (10.0, True)
    assert size.smallest_reaching(points, 91.0) is None


def test_the_baseline_has_width_one_or_the_next_below():
    points = _curve((0.5, 1.0, (1.0,)), (0.75, 2.0, (1.0,)), (2, 3.0, (1.0,)))
    assert size.baseline_of(points).width == 0.75
    assert size.baseline_of(points[2:]) is None


def _row(time, accuracies, devices="trained", compensation="adabs"):
    return {
        "time": time,
        "devices": devices,
        "compensation": compensation,
        "accuracies": accuracies,
    }


def test_drift_is_over_seeds_and_never_mixes_devices():
    first, second = _runs("hic", [(1, 1.0, (90.0, 90.0))])
    first["drift"] = [
        _row(25.0, [0.90, 0.92]),
        _row(HOUR, [0.5, 0.5]),
        _row(YEAR, [0.88, 0.88]),
        _row(25.0, [0.1, 0.1], "hermes_2"),
    ]
    second["drift"] = [_row(YEAR, [0.80, 0.84]), _row(25.0, [0.90, 0.90])]
    trained, chips = drift.ageing([first, second])
    assert (trained.devices, chips.devices) == ("trained", "hermes_2")
    assert trained.times == (25.0, YEAR)  # What both seeds have.
    assert trained.chips == 4
    assert [a.mean for a in trained.accuracy] == pytest.approx([90.5, 85.0])
    # 91 - 88 and 90 - 82 points.
    assert trained.loss.mean == pytest.approx(5.5)
    assert trained.loss.std == pytest.approx(5 / math.sqrt(2))
    assert trained.chip_std[1] == pytest.approx(np.std([88, 88, 80, 84], ddof=1))
    assert chips.chip_mean == pytest.approx((10.0,))


def test_seeds_without_a_common_time_have_no_curve():
    runs = _runs("hic", [(1, 1.0, (90.0, 90.0))])
    for run, time in zip(runs, (25.0, 26.0), strict=True):
        run["drift"] = [_row(time, [0.9])]
    assert drift.ageing(runs) == []
