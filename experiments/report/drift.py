"""Accuracy over time, while the devices drift."""

import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from experiments import drawing
from experiments.report import sections, tables
from experiments.report.curves import curve
from experiments.report.estimates import SHARES, Estimate, estimate
from experiments.report.groups import Group, Recipe, file_word
from experiments.report.sections import COMPARABLE_POINTS, Finding, Picture, Verdict
from experiments.words import counted, duration, minus, on_devices
from hic_jax import HOUR, YEAR
from hic_jax.inference import TRAINED

# A loss by drift is counted from a first reading no later than this (s).
FIRST_READING = HOUR


@dataclasses.dataclass(frozen=True)
class Ageing:
    """Accuracy over time of one width, on one kind of devices, of one compensation."""

    recipe: Recipe
    devices: str  # "trained", or the preset of the inference chips
    width: float  # multiplier of the channels
    compensation: str  # name of the compensation of drift
    times: tuple[float, ...]  # seconds that all seeds were read at
    # Test accuracy in % at each time: over seeds, each the mean of its chips.
    accuracy: tuple[Estimate, ...]
    chip_mean: tuple[float, ...]  # and the mean over all chips of all seeds
    chip_std: tuple[float, ...]  # standard deviation of one of these; 0 for one chip
    chips: int  # number of chips of all seeds together
    loss: Estimate  # points lost from the first time to the last, over seeds

    @property
    def spans_a_year(self) -> bool:
        """Whether it was read soon after the writing, and a year later."""
        return self.times[0] <= FIRST_READING and self.times[-1] >= YEAR

    @property
    def verdict(self) -> Verdict:
        """Whether the accuracy is kept for a year."""
        if not self.spans_a_year:
            return Verdict.TOO_LITTLE
        return sections.below(self.loss, COMPARABLE_POINTS)


_CASE = ["devices", "width", "compensation"]


def ageing(recipe: Recipe) -> list[Ageing]:
    """Accuracy over time, the trained devices first, by width.

    Devices, widths and compensations stay apart; of seeds that were read at different
    times, the times are taken that all have.
    """
    readings = pd.DataFrame(
        [
            {"seed": seed, "width": run["width"], **row}
            for seed, run in enumerate(recipe.runs)
            for row in run["drift"]
        ],
        columns=[*_CASE, "seed", "time", "accuracies"],
        dtype=object,
    ).drop_duplicates([*_CASE, "seed", "time"], keep="last")
    found = []
    for (devices, width, compensation), mine in readings.groupby(_CASE, sort=False):
        # Of each time, lists of chips by seed.
        chips = mine.pivot(index="time", columns="seed", values="accuracies").dropna()
        if chips.empty:
            continue
        chips = chips.sort_index()
        means = 100 * chips.map(statistics.fmean)
        pooled = [[100 * x for seed in row for x in seed] for row in chips.to_numpy()]
        found.append(
            Ageing(
                recipe,
                devices,
                width,
                compensation,
                tuple(chips.index),
                tuple(estimate(seeds, SHARES) for seeds in means.to_numpy().tolist()),
                tuple(map(statistics.fmean, pooled)),
                tuple(statistics.stdev(x) if len(x) > 1 else 0.0 for x in pooled),
                len(pooled[0]),
                estimate((means.iloc[0] - means.iloc[-1]).tolist()),
            )
        )
    return sorted(found, key=lambda a: (a.devices != TRAINED, a.devices, a.width))


# ---- The claim


def withstands_drift(group: Group) -> Finding:
    """A year of drift has a negligible effect on accuracy.

    Rule: the loss is the accuracy (mean over chips) at the first time less that at the
    last, with AdaBS (whose gains compare noisy reads), on the devices that were
    trained; on inference chips only where the trained ones were not read, as the two
    are never mixed. The first time is at
    most an hour, the last at least a year. The claim is supported if the 95 % interval
    of the loss over seeds lies below 0.5 points at every width that was read, and not
    supported if it lies above at any.
    """
    cases = [a for a in ageing(group.candidate) if a.compensation == "adabs"]
    if not cases:
        return sections.too_little(_why_not_read(group.candidate))
    cases = [case for case in cases if len(case.times) > 1]
    if not cases:
        return sections.too_little(
            "The runs were read at one time only: a loss takes two."
        )
    if cases[0].devices == TRAINED:  # They come first.
        cases = [case for case in cases if case.devices == TRAINED]
    verdict = sections.in_all(case.verdict for case in cases)
    deciding = [case for case in cases if case.verdict is verdict]
    worst = max(deciding, key=lambda case: case.loss.mean)
    widths = len({case.width for case in deciding})
    sentences = [
        f"With AdaBS, {on_devices(worst.devices)} lose "
        f"{minus(f'{worst.loss.mean:.2f}')} points {_span(worst)} at width "
        f"{worst.width:g}" + (f", the most of {widths} widths." if widths > 1 else ".")
    ]
    sentences += [
        f"Width {case.width:g} was read {_span(case)}, not from an hour at most to a "
        "year."
        for case in cases
        if not case.spans_a_year
    ]
    if verdict is Verdict.TOO_LITTLE and worst.spans_a_year:
        sentences.append(sections.why_open(worst.loss, f"{COMPARABLE_POINTS:g}"))
    quantity = f"loss at width {worst.width:g}"
    return Finding(verdict, tuple(sentences), quantity, worst.loss)


def _span(case: Ageing) -> str:
    return f"from {duration(case.times[0])} to {duration(case.times[-1])}"


