"""Statistics over seeds: means, spreads, 95 % intervals.

A run is a dict of

    algorithm, width, seed   of its configuration
    accuracy                 on the test images, in %
    size_kb                  inference model size in kB of 1000 bytes
    drift                    rows of `hic_jax.inference.accuracy_over_time`
    wear                     as of `hic_jax.endurance`; None where it was not tracked
    summary                  of the run folder

and all runs that are passed together differ in nothing but algorithm, width and seed.
Differences of accuracies are in points (percentage points). Intervals are Student's t;
that of a sum over several widths takes its degrees of freedom from Welch and
Satterthwaite, and the widths as independent.
"""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.stats

from hic_jax.inference import CONFIDENCE

Run = dict[str, Any]


# What shares in % are within, and what is counted.
SHARES = (0.0, 100.0)


COUNTS = (0.0, math.inf)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
      mean: the mean.
      std: standard deviation of one seed; None for one seed.
      seeds: number of seeds; of a sum, the fewest of its terms.
      interval: 95 % interval of the mean; None for one seed.
    """

    mean: float
    std: float | None
    seeds: int
    interval: tuple[float, float] | None


def estimate(
    values: Sequence[float], within: tuple[float, float] = (-math.inf, math.inf)
) -> Estimate:
    """Statistics of independent values, one a seed.

    Args:
      values: of the seeds.
      within: the least and the greatest value that there can be, beyond which the
        interval does not go.
    """
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
    seeds = min(e.seeds for _, e in terms)
    if seeds < 2:
        return Estimate(mean, None, seeds, None)
    squares = [((c * (e.std or 0.0)) ** 2, e.seeds) for c, e in terms]
    std = math.sqrt(sum(square for square, _ in squares))
    errors = [(square / n, n - 1) for square, n in squares]
    error = sum(square for square, _ in errors)
    half = 0.0
    if error:
        freedom = error**2 / sum(square**2 / f for square, f in errors)
        half = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * math.sqrt(error)
    return Estimate(mean, std, seeds, (float(mean - half), float(mean + half)))
