"""Write-erase cycles of devices, and where in the network they see most."""

import collections
import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.ticker import FuncFormatter

from experiments import drawing
from experiments.report import tables
from experiments.report.estimates import COUNTS, Estimate, estimate
from experiments.report.groups import Group, Recipe, file_word
from experiments.report.runs import Run
from experiments.report.sections import Picture, Section, height, saved
from experiments.report.tables import Row
from experiments.words import counted, scientific, trainings

# What a part of a network is: all of it, a layer, or the cells of a bit of the words.
WHOLE, LAYER, PLANE = "all", "layer", "bit plane"

# Names of files that tell of these parts.
_FILES = {LAYER: "layers", PLANE: "planes"}

# One device of a kind.
_DEVICE = {"multilevel": "multi-level device", "binary": "binary cell"}

# What `hic_jax.endurance` tells beside kinds of devices.
_NO_KINDS = ("trainings", "histogram", "layers", "binary_planes", "full_counters")


@dataclasses.dataclass(frozen=True)
class Wear:
    """Write-erase cycles of some devices of one recipe and width."""

    recipe: Recipe
    kind: str  # multilevel, binary, or what else an algorithm has
    width: float  # multiplier of the channels
    part: str  # the layer, the bit plane, or all devices of the kind
    mean_device_cycles: float  # cycles of the mean device, the mean over seeds
    p99_cycles: float  # the 99th percentile of the devices, the mean over seeds
    worst_cycles: int  # cycles of the most worn device of all seeds
    most: Estimate  # cycles of each seed's most worn device, over seeds
    endurance_cycles: float  # the limit; if the runs have several, the lowest
    fraction_of_endurance: float  # share of its limit that the worst device has used up
    # Number of trainings like this one that the worst survives; it may be infinite.
    trainings_survived: float
    edges: tuple[int, ...] = ()  # of a histogram in cycles; empty where a seed has none
    counts: tuple[int, ...] = ()  # devices of all seeds between each two edges


def cycles_by_kind(run: Run) -> dict[str, Row]:
    """Cycles of all devices of each kind, as the run was summarised with."""
    return {k: x for k, x in (run["wear"] or {}).items() if k not in _NO_KINDS}


