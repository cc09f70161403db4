"""Accuracy against inference model size, and the gain at equal size."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from experiments.drawing import accuracy_axis, legend_above, literal, measured
from experiments.report.estimates import SHARES, Estimate, combine, estimate
from experiments.report.groups import Group, Recipe
from experiments.report.sections import (
    Finding,
    Picture,
    Verdict,
    above,
    saved,
    too_little,
    why_open,
)
from experiments.report.tables import (
    ALGORITHM,
    WIDTH,
    Column,
    Table,
    fields_of,
    plain,
    statistics_columns,
)
from experiments.words import kilobytes, signed


@dataclasses.dataclass(frozen=True)
class Point:
    """Runs of one recipe and one width.

    Attributes:
      width: multiplier of the channels.
      size_kb: inference model size.
      accuracy: test accuracy in %, over seeds.
      accuracies: test accuracy of each seed, %.
    """

    width: float
    size_kb: float
    accuracy: Estimate
    accuracies: tuple[float, ...]


def curve(recipe: Recipe) -> list[Point]:
    """Accuracy against size, by size."""
    points = []
    for width, seeds in recipe.by_width():
        accuracies = tuple(run["accuracy"] for run in seeds)
        accuracy = estimate(accuracies, SHARES)
        points.append(Point(width, seeds[0]["size_kb"], accuracy, accuracies))
    return sorted(points, key=lambda point: point.size_kb)


def at_size(points: Sequence[Point], size_kb: float) -> list[float]:
    """Weights of a curve's points in its value at a size, linear in log size."""
    logs = np.log([point.size_kb for point in points])
    return [np.interp(np.log(size_kb), logs, row) for row in np.eye(len(points))]


@dataclasses.dataclass(frozen=True)
class Gain:
    """What the candidate gains over the baseline at equal size, in points.

    Attributes:
      mean: mean gain over log size, in the range of sizes that both curves cover.
      sizes_kb: ends of the range of sizes that both curves cover, and every size in it
        that was measured.
      at: the gain at each of ``sizes_kb``.
    """

    mean: Estimate
    sizes_kb: tuple[float, ...]
    at: tuple[Estimate, ...]


def gain_at_equal_size(
    baseline: Sequence[Point], candidate: Sequence[Point]
) -> Gain | None:
    """Differences of two curves, both interpolated linearly in log size.

    Returns:
      The gain; None if there is no size that both cover.
    """
    if not baseline or not candidate:
        return None
    low = max(baseline[0].size_kb, candidate[0].size_kb)
    high = min(baseline[-1].size_kb, candidate[-1].size_kb)
    if low > high:
        return None
    measured = {point.size_kb for point in (*baseline, *candidate)}
    sizes = sorted(size for size in measured if low <= size <= high)
    accuracies = [point.accuracy for point in (*candidate, *baseline)]
    weights = np.array(
        [
            [*at_size(candidate, size), *(-w for w in at_size(baseline, size))]
            for size in sizes
        ]
    )
    mean = weights[0]
    if low < high:
        mean = np.trapezoid(weights, np.log(sizes), axis=0) / np.log(high / low)
    return Gain(
        combine(mean, accuracies),
        tuple(sizes),
        tuple(combine(row, accuracies) for row in weights),
    )


# ---- The claim


def beats_baseline(group: Group) -> Finding:
    """At comparable inference model size HIC beats the FP32 baseline.

    Rule: the gain is the mean accuracy of HIC less that of FP32 at equal inference
    model size, both interpolated linearly in the logarithm of the size and averaged
    over the range of log size that both curves cover. The claim is supported if the
    95 % interval of the gain lies above 0, and not supported if it lies below.
    """
    if missing := missing_of(group):
        return too_little(missing)
    baseline, candidate = curve(group.baseline), curve(group.candidate)
    mine = group.candidate.name
    gain = gain_at_equal_size(baseline, candidate)
    if gain is None:
        return too_little(
            f"The sizes do not overlap: {group.baseline.name} covers "
            f"{_range(baseline)}, {mine} {_range(candidate)}. Wider {mine} or narrower "
            f"{group.baseline.name} runs would tell."
        )
    verdict = above(gain.mean, 0.0)
    low, high = gain.sizes_kb[0], gain.sizes_kb[-1]
    where = f"{kilobytes(low)} to {kilobytes(high)}"
    sentences = [
        f"Over the sizes that both cover, {where}, the gain of {mine} is "
        f"{signed(gain.mean.mean)} points on average."
        if low < high
        else f"At {kilobytes(low)}, the one size that both cover, the gain of {mine} "
        f"is {signed(gain.mean.mean)} points."
    ]
    if verdict is Verdict.TOO_LITTLE:
        single = single_seeds(group, baseline, candidate)
        sentences.append(why_open(gain.mean, "0", single))
    return Finding(verdict, tuple(sentences), "gain at equal size", gain.mean)


def missing_of(group: Group) -> str:
    """What of the pair did not run, in a sentence; empty if both did."""
    pair = (group.baseline, group.candidate)
    absent = [recipe.name for recipe in pair if not recipe.runs]
    return f"There are no {' and no '.join(absent)} runs." if absent else ""


