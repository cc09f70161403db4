"""The paper's four claims, each a function from runs to a verdict, and their evidence.

A verdict compares a quantity with a threshold. It falls where the whole 95 % interval
of the quantity lies on one side, and there is too little data to tell where the
interval holds the threshold, or where there is none: it takes two seeds, and seeds that
differ. The docstring of each claim states its rule, and the page prints it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.report.accuracy import beats_fp32, curve, equal_size
from experiments.report.drift import over_time, withstands_drift
from experiments.report.energy import operations_and_energy
from experiments.report.estimates import Run
from experiments.report.sections import Evidence, Finding, Topic
from experiments.report.size import half_size, halves_the_model, model_size
from experiments.report.wear import by_layer_and_plane, endurance, spares_the_devices
from hic_jax.accounting import EnergyTable

CLAIMS: dict[str, Callable[[Sequence[Run]], Finding]] = {
    "equal-size": beats_fp32,
    "half-size": halves_the_model,
    "drift": withstands_drift,
    "endurance": spares_the_devices,
}


def statement(claim: Callable) -> str:
    """The claim itself: the first line of its docstring."""
    return claim.__doc__.splitlines()[0].removesuffix(".")


def rule(claim: Callable) -> str:
    """The rule of its verdict, from its docstring."""
    text = " ".join(claim.__doc__.split("Rule: ")[1].split())
    return text[0].upper() + text[1:]


def evidence(runs: Sequence[Run], out: Path, prefix: str) -> dict[str, Evidence]:
    """By claim, the figures, drawn to ``out`` under names of a prefix, and tables."""
    fp32, hic = curve(runs, "fp32"), curve(runs, "hic")
    analog = [run for run in runs if run["algorithm"] != "fp32"]
    return {
        "equal-size": equal_size(fp32, hic, out, prefix),
        "half-size": half_size(fp32, hic, out, prefix),
        "drift": over_time(analog, fp32, out, prefix),
        "endurance": endurance(analog, out, prefix),
    }


def account(
    runs: Sequence[Run], out: Path, prefix: str, energy_table: EnergyTable | None = None
) -> list[Topic]:
    """What the runs recorded beside; figures go to ``out`` under names of a prefix.

    Args:
      runs: of one group.
      out: folder of the figures.
      prefix: of their names.
      energy_table: energy of each operation; None for what the runs were summarised
        with.
    """
    topics = (
        model_size(runs, out, prefix),
        operations_and_energy(runs, out, prefix, energy_table),
        by_layer_and_plane(runs, out, prefix),
    )
    return [topic for topic in topics if topic]
