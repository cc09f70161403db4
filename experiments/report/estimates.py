"""Statistics over seeds: means, spreads, 95 % intervals.

Differences of accuracies are in points (percentage points). Intervals are Student's t;
that of a sum over several widths takes its degrees of freedom from Welch and
Satterthwaite, and the widths as independent.
"""

import dataclasses
import math
import statistics
from collections.abc import Sequence

import numpy as np
import scipy.stats

from hic_jax.inference import CONFIDENCE

# What shares in % are within, and what is counted.
SHARES = (0.0, 100.0)
COUNTS = (0.0, math.inf)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over seeds."""

    mean: float
    std: float | None  # standard deviation of one seed; None for one seed
    seeds: int  # number of seeds; of a sum, the fewest of its terms
    interval: tuple[float, float] | None  # 95 % interval of the mean; None for one seed


def estimate(
    values: Sequence[float], within: tuple[float, float] = (-math.inf, math.inf)
) -> Estimate:
    """Statistics of independent values, one a seed, that can only be within a range."""
    # Exact sums: equal values have no spread, not one of the last bit.
    mean = statistics.fmean(values)
    std = float(statistics.stdev(values)) if len(values) > 1 else None
    found = combine([1.0], [Estimate(mean, std, len(values), None)])
    if found.interval is None:
        return found
    low, high = np.clip(found.interval, *within).tolist()
    return dataclasses.replace(found, interval=(low, high))


def combine(coefficients: Sequence[float], estimates: Sequence[Estimate]) -> Estimate:
    """A weighted sum of independent means, its interval by Welch-Satterthwaite."""
    terms = [
        (c, e) for c, e in zip(coefficients, estimates, strict=True) if abs(c) > 1e-12
    ]
    mean = float(sum(c * e.mean for c, e in terms))
    n = np.array([e.seeds for _, e in terms])
    seeds = int(n.min())
    if seeds < 2:
        return Estimate(mean, None, seeds, None)
    squares = np.array([(c * (e.std or 0.0)) ** 2 for c, e in terms])
    errors = squares / n
    error, half = errors.sum(), 0.0
    if error:
        freedom = error**2 / (errors**2 / (n - 1)).sum()
        half = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * math.sqrt(error)
    interval = float(mean - half), float(mean + half)
    return Estimate(mean, math.sqrt(squares.sum()), seeds, interval)
