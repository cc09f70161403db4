"""Statistics of trained runs: means over seeds, curves, loss by drift.

Pure functions on lists of dicts. A run is a dict of

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

from hic_jax import HOUR, YEAR
from hic_jax.inference import CONFIDENCE, TRAINED

Run = dict[str, Any]

# A loss by drift is counted from a first reading no later than this (s).
FIRST_READING = HOUR

# What shares in % are within, and what is counted.
SHARES = (0.0, 100.0)
COUNTS = (0.0, math.inf)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
      mean: the mean.
      std: standard deviation of one seed; None for one seed.
      seeds: how many; of a sum, the fewest of its terms.
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
    std = math.sqrt(sum((c * e.std) ** 2 for c, e in terms))
    errors = [((c * e.std) ** 2 / e.seeds, e.seeds - 1) for c, e in terms]
    error = sum(square for square, _ in errors)
    half = 0.0
    if error:
        freedom = error**2 / sum(square**2 / f for square, f in errors)
        half = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * math.sqrt(error)
    return Estimate(mean, std, seeds, (float(mean - half), float(mean + half)))


# ---- Accuracy against model size


@dataclasses.dataclass(frozen=True)
class Point:
    """Runs of one algorithm and one width.

    Attributes:
      width: multiplier of the channels.
      size_kb: inference model size.
      accuracy: in %, over seeds.
      accuracies: of the seeds.
    """

    width: float
    size_kb: float
    accuracy: Estimate
    accuracies: tuple[float, ...]


def curve(runs: Sequence[Run], algorithm: str) -> list[Point]:
    """Accuracy of an algorithm against size, by size."""
    widths: dict[float, list[Run]] = {}
    for run in runs:
        if run["algorithm"] == algorithm:
            widths.setdefault(run["width"], []).append(run)
    points = []
    for width, mine in widths.items():
        accuracies = tuple(run["accuracy"] for run in mine)
        points.append(
            Point(width, mine[0]["size_kb"], estimate(accuracies, SHARES), accuracies)
        )
    return sorted(points, key=lambda point: point.size_kb)


def at_size(points: Sequence[Point], size_kb: float) -> list[float]:
    """Weights of a curve's points in its value at a size, linear in log size."""
    logs = np.log([point.size_kb for point in points])
    return [np.interp(np.log(size_kb), logs, row) for row in np.eye(len(points))]


@dataclasses.dataclass(frozen=True)
class Gain:
    """What HIC gains over FP32 at equal size, in points.

    Attributes:
      mean: over log size, in the range of sizes that both curves cover.
      sizes_kb: in that range: its ends, and every size that was measured.
      at: the gain at each of ``sizes_kb``.
    """

    mean: Estimate
    sizes_kb: tuple[float, ...]
    at: tuple[Estimate, ...]


def gain_at_equal_size(fp32: Sequence[Point], hic: Sequence[Point]) -> Gain | None:
    """Differences of two curves, both interpolated linearly in log size.

    Returns:
      The gain; None if there is no size that both cover.
    """
    if not fp32 or not hic:
        return None
    low = max(fp32[0].size_kb, hic[0].size_kb)
    high = min(fp32[-1].size_kb, hic[-1].size_kb)
    if low > high:
        return None
    measured = {point.size_kb for point in (*fp32, *hic)}
    sizes = sorted(size for size in measured if low <= size <= high)
    accuracies = [point.accuracy for point in (*hic, *fp32)]
    weights = np.array(
        [[*at_size(hic, size), *(-w for w in at_size(fp32, size))] for size in sizes]
    )
    mean = weights[0]
    if low < high:
        mean = np.trapezoid(weights, np.log(sizes), axis=0) / np.log(high / low)
    return Gain(
        combine(mean, accuracies),
        tuple(sizes),
        tuple(combine(row, accuracies) for row in weights),
    )


