"""The figures of the report, drawn from what `experiments.report.estimates` computed.

The path of a figure has no ending: it is saved as PNG and as SVG.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from experiments.plots import COLOURS, MARKERS, NAMES, TIME_MARKS, figure
from experiments.report.claims import COMPARABLE_POINTS, REDUCTION, scientific
from experiments.report.estimates import Ageing, Gain, Point, Reached, Wear
from hic_jax.inference import TRAINED

_LIMIT = COLOURS["none"]
_MARKS = {"fp32": "s", "hic": "o"}


@contextmanager
def _saved(path: Path) -> Iterator[Axes]:
    with figure(Path(f"{path}.png"), Path(f"{path}.svg")) as (axes,):
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
    with _saved(path) as axes:
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
    with _saved(path) as axes:
        axes.axhspan(
            target - COMPARABLE_POINTS, target + COMPARABLE_POINTS, linewidth=0,
            color=COLOURS["fp32"], alpha=0.18,
            label=f"baseline ± {COMPARABLE_POINTS:g} points",
        )  # fmt: skip
        axes.axvline(
            (1 - REDUCTION) * baseline.size_kb,
            color=_LIMIT,
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
                color=_LIMIT,
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
            marker=_MARKS[name],
            markersize=4,
            markeredgewidth=0,
            color=COLOURS[name],
            alpha=0.35,
            linestyle="none",
        )
        side = 1 if name == "hic" else -1  # Widths stand above HIC and below FP32.
        axes.annotate(
            f"×{point.width:g}",
            (point.size_kb, point.accuracy.mean + side * (point.accuracy.std or 0.0)),
            xytext=(0, 5 * side),
            textcoords="offset points",
            ha="center",
            va="bottom" if side > 0 else "top",
            fontsize=7.5,
            color=COLOURS[name],
        )
    axes.errorbar(
        sizes,
        [point.accuracy.mean for point in points],
        yerr=[point.accuracy.std or 0.0 for point in points],
        marker=_MARKS[name],
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
    _legend_above(axes)


def _legend_above(axes: Axes) -> None:
    """Where it hides nothing."""
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=9)


def accuracy_over_time(path: Path, cases: Sequence[Ageing]) -> None:
    """Accuracy against time: compensations as lines, chips as bands.

    Args:
      path: of the figure.
      cases: the compensations of one width on one kind of devices.
    """
    deployed = cases[0].devices != TRAINED
    with _saved(path) as axes:
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
                label=NAMES.get(case.compensation, case.compensation),
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
        _legend_above(axes)


def cycles_against_endurance(path: Path, cases: Sequence[Wear]) -> None:
    """Write-erase cycles by width and kind of device, beside the endurance limit.

    Args:
      path: of the figure.
      cases: of `estimates.wear`.
    """
    widths = sorted({case.width for case in cases})
    kinds = list(dict.fromkeys(case.kind for case in cases))
    limit = min(case.endurance_cycles for case in cases)
    with _saved(path) as axes:
        for case in cases:
            shift = 0.4 * (kinds.index(case.kind) - (len(kinds) - 1) / 2)
            row = widths.index(case.width) + shift
            label = NAMES[case.kind] if case.width == widths[0] else None
            axes.barh(
                row, max(case.worst, _NONE), height=0.36, color=COLOURS[case.kind],
                label=label,
            )  # fmt: skip
            axes.plot(
                [max(case.mean, _NONE), max(case.p99, _NONE)],
                [row, row],
                marker="|",
                linestyle="none",
                color="white",
            )
            axes.annotate(
                f"{case.worst:,}: {scientific(case.fraction)} of the limit",
                (max(case.worst, _NONE), row),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        _draw_limit(axes, limit)
        axes.set_yticks(range(len(widths)), [f"×{width:g}" for width in widths])
        axes.invert_yaxis()
        axes.set(
            xscale="log",
            xlim=(_NONE, 3 * max(limit, *(case.worst for case in cases))),
            xlabel="write-erase cycles of the most worn device",
            ylabel="width",
        )
        axes.grid(visible=False, axis="y")
        axes.set_axisbelow(True)
        _legend_above(axes)


def cycles_of_devices(path: Path, cases: Sequence[Wear]) -> None:
    """How many devices have seen how many write-erase cycles.

    Args:
      path: of the figure.
      cases: both kinds of device of one width, with histograms.
    """
    limit = min(case.endurance_cycles for case in cases)
    with _saved(path) as axes:
        for case in cases:
            axes.stairs(
                case.counts,
                np.maximum(case.edges, _NONE),
                fill=True,
                alpha=0.6,
                color=COLOURS[case.kind],
                label=NAMES[case.kind],
            )
        _draw_limit(axes, limit)
        axes.set(
            xscale="log",
            yscale="log",
            xlim=(_NONE, 3 * max(limit, *(case.edges[-1] for case in cases))),
            xlabel="write-erase cycles (leftmost bin: none)",
            ylabel="devices",
        )
        axes.set_ylim(bottom=0.5)
        _legend_above(axes)


def _draw_limit(axes: Axes, limit: float) -> None:
    axes.axvline(limit, color=_LIMIT, linestyle="--")
    axes.annotate(
        f"endurance limit {scientific(limit)}",
        (limit, 0.5),
        xycoords=("data", "axes fraction"),
        xytext=(-3, 0),
        textcoords="offset points",
        rotation=90,
        ha="right",
        va="center",
        color=_LIMIT,
    )


# Where the logarithmic axis of cycles begins: left of one.
_NONE = 0.5
