"""Operations, and the energy that they are estimated to take."""

import dataclasses
import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.drawing import COLOURS, NAMES, legend_above
from experiments.report.estimates import COUNTS, Estimate, Run, estimate
from experiments.report.sections import MARKS, Picture, Topic, height, saved, typical
from experiments.report.tables import (
    ALGORITHM,
    WIDTH,
    Column,
    Row,
    Table,
    fields_of,
    plain,
)
from experiments.words import ABSENT, si
from hic_jax.accounting import EnergyTable, Operations, energy

TOTAL = "total"


# Kinds of `hic_jax.accounting.Operations`, as figures and tables call them.
OPERATIONS = {
    "analog_macs": "MACs in arrays",
    "digital_macs": "digital MACs",
    "gradient_macs": "MACs of gradients",
    "dac_conversions": "DAC conversions",
    "adc_conversions": "ADC conversions",
    "product_reads": "device reads in MACs",
    "multilevel_reads": "multi-level reads",
    "multilevel_sets": "multi-level SETs",
    "multilevel_resets": "multi-level RESETs",
    "binary_reads": "binary reads",
    "binary_sets": "binary SETs",
    "binary_resets": "binary RESETs",
}


@dataclasses.dataclass(frozen=True)
class Cost:
    """Operations and energy of one algorithm and width.

    Attributes:
      algorithm: that trained it.
      width: multiplier of the channels.
      operations: by kind, the mean over seeds.
      energy: J by kind of operation, the mean over seeds. An estimate.
      total: energy of all kinds in J, over seeds.
    """

    algorithm: str
    width: float
    operations: dict[str, float]
    energy: dict[str, float]
    total: Estimate


def costs(runs: Sequence[Run], what: str, table: EnergyTable) -> list[Cost]:
    """What operations take, by the same table for all runs.

    Args:
      runs: those that counted nothing are passed over.
      what: an ``"inference"`` of one image, or the whole ``"training"``.
      table: energy of each operation.
    """
    found = []
    for algorithm, width, summaries in by_width(runs):
        stored = [(summary.get("operations") or {}).get(what) for summary in summaries]
        counts = [counted for counted in stored if _are_fields(counted, Operations)]
        if counts:
            seeds = [energy(Operations(**counted), table) for counted in counts]
            joules = _mean(seeds)
            del joules[TOTAL]
            total = estimate([seed[TOTAL] for seed in seeds], COUNTS)
            found.append(Cost(algorithm, width, _mean(counts), joules, total))
    return found


def kinds(parts: Sequence[dict[str, float]]) -> list[str]:
    """Kinds of operation of which any has some."""
    return [name for name in parts[0] if any(part[name] for part in parts)]


def common_energy_table(runs: Sequence[Run]) -> EnergyTable | None:
    """The table that all runs with energies were summarised with; None without one."""
    energies = [energy for run in runs if (energy := run["summary"].get("energy"))]
    tables = [energy.get("table") for energy in energies]
    if not tables or not all(_are_fields(table, EnergyTable) for table in tables):
        return None
    first, *others = {EnergyTable(**table) for table in tables}
    return None if others else first


def _are_fields(stored: dict[str, float] | None, cls: type) -> bool:
    """Whether something was stored, and not by a version with other fields."""
    fields = {field.name for field in dataclasses.fields(cls)}
    return stored is not None and set(stored) == fields


def by_width(
    runs: Sequence[Run],
) -> Iterator[tuple[str, float, list[dict[str, Any]]]]:
    """Algorithm, width and the summaries of their seeds; FP32 first, by width."""
    summaries: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for run in runs:
        case = (run["algorithm"], run["width"])
        summaries.setdefault(case, []).append(run["summary"])
    for (algorithm, width), mine in sorted(summaries.items()):
        yield algorithm, width, mine


def _mean(seeds: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([s[name] for s in seeds])) for name in seeds[0]}