@dataclasses.dataclass(frozen=True)
class Reached:
    """The smallest model whose mean accuracy reaches a target.

    Attributes:
      size_kb: its inference model size.
      accuracy: in %, that of the curve at this size.
      width: if it was measured; None if it is interpolated between two widths.
      smallest: whether it is the smallest that was measured, so that a smaller one
        might do.
    """

    size_kb: float
    accuracy: float
    width: float | None
    smallest: bool


def smallest_reaching(points: Sequence[Point], accuracy: float) -> Reached | None:
    """Where a curve first reaches an accuracy; None if nowhere."""
    for index, point in enumerate(points):
        if point.accuracy.mean < accuracy:
            continue
        if index == 0 or point.accuracy.mean == accuracy:
            mean = point.accuracy.mean
            return Reached(point.size_kb, mean, point.width, index == 0)
        before = points[index - 1]
        share = (accuracy - before.accuracy.mean) / (
            point.accuracy.mean - before.accuracy.mean
        )
        size = before.size_kb * (point.size_kb / before.size_kb) ** share
        return Reached(size, accuracy, None, False)
    return None


def baseline_of(fp32: Sequence[Point]) -> Point | None:
    """FP32 at width 1, or else the widest below; None if all are wider."""
    return max(
        (point for point in fp32 if point.width <= 1),
        key=lambda point: point.width,
        default=None,
    )


# ---- Drift


@dataclasses.dataclass(frozen=True)
class Ageing:
    """Accuracy over time of one width, on one kind of devices, of one compensation.

    Attributes:
      devices: "trained", or the preset of the inference chips.
      width: multiplier of the channels.
      compensation: of drift.
      times: seconds that all seeds were read at.
      accuracy: in % at each time: over seeds, each the mean of its chips.
      chip_mean: in % at each time: over all chips of all seeds.
      chip_std: the standard deviation of the same; 0 for one chip.
      chips: how many of all seeds together.
      loss: points lost from the first time to the last, over seeds.
    """

    devices: str
    width: float
    compensation: str
    times: tuple[float, ...]
    accuracy: tuple[Estimate, ...]
    chip_mean: tuple[float, ...]
    chip_std: tuple[float, ...]
    chips: int
    loss: Estimate

    @property
    def spans_a_year(self) -> bool:
        """Whether it was read soon after the writing, and a year later."""
        return self.times[0] <= FIRST_READING and self.times[-1] >= YEAR


def ageing(runs: Sequence[Run]) -> list[Ageing]:
    """Accuracy over time, the trained devices first, by width.

    Devices, widths and compensations stay apart; of seeds that were read at different
    times, the times are taken that all have.
    """
    cases: dict[tuple[str, float, str], list[dict[float, list[float]]]] = {}
    for run in runs:
        curves: dict[tuple[str, float, str], dict[float, list[float]]] = {}
        for row in run["drift"]:
            case = (row["devices"], run["width"], row["compensation"])
            curves.setdefault(case, {})[row["time"]] = row["accuracies"]
        for case, seed in curves.items():
            cases.setdefault(case, []).append(seed)
    found = []
    for (devices, width, compensation), seeds in cases.items():
        times = sorted(set.intersection(*(set(seed) for seed in seeds)))
        if not times:
            continue
        # Of each seed (times,) means over its chips; of all chips (times, chips).
        means = [[100 * statistics.fmean(seed[t]) for t in times] for seed in seeds]
        chips = [[100 * x for seed in seeds for x in seed[t]] for t in times]
        found.append(
            Ageing(
                devices,
                width,
                compensation,
                tuple(times),
                tuple(estimate(at, SHARES) for at in zip(*means, strict=True)),
                tuple(map(statistics.fmean, chips)),
                tuple(statistics.stdev(x) if len(x) > 1 else 0.0 for x in chips),
                len(chips[0]),
                estimate([mean[0] - mean[-1] for mean in means]),
            )
        )
    return sorted(found, key=lambda a: (a.devices != TRAINED, a.devices, a.width))
