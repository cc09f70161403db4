"""The figures of the claims, drawn from what `experiments.report.estimates` computed.

The path of a figure has no ending: it is saved as PNG and as SVG.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from experiments.drawing import (
    COLOURS,
    LIMIT,
    accuracy_axis,
    accuracy_line,
    chance_line,
    figure,
    legend_above,
    measured,
    time_axis,
)
from experiments.report.claims import COMPARABLE_POINTS, REDUCTION
from experiments.report.estimates import Ageing, Gain, Point, Reached
from hic_jax.inference import TRAINED

MARKS = {"fp32": "s", "hic": "o"}


@contextmanager
def saved(path: Path, **size: float) -> Iterator[Axes]:
    """Axes, saved as PNG and as SVG at the end; see `experiments.drawing.figure`."""
    with figure(Path(f"{path}.png"), Path(f"{path}.svg"), **size) as (axes,):
        yield axes


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
            _draw_curve(axes, name, points)
        _size_axes(axes)


def smallest_comparable(
    path: Path, baseline: Point, hic: Sequence[Point], reached: Reached | None
) -> None:
    """HIC beside the FP32 baseline, its accuracy and half its size.

    Args:
      path: of the figure.
      baseline: of `estimates.baseline_of`.
      hic: the curve of HIC.
      reached: the smallest HIC that is comparable with the baseline.
    """
    target = baseline.accuracy.mean
    with saved(path) as axes:
        axes.axhspan(
            target - COMPARABLE_POINTS, target + COMPARABLE_POINTS, linewidth=0,
            color=COLOURS["fp32"], alpha=0.18,
            label=f"baseline ± {COMPARABLE_POINTS:g} points",
        )  # fmt: skip
        axes.axvline(
            (1 - REDUCTION) * baseline.size_kb,
            color=LIMIT,
            linestyle="--",
            linewidth=1.2,
            label=f"{100 * REDUCTION:g} % less than the baseline",
        )
        _draw_curve(axes, "fp32", [baseline])
        _draw_curve(axes, "hic", hic)
        if reached is not None:
            axes.plot(
                reached.size_kb,
                reached.accuracy,
                marker="*",
                markersize=13,
                markeredgecolor="white",
                color=LIMIT,
                linestyle="none",
                label="smallest comparable HIC",
                zorder=5,
            )
        _size_axes(axes)


def _draw_curve(axes: Axes, name: str, points: Sequence[Point]) -> None:
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


def _size_axes(axes: Axes) -> None:
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


def accuracy_over_time(
    path: Path,
    cases: Sequence[Ageing],
    *,
    classes: int | None = None,
    fp32: float | None = None,
) -> None:
    """Accuracy against time: compensations as lines, the spread of chips as bars.

    Args:
      path: of the figure.
      cases: the compensations of one width on one kind of devices.
      classes: of the images, to show chance beside a network without compensation;
        None shows none.
      fp32: accuracy of the same network in floating point, in %; None shows none.
    """
    deployed = cases[0].devices != TRAINED
    with saved(path, height=4.0) as axes:
        if fp32 is not None:
            accuracy_line(axes, fp32, "FP32, which does not drift")
        for case in cases:
            mean, std = np.array(case.chip_mean), np.array(case.chip_std)
            measured(
                axes, case.compensation, case.times, mean, (mean - std, mean + std)
            )
        times = [time for case in cases for time in case.times]
        time_axis(axes, times, "programming" if deployed else "training")
        if classes is not None and any(c.compensation == "none" for c in cases):
            chance_line(axes, classes)
        accuracy_axis(axes)
        chips = cases[0].chips
        many = f"Mean of {chips} chips ± standard deviation of one"
        shown = many if chips > 1 else "One chip"
        legend_above(axes, f"{shown}; lines only join the points.")
