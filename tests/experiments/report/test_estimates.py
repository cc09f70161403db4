"""Statistics over seeds, against numbers by hand and SciPy's Welch test."""

import math

import numpy as np
import pytest
import scipy.stats

from experiments.report import estimates
from experiments.report.estimates import Estimate


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
    shares = estimates.estimate([98.0, 100.0], estimates.SHARES)
    assert shares.interval == pytest.approx((99 - 12.7062, 100.0), abs=1e-3)


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