def wear(recipe: Recipe) -> dict[str, list[Wear]]:
    """Wear of whole networks, of layers and of bit planes, of runs that tracked it."""
    levels: dict[str, list[Wear]] = collections.defaultdict(list)
    tracked = [run for _, seeds in recipe.by_width() for run in seeds if run["wear"]]
    kinds = [kind for run in tracked for kind in cycles_by_kind(run)]
    rows = [
        {"kind": kind, "width": run["width"]} | row
        for kind in dict.fromkeys(kinds)
        for run in tracked
        if kind in run["wear"]
        for row in _parts(run, kind)
    ]
    if rows:
        # Objects: whole numbers of any size stay what they are.
        keys = ["level", "kind", "width", "part"]
        parts = pd.DataFrame(rows, dtype=object).groupby(keys, sort=False)
        for (level, kind, width, part), seeds in parts:
            # Older pandas give a number of NumPy's.
            case = _of_seeds(recipe, kind, float(width), part, seeds.to_dict("list"))
            levels[level].append(case)
    return levels


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
    recipe: Recipe, kind: str, width: float, part: str, seeds: dict[str, list[Any]]
) -> Wear:
    limits = zip(seeds["endurance_cycles"], seeds["max"], strict=True)
    return Wear(
        recipe,
        kind,
        width,
        part,
        float(np.mean(seeds["mean"])),
        float(np.mean(seeds["p99"])),
        int(max(seeds["max"])),
        estimate(seeds["max"], COUNTS),
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
    detailed = {r: levels for r, levels in every.items() if levels[LAYER]}
    if not detailed:
        return None
    paragraphs, pictures = [], []
    for recipe, levels in detailed.items():
        whose = f"{recipe.name}: " if len(detailed) > 1 else ""
        width = max(levels[LAYER], key=lambda case: case.fraction_of_endurance).width
        found = []
        for level, by in ((LAYER, "layer"), (PLANE, "bit of their word")):
            parts = [case for case in levels[level] if case.width == width]
            for kind in dict.fromkeys(case.kind for case in parts):
                mine = [case for case in parts if case.kind == kind]
                title = f"{device_of(kind).capitalize()}s by {by}"
                found.append(f"{title}: {_most(mine)}.")
                if not mine[0].edges:
                    continue
                name = f"wear_{file_word(kind)}_{_FILES[level]}"
                path = out / group.file(name, recipe)
                title = f"{whose}{title}, width {width:g}"
                pictures.append(draw_parts(path, mine, title))
        most_worn = f"{whose}At width {width:g}, which wears its devices most. "
        paragraphs.append(most_worn + " ".join(found))
    paragraphs.append("Bit 0 is the least significant. The tables have all widths.")
    of_level = {
        level: [case for levels in every.values() for case in levels[level]]
        for level in (WHOLE, LAYER, PLANE)
    }
    found_tables = [
        table_of(f"wear_{_FILES[level]}", f"by {level}", of_level[level], PARTS)
        for level in (PLANE, LAYER)
        if of_level[level]
    ]
    if bins := [row for cases in of_level.values() for c in cases for row in _bins(c)]:
        found_tables.append(tables.Table("wear_histograms", "", (), bins))
    title = "Wear by layer and bit plane"
    return Section("wear", title, pictures, found_tables, paragraphs)


def _most(cases: Sequence[Wear]) -> str:
    """Which of the parts wears most, in words."""
    worst = max(cases, key=lambda case: case.worst_cycles)
    return (
        f"most in {worst.part}, where one has seen "
        f"{counted(worst.worst_cycles, 'cycle')}, "
        f"{scientific(worst.fraction_of_endurance)} of its limit"
    )


def draw_parts(path: Path, cases: Sequence[Wear], title: str) -> Picture:
    """Histograms of one kind of device and one width, a row for each part."""
    shares = np.array([np.array(c.counts) / max(sum(c.counts), 1) for c in cases])
    rows = np.arange(len(cases))
    means = [max(case.mean_device_cycles, drawing.NO_CYCLE) for case in cases]
    worsts = [max(case.worst_cycles, drawing.NO_CYCLE) for case in cases]
    colours = ["#f2f2f2", drawing.colour_of(cases[0].kind)]
    with saved(path, height=height(len(cases))) as axes:
        mesh = axes.pcolormesh(
            np.maximum(cases[0].edges, drawing.NO_CYCLE),
            np.arange(len(cases) + 1) - 0.5, np.ma.masked_equal(shares, 0.0),
            norm=LogNorm(1e-5, 1.0),
            cmap=LinearSegmentedColormap.from_list(cases[0].kind, colours),
        )  # fmt: skip
        percent = FuncFormatter(lambda share, _: f"{100 * share:g} %")
        axes.figure.colorbar(mesh, ax=axes, format=percent, pad=0.02, label="devices")
        axes.plot(
            means, rows, "|", markersize=9, markeredgewidth=1.8, color="black",
            label="mean device",
        )  # fmt: skip
        axes.plot(
            worsts, rows, "D", markersize=5, markeredgecolor="white",
            color=drawing.LIMIT, label="most worn device",
        )  # fmt: skip
        names = [drawing.literal(case.part) for case in cases]
        axes.set_yticks(rows, names, fontsize=8.5)
        axes.invert_yaxis()
        high = 1.2 * max(*worsts, 10)
        drawing.cycle_axis(axes, high, "write-erase cycles of a device")
        axes.grid(visible=False)
        drawing.legend_above(axes)
    alt = f"Histogram of write-erase cycles. {title}: {_most(cases)}."
    return Picture(path, alt, f"{title}: share of the devices of all seeds.")


# ---- Tables


def table_of(
    name: str, what: str, cases: Sequence[Wear], columns: tuple[tables.Column, ...]
) -> tables.Table:
    """Write-erase cycles; the estimate is of each seed's most worn device."""
    rows = list(map(tables.row_of, cases))
    caption, folded = f"Write-erase cycles {what}", columns is PARTS
    return tables.Table(name, caption, tables.told_apart(columns, rows), rows, folded)


def _bins(case: Wear) -> list[Row]:
    """Devices of all seeds by cycles, the upper end of each bin excluded."""
    row = tables.row_of(case)
    which = {name: row[name] for name in ("algorithm", "kind", "width", "part")}
    bins = zip(case.edges[:-1], case.edges[1:], case.counts, strict=True)
    return [
        which | {"cycles_from": low, "cycles_to": high, "devices": devices}
        for low, high, devices in bins
    ]


WEAR = (
    tables.named("devices", "kind"),
    tables.WIDTH,
    tables.number("mean device", "mean_device_cycles", ",.1f"),
    tables.number("99 % of devices", "p99_cycles", lambda cycles: f"≤ {cycles:,.0f}"),
    *tables.statistics_columns("most worn, mean", ",.1f"),
    tables.number("most worn of all", "worst_cycles", ",d"),
    tables.number("of the limit", "fraction_of_endurance", scientific),
    tables.number(
        "trainings survived",
        "trainings_survived",
        lambda count: trainings(count).removesuffix(" of"),
    ),
)
PARTS = (WEAR[0], tables.named("part", "part"), *WEAR[1:])
