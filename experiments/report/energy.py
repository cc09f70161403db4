"""Operations, and the energy that they are estimated to take."""

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from experiments import cli
from experiments.drawing import legend_above, literal
from experiments.report.estimates import COUNTS, Estimate, estimate
from experiments.report.groups import Group, Look, name_of
from experiments.report.runs import Run
from experiments.report.sections import Picture, Section, height, saved, typical
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
_OPERATIONS = {
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
    """Operations and energy of one recipe and width.

    Attributes:
      algorithm: label of the recipe.
      width: multiplier of the channels.
      operations: numbers of operations by kind, the mean over seeds.
      energy: J by kind of operation, the mean over seeds. An estimate.
      total: energy of all kinds in J, over seeds.
    """

    algorithm: str
    width: float
    operations: dict[str, float]
    energy: dict[str, float]
    total: Estimate


def costs(group: Group, what: str, table: EnergyTable) -> list[Cost]:
    """What operations take, by the same table for all runs.

    Args:
      group: whose runs that counted nothing are passed over.
      what: an ``"inference"`` of one image, or the whole ``"training"``.
      table: energy of each operation.
    """
    found = []
    for recipe in group.recipes:
        for width, seeds in recipe.by_width():
            stored = [(s["summary"].get("operations") or {}).get(what) for s in seeds]
            counts = [c for c in stored if c and _are_fields(c, Operations)]
            if counts:
                joules = pd.DataFrame(energy(Operations(**c), table) for c in counts)
                total = estimate(joules.pop(TOTAL).tolist(), COUNTS)
                operations = pd.DataFrame(counts).mean().to_dict()
                means = joules.mean().to_dict()
                found.append(Cost(recipe.label, width, operations, means, total))
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


# ---- The section


def operations_and_energy(
    group: Group, out: Path, given: EnergyTable | None = None
) -> Section | None:
    """What an inference and a training take; the figures are drawn to ``out``.

    Args:
      group: of runs.
      out: folder of the figures.
      given: energy of each operation; None for what the runs were summarised with.
    """
    table = given or common_energy_table(group.runs)
    mixed = (
        "The runs were not all summarised with one table that this version knows; here "
        "all have its own, unless --energy_table names another. "
        if table is None
        else ""
    )
    table = table or EnergyTable()
    found = {what: costs(group, what, table) for what in ("inference", "training")}
    if not any(found.values()):
        return None
    names = {"inference": "An inference of one image", "training": "A training"}
    units = {"inference": "J per image", "training": "J, the whole training"}
    looks = {recipe.label: recipe.look for recipe in group.recipes}
    pictures, counts, joules = [], [], []
    for what, cases in found.items():
        if not cases:
            continue
        picture = Picture(
            out / f"{group.prefix}energy_{what}",
            f"Energy by kind of operation. {_takes(names[what], cases)}",
            f"{names[what]}: each kind of operation, and all. Of marks in one row, the "
            "narrower network is on the left.",
        )
        draw_energy(picture.path, cases, looks, f"estimated energy ({units[what]})")
        pictures.append(picture)
        counts.append(_operations_table(what, cases))
        joules.append(_energy_table(what, cases))
    paragraphs = [
        " ".join(_takes(names[what], cases) for what, cases in found.items() if cases),
        f"{mixed}Every energy is an estimate: counted operations times the energy of "
        "each in the last table here. Not counted are activations, normalisation, the "
        "optimizer's arithmetic, digital sums over tiles, and the movement of data. A "
        "MAC is a multiply-accumulate.",
        # What the library says of its own table.
        " ".join((inspect.getdoc(EnergyTable) or "").split("\n\n")[1].split()),
    ]
    tables = [*joules, *counts, sources_table(table)]
    return Section("energy", "Operations and energy", pictures, tables, paragraphs)


def _takes(what: str, cases: Sequence[Cost]) -> str:
    """The energy of one width, by recipe."""
    width = typical(cases).width
    same = [cost for cost in cases if cost.width == width]
    energies = " and ".join(
        f"{si(cost.total.mean, 'J')} by {name_of(cost.algorithm)}" for cost in same
    )
    return f"{what} takes an estimated {energies} at width {width:g}."


def draw_energy(
    path: Path, costs: Sequence[Cost], looks: dict[str, Look], xlabel: str
) -> None:
    """Energy of each kind of operation, and of all: a mark per recipe and width.

    Args:
      path: of the figure.
      costs: of `costs`.
      looks: of recipes, by their labels.
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
                [joules for joules, _ in points], [row for _, row in points],
                marker=looks[algorithm].marker, color=looks[algorithm].colour,
                markersize=5, linestyle="none", alpha=0.8,
                label=literal(name_of(algorithm)),
            )  # fmt: skip
        axes.axhline(len(names) - 0.5, color="#888888", linewidth=0.8)
        axes.set_yticks(list(rows.values()), [*(_kind(name) for name in names), TOTAL])
        axes.set(xscale="log", xlabel=xlabel, ylim=(len(names) + 0.5, -0.5))
        axes.margins(x=0.08)
        legend_above(axes)


# ---- Tables


def _operations_table(what: str, cases: Sequence[Cost]) -> Table:
    """Numbers of operations by kind, means over seeds."""
    rows = [
        {"algorithm": cost.algorithm, "width": cost.width, "seeds": cost.total.seeds}
        | cost.operations
        for cost in cases
    ]
    shown = kinds([cost.operations for cost in cases])
    columns = (ALGORITHM, WIDTH, *(Column(_kind(name), _si(name)) for name in shown))
    caption = f"Operations, {what} (means over seeds)"
    return Table(f"operations_{what}", caption, columns, rows)


def _energy_table(what: str, cases: Sequence[Cost]) -> Table:
    """Energy by kind of operation, means over seeds; the estimate is of the total."""
    rows = [
        {"algorithm": cost.algorithm, "width": cost.width}
        | {f"{name}_j": joules for name, joules in cost.energy.items()}
        | fields_of(cost.total)
        for cost in cases
    ]
    shown = kinds([cost.energy for cost in cases])
    columns = (
        ALGORITHM,
        WIDTH,
        *(Column(_kind(name), _si(f"{name}_j", "J")) for name in shown),
        Column("total", _si("mean", "J")),
        Column("std", _si("std", "J")),
        Column("seeds", plain("d", "seeds")),
    )
    caption = f"Estimated energy, {what} (means over seeds)"
    return Table(f"energy_{what}", caption, columns, rows)


def _kind(name: str) -> str:
    """A kind of operation in words."""
    return _OPERATIONS.get(name, name.replace("_", " "))


def _si(key: str, unit: str = "") -> Callable[[Row], str]:
    return lambda row: si(row[key], unit) if row[key] else ABSENT


def sources_table(table: EnergyTable) -> Table:
    """The energy of each operation, and where it comes from."""
    defaults, sources = EnergyTable(), cli.documented(EnergyTable)
    given = "given, not the default of this version"
    rows = [
        {
            "field": name,
            "pj": f"{value:g}",
            "source": sources[name] if value == getattr(defaults, name) else given,
        }
        for name, value in vars(table).items()
    ]
    columns = (
        Column("energy", lambda row: row["field"], look=""),
        Column("pJ", lambda row: row["pj"]),
        Column("what it is, and its source", lambda row: row["source"], look="prose"),
    )
    caption = "Energy of each operation, and where it comes from"
    return Table("energy_table", caption, columns, rows, folded=True)
