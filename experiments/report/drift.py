"""Accuracy over time, while the devices drift."""

import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.drawing import (
    NAMES,
    accuracy_axis,
    accuracy_line,
    chance_line,
    legend_above,
    measured,
    time_axis,
)
from experiments.report.accuracy import Point
from experiments.report.estimates import SHARES, Estimate, Run, estimate
from experiments.report.sections import (
    COMPARABLE_POINTS,
    Evidence,
    Finding,
    Picture,
    Verdict,
    below,
    in_all,
    saved,
    why_open,
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
from experiments.words import counted, duration, minus, on_devices
from hic_jax import HOUR, YEAR
from hic_jax.inference import TRAINED

# A loss by drift is counted from a first reading no later than this (s).
FIRST_READING = HOUR


@dataclasses.dataclass(frozen=True)
class Ageing:
    """Accuracy over time of one width, on one kind of devices, of one compensation.

    Attributes:
      devices: "trained", or the preset of the inference chips.
      width: multiplier of the channels.
      compensation: of drift.
      times: seconds that all seeds were read at.
      accuracy: in % at each time: over seeds, each the mean of its chips.
      chip_mean: in % at each time: over all chips of all seeds.
      chip_std: the standard deviation of the same; 0 for one chip.
      chips: how many of all seeds together.
      loss: points lost from the first time to the last, over seeds.
    """

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


def ageing(runs: Sequence[Run]) -> list[Ageing]:
    """Accuracy over time, the trained devices first, by width.

    Devices, widths and compensations stay apart; of seeds that were read at different
    times, the times are taken that all have.
    """
    cases: dict[tuple[str, float, str], list[dict[float, list[float]]]] = {}
    for run in runs:
        curves: dict[tuple[str, float, str], dict[float, list[float]]] = {}
        for row in run["drift"]:
            case = (row["devices"], run["width"], row["compensation"])
            curves.setdefault(case, {})[row["time"]] = row["accuracies"]
        for case, seed in curves.items():
            cases.setdefault(case, []).append(seed)
    found = []
    for (devices, width, compensation), seeds in cases.items():
        times = sorted(set.intersection(*(set(seed) for seed in seeds)))
        if not times:
            continue
        # Of each seed (times,) means over its chips; of all chips (times, chips).
        means = [[100 * statistics.fmean(seed[t]) for t in times] for seed in seeds]
        chips = [[100 * x for seed in seeds for x in seed[t]] for t in times]
        found.append(
            Ageing(
                devices,
                width,
                compensation,
                tuple(times),
                tuple(estimate(at, SHARES) for at in zip(*means, strict=True)),
                tuple(map(statistics.fmean, chips)),
                tuple(statistics.stdev(x) if len(x) > 1 else 0.0 for x in chips),
                len(chips[0]),
                estimate([mean[0] - mean[-1] for mean in means]),
            )
        )
    return sorted(found, key=lambda a: (a.devices != TRAINED, a.devices, a.width))


def withstands_drift(runs: Sequence[Run]) -> Finding:
    """A year of drift has a negligible effect on accuracy.

    Rule: the loss is the accuracy (mean over chips) at the first time less that at the
    last, with AdaBS (whose gains compare noisy reads), on the devices that were
    trained; on inference chips only where the trained ones were not read, as the two
    are never mixed. The first time is at
    most an hour, the last at least a year. The claim is supported if the 95 % interval
    of the loss over seeds lies below 0.5 points at every width that was read, and not
    supported if it lies above at any.
    """
    cases = [a for a in ageing(runs) if a.compensation == "adabs"]
    if not cases:
        return Finding(Verdict.TOO_LITTLE, (_why_not_read(runs),))
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


def _why_not_read(runs: Sequence[Run]) -> str:
    """What is missing of readings with AdaBS."""
    names = {row["compensation"] for run in runs for row in run["drift"]}
    if not names:
        return "No run was read over time (experiments.drift)."
    if any(name.startswith("adabs") for name in names):
        return (
            "The runs were read over time with AdaBS only against an ideal reference, "
            "which no chip has."
        )
    return "The runs were read over time without AdaBS."


def drift_verdict(case: Ageing) -> Verdict:
    """Of one width on one kind of devices."""
    if not case.spans_a_year:
        return Verdict.TOO_LITTLE
    return below(case.loss, COMPARABLE_POINTS)


def over_time(
    hic: Sequence[Run], fp32: Sequence[Point], out: Path, prefix: str
) -> Evidence:
    """What stands with the claim on drift."""
    cases = ageing(hic)
    accuracies = {point.width: point.accuracy.mean for point in fp32}
    # Versions that did not store it have no chance to show.
    classes = {run["summary"].get("num_classes") for run in hic}
    pictures = []
    for devices, width in dict.fromkeys((c.devices, c.width) for c in cases):
        mine = [c for c in cases if (c.devices, c.width) == (devices, width)]
        path = out / f"{prefix}drift_{devices}_width{width:g}"
        beside = {
            "classes": classes.copy().pop() if len(classes) == 1 else None,
            "fp32": accuracies.get(width),
        }
        pictures.append(_over_time(path, mine, **beside))
        compensated = [case for case in mine if case.compensation != "none"]
        if 0 < len(compensated) < len(mine):
            path = path.with_name(path.name + "_compensated")
            pictures.append(_over_time(path, compensated, **beside))
    if not cases:
        return [], []
    return pictures, [
        Table(
            "drift_loss",
            "Accuracy lost from the first time to the last",
            LOSSES,
            [loss_row(case) for case in cases],
        ),
        Table("drift", "", (), [row for c in cases for row in ageing_rows(c)]),
    ]


def _over_time(
    path: Path, cases: Sequence[Ageing], *, classes: int | None, fp32: float | None
) -> Picture:
    """Compensations of one width on one kind of devices, FP32 beside them."""
    seeds, chips = cases[0].loss.seeds, cases[0].chips
    where = f"{on_devices(cases[0].devices)}, width {cases[0].width:g}"
    accuracy_over_time(path, cases, classes=classes, fp32=fp32)
    curves = " ".join(
        f"{NAMES.get(case.compensation, case.compensation)}: "
        f"{case.chip_mean[0]:.1f} % at {duration(case.times[0])}, "
        f"{case.chip_mean[-1]:.1f} % at {duration(case.times[-1])}."
        for case in cases
    )
    if fp32 is not None:
        curves += f" FP32: {fp32:.1f} %."
    return Picture(
        path,
        f"Test accuracy over time, {where}. {curves}",
        f"{where[0].upper()}{where[1:]}: mean of {counted(chips, 'chip')} of "
        f"{counted(seeds, 'seed')}; the bars are the standard deviation of one "
        "chip.",
    )


def accuracy_over_time(
    path: Path,
    cases: Sequence[Ageing],
    *,
    classes: int | None = None,
    fp32: float | None = None,
) -> None:
    """Accuracy against time: compensations as lines, the spread of chips as bars.

    Args:
      path: of the figure.
      cases: the compensations of one width on one kind of devices.
      classes: of the images, to show chance beside a network without compensation;
        None shows none.
      fp32: accuracy of the same network in floating point, in %; None shows none.
    """
    deployed = cases[0].devices != TRAINED
    with saved(path, height=4.0) as axes:
        if fp32 is not None:
            accuracy_line(axes, fp32, "FP32, which does not drift")
        for case in cases:
            mean, std = np.array(case.chip_mean), np.array(case.chip_std)
            measured(
                axes, case.compensation, case.times, mean, (mean - std, mean + std)
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


def ageing_rows(case: Ageing) -> list[Row]:
    """Accuracy in % at each time: over seeds, and over all chips."""
    return [
        {
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


def loss_row(case: Ageing) -> Row:
    """Points lost from the first time to the last."""
    return {
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


LOSSES = (
    Column("devices", lambda row: row["devices"], look=""),
    WIDTH,
    Column("compensation", name_of("compensation"), look=""),
    Column("from", lambda row: duration(row["first_time_s"])),
    Column("to", lambda row: duration(row["last_time_s"])),
    Column("first (%)", plain(".2f", "first_accuracy_percent")),
    Column("last (%)", plain(".2f", "last_accuracy_percent")),
    *statistics_columns("loss (points)"),
    Column("chips", plain("d", "chips")),
    Column("verdict", lambda row: row["verdict"], look=""),
)
