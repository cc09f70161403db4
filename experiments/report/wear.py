"""Write-erase cycles of devices, and where in the network they see most."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.ticker import FuncFormatter

from experiments.drawing import (
    LIMIT,
    NO_CYCLE,
    colour_of,
    cycle_axis,
    legend_above,
    literal,
)
from experiments.report.estimates import COUNTS, Estimate, estimate
from experiments.report.groups import Group, Recipe, file_word
from experiments.report.runs import Run
from experiments.report.sections import Picture, Section, height, saved
from experiments.report.tables import (
    WIDTH,
    Column,
    Row,
    Table,
    fields_of,
    plain,
    statistics_columns,
    told_apart,
    word,
)
from experiments.words import counted, scientific, trainings

# What a part of a network is: all of it, a layer, or the cells of a bit of the words.
WHOLE, LAYER, PLANE = "all", "layer", "bit plane"

# One device of a kind.
_DEVICE = {"multilevel": "multi-level device", "binary": "binary cell"}

# What `hic_jax.endurance` tells beside kinds of devices.
_NO_KINDS = ("trainings", "histogram", "layers", "binary_planes")


@dataclasses.dataclass(frozen=True)
class Wear:
    """Write-erase cycles of some devices of one recipe and width.

    Attributes:
      algorithm: label of the recipe.
      level: all devices of the kind, those of a layer, or those of a bit plane.
      kind: multilevel, binary, or what else an algorithm has.
      width: multiplier of the channels.
      part: the layer or the bit plane.
      most: cycles of each seed's most worn device, over seeds.
      mean: cycles of the mean device, the mean over seeds.
      p99: the 99th percentile of the devices, the mean over seeds.
      worst: cycles of the most worn device of all seeds.
      endurance_cycles: the limit; the lowest, if the runs were summarised with several.
      fraction: share of its limit that the most worn device of all seeds has used up.
      trainings: number of trainings like this one that the most worn device survives;
        infinite if it saw no cycle.
      edges: edges of a histogram in cycles; empty where a seed has none.
      counts: devices of all seeds between each two edges.
    """

    algorithm: str
    level: str
    kind: str
    width: float
    part: str
    most: Estimate
    mean: float
    p99: float
    worst: int
    endurance_cycles: float
    fraction: float
    trainings: float
    edges: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()


def wear(recipe: Recipe) -> list[Wear]:
    """Wear of every part, by kind of device and width, of runs that tracked it."""
    tracked = [run for _, seeds in recipe.by_width() for run in seeds if run["wear"]]
    kinds = [k for run in tracked for k in run["wear"] if k not in _NO_KINDS]
    rows = [
        {"kind": kind, "width": run["width"]} | row
        for kind in dict.fromkeys(kinds)
        for run in tracked
        if kind in run["wear"]
        for row in _parts(run, kind)
    ]
    if not rows:
        return []
    # Objects: whole numbers of any size stay what they are.
    case = ["level", "kind", "width", "part"]
    parts = pd.DataFrame(rows, dtype=object).groupby(case, sort=False)
    return [
        _of_seeds(recipe.label, level, kind, width, part, seeds.to_dict("list"))
        for (level, kind, width, part), seeds in parts
    ]


def _parts(run: Run, kind: str) -> Iterator[Row]:
    """What a seed tells of all devices of a kind, then of layers, then of planes."""
    wear, of_kind = run["wear"], run["wear"][kind]
    histogram, layers = wear.get("histogram", {}), wear.get("layers", {})

    def row(level: str, part: str, fields: Row, counts: list[int] | None) -> Row:
        return fields | {
            "level": level,
            "part": part,
            "endurance_cycles": of_kind["endurance_cycles"],
            "edges": histogram["edges"] if counts else [],
            "counts": counts or [],
        }

    yield row(WHOLE, WHOLE, of_kind, histogram.get(kind))
    arrays = (run["summary"].get("operations") or {}).get("arrays", {})
    # The network names its layers in order; the devices are stored by name.
    for name in sorted(layers, key=[*arrays, *layers].index):
        if fields := layers[name].get(kind):
            yield row(LAYER, name.removesuffix("/kernel"), fields, fields["histogram"])
    planes = wear.get("binary_planes", ()) if kind == "binary" else ()
    for bit, fields in enumerate(planes):
        yield row(PLANE, f"bit {bit}", fields, fields["histogram"])


def _of_seeds(
    algorithm: str, level: str, kind: str, width: float, part: str,
    seeds: dict[str, list[Any]],
) -> Wear:  # fmt: skip
    limits = zip(seeds["endurance_cycles"], seeds["max"], strict=True)
    return Wear(
        algorithm,
        level,
        kind,
        width,
        part,
        estimate(seeds["max"], COUNTS),
        float(np.mean(seeds["mean"])),
        float(np.mean(seeds["p99"])),
        int(max(seeds["max"])),
        min(seeds["endurance_cycles"]),
        max(seeds["fraction_of_endurance"]),
        min(int(limit // most) if most else math.inf for limit, most in limits),
        *_histogram(seeds["edges"], seeds["counts"]),
    )


def _histogram(
    all_edges: Sequence[list[int]], all_counts: Sequence[list[int]]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Edges and the devices of all seeds; the edges of one seed begin another's."""
    edges = max(all_edges, key=len)
    total = np.zeros(max(len(edges) - 1, 0), int)
    for mine, counts in zip(all_edges, all_counts, strict=True):
        if not mine or mine != edges[: len(mine)]:
            return (), ()
        total[: len(counts)] += counts
    return tuple(edges), tuple(total.tolist())


