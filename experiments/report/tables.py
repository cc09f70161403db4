"""The tables of the report: rows of plain values for CSV, columns of text for the page.

Rows of several groups stand in one CSV file and begin with the number of their group.
"""

import csv
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.plots import NAMES
from experiments.report.claims import (
    Finding,
    drift_verdict,
    duration,
    minus,
    scientific,
    signed,
    trainings,
)
from experiments.report.estimates import Ageing, Estimate, Gain, Point, Run, Wear

Row = dict[str, Any]
ABSENT = "–"


@dataclasses.dataclass(frozen=True)
class Column:
    """A column on the page.

    Attributes:
      title: its head.
      text: what stands in it, of a row.
      number: whether it is aligned as numbers are.
    """

    title: str
    text: Callable[[Row], str]
    number: bool = True


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows, for a CSV file and for the page.

    Attributes:
      name: of the CSV file, without its ending.
      caption: what it shows.
      columns: on the page.
      rows: plain values, as in the CSV file.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: list[Row]

    @property
    def cells(self) -> list[list[str]]:
        """What stands on the page, row by row."""
        return [[column.text(row) for column in self.columns] for row in self.rows]

    def of_group(self, number: int) -> "Table":
        """The same with the number of its group in every row."""
        rows = [{"group": number} | row for row in self.rows]
        return dataclasses.replace(self, rows=rows)


def write(folder: Path, tables: Sequence[Table]) -> None:
    """Writes tables as CSV files, those of one name into one file."""
    files: dict[str, list[Row]] = {}
    for table in tables:
        files.setdefault(table.name, []).extend(table.rows)
    for name, rows in files.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def _estimate(estimate: Estimate | None) -> Row:
    low, high = (estimate and estimate.interval) or (None, None)
    return {
        "mean": estimate and estimate.mean,
        "std": estimate and estimate.std,
        "seeds": estimate and estimate.seeds,
        "interval_low": low,
        "interval_high": high,
    }


# ---- Rows


def run_row(run: Run) -> Row:
    """A run: what it is and what came out."""
    config, summary = run["config"], run["summary"]
    training_bits = summary.get("training_bits")
    return {
        "algorithm": run["algorithm"],
        "width": run["width"],
        "seed": run["seed"],
        "accuracy_percent": run["accuracy"],
        "inference_kb": run["size_kb"],
        "training_kb": None if training_bits is None else training_bits / 8000,
        "epochs": config["train.epochs"],
        "dataset": config["train.dataset"],
        "depth": config["train.depth"],
        "seconds_per_step": summary.get("seconds_per_step"),
        "folder": run["folder"],
    }


def point_row(algorithm: str, point: Point) -> Row:
    """Accuracy of one width, in %."""
    return {
        "algorithm": algorithm,
        "width": point.width,
        "inference_kb": point.size_kb,
        **_estimate(point.accuracy),
    }


def gain_rows(gain: Gain) -> list[Row]:
    """Gain in points at each size; the last row is the mean over the range."""
    sizes = [*gain.sizes_kb, None]
    return [
        {"inference_kb": size, **_estimate(at)}
        for size, at in zip(sizes, [*gain.at, gain.mean], strict=True)
    ]