def operations_and_energy(
    runs: Sequence[Run], out: Path, prefix: str, given: EnergyTable | None
) -> Topic | None:
    """What an inference and a training take."""
    table = given or common_energy_table(runs)
    mixed = (
        "The runs were not all summarised with one table that this version knows; here "
        "all have its own, unless --energy_table names another. "
        if table is None
        else ""
    )
    table = table or EnergyTable()
    found = {what: costs(runs, what, table) for what in ("inference", "training")}
    if not any(found.values()):
        return None
    names = {"inference": "An inference of one image", "training": "A training"}
    pictures, counts, joules = [], [], []
    for what, cases in found.items():
        if not cases:
            continue
        picture = Picture(
            out / f"{prefix}energy_{what}",
            f"Energy by kind of operation. {_takes(names[what], cases)}",
            f"{names[what]}: each kind of operation, and all. Of marks in one row, the "
            "narrower network is on the left.",
        )
        label = "J per image" if what == "inference" else "J, the whole training"
        energy_by_kind(picture.path, cases, f"estimated energy ({label})")
        pictures.append(picture)
        counted_kinds = kinds([cost.operations for cost in cases])
        counts.append(
            Table(
                f"operations_{what}",
                f"Operations, {what} (means over seeds)",
                operations_columns(counted_kinds),
                [operations_row(cost) for cost in cases],
            )
        )
        joules.append(
            Table(
                f"energy_{what}",
                f"Estimated energy, {what} (means over seeds)",
                energy_columns(kinds([cost.energy for cost in cases])),
                [energy_row(cost) for cost in cases],
            )
        )
    paragraphs = [
        " ".join(_takes(names[what], cases) for what, cases in found.items() if cases),
        f"{mixed}Every energy is an estimate: counted operations times the energy of "
        "each in the last table here. Not counted are activations, normalisation, the "
        "optimizer's arithmetic, digital sums over tiles, and the movement of data. A "
        "MAC is a multiply-accumulate.",
        energy_table_remark(),
    ]
    energies = Table(
        "energy_table",
        "Energy of each operation, and where it comes from",
        ENERGY_TABLE,
        energy_table_rows(table),
        folded=True,
    )
    return Topic(
        "energy", "Operations and energy", paragraphs, pictures,
        [*joules, *counts, energies],
    )  # fmt: skip


def _takes(what: str, cases: Sequence[Cost]) -> str:
    """The energy of one width, by algorithm."""
    width = typical(cases).width
    same = [cost for cost in cases if cost.width == width]
    energies = " and ".join(
        f"{si(cost.total.mean, 'J')} by {NAMES[cost.algorithm]}" for cost in same
    )
    return f"{what} takes an estimated {energies} at width {width:g}."


def energy_by_kind(path: Path, costs: Sequence[Cost], xlabel: str) -> None:
    """Energy of each kind of operation, and of all: FP32 and HIC, a mark per width.

    Args:
      path: of the figure.
      costs: of `costs`.
      xlabel: what takes this energy.
    """
    names = kinds([cost.energy for cost in costs])
    rows = {name: row for row, name in enumerate([*names, TOTAL])}
    with saved(path, height=height(len(rows))) as axes:
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


def operations_row(cost: Cost) -> Row:
    """Numbers of operations by kind, means over seeds."""
    return {
        "algorithm": cost.algorithm,
        "width": cost.width,
        "seeds": cost.total.seeds,
        **cost.operations,
    }


def energy_row(cost: Cost) -> Row:
    """Energy by kind of operation, means over seeds; the estimate is of the total."""
    energies = {f"{name}_j": joules for name, joules in cost.energy.items()}
    return {
        "algorithm": cost.algorithm,
        "width": cost.width,
        **energies,
        **fields_of(cost.total),
    }


def operations_columns(kinds: list[str]) -> tuple[Column, ...]:
    """Of the kinds that there are."""
    counts = (Column(OPERATIONS[kind], _si(kind)) for kind in kinds)
    return (ALGORITHM, WIDTH, *counts)


def energy_columns(kinds: list[str]) -> tuple[Column, ...]:
    """Of the kinds that there are."""
    joules = (Column(OPERATIONS[kind], _si(f"{kind}_j", "J")) for kind in kinds)
    return (
        ALGORITHM,
        WIDTH,
        *joules,
        Column("total", _si("mean", "J")),
        Column("std", _si("std", "J")),
        Column("seeds", plain("d", "seeds")),
    )


def _si(key: str, unit: str = ""):
    return lambda row: si(row[key], unit) if row[key] else ABSENT


def energy_table_rows(table: EnergyTable) -> list[Row]:
    """The energy of each operation, and where it comes from."""
    defaults, sources = EnergyTable(), _attributes(EnergyTable)
    return [
        {
            "field": name,
            "pj": f"{value:g}",
            "source": sources[name]
            if value == getattr(defaults, name)
            else "given, not the default of this version",
        }
        for name, value in vars(table).items()
    ]


def energy_table_remark() -> str:
    """What the library says of its own table."""
    return " ".join(inspect.getdoc(EnergyTable).split("\n\n")[1].split())


def _attributes(cls: type) -> dict[str, str]:
    """What the docstring of a class says of each of its attributes."""
    text = inspect.getdoc(cls).split("Attributes:\n")[1]
    entries = re.findall(r"^  (\w+): (.*?)(?=^  \w+: |\Z)", text, re.M | re.S)
    return {name: " ".join(meaning.split()) for name, meaning in entries}


ENERGY_TABLE = (
    Column("energy", lambda row: row["field"], look=""),
    Column("pJ", lambda row: row["pj"]),
    Column("what it is, and its source", lambda row: row["source"], look="prose"),
)
