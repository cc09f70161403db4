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

from experiments.report.accuracy import beats_baseline, equal_size
from experiments.report.drift import over_time, withstands_drift
from experiments.report.endurance import against_endurance, spares_the_devices
from experiments.report.energy import operations_and_energy
from experiments.report.groups import Group
from experiments.report.sections import Claim, Finding, Picture, Section
from experiments.report.size import half_size, halves_the_model, model_size
from experiments.report.tables import Table
from experiments.report.wear import by_part
from hic_jax.accounting import EnergyTable

# Judges a claim; its docstring is the claim, and the rule.
Judge = Callable[[Group], Finding]

# What stands with a claim, its figures drawn to a folder.
Evidence = Callable[[Group, Path], tuple[list[Picture], list[Table]]]

CLAIMS: dict[str, tuple[Judge, Evidence]] = {
    "equal-size": (beats_baseline, equal_size),
    "half-size": (halves_the_model, half_size),
    "drift": (withstands_drift, over_time),
    "endurance": (spares_the_devices, against_endurance),
}


def judge(group: Group, out: Path) -> list[Claim]:
    """Every claim, for the pair of a group; the figures are drawn to ``out``."""
    judged = []
    for name, (judge_claim, show) in CLAIMS.items():
        pictures, tables = show(group, out)
        title, rule = statement(judge_claim, group), rule_of(judge_claim, group)
        finding = judge_claim(group)
        judged.append(Claim(name, title, pictures, tables, finding=finding, rule=rule))
    return judged


def account(
    group: Group, out: Path, energy_table: EnergyTable | None = None
) -> list[Section]:
    """What the hardware takes, as far as the runs recorded it.

    Args:
      group: of runs.
      out: folder of the figures.
      energy_table: energy of each operation; None for what the runs were summarised
        with.
    """
    topics = (
        model_size(group, out),
        operations_and_energy(group, out, energy_table),
        by_part(group, out),
    )
    return [topic for topic in topics if topic]


def statement(claim: Judge, group: Group) -> str:
    """The claim itself: the first line of its docstring."""
    text, _ = _documented(claim)
    return _of_pair(text.removesuffix("."), group)


def rule_of(claim: Judge, group: Group) -> str:
    """The rule of its verdict, from its docstring."""
    _, text = _documented(claim)
    return _of_pair(text[0].upper() + text[1:], group)


def _documented(claim: Judge) -> list[str]:
    """The claim and its rule, each on a line."""
    return [" ".join(x.split()) for x in (claim.__doc__ or "").split("Rule: ")]


def _of_pair(text: str, group: Group) -> str:
    names = {"HIC": group.candidate.name, "FP32": group.baseline.name}
    return re.sub("HIC|FP32", lambda name: names[name[0]], text)