def ageing_rows(case: Ageing) -> list[Row]:
    """Accuracy in % at each time: over seeds, and over all chips."""
    return [
        {
            "devices": case.devices,
            "width": case.width,
            "compensation": case.compensation,
            "time_s": time,
            **_estimate(accuracy),
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
        **_estimate(case.loss),
        "chips": case.chips,
        "last_chip_std": case.chip_std[-1],
        "verdict": str(drift_verdict(case)),
    }


def wear_row(case: Wear) -> Row:
    """Write-erase cycles; the estimate is of each seed's most worn device."""
    return {
        "kind": case.kind,
        "width": case.width,
        "mean_device_cycles": case.mean,
        "p99_cycles": case.p99,
        "worst_cycles": case.worst,
        **_estimate(case.most),
        "endurance_cycles": case.endurance_cycles,
        "fraction_of_endurance": case.fraction,
        "trainings_survived": case.trainings,
    }


def verdict_row(claim: str, finding: Finding) -> Row:
    """A verdict and the quantity that it judges."""
    return {
        "claim": claim,
        "verdict": str(finding.verdict),
        "quantity": finding.quantity,
        "unit": finding.unit if finding.estimate else "",
        **_estimate(finding.estimate),
        "found": " ".join(finding.sentences),
    }


# ---- Columns


def _plain(form: str, key: str) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        value = row[key]
        return ABSENT if value is None else minus(format(value, form))

    return text


def _kilobytes(row: Row, key: str = "inference_kb") -> str:
    return ABSENT if row[key] is None else f"{row[key]:,.1f}"


def _milliseconds(row: Row) -> str:
    seconds = row["seconds_per_step"]
    return ABSENT if seconds is None else f"{1000 * seconds:,.1f}"


def interval(row: Row, form: str = ".2f") -> str:
    """The 95 % interval of a row."""
    if row["interval_low"] is None:
        return ABSENT
    low, high = row["interval_low"], row["interval_high"]
    return minus(f"{low:{form}} to {high:{form}}")


def _name(key: str) -> Callable[[Row], str]:
    return lambda row: NAMES.get(row[key], row[key])


def _statistics(what: str, form: str = ".2f") -> tuple[Column, ...]:
    return (
        Column(what, _plain(form, "mean")),
        Column("std", _plain(form.lstrip("+"), "std")),
        Column("95 % interval", lambda row: interval(row, form.lstrip("+"))),
        Column("seeds", _plain("d", "seeds")),
    )


_WIDTH = Column("width", _plain("g", "width"))

RUNS = (
    Column("algorithm", _name("algorithm"), number=False),
    _WIDTH,
    Column("seed", _plain("d", "seed")),
    Column("accuracy (%)", _plain(".2f", "accuracy_percent")),
    Column("inference (kB)", _kilobytes),
    Column("training (kB)", lambda row: _kilobytes(row, "training_kb")),
    Column("epochs", _plain("d", "epochs")),
    Column("data set", lambda row: row["dataset"], number=False),
    Column("depth", _plain("d", "depth")),
    Column("ms per step", _milliseconds),
    Column("folder", lambda row: row["folder"], number=False),
)

POINTS = (
    Column("algorithm", _name("algorithm"), number=False),
    _WIDTH,
    Column("size (kB)", _kilobytes),
    *_statistics("accuracy (%)"),
)

GAINS = (
    Column(
        "size (kB)",
        lambda row: "mean" if row["inference_kb"] is None else _kilobytes(row),
    ),
    Column("gain (points)", lambda row: signed(row["mean"])),
    *_statistics("")[1:],
)

LOSSES = (
    Column("devices", lambda row: row["devices"], number=False),
    _WIDTH,
    Column("compensation", _name("compensation"), number=False),
    Column("from", lambda row: duration(row["first_time_s"])),
    Column("to", lambda row: duration(row["last_time_s"])),
    Column("first (%)", _plain(".2f", "first_accuracy_percent")),
    Column("last (%)", _plain(".2f", "last_accuracy_percent")),
    *_statistics("loss (points)"),
    Column("chips", _plain("d", "chips")),
    Column("verdict", lambda row: row["verdict"], number=False),
)

WEAR = (
    Column("devices", _name("kind"), number=False),
    _WIDTH,
    Column("mean device", _plain(",.1f", "mean_device_cycles")),
    Column("99 % of devices", lambda row: f"≤ {row['p99_cycles']:,.0f}"),
    *_statistics("most worn, mean", ",.1f"),
    Column("most worn of all", _plain(",d", "worst_cycles")),
    Column("of the limit", lambda row: scientific(row["fraction_of_endurance"])),
    Column(
        "trainings survived",
        lambda row: trainings(row["trainings_survived"]).removesuffix(" of"),
    ),
)
