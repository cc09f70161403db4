"""Write-erase cycles against endurance: by kind of device, by layer, by bit plane."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

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
from experiments.report.estimates import COUNTS, Estimate, Run, estimate
from experiments.report.sections import (
    Evidence,
    Finding,
    Picture,
    Topic,
    Verdict,
    height,
    saved,
)
from experiments.report.tables import (
    WIDTH,
    Column,
    Row,
    Table,
    fields_of,
    name_of,
    plain,
    statistics_columns,
)
from experiments.words import (
    counted,
    scientific,
    trainings,
)

# Share of its endurance limit that a device may use up.
SMALL_FRACTION = 0.01


KINDS = ("multilevel", "binary")


ALL = "all"


@dataclasses.dataclass(frozen=True)
class Wear:
    """Write-erase cycles of some devices of one width.

    Attributes:
      kind: multilevel or binary.
      width: multiplier of the channels.
      most: cycles of each seed's most worn device, over seeds.
      mean: cycles of the mean device, the mean over seeds.
      p99: the 99th percentile of the devices, the mean over seeds.
      worst: cycles of the most worn device of all seeds.
      endurance_cycles: the limit; the lowest, if the runs were summarised with several.
      fraction: of its limit that the most worn device of all seeds has used up.
      trainings: like this one that this device survives; infinite if it saw no cycle.
      edges: of a histogram in cycles; empty where a seed has none.
      counts: devices of all seeds between each two edges.
      part: of the network: a layer, a bit plane, or all of it.
    """

    kind: str
    width: float
    most: Estimate
    mean: float
    p99: float
    worst: int
    endurance_cycles: float
    fraction: float
    trainings: float
    edges: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    part: str = ALL


# The fields of one seed, by part of the network.
Parts = dict[str, dict[str, Any]]


def wear(runs: Sequence[Run]) -> list[Wear]:
    """Wear by kind of device and width, of runs that tracked it."""
    return list(_by_part(runs, _whole))


def wear_by_layer(runs: Sequence[Run]) -> list[Wear]:
    """The same of each layer, in the order of the network."""
    return list(_by_part(runs, _layers))


def wear_by_plane(runs: Sequence[Run]) -> list[Wear]:
    """The same of the binary cells that hold each bit, the least significant first."""
    return list(_by_part(runs, _planes))


def _by_part(runs: Sequence[Run], parts: Callable[[Run, str], Parts]) -> Iterator[Wear]:
    for kind in KINDS:
        widths: dict[float, list[Run]] = {}
        for run in runs:
            if run["wear"]:
                widths.setdefault(run["width"], []).append(run)
        for width, mine in sorted(widths.items()):
            seeds = [parts(run, kind) for run in mine]
            for name in dict.fromkeys(name for seed in seeds for name in seed):
                of_seeds = [seed[name] for seed in seeds if name in seed]
                yield _wear(kind, width, name, of_seeds)


def _whole(run: Run, kind: str) -> Parts:
    histogram = run["wear"].get("histogram", {})
    return {ALL: _seed(run, kind, run["wear"][kind], histogram.get(kind))}


def _layers(run: Run, kind: str) -> Parts:
    layers = run["wear"].get("layers", {})
    arrays = (run["summary"].get("operations") or {}).get("arrays", {})
    # The network names its layers in order; the devices are stored by name.
    names = sorted(layers, key=[*arrays, *layers].index)
    return {
        name.removesuffix("/kernel"): _seed(run, kind, fields, fields["histogram"])
        for name in names
        for fields in [layers[name][kind]]
    }


def _planes(run: Run, kind: str) -> Parts:
    planes = run["wear"].get("binary_planes", ()) if kind == "binary" else ()
    return {
        f"bit {bit}": _seed(run, kind, fields, fields["histogram"])
        for bit, fields in enumerate(planes)
    }


def _seed(
    run: Run, kind: str, fields: dict[str, Any], counts: list[int] | None
) -> dict[str, Any]:
    wear = run["wear"]
    return fields | {
        "endurance_cycles": wear[kind]["endurance_cycles"],
        "edges": wear["histogram"]["edges"] if counts else [],
        "counts": counts,
    }


def _wear(kind: str, width: float, part: str, seeds: Sequence[dict[str, Any]]) -> Wear:
    return Wear(
        kind,
        width,
        estimate([seed["max"] for seed in seeds], COUNTS),
        float(np.mean([seed["mean"] for seed in seeds])),
        float(np.mean([seed["p99"] for seed in seeds])),
        max(seed["max"] for seed in seeds),
        min(seed["endurance_cycles"] for seed in seeds),
        max(seed["fraction_of_endurance"] for seed in seeds),
        min(
            int(seed["endurance_cycles"] // seed["max"]) if seed["max"] else math.inf
            for seed in seeds
        ),
        *_histogram(seeds),
        part,
    )


def _histogram(
    seeds: Sequence[dict[str, Any]],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Edges and the devices of all seeds; the edges of one seed begin another's."""
    edges = max((seed["edges"] for seed in seeds), key=len)
    counts = np.zeros(max(len(edges) - 1, 0), int)
    for seed in seeds:
        if not seed["edges"] or seed["edges"] != edges[: len(seed["edges"])]:
            return (), ()
        counts[: len(seed["counts"])] += seed["counts"]
    return tuple(edges), tuple(counts.tolist())


DEVICES = {"multilevel": "multi-level device", "binary": "binary cell"}