def single_seeds(
    group: Group, baseline: Sequence[Point], candidate: Sequence[Point]
) -> list[str]:
    """Names of the points of a pair that have one seed."""
    pair = ((group.baseline, baseline), (group.candidate, candidate))
    return [
        f"{recipe.name} ×{point.width:g}"
        for recipe, points in pair
        for point in points
        if point.accuracy.seeds < 2
    ]


def _range(points: Sequence[Point]) -> str:
    low, high = kilobytes(points[0].size_kb), kilobytes(points[-1].size_kb)
    return low if low == high else f"{low} to {high}"


def equal_size(group: Group, out: Path) -> tuple[list[Picture], list[Table]]:
    """All recipes beside each other, and the gain; the figure is drawn to ``out``."""
    curves = [(recipe, curve(recipe)) for recipe in group.recipes]
    gain = gain_at_equal_size(curve(group.baseline), curve(group.candidate))
    picture = Picture(
        out / f"{group.prefix}accuracy_size",
        "Test accuracy against inference model size. "
        + " ".join(in_words(recipe, points) for recipe, points in curves),
        "Means over seeds with their standard deviation; single seeds are faint, and "
        "×1 is the width.",
    )
    draw_curves(picture.path, curves, gain, below=group.baseline)
    rows = [
        {
            "algorithm": recipe.label,
            "width": point.width,
            "inference_kb": point.size_kb,
            **fields_of(point.accuracy),
        }
        for recipe, points in curves
        for point in points
    ]
    tables = [Table("accuracy_size", "Accuracy by size", _POINTS, rows)]
    if gain is not None:
        gains = [*zip(gain.sizes_kb, gain.at, strict=True), (None, gain.mean)]
        rows = [{"inference_kb": size, **fields_of(at)} for size, at in gains]
        caption = f"Gain of {group.candidate.name} at equal size"
        caption += ", and its mean over the range"
        tables.append(Table("gain", caption, _GAINS, rows))
    return [picture], tables


def in_words(recipe: Recipe, points: Sequence[Point]) -> str:
    """The points of a curve."""
    values = ", ".join(
        f"{point.accuracy.mean:.1f} % at {kilobytes(point.size_kb)}" for point in points
    )
    return f"{recipe.name}: {values}."


_SIZE = Column("size (kB)", plain(",.1f", "inference_kb"))
_POINTS = (ALGORITHM, WIDTH, _SIZE, *statistics_columns("accuracy (%)"))
_GAINS = (
    Column(
        "size (kB)",
        lambda row: "mean" if row["inference_kb"] is None else _SIZE.text(row),
    ),
    Column("gain (points)", lambda row: signed(row["mean"])),
    *statistics_columns("")[1:],
)


# ---- Figures


def draw_curves(
    path: Path,
    curves: Sequence[tuple[Recipe, Sequence[Point]]],
    gain: Gain | None,
    below: Recipe,
) -> None:
    """Accuracy against inference model size: seeds, their mean and spread.

    Args:
      path: of the figure.
      curves: of recipes.
      gain: whose range of sizes is shaded.
      below: recipe whose widths stand below its curve.
    """
    with saved(path) as axes:
        if gain is not None:
            axes.axvspan(
                gain.sizes_kb[0], gain.sizes_kb[-1], color="#888888", alpha=0.12,
                linewidth=0, label="sizes that both cover",
            )  # fmt: skip
        for recipe, points in curves:
            draw_curve(axes, recipe, points, -1 if recipe is below else 1)
        size_axes(axes)


def draw_curve(axes: Axes, recipe: Recipe, points: Sequence[Point], side: int) -> None:
    """Mean and standard deviation of each width; single seeds behind them, faint.

    Widths stand above a curve that rises (side 1), or below it (side -1), beside it.
    """
    colour, marker = recipe.look
    for point in points:
        axes.plot(
            [point.size_kb] * len(point.accuracies), point.accuracies, marker=marker,
            markersize=4, markeredgewidth=0, color=colour, alpha=0.35, linestyle="none",
        )  # fmt: skip
        axes.annotate(
            f"×{point.width:g}",
            (point.size_kb, point.accuracy.mean + side * (point.accuracy.std or 0.0)),
            xytext=(-4 * side, 4 * side),
            textcoords="offset points",
            ha="right" if side > 0 else "left",
            va="bottom" if side > 0 else "top",
            fontsize=9,
            color=colour,
        )
    means = np.array([point.accuracy.mean for point in points])
    stds = np.array([point.accuracy.std or 0.0 for point in points])
    sizes = [point.size_kb for point in points]
    measured(
        axes, recipe.label, sizes, means.tolist(), (means - stds, means + stds),
        color=colour, marker=marker, label=literal(recipe.name),
    )  # fmt: skip


def size_axes(axes: Axes) -> None:
    """Axes of accuracy against inference model size."""
    axes.set(xscale="log", xlabel="inference model size (kB)")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.13, y=0.14)
    accuracy_axis(axes)
    legend_above(
        axes,
        "Mean of the seeds ± standard deviation of one; lines only join the points. "
        "×1 is the width of the network.",
    )
