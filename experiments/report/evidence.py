"""Figures and tables that stand with each claim."""

import base64
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from experiments.drawing import NAMES
from experiments.report import (
    accounting_figures,
    accounting_tables,
    claim_tables,
    figures,
)
from experiments.report.claims import COMPARABLE_POINTS
from experiments.report.estimates import (
    Ageing,
    Point,
    Run,
    ageing,
    baseline_of,
    curve,
    gain_at_equal_size,
    smallest_reaching,
)
from experiments.report.tables import Table
from experiments.report.wear import wear
from experiments.words import (
    counted,
    duration,
    kilobytes,
    on_devices,
    scientific,
)


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure on the page.

    Attributes:
      path: of its files, without ending.
      alt: what it shows, in words.
      caption: under it.
    """

    path: Path
    alt: str
    caption: str

    @property
    def source(self) -> str:
        """The figure itself, as the address of an image."""
        svg = base64.b64encode(Path(f"{self.path}.svg").read_bytes())
        return f"data:image/svg+xml;base64,{svg.decode()}"


Evidence = tuple[list[Picture], list[Table]]


def of_claims(runs: Sequence[Run], out: Path, prefix: str) -> dict[str, Evidence]:
    """By claim, the figures, drawn to ``out`` under names of a prefix, and tables."""
    fp32, hic = curve(runs, "fp32"), curve(runs, "hic")
    analog = [run for run in runs if run["algorithm"] != "fp32"]
    return {
        "equal-size": _equal_size(fp32, hic, out, prefix),
        "half-size": _half_size(fp32, hic, out, prefix),
        "drift": _drift(analog, fp32, out, prefix),
        "endurance": _endurance(analog, out, prefix),
    }


def _equal_size(
    fp32: Sequence[Point], hic: Sequence[Point], out: Path, prefix: str
) -> Evidence:
    curves = {n: points for n, points in (("fp32", fp32), ("hic", hic)) if points}
    gain = gain_at_equal_size(fp32, hic)
    picture = Picture(
        out / f"{prefix}accuracy_size",
        "Test accuracy against inference model size. "
        + " ".join(_in_words(name, points) for name, points in curves.items()),
        "Means over seeds with their standard deviation; single seeds are faint, and "
        "×1 is the width.",
    )
    figures.accuracy_against_size(picture.path, curves, gain)
    rows = [
        claim_tables.point_row(n, p) for n, points in curves.items() for p in points
    ]
    shown = [Table("accuracy_size", "Accuracy by size", claim_tables.POINTS, rows)]
    if gain is not None:
        shown.append(
            Table(
                "gain",
                "Gain of HIC at equal size, and its mean over the range",
                claim_tables.GAINS,
                claim_tables.gain_rows(gain),
            )
        )
    return [picture], shown


def _half_size(
    fp32: Sequence[Point], hic: Sequence[Point], out: Path, prefix: str
) -> Evidence:
    baseline = baseline_of(fp32)
    if baseline is None or not hic:
        return [], []
    target = baseline.accuracy.mean - COMPARABLE_POINTS
    picture = Picture(
        out / f"{prefix}smallest_hic",
        f"HIC beside the baseline. {_in_words('fp32', [baseline])} "
        f"{_in_words('hic', hic)}",
        "HIC beside the FP32 baseline, which it should reach left of the dashed line: "
        "at less than half its size.",
    )
    reached = smallest_reaching(hic, target)
    figures.smallest_comparable(picture.path, baseline, hic, reached)
    return [picture], []


def _drift(
    hic: Sequence[Run], fp32: Sequence[Point], out: Path, prefix: str
) -> Evidence:
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
            claim_tables.LOSSES,
            [claim_tables.loss_row(case) for case in cases],
        ),
        Table(
            "drift", "", (), [row for c in cases for row in claim_tables.ageing_rows(c)]
        ),
    ]


def _over_time(
    path: Path, cases: Sequence[Ageing], *, classes: int | None, fp32: float | None
) -> Picture:
    """Compensations of one width on one kind of devices, FP32 beside them."""
    seeds, chips = cases[0].loss.seeds, cases[0].chips
    where = f"{on_devices(cases[0].devices)}, width {cases[0].width:g}"
    figures.accuracy_over_time(path, cases, classes=classes, fp32=fp32)
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


def _endurance(hic: Sequence[Run], out: Path, prefix: str) -> Evidence:
    cases = wear(hic)
    if not cases:
        return [], []
    picture = Picture(
        out / f"{prefix}write_erase_cycles",
        "Write-erase cycles of the most worn device beside the endurance limit. "
        + " ".join(
            f"{NAMES[c.kind]}, width {c.width:g}: {c.worst:,} of "
            f"{scientific(c.endurance_cycles)} cycles."
            for c in cases
        ),
        "Bars reach to the most worn device of all seeds; the white marks are the mean "
        "device and the 99th percentile.",
    )
    accounting_figures.cycles_against_endurance(picture.path, cases)
    pictures = [picture]
    for width in dict.fromkeys(case.width for case in cases if case.edges):
        mine = [case for case in cases if case.width == width]
        histogram = Picture(
            out / f"{prefix}write_erase_cycles_width{width:g}",
            f"Histogram of the write-erase cycles of all devices, width {width:g}.",
            f"All devices of all seeds, width {width:g}.",
        )
        accounting_figures.cycles_of_devices(histogram.path, mine)
        pictures.append(histogram)
    rows = [accounting_tables.wear_row(case) for case in cases]
    return pictures, [
        Table("wear", "Write-erase cycles after training", accounting_tables.WEAR, rows)
    ]


def _in_words(name: str, points: Sequence[Point]) -> str:
    values = ", ".join(
        f"{point.accuracy.mean:.1f} % at {kilobytes(point.size_kb)}" for point in points
    )
    return f"{NAMES[name]}: {values}."
