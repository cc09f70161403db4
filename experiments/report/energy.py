"""Operations, and the energy that they are estimated to take."""

import dataclasses
import inspect
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from experiments import cli
from experiments.drawing import legend_above, literal
from experiments.report import tables
from experiments.report.estimates import COUNTS, Estimate, estimate
from experiments.report.groups import Group, Recipe
from experiments.report.runs import Run
from experiments.report.sections import Picture, Section, height, saved, typical
from experiments.words import ABSENT, si
from hic_jax.accounting import EnergyTable, Operations, energy

TOTAL = "total"

# What energy is taken for: in words, and the unit of its axis.
_TASKS = {
    "inference": ("An inference of one image", "J per image"),
    "training": ("A training", "J, the whole training"),
}

# Kinds of `hic_jax.accounting.Operations`, as figures and tables call them.
_OPERATIONS = {
    "analog_macs": "MACs in arrays",
    "digital_macs": "digital MACs",
    "gradient_macs": "MACs of gradients",
    "dac_conversions": "DAC conversions",
    "adc_conversions": "ADC conversions",
    "idle_adc_conversions": "idle ADC conversions",
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
    """Operations and energy of one recipe and width."""

    recipe: Recipe
    width: float  # multiplier of the channels
    operations: dict[str, float]  # numbers of operations by kind, the mean over seeds
    energy: dict[str, float]  # J by kind, the mean over seeds; an estimate
    total: Estimate  # energy of all kinds in J, over seeds


def costs(group: Group, what: str, table: EnergyTable) -> list[Cost]:
    """What operations take, by the same table for all runs.

    Args:
      group: a group, of which runs that counted nothing are passed over.
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
                found.append(Cost(recipe, width, operations, means, total))
    return found


def kinds(parts: Sequence[dict[str, float]]) -> list[str]:
    """Kinds of operation of which any has some."""
    return [name for name in parts[0] if any(part[name] for part in parts)]


def common_energy_table(runs: Sequence[Run]) -> EnergyTable | None:
    """The table that all runs with energies were summarised with; None without one."""
    energies = [energy for run in runs if (energy := run["summary"].get("energy"))]
    stored = [energy.get("table") for energy in energies]
    if not stored or not all(_are_fields(table, EnergyTable) for table in stored):
        return None
    first, *others = {EnergyTable(**table) for table in stored}
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

    Without a given table the runs have the one that they were summarised with.
    """
    known = given or common_energy_table(group.runs)
    table = known or EnergyTable()
    words, pictures, joules, counts = [], [], [], []
    for what in _TASKS:
        if cases := costs(group, what, table):
            words.append(f"{_takes(what, cases)}{_bounds(group, what, table)}")
            path = out / f"{group.prefix}energy_{what}"
            pictures.append(draw_energy(path, cases, what))
            joules.append(_energy_table(what, cases))
            counts.append(_operations_table(what, cases))
    if not words:
        return None
    mixed = (
        "The runs were not all summarised with one table that this version knows; here "
        "all have its own, unless --energy_table names another. "
    )
    paragraphs = [
        " ".join(words),
        f"{'' if known else mixed}Every energy is an estimate: counted operations "
        "times the energy of each in the last table here. Not counted are activations, "
        "normalisation, the optimizer's arithmetic, digital sums over tiles, and the "
        "movement of data. A MAC is a multiply-accumulate.",
        # What the library says of its own table.
        " ".join((inspect.getdoc(EnergyTable) or "").split("\n\n")[1].split()),
    ]
    every = [*joules, *counts, sources_table(table)]
    return Section("energy", "Operations and energy", pictures, every, paragraphs)


def _takes(what: str, cases: Sequence[Cost]) -> str:
    """The energy of one width, by recipe."""
    width = typical(cases).width
    energies = " and ".join(
        f"{si(cost.total.mean, 'J')} by {cost.recipe.name}"
        for cost in cases
        if cost.width == width
    )
    return f"{_TASKS[what][0]} takes an estimated {energies} at width {width:g}."


def _bounds(group: Group, what: str, table: EnergyTable) -> str:
    """What it would be at the most and the least use of arrays, where this matters."""
    bounds = table.full_arrays(), table.whole_arrays()
    both = list(zip(*(costs(group, what, bound) for bound in bounds), strict=True))
    width = typical([least for least, _ in both]).width
    found = " and ".join(
        f"from {si(least.total.mean, 'J')} to {si(most.total.mean, 'J')} by "
        f"{least.recipe.name}"
        for least, most in both
        if least.width == width and least.total.mean < most.total.mean
    )
    if not found:
        return ""
    return (
        f" That depends on how full arrays are: {found}, if all were used in full, and "
        "if columns and rows without weights are not switched off."
    )


def draw_energy(path: Path, costs: Sequence[Cost], what: str) -> Picture:
    """Energy of each kind of operation, and of all: a mark per recipe and width."""
    task, unit = _TASKS[what]
    names = kinds([cost.energy for cost in costs])
    rows = {name: row for row, name in enumerate([*names, TOTAL])}
    with saved(path, height=height(len(rows))) as axes:
        for recipe in dict.fromkeys(cost.recipe for cost in costs):
            points = [
                (joules, rows[name])
                for cost in costs
                if cost.recipe is recipe
                for name, joules in (cost.energy | {TOTAL: cost.total.mean}).items()
                if joules
            ]
            axes.plot(
                [joules for joules, _ in points], [row for _, row in points],
                marker=recipe.look.marker, color=recipe.look.colour, markersize=5,
                linestyle="none", alpha=0.8, label=literal(recipe.name),
            )  # fmt: skip
        axes.axhline(len(names) - 0.5, color="#888888", linewidth=0.8)
        axes.set_yticks(list(rows.values()), list(map(_kind, rows)))
        axes.set_xlabel(f"estimated energy ({unit})")
        if any(cost.total.mean for cost in costs):
            axes.set_xscale("log")
        axes.set_ylim(len(names) + 0.5, -0.5)
        axes.margins(x=0.08)
        legend_above(axes)
    return Picture(
        path,
        f"Energy by kind of operation. {_takes(what, costs)}",
        f"{task}: each kind of operation, and all. Of marks in one row, the narrower "
        "network is on the left.",
    )


# ---- Tables


def _operations_table(what: str, cases: Sequence[Cost]) -> tables.Table:
    """Numbers of operations by kind, means over seeds."""
    rows = [
        {"algorithm": cost.recipe.label, "width": cost.width, "seeds": cost.total.seeds}
        | cost.operations
        for cost in cases
    ]
    shown = kinds([cost.operations for cost in cases])
    columns = (
        tables.ALGORITHM,
        tables.WIDTH,
        *(_si(_kind(name), name) for name in shown),
    )
    caption = f"Operations, {what} (means over seeds)"
    return tables.Table(f"operations_{what}", caption, columns, rows)


def _energy_table(what: str, cases: Sequence[Cost]) -> tables.Table:
    """Energy by kind of operation, means over seeds; the estimate is of the total."""
    rows = [
        {"algorithm": cost.recipe.label, "width": cost.width}
        | {f"{name}_j": joules for name, joules in cost.energy.items()}
        | tables.fields_of(cost.total)
        for cost in cases
    ]
    shown = kinds([cost.energy for cost in cases])
    columns = (
        tables.ALGORITHM,
        tables.WIDTH,
        *(_si(_kind(name), f"{name}_j", "J") for name in shown),
        _si("total", "mean", "J"),
        _si("std", "std", "J"),
        tables.number("seeds", "seeds"),
    )
    caption = f"Estimated energy, {what} (means over seeds)"
    return tables.Table(f"energy_{what}", caption, columns, rows)


def _kind(name: str) -> str:
    """A kind of operation in words."""
    return _OPERATIONS.get(name, name.replace("_", " "))


def _si(title: str, key: str, unit: str = "") -> tables.Column:
    """A column of numbers with prefixes; a dash for none."""
    return tables.number(title, key, lambda value: si(value, unit) if value else ABSENT)


def sources_table(table: EnergyTable) -> tables.Table:
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
        tables.word("energy", "field"),
        tables.number("pJ", "pj", str),
        tables.word("what it is, and its source", "source")._replace(look="prose"),
    )
    caption = "Energy of each operation, and where it comes from"
    return tables.Table("energy_table", caption, columns, rows, folded=True)
