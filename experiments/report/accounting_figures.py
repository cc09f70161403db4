"""The figures of what the hardware takes: wear, memory, energy."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.ticker import FuncFormatter

from experiments.drawing import (
    COLOURS,
    LIMIT,
    NAMES,
    NO_CYCLE,
    cycle_axis,
    devices_by_cycles,
    legend_above,
    limit_line,
    literal,
)
from experiments.report.accounting_tables import OPERATIONS
from experiments.report.costs import TOTAL, Cost, Memory, kinds
from experiments.report.figures import MARKS, saved
from experiments.report.wear import Wear
from experiments.words import scientific


def cycles_against_endurance(path: Path, cases: Sequence[Wear]) -> None:
    """Write-erase cycles by width and kind of device, beside the endurance limit.

    Args:
      path: of the figure.
      cases: of `estimates.wear`.
    """
    widths = sorted({case.width for case in cases})
    kinds = list(dict.fromkeys(case.kind for case in cases))
    limit = min(case.endurance_cycles for case in cases)
    with saved(path) as axes:
        for case in cases:
            shift = 0.4 * (kinds.index(case.kind) - (len(kinds) - 1) / 2)
            row = widths.index(case.width) + shift
            label = NAMES[case.kind] if case.width == widths[0] else None
            axes.barh(
                row, max(case.worst, NO_CYCLE), height=0.36, color=COLOURS[case.kind],
                label=label,
            )  # fmt: skip
            axes.plot(
                [max(case.mean, NO_CYCLE), max(case.p99, NO_CYCLE)],
                [row, row],
                marker="|",
                linestyle="none",
                color="white",
            )
            axes.annotate(
                f"{case.worst:,}: {scientific(case.fraction)} of the limit",
                (max(case.worst, NO_CYCLE), row),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
            )
        limit_line(axes, limit)
        axes.set_yticks(range(len(widths)), [f"×{width:g}" for width in widths])
        axes.invert_yaxis()
        high = 3 * max(limit, *(case.worst for case in cases))
        cycle_axis(axes, high, "write-erase cycles of the most worn device")
        axes.set_ylabel("width")
        axes.grid(visible=False, axis="y")
        legend_above(axes, "White marks: the mean device, and 99 % of the devices.")


def cycles_of_devices(path: Path, cases: Sequence[Wear]) -> None:
    """How many devices have seen how many write-erase cycles.

    Args:
      path: of the figure.
      cases: both kinds of device of one width, with histograms.
    """
    limit = min(case.endurance_cycles for case in cases)
    edges = max((case.edges for case in cases), key=len)
    counts = {case.kind: case.counts for case in cases}
    with saved(path) as axes:
        devices_by_cycles(axes, edges, counts, limit)


def cycles_by_part(path: Path, cases: Sequence[Wear]) -> None:
    """Histograms of write-erase cycles, a row for each layer or bit plane.

    Args:
      path: of the figure.
      cases: parts of one kind of device and one width, with histograms.
    """
    shares = np.array([np.array(c.counts) / max(sum(c.counts), 1) for c in cases])
    edges = np.maximum(cases[0].edges, NO_CYCLE)
    rows = np.arange(len(cases))
    means = [max(case.mean, NO_CYCLE) for case in cases]
    worsts = [max(case.worst, NO_CYCLE) for case in cases]
    with saved(path, height=_height(len(cases))) as axes:
        mesh = axes.pcolormesh(
            edges,
            np.arange(len(cases) + 1) - 0.5,
            np.ma.masked_equal(shares, 0.0),
            cmap=LinearSegmentedColormap.from_list(
                cases[0].kind, ["#f2f2f2", COLOURS[cases[0].kind]]
            ),
            norm=LogNorm(1e-5, 1.0),
        )
        percent = FuncFormatter(lambda share, _: f"{100 * share:g} %")
        axes.figure.colorbar(mesh, ax=axes, format=percent, pad=0.02, label="devices")
        axes.plot(
            means, rows, marker="|", markersize=9,
            markeredgewidth=1.8, linestyle="none", color="black", label="mean device",
        )  # fmt: skip
        axes.plot(
            worsts, rows, marker="D", markersize=5,
            markeredgecolor="white", linestyle="none", color=LIMIT,
            label="most worn device",
        )  # fmt: skip
        axes.set_yticks(rows, [literal(case.part) for case in cases], fontsize=8.5)
        axes.invert_yaxis()
        cycle_axis(axes, 1.2 * max(*worsts, 10), "write-erase cycles of a device")
        axes.grid(visible=False)
        legend_above(axes)


def training_memory(path: Path, memories: Sequence[Memory]) -> None:
    """Memory of the weights in training: all floating point, mixed precision, HIC.

    Args:
      path: of the figure.
      memories: of networks with devices, one a width.
    """
    schemes = {
        "FP32": ("fp32_bits", COLOURS["fp32"]),
        "mixed precision, FP32 accumulator": ("mixed_precision_bits", COLOURS["gdc"]),
        "HIC": ("training_bits", COLOURS["hic"]),
    }
    with saved(path, height=_height(3.2 * len(memories))) as axes:
        for index, (label, (name, colour)) in enumerate(schemes.items()):
            rows = np.arange(len(memories)) + 0.27 * (index - 1)
            sizes = [getattr(memory, name) / 8000 for memory in memories]
            bars = axes.barh(rows, sizes, height=0.25, color=colour, label=label)
            axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8.5)
        axes.set_yticks(range(len(memories)), [f"×{m.width:g}" for m in memories])
        axes.invert_yaxis()
        axes.set(xlabel="memory of the weights in training (kB)", ylabel="width")
        axes.margins(x=0.12)
        axes.grid(visible=False, axis="y")
        legend_above(axes)


def energy_by_kind(path: Path, costs: Sequence[Cost], xlabel: str) -> None:
    """Energy of each kind of operation, and of all: FP32 and HIC, a mark per width.

    Args:
      path: of the figure.
      costs: of `costs.costs`.
      xlabel: what takes this energy.
    """
    names = kinds([cost.energy for cost in costs])
    rows = {name: row for row, name in enumerate([*names, TOTAL])}
    with saved(path, height=_height(len(rows))) as axes:
        for algorithm in dict.fromkeys(cost.algorithm for cost in costs):
            points = [
                (joules, rows[name])
                for cost in costs
                if cost.algorithm == algorithm
                for name, joules in (cost.energy | {TOTAL: cost.total.mean}).items()
                if joules
            ]
            axes.plot(
                *zip(*points, strict=True), marker=MARKS[algorithm], markersize=5,
                linestyle="none", alpha=0.8, color=COLOURS[algorithm],
                label=NAMES[algorithm],
            )  # fmt: skip
        axes.axhline(len(names) - 0.5, color="#888888", linewidth=0.8)
        axes.set_yticks(
            list(rows.values()), [*(OPERATIONS[name] for name in names), TOTAL]
        )
        axes.set(xscale="log", xlabel=xlabel, ylim=(len(names) + 0.5, -0.5))
        axes.margins(x=0.08)
        legend_above(axes)


def _height(rows: float) -> float:
    """Inches of a figure with so many rows of words."""
    return max(1.3 + 0.22 * rows, 2.3)
