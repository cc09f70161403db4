"""What all pictures share, those of runs and of the report: names, colours, axes."""

import io
import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.runs import files
from experiments.words import duration, scientific
from hic_jax import DAY, HOUR, MINUTE, MONTH, YEAR

STYLE: dict[Any, float] = {  # Only newer releases of Matplotlib have a type of keys.
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "figure.constrained_layout.use": True,
    "figure.dpi": 150,
    "figure.titlesize": 11,
    "font.size": 10,
    "grid.alpha": 0.3,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.title_fontsize": 9,
    "lines.linewidth": 1.8,
}
# Colours that stay apart in every kind of colour vision (Okabe and Ito, 2008).
LIMIT = "#D55E00"  # Of limits and targets.
COLOURS = {
    "hic": "#0072B2",
    "fp32": "#555555",
    "mixed_precision": "#009E73",
    "pulsed_sgd": "#CC79A7",
    "volatile": "#E69F00",
    "tiki_taka": "#56B4E9",
    "chopped_tiki_taka": "#F0E442",
    "agad": "#882255",
    "residual": "#D55E00",
    "none": "#D55E00",
    "gdc": "#E69F00",
    "column": "#009E73",
    "adabs": "#0072B2",
    "multilevel": "#0072B2",
    "binary": "#E69F00",
}
NAMES = {
    "hic": "HIC",
    "fp32": "FP32",
    "pulsed_sgd": "pulsed SGD",
    "volatile": "volatile cells",
    "tiki_taka": "Tiki-Taka",
    "chopped_tiki_taka": "chopped Tiki-Taka",
    "agad": "AGAD",
    "residual": "multi-tile residual",
    "none": "no compensation",
    "gdc": "one gain per layer (GDC)",
    "column": "one gain per column",
    "adabs": "AdaBS",
    "multilevel": "multi-level devices (MSB)",
    "binary": "binary cells (LSB)",
}
# What a picture says that is shown without a text.
LEGENDS = NAMES | {"adabs": "AdaBS: BatchNorm re-estimated"}
# Of what has no colour of its own.
_UNNAMED = "#009E73"
MARKERS = {"none": "o", "gdc": "s", "column": "^", "adabs": "D"}
TIME_MARKS = {
    "1\nsecond": 1.0,
    "1\nmin": MINUTE,
    "1\nhour": HOUR,
    "1\nday": DAY,
    "1\nmonth": MONTH,
    "1\nyear": YEAR,
    "10\nyears": 10 * YEAR,
    "100\nyears": 100 * YEAR,
}
# Two marks of time are at least this share of their axis apart, or one goes.
_APART = 0.12
# Where the logarithmic axis of cycles begins: left of one.
NO_CYCLE = 0.5
# Of a line of words over or under a picture; more would be wider than it.
_LETTERS = 74

# Places, accuracies in %, and the lower and upper ends of their error bars.
Curve = tuple[Sequence[float], Sequence[float], tuple[Sequence[float], Sequence[float]]]


@contextmanager
def figure(
    *paths: Path, columns: int = 1, rows: int = 1, height: float = 3.6
) -> Iterator[list[Axes]]:
    """Axes side by side, saved to all ``paths`` at the end, by one process.

    In several rows the axes of the first come first.

    Pictures are shown about as wide as a page of text, so several axes are narrower
    than one, and words keep their size.
    """
    with matplotlib.rc_context(STYLE):
        width = 5.2 if columns == 1 else 4.1 * columns
        figure = Figure(figsize=(width, height))
        yield list(np.ravel(figure.subplots(rows, columns)))
        for path in paths if jax.process_index() == 0 else ():
            drawn = io.BytesIO()
            figure.savefig(drawn, format=path.suffix.removeprefix("."))
            files.write_bytes(path, drawn.getvalue())


def colour_of(name: str) -> str:
    """The colour of what `COLOURS` may know."""
    return COLOURS.get(name, _UNNAMED)


def words_for(name: str) -> str:
    """What a picture calls something that `NAMES` may know."""
    return NAMES.get(name, literal(name.replace("_", " ")))


def literal(text: str) -> str:
    """A text that is drawn as it is: between dollars Matplotlib sees mathematics."""
    return text.replace("$", r"\$")


# ---- Axes


def time_axis(axes: Axes, times: Sequence[float], since: str) -> None:
    """A logarithmic axis of time in s since something, in the words of people."""
    low, high = 0.5 * min(times), 2 * max(times)
    inside = {name: time for name, time in TIME_MARKS.items() if low <= time <= high}
    marks = inside or {duration(time).replace(" ", "\n"): time for time in times}
    kept: dict[str, float] = {}
    for name, time in sorted(marks.items(), key=lambda mark: -mark[1]):
        last = min(kept.values(), default=math.inf)
        if math.log(last / time) >= _APART * math.log(high / low):
            kept[name] = time
    axes.set(xscale="log", xlabel=f"time after {since}", xlim=(low, high))
    axes.set_xticks(list(kept.values()), list(kept))
    axes.minorticks_off()


def epoch_axis(axes: Axes, label: str = "epoch") -> None:
    """An axis of epochs from 0, marked at whole ones."""
    axes.xaxis.set_major_locator(
        MaxNLocator(nbins=7, steps=[1, 2, 5, 10], integer=True)
    )
    axes.set_xlim(left=0)
    axes.set_xlabel(label)


def accuracy_axis(axes: Axes, tested_on: str = "test") -> None:
    """An axis of accuracy in %, marked at few round values, and nowhere below 0."""
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_ylim(bottom=max(axes.get_ylim()[0], 0.0))
    axes.set_ylabel(f"{tested_on} accuracy (%)")


