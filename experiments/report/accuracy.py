"""Accuracy against inference model size, and the gain of HIC at equal size."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from experiments.drawing import COLOURS, NAMES, accuracy_axis, legend_above, measured
from experiments.report.estimates import SHARES, Estimate, Run, combine, estimate
from experiments.report.sections import (
    MARKS,
    Evidence,
    Finding,
    Picture,
    Verdict,
    above,
    saved,
    why_open,
)
from experiments.report.tables import (
    ALGORITHM,
    WIDTH,
    Column,
    Row,
    Table,
    fields_of,
    plain,
    statistics_columns,
)
from experiments.words import (
    kilobytes,
    signed,
)


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


def beats_fp32(runs: Sequence[Run]) -> Finding:
    """At comparable inference model size HIC beats the FP32 baseline.

    Rule: the gain is the mean accuracy of HIC less that of FP32 at equal inference
    model size, both interpolated linearly in the logarithm of the size and averaged
    over the range of log size that both curves cover. The claim is supported if the
    95 % interval of the gain lies above 0, and not supported if it lies below.
    """
    fp32, hic = curve(runs, "fp32"), curve(runs, "hic")
    if absent := missing(fp32, hic):
        return Finding(Verdict.TOO_LITTLE, (absent,))
    gain = gain_at_equal_size(fp32, hic)
    if gain is None:
        return Finding(
            Verdict.TOO_LITTLE,
            (
                f"The sizes do not overlap: FP32 covers {_range(fp32)}, HIC "
                f"{_range(hic)}. Wider HIC or narrower FP32 runs would tell.",
            ),
        )
    verdict = above(gain.mean, 0.0)
    low, high = gain.sizes_kb[0], gain.sizes_kb[-1]
    where = f"{kilobytes(low)} to {kilobytes(high)}"
    sentences = [
        f"Over the sizes that both cover, {where}, the gain of HIC is "
        f"{signed(gain.mean.mean)} points on average."
        if low < high
        else f"At {kilobytes(low)}, the one size that both cover, the gain of HIC is "
        f"{signed(gain.mean.mean)} points."
    ]
    if verdict is Verdict.TOO_LITTLE:
        sentences.append(why_open(gain.mean, "0", FP32=fp32, HIC=hic))
    return Finding(verdict, tuple(sentences), "gain at equal size", gain.mean)


def missing(fp32: Sequence[Point], hic: Sequence[Point]) -> str:
    """What there is no run of, in a sentence; empty if there are both."""
    absent = [name for name, runs in (("FP32", fp32), ("HIC", hic)) if not runs]
    return f"There are no {' and no '.join(absent)} runs." if absent else ""


def _range(points: Sequence[Point]) -> str:
    low, high = kilobytes(points[0].size_kb), kilobytes(points[-1].size_kb)
    return low if low == high else f"{low} to {high}"


def equal_size(
    fp32: Sequence[Point], hic: Sequence[Point], out: Path, prefix: str
) -> Evidence:
    """What stands with the claim on equal size."""
    curves = {n: points for n, points in (("fp32", fp32), ("hic", hic)) if points}
    gain = gain_at_equal_size(fp32, hic)
    picture = Picture(
        out / f"{prefix}accuracy_size",
        "Test accuracy against inference model size. "
        + " ".join(in_words(name, points) for name, points in curves.items()),
        "Means over seeds with their standard deviation; single seeds are faint, and "
        "×1 is the width.",
    )
    accuracy_against_size(picture.path, curves, gain)
    rows = [point_row(n, p) for n, points in curves.items() for p in points]
    shown = [Table("accuracy_size", "Accuracy by size", POINTS, rows)]
    if gain is not None:
        shown.append(
            Table(
                "gain",
                "Gain of HIC at equal size, and its mean over the range",
                GAINS,
                gain_rows(gain),
            )
        )
    return [picture], shown


def in_words(name: str, points: Sequence[Point]) -> str:
    """The points of a curve."""
    values = ", ".join(
        f"{point.accuracy.mean:.1f} % at {kilobytes(point.size_kb)}" for point in points
    )
    return f"{NAMES[name]}: {values}."


def accuracy_against_size(
    path: Path, curves: dict[str, Sequence[Point]], gain: Gain | None
) -> None:
    """Accuracy against inference model size: seeds, their mean and spread.

    Args:
      path: of the figure.
      curves: of `estimates.curve` by algorithm.
      gain: whose range of sizes is shaded.
    """
    with saved(path) as axes:
        if gain is not None:
            axes.axvspan(
                gain.sizes_kb[0], gain.sizes_kb[-1], color="#888888", alpha=0.12,
                linewidth=0, label="sizes that both cover",
            )  # fmt: skip
        for name, points in curves.items():
            draw_curve(axes, name, points)
        size_axes(axes)


def draw_curve(axes: Axes, name: str, points: Sequence[Point]) -> None:
    """Mean and standard deviation of each width; single seeds behind them, faint."""
    sizes = [point.size_kb for point in points]
    for point in points:
        axes.plot(
            [point.size_kb] * len(point.accuracies),
            point.accuracies,
            marker=MARKS[name],
            markersize=4,
            markeredgewidth=0,
            color=COLOURS[name],
            alpha=0.35,
            linestyle="none",
        )
        # Widths stand above HIC and below FP32, beside curves that rise.
        side = 1 if name == "hic" else -1
        axes.annotate(
            f"×{point.width:g}",
            (point.size_kb, point.accuracy.mean + side * (point.accuracy.std or 0.0)),
            xytext=(-4 * side, 4 * side),
            textcoords="offset points",
            ha="right" if side > 0 else "left",
            va="bottom" if side > 0 else "top",
            fontsize=9,
            color=COLOURS[name],
        )
    means = np.array([point.accuracy.mean for point in points])
    stds = np.array([point.accuracy.std or 0.0 for point in points])
    measured(axes, name, sizes, means, (means - stds, means + stds))


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


def point_row(algorithm: str, point: Point) -> Row:
    """Accuracy of one width, in %."""
    return {
        "algorithm": algorithm,
        "width": point.width,
        "inference_kb": point.size_kb,
        **fields_of(point.accuracy),
    }


def gain_rows(gain: Gain) -> list[Row]:
    """Gain in points at each size; the last row is the mean over the range."""
    sizes = [*gain.sizes_kb, None]
    return [
        {"inference_kb": size, **fields_of(at)}
        for size, at in zip(sizes, [*gain.at, gain.mean], strict=True)
    ]


POINTS = (
    ALGORITHM,
    WIDTH,
    Column("size (kB)", plain(",.1f", "inference_kb")),
    *statistics_columns("accuracy (%)"),
)


GAINS = (
    Column(
        "size (kB)",
        lambda row: (
            "mean" if row["inference_kb"] is None else f"{row['inference_kb']:,.1f}"
        ),
    ),
    Column("gain (points)", lambda row: signed(row["mean"])),
    *statistics_columns("")[1:],
)
