"""The figures of the claims, drawn from what `experiments.report.estimates` computed.

The path of a figure has no ending: it is saved as PNG and as SVG.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from experiments.plots import COLOURS, MARKERS, NAMES, TIME_MARKS, figure, literal
from experiments.report.claims import COMPARABLE_POINTS, REDUCTION
from experiments.report.estimates import Ageing, Gain, Point, Reached
from hic_jax.inference import TRAINED

LIMIT = COLOURS["none"]  # Colour of limits and targets.
MARKS = {"fp32": "s", "hic": "o"}


@contextmanager
def saved(path: Path, **size: float) -> Iterator[Axes]:
    """Axes, saved as PNG and as SVG at the end; see `experiments.plots.figure`."""
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
            fontsize=7.5,
            color=COLOURS[name],
        )
    axes.errorbar(
        sizes,
        [point.accuracy.mean for point in points],
        yerr=[point.accuracy.std or 0.0 for point in points],
        marker=MARKS[name],
        markersize=5.5,
        linewidth=1.6,
        capsize=3,
        color=COLOURS[name],
        label=NAMES[name],
    )


def _size_axes(axes: Axes) -> None:
    axes.set(
        xscale="log", xlabel="inference model size (kB)", ylabel="test accuracy (%)"
    )
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.1, y=0.14)
    legend_above(axes)


def legend_above(axes: Axes) -> None:
    """Where it hides nothing."""
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=9)


def accuracy_over_time(path: Path, cases: Sequence[Ageing]) -> None:
    """Accuracy against time: compensations as lines, chips as bands.

    Args:
      path: of the figure.
      cases: the compensations of one width on one kind of devices.
    """
    deployed = cases[0].devices != TRAINED
    with saved(path) as axes:
        for case in cases:
            colour = COLOURS.get(case.compensation)
            mean, std = np.array(case.chip_mean), np.array(case.chip_std)
            axes.fill_between(
                case.times,
                np.maximum(mean - std, 0),
                np.minimum(mean + std, 100),
                color=colour,
                alpha=0.18,
                linewidth=0,
            )
            axes.plot(
                case.times,
                mean,
                marker=MARKERS.get(case.compensation, "o"),
                markersize=5,
                color=colour,
                label=NAMES.get(case.compensation, literal(case.compensation)),
            )
        axes.set(
            xscale="log",
            xlabel=f"time after {'programming' if deployed else 'training'}",
            ylabel="test accuracy (%)",
        )
        times = [time for case in cases for time in case.times]
        axes.set_xticks(list(TIME_MARKS.values()), list(TIME_MARKS))
        axes.set_xlim(0.5 * min(times), 2 * max(times))
        axes.minorticks_off()
        legend_above(axes)
