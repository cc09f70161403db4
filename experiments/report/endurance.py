"""Write-erase cycles of whole networks against the endurance of their devices."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments import drawing
from experiments.report.groups import Group
from experiments.report.sections import Finding, Picture, Verdict, saved, too_little
from experiments.report.tables import Table
from experiments.report.wear import (
    WEAR,
    WHOLE,
    Wear,
    cycles_by_kind,
    device_of,
    table_of,
    wear,
)
from experiments.words import scientific, trainings

# Share of its endurance limit that a device may use up.
SMALL_FRACTION = 0.01

# A training of the length that the field reports: 200 epochs of 50,000 images in
# batches of 100. The paper does not say how long it trained.
LONG_STEPS = 100_000
# Cycles that PCM endures: as tutorials put it at the least and the most, and as a
# product (`hic_jax.accounting.ENDURANCE_CYCLES`).
LIMITS = (1e6, 1e8, 1e9)


def spares_the_devices(group: Group) -> Finding:
    """Write-erase cycles are a small fraction of the endurance of PCM.

    Rule: the fraction of the endurance limit that the most worn device of all runs has
    used up in training. The claim is supported if it is below 1 % and there are at
    least two seeds of some width, so that a spread is known, and not supported if it is
    1 % or more. The limit is the one that the runs were summarised with.
    """
    runs, name = group.candidate.runs, group.candidate.name
    cases = wear(group.candidate)[WHOLE]
    if not runs:
        return too_little(f"There are no {name} runs.")
    if not cases:
        return too_little(
            f"No run tracked its wear (--{runs[0]['algorithm']}_track_wear)."
        )
    worst = max(cases, key=lambda case: case.fraction_of_endurance)
    device = device_of(worst.kind)
    sentences = [
        f"The most worn device, a {device} at width {worst.width:g}, has "
        f"seen {worst.worst_cycles:,} cycles, "
        f"{scientific(worst.fraction_of_endurance)} of a limit of "
        f"{scientific(worst.endurance_cycles)}: it survives "
        f"{trainings(worst.trainings_survived)} such trainings."
    ]
    verdict = Verdict.SUPPORTED
    if worst.fraction_of_endurance >= SMALL_FRACTION:
        verdict = Verdict.NOT_SUPPORTED
    elif max(case.most.seeds for case in cases) < 2:
        verdict = Verdict.TOO_LITTLE
        sentences.append("It takes two seeds of a width.")
    if long := _in_a_long_training(group):
        sentences.append(long)
    if untracked := sum(not run["wear"] for run in runs):
        sentences.append(
            f"{untracked} of {len(runs)} {name} runs did not track their wear."
        )
    stopped = [(run["wear"] or {}).get("full_counters", 0) for run in runs]
    if full := sum(stopped):
        sentences.append(
            f"{full:,} counters stopped at their largest number: their devices have "
            "seen as many cycles at least."
        )
    quantity = f"cycles of the most worn {device} at width {worst.width:g}"
    return Finding(verdict, tuple(sentences), quantity, worst.most, "cycles")


def _in_a_long_training(group: Group) -> str:
    """What the most worn device would see in `LONG_STEPS`, at its cycles for each step.

    Empty if all runs are as long, or do not say how long they were.
    """
    rates = [
        case["max"] / steps
        for run in group.candidate.runs
        if (steps := run["summary"].get("steps"))
        for case in cycles_by_kind(run).values()
    ]
    steps = [run["summary"].get("steps", 0) for run in group.candidate.runs]
    if not rates or min(steps) >= LONG_STEPS:
        return ""
    cycles = max(rates) * LONG_STEPS
    held = [limit for limit in LIMITS if cycles < SMALL_FRACTION * limit]
    shares = ", ".join(f"{100 * cycles / x:.2g} % of {scientific(x)}" for x in LIMITS)
    verdict = "of none of these a small fraction"
    if held:
        verdict = f"a small fraction of {' and '.join(map(scientific, held))}"
    return (
        f"Extrapolated step by step, {LONG_STEPS:,} steps (200 epochs of CIFAR-10) "
        f"would be {cycles:,.0f} cycles: {shares}, {verdict}."
    )


def against_endurance(group: Group, out: Path) -> tuple[list[Picture], list[Table]]:
    """Every recipe that tracked its wear; the figures are drawn to ``out``."""
    of_recipes = {recipe: wear(recipe)[WHOLE] for recipe in group.recipes}
    cases = [case for mine in of_recipes.values() for case in mine]
    if not cases:
        return [], []
    pictures = [draw_endurance(out / f"{group.prefix}write_erase_cycles", cases)]
    several = len({case.recipe for case in cases}) > 1
    for recipe, mine in of_recipes.items():
        drawn = [case for case in mine if case.edges]
        whose = f"{recipe.name}, " if several else ""
        for width in dict.fromkeys(case.width for case in drawn):
            name = group.file(f"write_erase_cycles_width{width:g}", recipe)
            same = [case for case in drawn if case.width == width]
            pictures.append(draw_devices(out / name, same, whose))
    return pictures, [table_of("wear", "after training", cases, WEAR)]


def draw_endurance(path: Path, cases: Sequence[Wear]) -> Picture:
    """Cycles of whole networks by width and kind of device, beside their endurance."""
    rows = list(dict.fromkeys((case.recipe, case.width) for case in cases))
    kinds = list(dict.fromkeys(case.kind for case in cases))
    several = len({recipe for recipe, _ in rows}) > 1
    limit = min(case.endurance_cycles for case in cases)
    said = []
    with saved(path) as axes:
        for case in cases:
            shift = 0.4 * (kinds.index(case.kind) - (len(kinds) - 1) / 2)
            row = rows.index((case.recipe, case.width)) + shift
            mean, p99, worst = np.maximum(
                [case.mean_device_cycles, case.p99_cycles, case.worst_cycles],
                drawing.NO_CYCLE,
            )
            first = next(c for c in cases if c.kind == case.kind)
            axes.barh(
                row, worst, height=0.36, color=drawing.colour_of(case.kind),
                label=drawing.words_for(case.kind) if case is first else None,
            )  # fmt: skip
            axes.plot([mean, p99], [row] * 2, "|", color="white")
            said.append(
                (f"{case.recipe.name}, " if several else "")
                + f"{drawing.words_for(case.kind)}, width {case.width:g}: "
                f"{case.worst_cycles:,} of {scientific(case.endurance_cycles)} cycles."
            )
            share = scientific(case.fraction_of_endurance)
            axes.annotate(
                f"{case.worst_cycles:,}: {share} of the limit", (worst, row),
                xytext=(4, 0), textcoords="offset points", va="center", fontsize=8.5,
            )  # fmt: skip
        drawing.limit_line(axes, limit)
        names = [
            (f"{drawing.literal(recipe.name)} " if several else "") + f"×{width:g}"
            for recipe, width in rows
        ]
        axes.set_yticks(range(len(rows)), names)
        axes.invert_yaxis()
        high = 3 * max(limit, *(case.worst_cycles for case in cases))
        drawing.cycle_axis(axes, high, "write-erase cycles of the most worn device")
        axes.set_ylabel("width")
        axes.grid(visible=False, axis="y")
        note = "White marks: the mean device, and 99 % of the devices."
        drawing.legend_above(axes, note)
    return Picture(
        path,
        "Write-erase cycles of the most worn device beside the endurance limit. "
        + " ".join(said),
        "Bars reach to the most worn device of all seeds; the white marks are the mean "
        "device and the 99th percentile.",
    )


def draw_devices(path: Path, cases: Sequence[Wear], whose: str = "") -> Picture:
    """Devices of one recipe and width by cycles, all kinds; all have histograms."""
    limit = min(case.endurance_cycles for case in cases)
    edges = max((case.edges for case in cases), key=len)
    counts: dict[str, Sequence[int]] = {c.kind: c.counts for c in cases}
    with saved(path) as axes:
        drawing.devices_by_cycles(axes, edges, counts, limit)
    shown = f"{whose}width {cases[0].width:g}."
    alt = f"Histogram of the write-erase cycles of all devices, {shown}"
    return Picture(path, alt, f"All devices of all seeds, {shown}")