def spares_the_devices(runs: Sequence[Run]) -> Finding:
    """Write-erase cycles are a small fraction of the endurance of PCM.

    Rule: the fraction of the endurance limit that the most worn device of all runs has
    used up in training. The claim is supported if it is below 1 % and there are at
    least two seeds of some width, so that a spread is known, and not supported if it is
    1 % or more. The limit is the one that the runs were summarised with.
    """
    hic = [run for run in runs if run["algorithm"] != "fp32"]
    cases = wear(hic)
    if not cases:
        return Finding(
            Verdict.TOO_LITTLE,
            (
                "No run tracked its wear (--track_wear)."
                if hic
                else "There are no HIC runs.",
            ),
        )
    worst = max(cases, key=lambda case: case.fraction)
    sentences = [
        f"The most worn device, a {DEVICES[worst.kind]} at width {worst.width:g}, has "
        f"seen {worst.worst:,} cycles, {scientific(worst.fraction)} of a limit of "
        f"{scientific(worst.endurance_cycles)}: it survives "
        f"{trainings(worst.trainings)} such "
        "trainings."
    ]
    verdict = Verdict.SUPPORTED
    if worst.fraction >= SMALL_FRACTION:
        verdict = Verdict.NOT_SUPPORTED
    elif max(case.most.seeds for case in cases) < 2:
        verdict = Verdict.TOO_LITTLE
        sentences.append("It takes two seeds of a width.")
    if untracked := sum(not run["wear"] for run in hic):
        sentences.append(
            f"{untracked} of {len(hic)} HIC runs did not track their wear."
        )
    return Finding(
        verdict,
        tuple(sentences),
        f"cycles of the most worn {DEVICES[worst.kind]} at width {worst.width:g}",
        worst.most,
        "cycles",
    )


def endurance(hic: Sequence[Run], out: Path, prefix: str) -> Evidence:
    """What stands with the claim on endurance."""
    cases = wear(hic)
    if not cases:
        return [], []
    picture = Picture(
        out / f"{prefix}write_erase_cycles",
        "Write-erase cycles of the most worn device beside the endurance limit. "
        + " ".join(
            f"{NAMES[c.kind]}, width {c.width:g}: {c.worst:,} of "
            f"{scientific(c.endurance_cycles)} cycles."
            for c in cases
        ),
        "Bars reach to the most worn device of all seeds; the white marks are the mean "
        "device and the 99th percentile.",
    )
    cycles_against_endurance(picture.path, cases)
    pictures = [picture]
    for width in dict.fromkeys(case.width for case in cases if case.edges):
        mine = [case for case in cases if case.width == width]
        histogram = Picture(
            out / f"{prefix}write_erase_cycles_width{width:g}",
            f"Histogram of the write-erase cycles of all devices, width {width:g}.",
            f"All devices of all seeds, width {width:g}.",
        )
        cycles_of_devices(histogram.path, mine)
        pictures.append(histogram)
    rows = [wear_row(case) for case in cases]
    return pictures, [Table("wear", "Write-erase cycles after training", WEAR, rows)]


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
    with saved(path, height=height(len(cases))) as axes:
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


def by_layer_and_plane(runs: Sequence[Run], out: Path, prefix: str) -> Topic | None:
    """Where in the network devices wear."""
    layers, planes = wear_by_layer(runs), wear_by_plane(runs)
    if not layers:
        return None
    width = max(layers, key=lambda case: case.fraction).width
    parts = {
        "multilevel_layers": (layers, "multilevel", "Multi-level devices by layer"),
        "binary_layers": (layers, "binary", "Binary cells by layer"),
        "binary_planes": (planes, "binary", "Binary cells by bit of their word"),
    }
    paragraphs, pictures = [], []
    for name, (cases, kind, title) in parts.items():
        mine = [case for case in cases if (case.kind, case.width) == (kind, width)]
        if not mine:
            continue
        worst = max(mine, key=lambda case: case.worst)
        most = (
            f"most in {worst.part}, where one has seen "
            f"{counted(worst.worst, 'cycle')}, {scientific(worst.fraction)} of its "
            "limit"
        )
        paragraphs.append(f"{title}: {most}.")
        if mine[0].edges:
            picture = Picture(
                out / f"{prefix}wear_{name}",
                f"Histogram of write-erase cycles. {title}, width {width:g}: {most}.",
                f"{title}, width {width:g}: share of the devices of all seeds.",
            )
            cycles_by_part(picture.path, mine)
            pictures.append(picture)
    paragraphs = [
        f"At width {width:g}, which wears its devices most. " + " ".join(paragraphs),
        "Bit 0 is the least significant. The tables have all widths.",
    ]
    return Topic(
        "wear", "Wear by layer and bit plane", paragraphs, pictures,
        _wear_tables(wear(runs), layers, planes),
    )  # fmt: skip


def _wear_tables(
    whole: Sequence[Wear], layers: Sequence[Wear], planes: Sequence[Wear]
) -> list[Table]:
    """Cycles of the parts, and the histograms of these and of the whole."""
    found = [
        Table(
            name,
            f"Write-erase cycles by {part}",
            PART_WEAR,
            [wear_row(case) for case in cases],
            folded=True,
        )
        for name, part, cases in (
            ("wear_planes", "bit plane", planes),
            ("wear_layers", "layer", layers),
        )
    ]
    cases = (*whole, *layers, *planes)
    bins = [row for case in cases for row in histogram_rows(case)]
    found.append(Table("wear_histograms", "", (), bins))
    return [table for table in found if table.rows]


def wear_row(case: Wear) -> Row:
    """Write-erase cycles; the estimate is of each seed's most worn device."""
    return {
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


def histogram_rows(case: Wear) -> list[Row]:
    """Devices of all seeds by cycles, the upper end of each bin excluded."""
    bins = zip(case.edges[:-1], case.edges[1:], case.counts, strict=True)
    return [
        {
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
    Column("devices", name_of("kind"), look=""),
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


PART_WEAR = (WEAR[0], Column("part", lambda row: row["part"], look=""), *WEAR[1:])