def _why_not_read(recipe: Recipe) -> str:
    """What is missing of readings with AdaBS."""
    names = {row["compensation"] for run in recipe.runs for row in run["drift"]}
    if not names:
        return "No run was read over time (experiments.drift)."
    if any(name.startswith("adabs") for name in names):
        return (
            "The runs were read over time with AdaBS only against an ideal reference, "
            "which no chip has."
        )
    return "The runs were read over time without AdaBS."


# ---- What stands with it


def over_time(group: Group, out: Path) -> tuple[list[Picture], list[tables.Table]]:
    """Every recipe that was read over time; the figures are drawn to ``out``."""
    theirs = group.baseline
    # The same network without devices, by width.
    digital = {
        point.width: (theirs.name, point.accuracy.mean)
        for point in ([] if theirs.on_devices else curve(theirs))
    }
    pictures: list[Picture] = []
    every: list[Ageing] = []
    for recipe in group.recipes:
        cases = ageing(recipe)
        every += cases
        # Versions that did not store it have no chance to show.
        classes = {run["summary"].get("num_classes") for run in recipe.runs}
        known = classes.pop() if len(classes) == 1 else None
        for devices, width in dict.fromkeys((c.devices, c.width) for c in cases):
            mine = [c for c in cases if (c.devices, c.width) == (devices, width)]
            file = group.file(f"drift_{file_word(devices)}_width{width:g}", recipe)
            whose = "" if recipe is group.candidate else f"{recipe.name}, "
            panels = {file: mine}
            compensated = [case for case in mine if case.compensation != "none"]
            if 0 < len(compensated) < len(mine):
                panels[f"{file}_compensated"] = compensated
            pictures += [
                draw_over_time(
                    out / stem,
                    panel,
                    whose,
                    classes=known,
                    digital=digital.get(width),
                    tested_on=group.tested_on,
                )
                for stem, panel in panels.items()
            ]
    if not every:
        return [], []
    losses = list(map(_loss, every))
    caption = "Accuracy lost from the first time to the last"
    return pictures, [
        tables.Table("drift_loss", caption, tables.told_apart(_LOSSES, losses), losses),
        tables.Table("drift", "", (), [row for case in every for row in _rows(case)]),
    ]


def draw_over_time(
    path: Path,
    cases: Sequence[Ageing],
    whose: str = "",
    *,
    classes: int | None = None,
    digital: tuple[str, float] | None = None,
    tested_on: str = "test",
) -> Picture:
    """Compensations of one width on one kind of devices; see `drawing.ageing`."""
    first, chips = cases[0], cases[0].chips
    curves: dict[str, drawing.Curve] = {}
    said = []
    for case in cases:
        mean, std = np.array(case.chip_mean), np.array(case.chip_std)
        ends = (mean - std, mean + std)
        curves[case.compensation] = (case.times, case.chip_mean, ends)
        said.append(
            f"{drawing.NAMES.get(case.compensation, case.compensation)}: "
            f"{mean[0]:.1f} % at {duration(case.times[0])}, "
            f"{mean[-1]:.1f} % at {duration(case.times[-1])}."
        )
    if digital is not None:
        said.append(f"{digital[0]}: {digital[1]:.1f} %.")
    deployed = first.devices != TRAINED
    with sections.saved(path, height=4.0) as axes:
        drawing.ageing(
            axes, curves, deployed=deployed, classes=classes, digital=digital,
            tested_on=tested_on,
        )  # fmt: skip
        many = f"Mean of {chips} chips ± standard deviation of one"
        shown = many if chips > 1 else "One chip"
        drawing.legend_above(axes, f"{shown}; lines only join the points.")
    where = f"{whose}{on_devices(first.devices)}, width {first.width:g}"
    return Picture(
        path,
        f"{tested_on.capitalize()} accuracy over time, {where}. {' '.join(said)}",
        f"{where[0].upper()}{where[1:]}: mean of {counted(chips, 'chip')} of "
        f"{counted(first.loss.seeds, 'seed')}; the bars are the standard deviation of "
        "one chip.",
    )


def _case(case: Ageing) -> tables.Row:
    return {"algorithm": case.recipe.label} | {key: getattr(case, key) for key in _CASE}


def _rows(case: Ageing) -> list[tables.Row]:
    """Accuracy in % at each time: over seeds, and over all chips."""
    times = zip(case.times, case.accuracy, case.chip_mean, case.chip_std, strict=True)
    return [
        _case(case)
        | {"time_s": time}
        | tables.fields_of(accuracy)
        | {"chips": case.chips, "chip_mean": mean, "chip_std": std}
        for time, accuracy, mean, std in times
    ]


def _loss(case: Ageing) -> tables.Row:
    """Points lost from the first time to the last."""
    return {
        **_case(case),
        "first_time_s": case.times[0],
        "last_time_s": case.times[-1],
        "first_accuracy_percent": case.accuracy[0].mean,
        "last_accuracy_percent": case.accuracy[-1].mean,
        **tables.fields_of(case.loss),
        "chips": case.chips,
        "last_chip_std": case.chip_std[-1],
        "verdict": str(case.verdict),
    }


_LOSSES = (
    tables.word("devices", "devices"),
    tables.WIDTH,
    tables.named("compensation", "compensation"),
    tables.number("from", "first_time_s", duration),
    tables.number("to", "last_time_s", duration),
    tables.number("first (%)", "first_accuracy_percent", ".2f"),
    tables.number("last (%)", "last_accuracy_percent", ".2f"),
    *tables.statistics_columns("loss (points)"),
    tables.number("chips", "chips"),
    tables.word("verdict", "verdict"),
)
