"""Tables: rows of plain values for CSV, columns of text for the page.

Rows of several groups stand in one CSV file and begin with the number of their group.
"""

import csv
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.drawing import NAMES
from experiments.report.estimates import Estimate
from experiments.words import ABSENT, minus

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Column:
    """A column on the page.

    Attributes:
      title: its head.
      text: what stands in it, of a row.
      look: its class in the style sheet: number, prose, or none.
    """

    title: str
    text: Callable[[Row], str]
    look: str = "number"


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows, for a CSV file and for the page.

    Attributes:
      name: of the CSV file, without its ending.
      caption: what it shows.
      columns: on the page.
      rows: plain values, as in the CSV file.
      folded: whether the page shows it only when asked to.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: list[Row]
    folded: bool = False

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


def fields_of(estimate: Estimate | None) -> Row:
    """Fields of an estimate."""
    low, high = (estimate and estimate.interval) or (None, None)
    return {
        "mean": estimate and estimate.mean,
        "std": estimate and estimate.std,
        "seeds": estimate and estimate.seeds,
        "interval_low": low,
        "interval_high": high,
    }


def plain(form: str, key: str) -> Callable[[Row], str]:
    """A number in this form; a dash without one."""

    def text(row: Row) -> str:
        value = row[key]
        return ABSENT if value is None else minus(format(value, form))

    return text


def interval(row: Row, form: str = ".2f") -> str:
    """The 95 % interval of a row."""
    if row["interval_low"] is None:
        return ABSENT
    low, high = row["interval_low"], row["interval_high"]
    return minus(f"{low:{form}} to {high:{form}}")


def name_of(key: str) -> Callable[[Row], str]:
    """The name of what a row is of, as figures call it."""
    return lambda row: NAMES.get(row[key], row[key])


def statistics_columns(what: str, form: str = ".2f") -> tuple[Column, ...]:
    """Columns of what `fields_of` put into a row."""
    return (
        Column(what, plain(form, "mean")),
        Column("std", plain(form.lstrip("+"), "std")),
        Column("95 % interval", lambda row: interval(row, form.lstrip("+"))),
        Column("seeds", plain("d", "seeds")),
    )


WIDTH = Column("width", plain("g", "width"))
ALGORITHM = Column("algorithm", name_of("algorithm"), look="")
