"""Accuracy against inference model size: a curve for each recipe.

Both claims on size read and draw such curves.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes

from experiments import drawing
from experiments.report import sections
from experiments.report.estimates import SHARES, Estimate, estimate
from experiments.report.groups import Group, Recipe
from experiments.report.sections import Finding
from experiments.words import kilobytes, signed


@dataclasses.dataclass(frozen=True)
class Point:
    """Runs of one recipe and one width."""

    recipe: Recipe
    width: float  # multiplier of the channels
    inference_kb: float  # inference model size, kB
    accuracy: Estimate  # %, over seeds
    accuracies: tuple[float, ...]  # of each seed, %


Curve = Sequence[Point]


def curve(recipe: Recipe) -> list[Point]:
    """Accuracy against size, by size."""
    points = []
    for width, seeds in recipe.by_width():
        accuracies = tuple(run["accuracy"] for run in seeds)
        accuracy = estimate(accuracies, SHARES)
        points.append(Point(recipe, width, seeds[0]["size_kb"], accuracy, accuracies))
    return sorted(points, key=lambda point: point.inference_kb)


def at_size(points: Curve, size_kb: float) -> list[float]:
    """Weights of a curve's points in its value at a size, linear in log size."""
    logs = np.log([point.inference_kb for point in points])
    return [np.interp(np.log(size_kb), logs, row) for row in np.eye(len(points))]


def missing_runs(group: Group) -> str:
    """What of the pair did not run, in a sentence; empty if both did."""
    pair = (group.baseline, group.candidate)
    absent = [recipe.name for recipe in pair if not recipe.runs]
    return f"There are no {' and no '.join(absent)} runs." if absent else ""


def why_open(quantity: Estimate, threshold: str, points: Curve) -> str:
    """What is missing to tell; of single seeds, the points that have one."""
    single = [f"{p.recipe.name} ×{p.width:g}" for p in points if p.accuracy.seeds < 2]
    return sections.why_open(quantity, threshold, single)


def in_words(points: Curve) -> str:
    """The points of a curve."""
    values = ", ".join(
        f"{p.accuracy.mean:.1f} % at {kilobytes(p.inference_kb)}" for p in points
    )
    return f"{points[0].recipe.name}: {values}."


# ---- Digital rivals, which a claim is judged against beside its own rule


def digital_rivals(group: Group) -> list[Recipe]:
    """Digital recipes beside the pair, as int8 and int4, and the baseline with them."""
    others = [recipe for recipe in group.others if not recipe.on_devices]
    return [group.baseline, *others] if others else []


def against_strongest(
    leads: Sequence[tuple[Estimate, Recipe]],
    threshold: float,
    quantity: str,
) -> Finding | None:
    """The finding on the least of the candidate's leads over rivals, if it has any."""
    if not leads:
        return None
    lead, rival = min(leads, key=lambda pair: pair[0].mean)
    verdict = sections.above(lead, threshold)
    sentence = (
        f"Against the strongest digital rival of that size, {rival.name}, it is "
        f"{verdict}: {signed(lead.mean)} points."
    )
    return Finding(verdict, (sentence,), f"{quantity} {rival.name}", lead)


# ---- Drawn


def draw_curve(axes: Axes, points: Curve, side: int) -> None:
    """Mean and standard deviation of each width; single seeds behind them, faint.

    Widths stand above a curve that rises (side 1), or below it (side -1), beside it.
    """
    recipe = points[0].recipe
    colour, marker = recipe.look
    means = np.array([point.accuracy.mean for point in points])
    stds = np.array([point.accuracy.std or 0.0 for point in points])
    sizes = [point.inference_kb for point in points]
    for point, size, end in zip(points, sizes, means + side * stds, strict=True):
        axes.plot(
            [size] * len(point.accuracies), point.accuracies, marker, markersize=4,
            markeredgewidth=0, color=colour, alpha=0.35,
        )  # fmt: skip
        axes.annotate(
            f"×{point.width:g}", (size, end), xytext=(-4 * side, 4 * side),
            textcoords="offset points", ha="right" if side > 0 else "left",
            va="bottom" if side > 0 else "top", fontsize=9, color=colour,
        )  # fmt: skip
    drawing.measured(
        axes, recipe.label, sizes, means.tolist(), (means - stds, means + stds),
        color=colour, marker=marker, label=drawing.literal(recipe.name),
    )  # fmt: skip


def size_axes(axes: Axes, tested_on: str) -> None:
    """Axes of accuracy against inference model size."""
    axes.set(xscale="log", xlabel="inference model size (kB)")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.margins(x=0.13, y=0.14)
    drawing.accuracy_axis(axes, tested_on)
    drawing.legend_above(
        axes,
        "Mean of the seeds ± standard deviation of one; lines only join the points. "
        "×1 is the width of the network.",
    )
