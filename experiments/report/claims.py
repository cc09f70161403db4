"""The paper's four claims, judged for a pair of recipes, and what stands beside them.

A verdict compares a quantity with a threshold. It falls where the whole 95 % interval
of the quantity lies on one side, and there is too little data to tell where the
interval holds the threshold, or where there is none: it takes two seeds, and seeds that
differ. The docstring of each claim states its rule, and the page prints both, with the
names of the pair for HIC and FP32.
"""

import re
from collections.abc import Callable
from pathlib import Path

from experiments.report import (
    drift,
    endurance,
    energy,
    equal_size,
    half_size,
    memory,
    wear,
)
from experiments.report.groups import Group
from experiments.report.sections import Claim, Finding, Picture, Section
from experiments.report.tables import Table
from hic_jax.accounting import EnergyTable

# Judges a claim; its docstring is the claim, and the rule.
Judge = Callable[[Group], Finding]

# What stands with a claim, its figures drawn to a folder.
Evidence = Callable[[Group, Path], tuple[list[Picture], list[Table]]]

CLAIMS: dict[str, tuple[Judge, Evidence]] = {
    "equal-size": (equal_size.beats_baseline, equal_size.equal_size),
    "half-size": (half_size.halves_the_model, half_size.half_size),
    "drift": (drift.withstands_drift, drift.over_time),
    "endurance": (endurance.spares_the_devices, endurance.against_endurance),
}


def judge(group: Group, out: Path) -> list[Claim]:
    """Every claim, for the pair of a group; the figures are drawn to ``out``."""
    judged = []
    for name, (claim, show) in CLAIMS.items():
        title, rule = stated(claim, group)
        pictures, tables = show(group, out)
        judged.append(
            Claim(name, title, pictures, tables, finding=claim(group), rule=rule)
        )
    return judged


def account(
    group: Group, out: Path, energy_table: EnergyTable | None = None
) -> list[Section]:
    """What the hardware takes, as far as the runs recorded it.

    Figures are drawn to ``out``. The energy of operations is that of a table; without
    one, what the runs were summarised with.
    """
    topics = (
        memory.model_size(group, out),
        energy.operations_and_energy(group, out, energy_table),
        wear.by_part(group, out),
    )
    return [topic for topic in topics if topic]


def stated(claim: Judge, group: Group) -> tuple[str, str]:
    """The claim about the pair of a group and the rule of its verdict, in a line each.

    They are the first line of its docstring, and what begins with "Rule".
    """
    names = {"HIC": group.candidate.name, "FP32": group.baseline.name}
    text = re.sub("HIC|FP32", lambda name: names[name[0]], claim.__doc__ or "")
    title, rule = (" ".join(part.split()) for part in text.split("Rule: "))
    return title.removesuffix("."), rule[0].upper() + rule[1:]
