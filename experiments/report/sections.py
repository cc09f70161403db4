"""What the page shows of a topic: verdicts, words, figures and tables."""

import base64
import dataclasses
import enum
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from experiments.drawing import (
    figure,
)
from experiments.report.estimates import (
    Estimate,
    combine,
)
from experiments.report.tables import (
    Table,
)

# Accuracies that differ by less are comparable; a loss below it is negligible (points).
COMPARABLE_POINTS = 0.5


MARKS = {"fp32": "s", "hic": "o"}


class Verdict(enum.StrEnum):
    """What the runs say about a claim."""

    SUPPORTED = "supported"
    NOT_SUPPORTED = "not supported"
    TOO_LITTLE = "too little data to tell"


def above(quantity: Estimate, threshold: float) -> Verdict:
    """Whether a quantity is above a threshold, as far as its interval tells."""
    low, high = quantity.interval or (-math.inf, math.inf)
    if low == high or low <= threshold <= high:
        return Verdict.TOO_LITTLE
    return Verdict.SUPPORTED if low > threshold else Verdict.NOT_SUPPORTED


def below(quantity: Estimate, threshold: float) -> Verdict:
    """Whether a quantity is below a threshold, as far as its interval tells."""
    return above(combine([-1.0], [quantity]), -threshold)


def in_all(verdicts: Iterable[Verdict]) -> Verdict:
    """Of a claim that must hold in every case."""
    verdicts = set(verdicts)
    for verdict in (Verdict.NOT_SUPPORTED, Verdict.TOO_LITTLE):
        if verdict in verdicts:
            return verdict
    return Verdict.SUPPORTED if verdicts else Verdict.TOO_LITTLE


@dataclasses.dataclass(frozen=True)
class Finding:
    """A claim and what the runs say about it.

    Attributes:
      verdict: of the rule.
      sentences: what was found, or what is missing.
      quantity: what the rule judges, in words; empty without one.
      estimate: of the quantity.
      unit: of the quantity.
    """

    verdict: Verdict
    sentences: tuple[str, ...]
    quantity: str = ""
    estimate: Estimate | None = None
    unit: str = "points"


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


@dataclasses.dataclass(frozen=True)
class Topic:
    """A part of the accounting on the page.

    Attributes:
      name: of its section.
      title: over it.
      paragraphs: what was found, and what the numbers mean.
      pictures: its figures.
      tables: its tables.
    """

    name: str
    title: str
    paragraphs: list[str]
    pictures: list[Picture]
    tables: list[Table]


def why_open(quantity: Estimate, threshold: str, **curves: Sequence[Any]) -> str:
    """What is missing to tell; points of ``curves`` that have one seed are named."""
    if quantity.interval is None:
        single = [
            f"{name} ×{point.width:g}"
            for name, points in curves.items()
            for point in points
            if point.accuracy.seeds < 2
        ]
        there = f", and there is one of {', '.join(single)}" if single else ""
        return f"It takes two seeds of every width{there}."
    if quantity.interval[0] == quantity.interval[1]:
        return "All seeds agree to the last digit: that tells nothing of their spread."
    return f"The 95 % interval holds {threshold}: more seeds would tell."


@contextmanager
def saved(path: Path, **size: float) -> Iterator[Axes]:
    """Axes, saved as PNG and as SVG at the end; see `experiments.drawing.figure`."""
    with figure(Path(f"{path}.png"), Path(f"{path}.svg"), **size) as (axes,):
        yield axes


def height(rows: float) -> float:
    """Inches of a figure with so many rows of words."""
    return max(1.3 + 0.22 * rows, 2.3)


def typical(cases: Sequence):
    """Of one width: 1, or else the widest."""
    return next((c for c in cases if c.width == 1), max(cases, key=lambda c: c.width))


def less(size: float, than: float) -> str:
    """How much a size is below another, in words."""
    saved = 100 * (1 - size / than)
    return f"{abs(saved):.0f}\u00a0% {'less' if saved >= 0 else 'more'}"