def device_of(kind: str) -> str:
    """One device of a kind, in words."""
    return _DEVICE.get(kind, f"{kind.replace('_', ' ')} device")


# ---- Where in the network


def by_part(group: Group, out: Path) -> Section | None:
    """Which layers and bit planes wear; the figures are drawn to ``out``."""
    every = {recipe: wear(recipe) for recipe in group.recipes}
    detailed = [r for r, cases in every.items() if any(c.level == LAYER for c in cases)]
    if not detailed:
        return None
    paragraphs, pictures = [], []
    for recipe in detailed:
        whose = f"{recipe.name}: " if len(detailed) > 1 else ""
        layers = [case for case in every[recipe] if case.level == LAYER]
        width = max(layers, key=lambda case: case.fraction).width
        found = []
        for mine in _by_kind(every[recipe], width):
            title, most = _most(mine)
            found.append(f"{title}: {most}.")
            if mine[0].edges:
                name = f"wear_{file_word(mine[0].kind)}_{_FILES[mine[0].level]}"
                shown = f"{whose}{title}, width {width:g}: "
                picture = Picture(
                    out / group.file(name, recipe),
                    f"Histogram of write-erase cycles. {shown}{most}.",
                    f"{shown}share of the devices of all seeds.",
                )
                draw_parts(picture.path, mine)
                pictures.append(picture)
        most_worn = f"{whose}At width {width:g}, which wears its devices most. "
        paragraphs.append(most_worn + " ".join(found))
    paragraphs.append("Bit 0 is the least significant. The tables have all widths.")
    of_level = {
        level: [c for cases in every.values() for c in cases if c.level == level]
        for level in (WHOLE, LAYER, PLANE)
    }
    tables = [
        table_of(f"wear_{_FILES[level]}", f"by {level}", of_level[level], _PARTS)
        for level in (PLANE, LAYER)
        if of_level[level]
    ]
    if bins := [row for cases in of_level.values() for c in cases for row in _bins(c)]:
        tables.append(Table("wear_histograms", "", (), bins))
    title = "Wear by layer and bit plane"
    return Section("wear", title, pictures, tables, paragraphs)


# Names of files that tell of these parts.
_FILES = {LAYER: "layers", PLANE: "planes"}


def _by_kind(cases: Sequence[Wear], width: float) -> Iterator[list[Wear]]:
    """Parts of one width: layers of each kind of device, then its bit planes."""
    for level in (LAYER, PLANE):
        parts = [c for c in cases if c.width == width and c.level == level]
        for kind in dict.fromkeys(case.kind for case in parts):
            yield [case for case in parts if case.kind == kind]


def _most(cases: Sequence[Wear]) -> tuple[str, str]:
    """What parts of one kind of device are, and which of them wears most."""
    by = "layer" if cases[0].level == LAYER else "bit of their word"
    worst = max(cases, key=lambda case: case.worst)
    return (
        f"{device_of(worst.kind).capitalize()}s by {by}",
        f"most in {worst.part}, where one has seen {counted(worst.worst, 'cycle')}, "
        f"{scientific(worst.fraction)} of its limit",
    )


def draw_parts(path: Path, cases: Sequence[Wear]) -> None:
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
    with saved(path, height=height(len(cases))) as axes:
        mesh = axes.pcolormesh(
            edges,
            np.arange(len(cases) + 1) - 0.5,
            np.ma.masked_equal(shares, 0.0),
            cmap=LinearSegmentedColormap.from_list(
                cases[0].kind, ["#f2f2f2", colour_of(cases[0].kind)]
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


# ---- Tables


def table_of(
    name: str, what: str, cases: Sequence[Wear], columns: tuple[Column, ...]
) -> Table:
    """Write-erase cycles; the estimate is of each seed's most worn device."""
    rows = [
        {
            "algorithm": case.algorithm,
            "kind": case.kind,
            "width": case.width,
            "part": case.part,
            "mean_device_cycles": case.mean,
            "p99_cycles": case.p99,
            "worst_cycles": case.worst,
            **fields_of(case.most),
            "endurance_cycles": case.endurance_cycles,
            "fraction_of_endurance": case.fraction,
            "trainings_survived": case.trainings,
        }
        for case in cases
    ]
    folded = columns is _PARTS
    columns = told_apart(columns, rows)
    return Table(name, f"Write-erase cycles {what}", columns, rows, folded)


def _bins(case: Wear) -> list[Row]:
    """Devices of all seeds by cycles, the upper end of each bin excluded."""
    bins = zip(case.edges[:-1], case.edges[1:], case.counts, strict=True)
    return [
        {
            "algorithm": case.algorithm,
            "kind": case.kind,
            "width": case.width,
            "part": case.part,
            "cycles_from": low,
            "cycles_to": high,
            "devices": devices,
        }
        for low, high, devices in bins
    ]


WEAR = (
    word("devices", "kind"),
    WIDTH,
    Column("mean device", plain(",.1f", "mean_device_cycles")),
    Column("99 % of devices", lambda row: f"≤ {row['p99_cycles']:,.0f}"),
    *statistics_columns("most worn, mean", ",.1f"),
    Column("most worn of all", plain(",d", "worst_cycles")),
    Column("of the limit", lambda row: scientific(row["fraction_of_endurance"])),
    Column(
        "trainings survived",
        lambda row: trainings(row["trainings_survived"]).removesuffix(" of"),
    ),
)


_PARTS = (WEAR[0], word("part", "part"), *WEAR[1:])
