"""What the page shows of a topic: a verdict or none, words, figures and tables."""

import base64
import dataclasses
import enum
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes

from experiments.drawing import figure
from experiments.report.estimates import Estimate, combine
from experiments.report.tables import Table
from experiments.words import counted, minus

# Accuracies that differ by less are comparable; a loss below it is negligible (points).
COMPARABLE_POINTS = 0.5


class Verdict(enum.StrEnum):
    """What the runs say about a claim."""

    SUPPORTED = "supported"
    NOT_SUPPORTED = "not supported"
    TOO_LITTLE = "too little data to tell"


# How a verdict looks: a class of the style sheet, and a sign beside its words.
LOOKS = {
    Verdict.SUPPORTED: ("yes", "✓"),
    Verdict.NOT_SUPPORTED: ("no", "✕"),
    Verdict.TOO_LITTLE: ("open", "?"),
}


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
    """The verdict on a claim that must hold in every case, of which there is one."""
    ranks = (Verdict.NOT_SUPPORTED, Verdict.TOO_LITTLE, Verdict.SUPPORTED)
    return min(verdicts, key=ranks.index)


def why_open(quantity: Estimate, threshold: str, single: Sequence[str] = ()) -> str:
    """What is missing to tell; ``single`` names what there is one seed of."""
    if quantity.interval is None:
        there = f", and there is one of {', '.join(single)}" if single else ""
        return f"It takes two seeds of every width{there}."
    if quantity.interval[0] == quantity.interval[1]:
        return "All seeds agree to the last digit: that tells nothing of their spread."
    return f"The 95 % interval holds {threshold}: more seeds would tell."


@dataclasses.dataclass(frozen=True)
class Finding:
    """What the runs say about a claim."""

    verdict: Verdict  # verdict of the rule
    sentences: tuple[str, ...]  # what was found, or what is missing
    quantity: str = ""  # what the rule judges, in words; empty without one
    estimate: Estimate | None = None  # estimate of the quantity
    unit: str = "points"  # unit of the quantity
    beside: "Finding | None" = None  # the same against the strongest digital rival

    @property
    def short(self) -> str:
        """What was found, in a sentence or two."""
        if self.beside is None:
            return self.sentences[0]
        return f"{self.sentences[0]} {self.beside.sentences[0]}"

    @property
    def look(self) -> tuple[str, str]:
        """Class and sign of the verdict."""
        return LOOKS[self.verdict]

    @property
    def judged(self) -> str:
        """The quantity that the verdict judges, with its statistics."""
        if self.estimate is None:
            return ""
        form = ".2f" if self.unit == "points" else ",.1f"
        parts = [f"{self.estimate.mean:{form}} {self.unit}"]
        if self.estimate.interval is not None:
            low, high = self.estimate.interval
            parts.append(f"95 % interval {low:{form}} to {high:{form}}")
            parts.append(f"standard deviation {self.estimate.std or 0.0:{form}}")
        parts.append(counted(self.estimate.seeds, "seed"))
        return f"{self.quantity}: {minus(', '.join(parts))}"


def too_little(sentence: str) -> Finding:
    """The finding on a claim that lacks what the sentence says."""
    return Finding(Verdict.TOO_LITTLE, (sentence,))


class Picture(NamedTuple):
    """A figure on the page."""

    path: Path  # path of its files, without ending
    alt: str  # what it shows, in words
    caption: str  # words under it

    @property
    def source(self) -> str:
        """The figure itself, as the address of an image."""
        svg = base64.b64encode(Path(f"{self.path}.svg").read_bytes())
        return f"data:image/svg+xml;base64,{svg.decode()}"


@contextmanager
def saved(path: Path, height: float = 3.6) -> Iterator[Axes]:
    """Axes, saved as PNG and as SVG at the end; see `experiments.drawing.figure`."""
    with figure(Path(f"{path}.png"), Path(f"{path}.svg"), height=height) as (axes,):
        yield axes


def height(rows: float) -> float:
    """Inches of a figure with so many rows of words."""
    return max(1.3 + 0.22 * rows, 2.3)


def typical(cases: Sequence[Any]) -> Any:
    """The case of width 1, or else the widest."""
    return next((c for c in cases if c.width == 1), max(cases, key=lambda c: c.width))


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a group on the page."""

    name: str
    title: str  # words over it
    pictures: list[Picture]
    tables: list[Table]
    paragraphs: Sequence[str] = ()  # what was found, and what the numbers mean


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim(Section):
    """A claim, which is its title, and what was found."""

    finding: Finding  # verdict and what was found
    rule: str  # rule of the verdict, in words
