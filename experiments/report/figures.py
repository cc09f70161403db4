"""The figures of the report: each drawn from what `estimates` computed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from experiments.plots import COLOURS, MARKERS, NAMES, TIME_MARKS, figure
from experiments.report.claims import COMPARABLE_POINTS, REDUCTION, scientific
from experiments.report.estimates import Ageing, Point, Reached, Wear, baseline_of
from hic_jax.inference import TRAINED

_LIMIT = "#c4552d"
_LINES = {"fp32": ("s", "--"), "hic": ("o", "-")}


@contextmanager
def _saved(path: Path) -> Iterator[Axes]:
    """Axes that are saved as ``path`` with the endings png and svg."""
    with figure(path.with_suffix(".png"), path.with_suffix(".svg")) as (axes,):
        yield axes


def accuracy_against_size(path: Path, curves: dict[str, Sequence[Point]]) -> None:
    """Accuracy against inference model size: seeds, their mean and spread.

    Args:
      path: of the figure, without its ending.
      curves: of `estimates.curve` by algorithm; an empty one is left out.
    """
    with _saved(path) as axes:
        for name, points in curves.items():
            if points:
                _draw_curve(axes, name, points)
        axes.set(
            xscale="log",
            xlabel="inference model size (kB)",
            ylabel="test accuracy (%)",
        )
        _plain_log_axis(axes, [p.size_kb for points in curves.values() for p in points])
        _room_above(axes)
        axes.legend(loc="lower right")


def accuracy_against_reduction(
    path: Path, fp32: Sequence[Point], hic: Sequence[Point], reached: Reached | None
) -> None:
    """HIC against the FP32 baseline: points lost, and share of its size.

    Args:
      path: of the figure, without its ending.
      fp32: the curve that holds the baseline.
      hic: the curve of HIC.
      reached: the smallest HIC that is comparable with the baseline.
    """
    baseline = baseline_of(fp32)
    with _saved(path) as axes:
        relative = [
            Point(
                point.width,
                100 * point.size_kb / baseline.size_kb,
                _shifted(point.accuracy, baseline.accuracy.mean),
                tuple(a - baseline.accuracy.mean for a in point.accuracies),
            )
            for point in (*hic, baseline)
        ]
        _draw_curve(axes, "hic", relative[:-1])
        axes.axhspan(
            -COMPARABLE_POINTS, COMPARABLE_POINTS, color=COLOURS["fp32"], alpha=0.15,
            linewidth=0, label=f"comparable: ±{COMPARABLE_POINTS:g} points",
        )  # fmt: skip
        _draw_curve(axes, "fp32", relative[-1:])
        axes.axvline(
            100 * (1 - REDUCTION),
            color=_LIMIT,
            linestyle=":",
            label=f"{REDUCTION:.0%} less".replace("%", " %"),
        )
        if reached is not None:
            share = 100 * reached.size_kb / baseline.size_kb
            axes.plot(
                share,
                max(
                    np.interp(
                        np.log(share),
                        np.log([p.size_kb for p in relative[:-1]]),
                        [p.accuracy.mean for p in relative[:-1]],
                    ),
                    -COMPARABLE_POINTS,
                ),
                marker="*",
                markersize=14,
                color=_LIMIT,
                linestyle="none",
                label="smallest comparable HIC",
                zorder=5,
            )
        axes.set(
            xscale="log",
            xlabel=f"inference model size (% of FP32 at width {baseline.width:g})",
            ylabel="test accuracy − baseline (points)",
        )
        _plain_log_axis(axes, [p.size_kb for p in relative])
        _room_above(axes)
        axes.legend(loc="lower right", fontsize=8)


def _shifted(estimate, by):
    import dataclasses

    return dataclasses.replace(estimate, mean=estimate.mean - by)
