"""Tables: rows of plain values for CSV, columns of text for the page.

Rows of several groups stand in one CSV file and begin with the number of their group.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from experiments.drawing import NAMES
from experiments.report.estimates import Estimate
from experiments.report.groups import Recipe, name_of
from experiments.words import ABSENT, minus

Row = dict[str, Any]


class Column(NamedTuple):
    """A column on the page."""

    title: str
    text: Callable[[Row], str]  # what stands in it, of a row
    look: str = ""  # class in the style sheet: number, prose, or none


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows, for a CSV file and for the page."""

    name: str  # name of the CSV file, without its ending
    caption: str  # what it shows
    columns: tuple[Column, ...]  # columns on the page; none if it is a CSV file only
    rows: list[Row]  # plain values, as in the CSV file
    folded: bool = False  # whether the page shows it only when asked to

    @property
    def cells(self) -> list[list[str]]:
        """What stands on the page, row by row."""
        return [[column.text(row) for column in self.columns] for row in self.rows]


def write(folder: Path, files: dict[str, list[Row]]) -> None:
    """Writes rows as CSV files, by their names without the ending."""
    for name, rows in files.items():
        # Objects stay what they are: a whole number beside an empty place, too.
        frame = pd.DataFrame(rows, dtype=object)
        frame.to_csv(folder / f"{name}.csv", index=False)


def row_of(case: Any) -> Row:
    """The plain fields of a dataclass, those of its estimates, its recipe's label.

    Other fields, which hold several values, are no part of a row.
    """
    row: Row = {}
    for name, value in vars(case).items():
        if isinstance(value, Recipe):
            row["algorithm"] = value.label
        elif isinstance(value, Estimate):
            row |= fields_of(value)
        elif value is None or isinstance(value, (str, int, float)):
            row[name] = value
    return row


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


# ---- Columns


def number(title: str, key: str, form: str | Callable[[Any], str] = "d") -> Column:
    """A column of numbers in a format, or as a function says them."""

    def text(row: Row) -> str:
        value = row[key]
        if value is None:
            return ABSENT
        return form(value) if callable(form) else minus(format(value, form))

    return Column(title, text, "number")


def word(title: str, key: str) -> Column:
    """A column of words."""
    return Column(title, lambda row: ABSENT if row[key] is None else str(row[key]))


def named(title: str, key: str) -> Column:
    """A column of names, as figures say them."""
    return Column(title, lambda row: NAMES.get(row[key], str(row[key])))


def statistics_columns(what: str, form: str = ".2f") -> tuple[Column, ...]:
    """Columns of what `fields_of` put into a row."""
    plain = form.lstrip("+")

    def interval(row: Row) -> str:
        if row["interval_low"] is None:
            return ABSENT
        return minus(f"{row['interval_low']:{plain}} to {row['interval_high']:{plain}}")

    return (
        number(what, "mean", form),
        number("std", "std", plain),
        Column("95 % interval", interval, "number"),
        number("seeds", "seeds"),
    )


WIDTH = number("width", "width", "g")
ALGORITHM = Column("algorithm", lambda row: name_of(row["algorithm"]))


def told_apart(columns: tuple[Column, ...], rows: Sequence[Row]) -> tuple[Column, ...]:
    """Columns with that of the algorithm, if the rows are of several."""
    several = len({row["algorithm"] for row in rows}) > 1
    return (ALGORITHM, *columns) if several else columns