def cycle_axis(axes: Axes, high: float, label: str) -> None:
    """A logarithmic axis of write-erase cycles to ``high``, with a place for none."""
    decades = int(math.log10(high))
    powers = [10.0**n for n in range(1, decades + 1, 1 if decades < 6 else 2)]
    ticks = {"0": math.sqrt(NO_CYCLE)} | {scientific(p): p for p in powers}
    axes.set(xscale="log", xlim=(NO_CYCLE, high), xlabel=label)
    axes.set_xticks(list(ticks.values()), list(ticks))
    axes.minorticks_off()


# ---- What is drawn on them


def measured(
    axes: Axes,
    name: str,
    x: Sequence[float],
    y: Sequence[float],
    ends: tuple[Sequence[float], Sequence[float]],
    **look: str,
) -> None:
    """Accuracies in % with error bars; a thin line joins them for the eye.

    Args:
      axes: of the picture.
      name: name of what was measured, as in `COLOURS`.
      x: places of the points.
      y: accuracies in %.
      ends: ends of the error bars, which are drawn between 0 and 100 % only.
      **look: marker, colour or label, if not those of the name.
    """
    low, high = np.clip(ends, 0, 100)
    usual: dict[str, Any] = {
        "marker": MARKERS.get(name, "o"),
        "color": COLOURS.get(name),
        "label": LEGENDS.get(name, literal(name)),
    }
    # An end that is on the wrong side by the last bit has no bar there.
    bars = np.maximum([np.subtract(y, low), np.subtract(high, y)], 0)
    axes.errorbar(
        x, y, yerr=bars, markersize=5.5, linewidth=1.0, elinewidth=1.6, capsize=3,
        **(usual | look),
    )  # fmt: skip


def accuracy_line(axes: Axes, accuracy: float, label: str, style: str = "--") -> None:
    """An accuracy in % that nothing in the picture changes."""
    axes.axhline(
        accuracy, color=COLOURS["fp32"], linestyle=style, linewidth=1.2, label=label,
        zorder=1,
    )  # fmt: skip


def ageing(
    axes: Axes,
    curves: dict[str, Curve],
    *,
    deployed: bool,
    classes: int | None = None,
    digital: tuple[str, float] | None = None,
    tested_on: str = "test",
) -> None:
    """Accuracy against time: compensations of drift as lines, their spread as bars.

    Args:
      axes: of the picture.
      curves: times in s, accuracies and ends of their bars in %, by compensation.
      deployed: whether the time is counted from the programming of a chip, not from
        the end of training.
      classes: number of classes, to show chance beside a network without compensation;
        None shows none.
      digital: name and accuracy in % of the same network without devices; None shows
        none.
      tested_on: test or validation, whose data it is.
    """
    if digital is not None:
        name, accuracy = digital
        accuracy_line(axes, accuracy, f"{literal(name)}, which does not drift")
    _over_time(axes, curves, deployed=deployed)
    if classes is not None and "none" in curves:
        accuracy_line(axes, 100 / classes, f"chance, 1 of {classes} classes", ":")
        axes.set_ylim(bottom=0)
    accuracy_axis(axes, tested_on)


def loss_ageing(
    axes: Axes, curves: dict[str, Curve], *, deployed: bool, tested_on: str = "test"
) -> None:
    """Loss on a text against time, nats per character, as `ageing` draws accuracy."""
    _over_time(axes, curves, deployed=deployed)
    axes.set_ylabel(f"{tested_on} loss (nats per character)")


def _over_time(axes: Axes, curves: dict[str, Curve], *, deployed: bool) -> None:
    for name, curve in curves.items():
        measured(axes, name, *curve)
    times = [time for x, _, _ in curves.values() for time in x]
    time_axis(axes, times, "programming" if deployed else "training")


def devices_by_cycles(
    axes: Axes, edges: Sequence[int], counts: dict[str, Sequence[int]], limit: float
) -> None:
    """Histograms of write-erase cycles, beside the endurance limit in cycles.

    The first kind of device is filled and the others are outlines: where they overlap,
    both are seen. The first bin holds the devices that saw no cycle.
    """
    look: dict[str, Any] = {"fill": True, "alpha": 0.55}
    for kind, devices in counts.items():
        axes.stairs(
            devices, np.maximum(edges, NO_CYCLE), color=colour_of(kind),
            label=words_for(kind), **look,
        )  # fmt: skip
        look = {"fill": False, "linewidth": 2.0}
    limit_line(axes, limit)
    high = 3 * max(limit, edges[-1], 10)
    cycle_axis(axes, high, "write-erase cycles of a device")
    axes.set(yscale="log", ylabel="devices")
    axes.set_ylim(bottom=0.5)
    legend_above(axes)


def limit_line(axes: Axes, limit: float) -> None:
    """The cycles that a device endures."""
    axes.axvline(limit, color=LIMIT, linestyle="--")
    axes.annotate(
        f"endurance limit {scientific(limit)}", (limit, 0.5),
        xycoords=("data", "axes fraction"), xytext=(-3, 0),
        textcoords="offset points", rotation=90, ha="right", va="center", color=LIMIT,
    )  # fmt: skip


# ---- What explains it


def legend_above(axes: Axes, note: str = "") -> None:
    """Where it hides nothing, under words on what is shown."""
    title = textwrap.fill(note, _LETTERS)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, title=title)


def legend_below(all_axes: Sequence[Axes], note: str = "", ncols: int = 2) -> None:
    """One legend for all axes, each label once, under words on what is shown."""
    handles = {
        label: handle
        for axes in all_axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure = all_axes[0].figure
    assert isinstance(figure, Figure)  # No picture has figures within.
    title = textwrap.fill(note, round(_LETTERS * figure.get_figwidth() / 5.2))
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=ncols,
        title=title,
    )  # fmt: skip
