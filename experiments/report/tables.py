"""Tables: rows of plain values for CSV, columns of text for the page.

Rows of several groups stand in one CSV file and begin with the number of their group.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.drawing import NAMES
from experiments.report.estimates import Estimate
from experiments.report.groups import name_of
from experiments.words import ABSENT, minus

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Column:
    """A column on the page.

    Attributes:
      title: head of the column.
      text: what stands in it, of a row.
      look: class in the style sheet: number, prose, or none.
    """

    title: str
    text: Callable[[Row], str]
    look: str = "number"


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows, for a CSV file and for the page.

    Attributes:
      name: name of the CSV file, without its ending.
      caption: what it shows.
      columns: columns on the page.
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
        """This table with the number of its group in every row."""
        rows = [{"group": number} | row for row in self.rows]
        return dataclasses.replace(self, rows=rows)


def write(folder: Path, tables: Sequence[Table]) -> None:
    """Writes tables as CSV files, those of one name into one file."""
    files: dict[str, list[Row]] = {}
    for table in tables:
        files.setdefault(table.name, []).extend(table.rows)
    for name, rows in files.items():
        # Objects stay what they are: a whole number beside an empty place, too.
        frame = pd.DataFrame(rows, dtype=object)
        frame.to_csv(folder / f"{name}.csv", index=False)


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


def word(title: str, key: str) -> Column:
    """A column of words, as figures say them."""
    return Column(title, lambda row: NAMES.get(row[key], str(row[key])), look="")


def statistics_columns(what: str, form: str = ".2f") -> tuple[Column, ...]:
    """Columns of what `fields_of` put into a row."""
    return (
        Column(what, plain(form, "mean")),
        Column("std", plain(form.lstrip("+"), "std")),
        Column("95 % interval", lambda row: interval(row, form.lstrip("+"))),
        Column("seeds", plain("d", "seeds")),
    )


WIDTH = Column("width", plain("g", "width"))
ALGORITHM = Column("algorithm", lambda row: name_of(row["algorithm"]), look="")


def told_apart(columns: tuple[Column, ...], rows: Sequence[Row]) -> tuple[Column, ...]:
    """Columns with that of the algorithm, if the rows are of several."""
    several = len({row["algorithm"] for row in rows}) > 1
    return (ALGORITHM, *columns) if several else columns
