"""Accuracy over time, while the devices drift."""

import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.drawing import (
    NAMES,
    accuracy_axis,
    accuracy_line,
    chance_line,
    legend_above,
    literal,
    measured,
    time_axis,
)
from experiments.report.accuracy import curve
from experiments.report.estimates import SHARES, Estimate, estimate
from experiments.report.groups import Group, Recipe, file_word
from experiments.report.sections import (
    COMPARABLE_POINTS,
    Finding,
    Picture,
    Verdict,
    below,
    in_all,
    saved,
    too_little,
    why_open,
)
from experiments.report.tables import (
    WIDTH,
    Column,
    Row,
    Table,
    fields_of,
    plain,
    statistics_columns,
    told_apart,
    word,
)
from experiments.words import counted, duration, minus, on_devices
from hic_jax import HOUR, YEAR
from hic_jax.inference import TRAINED

# A loss by drift is counted from a first reading no later than this (s).
FIRST_READING = HOUR


@dataclasses.dataclass(frozen=True)
class Ageing:
    """Accuracy over time of one width, on one kind of devices, of one compensation.

    Attributes:
      algorithm: label of the recipe.
      devices: "trained", or the preset of the inference chips.
      width: multiplier of the channels.
      compensation: name of the compensation of drift.
      times: seconds that all seeds were read at.
      accuracy: test accuracy in % at each time: over seeds, each the mean of its chips.
      chip_mean: mean test accuracy in % at each time, over all chips of all seeds.
      chip_std: standard deviation of one of these chips; 0 for one chip.
      chips: number of chips of all seeds together.
      loss: points lost from the first time to the last, over seeds.
    """

    algorithm: str
    devices: str
    width: float
    compensation: str
    times: tuple[float, ...]
    accuracy: tuple[Estimate, ...]
    chip_mean: tuple[float, ...]
    chip_std: tuple[float, ...]
    chips: int
    loss: Estimate

    @property
    def spans_a_year(self) -> bool:
        """Whether it was read soon after the writing, and a year later."""
        return self.times[0] <= FIRST_READING and self.times[-1] >= YEAR


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
        columns=["devices", "width", "compensation", "seed", "time", "accuracies"],
        dtype=object,
    ).drop_duplicates(["devices", "width", "compensation", "seed", "time"], keep="last")
    found = []
    cases = readings.groupby(["devices", "width", "compensation"], sort=False)
    for (devices, width, compensation), mine in cases:
        # Of each time, lists of chips by seed.
        chips = mine.pivot(index="time", columns="seed", values="accuracies").dropna()
        if chips.empty:
            continue
        chips = chips.sort_index()
        means = 100 * chips.map(statistics.fmean)
        pooled = [[100 * x for seed in row for x in seed] for row in chips.to_numpy()]
        found.append(
            Ageing(
                recipe.label,
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
        return too_little(_why_not_read(group.candidate))
    cases = [case for case in cases if len(case.times) > 1]
    if not cases:
        return too_little("The runs were read at one time only: a loss takes two.")
    if any(case.devices == TRAINED for case in cases):
        cases = [case for case in cases if case.devices == TRAINED]
    verdict = in_all(map(drift_verdict, cases))
    deciding = [case for case in cases if drift_verdict(case) is verdict]
    worst = max(deciding, key=lambda case: case.loss.mean)
    widths = len({case.width for case in deciding})
    sentences = [
        f"With AdaBS, {on_devices(worst.devices)} lose "
        f"{minus(f'{worst.loss.mean:.2f}')} points "
        f"from {duration(worst.times[0])} to {duration(worst.times[-1])} at width "
        f"{worst.width:g}" + (f", the most of {widths} widths." if widths > 1 else ".")
    ]
    for case in cases:
        if not case.spans_a_year:
            sentences.append(
                f"Width {case.width:g} was read from {duration(case.times[0])} to "
                f"{duration(case.times[-1])}, not from an hour at most to a year."
            )
    if verdict is Verdict.TOO_LITTLE and worst.spans_a_year:
        sentences.append(why_open(worst.loss, f"{COMPARABLE_POINTS:g}"))
    return Finding(
        verdict, tuple(sentences), f"loss at width {worst.width:g}", worst.loss
    )


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


def drift_verdict(case: Ageing) -> Verdict:
    """Whether one width on one kind of devices keeps its accuracy for a year."""
    if not case.spans_a_year:
        return Verdict.TOO_LITTLE
    return below(case.loss, COMPARABLE_POINTS)


def over_time(group: Group, out: Path) -> tuple[list[Picture], list[Table]]:
    """Every recipe that was read over time; the figures are drawn to ``out``."""
    theirs = group.baseline
    accuracies = {point.width: point.accuracy.mean for point in curve(theirs)}
    pictures: list[Picture] = []
    rows: list[Row] = []
    losses: list[Row] = []
    for recipe in group.recipes:
        cases = ageing(recipe)
        rows += [row for case in cases for row in _rows(case)]
        losses += map(_loss, cases)
        # Versions that did not store it have no chance to show.
        classes = {run["summary"].get("num_classes") for run in recipe.runs}
        for devices, width in dict.fromkeys((c.devices, c.width) for c in cases):
            mine = [c for c in cases if (c.devices, c.width) == (devices, width)]
            name = f"drift_{file_word(devices)}_width{width:g}"
            panels = {name: mine}
            compensated = [case for case in mine if case.compensation != "none"]
            if 0 < len(compensated) < len(mine):
                panels[f"{name}_compensated"] = compensated
            digital = width in accuracies and not theirs.on_devices
            pictures += [
                _picture(
                    out / group.file(name, recipe),
                    "" if recipe is group.candidate else f"{recipe.name}, ",
                    panel,
                    classes=next(iter(classes)) if len(classes) == 1 else None,
                    digital=(theirs.name, accuracies[width]) if digital else None,
                )
                for name, panel in panels.items()
            ]
    if not rows:
        return [], []
    caption = "Accuracy lost from the first time to the last"
    return pictures, [
        Table("drift_loss", caption, told_apart(_LOSSES, losses), losses),
        Table("drift", "", (), rows),
    ]


def _picture(
    path: Path,
    whose: str,
    cases: Sequence[Ageing],
    *,
    classes: int | None,
    digital: tuple[str, float] | None,
) -> Picture:
    """Compensations of one width on one kind of devices; see `draw_over_time`."""
    seeds, chips = cases[0].loss.seeds, cases[0].chips
    where = f"{whose}{on_devices(cases[0].devices)}, width {cases[0].width:g}"
    draw_over_time(path, cases, classes=classes, digital=digital)
    curves = " ".join(
        f"{NAMES.get(case.compensation, case.compensation)}: "
        f"{case.chip_mean[0]:.1f} % at {duration(case.times[0])}, "
        f"{case.chip_mean[-1]:.1f} % at {duration(case.times[-1])}."
        for case in cases
    )
    if digital is not None:
        curves += f" {digital[0]}: {digital[1]:.1f} %."
    return Picture(
        path,
        f"Test accuracy over time, {where}. {curves}",
        f"{where[0].upper()}{where[1:]}: mean of {counted(chips, 'chip')} of "
        f"{counted(seeds, 'seed')}; the bars are the standard deviation of one "
        "chip.",
    )


def draw_over_time(
    path: Path,
    cases: Sequence[Ageing],
    *,
    classes: int | None = None,
    digital: tuple[str, float] | None = None,
) -> None:
    """Accuracy against time: compensations as lines, the spread of chips as bars.

    Args:
      path: of the figure.
      cases: the compensations of one width on one kind of devices.
      classes: of the images, to show chance beside a network without compensation;
        None shows none.
      digital: name and accuracy in % of the same network without devices; None shows
        none.
    """
    deployed = cases[0].devices != TRAINED
    with saved(path, height=4.0) as axes:
        if digital is not None:
            name, accuracy = digital
            accuracy_line(axes, accuracy, f"{literal(name)}, which does not drift")
        for case in cases:
            mean, std = np.array(case.chip_mean), np.array(case.chip_std)
            measured(
                axes,
                case.compensation,
                case.times,
                mean.tolist(),
                (mean - std, mean + std),
            )
        times = [time for case in cases for time in case.times]
        time_axis(axes, times, "programming" if deployed else "training")
        if classes is not None and any(c.compensation == "none" for c in cases):
            chance_line(axes, classes)
        accuracy_axis(axes)
        chips = cases[0].chips
        many = f"Mean of {chips} chips ± standard deviation of one"
        shown = many if chips > 1 else "One chip"
        legend_above(axes, f"{shown}; lines only join the points.")


# ---- Tables


def _rows(case: Ageing) -> list[Row]:
    """Accuracy in % at each time: over seeds, and over all chips."""
    return [
        {
            "algorithm": case.algorithm,
            "devices": case.devices,
            "width": case.width,
            "compensation": case.compensation,
            "time_s": time,
            **fields_of(accuracy),
            "chips": case.chips,
            "chip_mean": mean,
            "chip_std": std,
        }
        for time, accuracy, mean, std in zip(
            case.times, case.accuracy, case.chip_mean, case.chip_std, strict=True
        )
    ]


def _loss(case: Ageing) -> Row:
    """Points lost from the first time to the last."""
    return {
        "algorithm": case.algorithm,
        "devices": case.devices,
        "width": case.width,
        "compensation": case.compensation,
        "first_time_s": case.times[0],
        "last_time_s": case.times[-1],
        "first_accuracy_percent": case.accuracy[0].mean,
        "last_accuracy_percent": case.accuracy[-1].mean,
        **fields_of(case.loss),
        "chips": case.chips,
        "last_chip_std": case.chip_std[-1],
        "verdict": str(drift_verdict(case)),
    }


_LOSSES = (
    Column("devices", lambda row: row["devices"], look=""),
    WIDTH,
    word("compensation", "compensation"),
    Column("from", lambda row: duration(row["first_time_s"])),
    Column("to", lambda row: duration(row["last_time_s"])),
    Column("first (%)", plain(".2f", "first_accuracy_percent")),
    Column("last (%)", plain(".2f", "last_accuracy_percent")),
    *statistics_columns("loss (points)"),
    Column("chips", plain("d", "chips")),
    Column("verdict", lambda row: row["verdict"], look=""),
)
