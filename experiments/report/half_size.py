"""The size at which the accuracy of the baseline is reached."""

import dataclasses
from pathlib import Path

from experiments import drawing
from experiments.report import sections, tables
from experiments.report.curves import (
    Curve,
    Point,
    against_strongest,
    at_size,
    curve,
    digital_rivals,
    draw_curve,
    in_words,
    missing_runs,
    size_axes,
    why_open,
)
from experiments.report.estimates import combine
from experiments.report.groups import Group
from experiments.report.sections import COMPARABLE_POINTS, Finding, Picture, Verdict
from experiments.words import kilobytes, less

# Share of the baseline's size that the paper saves.
REDUCTION = 0.5


@dataclasses.dataclass(frozen=True)
class Reached:
    """The smallest model whose mean accuracy reaches a target."""

    size_kb: float  # inference model size, kB
    accuracy: float  # accuracy of the curve at this size, %
    how: str  # whether it was measured, in words


def smallest_reaching(points: Curve, accuracy: float) -> Reached | None:
    """Where a curve first reaches an accuracy; None if nowhere."""
    for index, point in enumerate(points):
        size, mean = point.inference_kb, point.accuracy.mean
        if mean < accuracy:
            continue
        how = f"measured, width {point.width:g}"
        if index == 0:
            return Reached(size, mean, f"{how}, the smallest that was trained")
        if mean == accuracy:
            return Reached(size, mean, how)
        before = points[index - 1]
        share = (accuracy - before.accuracy.mean) / (mean - before.accuracy.mean)
        between = before.inference_kb * (size / before.inference_kb) ** share
        return Reached(between, accuracy, "interpolated between two widths")
    return None


def baseline_of(points: Curve) -> Point | None:
    """The one of width 1, or else the widest below; None if all are wider."""
    narrow = [point for point in points if point.width <= 1]
    return max(narrow, key=lambda point: point.width, default=None)


def halves_the_model(group: Group) -> Finding:
    """HIC needs about 50 % less inference model size for FP32-comparable accuracy.

    Rule: the baseline is FP32 at width 1, or the widest below it. The quantity is the
    mean accuracy of HIC at half the baseline's inference model size (interpolated
    linearly in the logarithm of the size; of the widest HIC, if that is smaller than
    half) less the mean accuracy of the baseline. The claim is supported if the 95 %
    interval of this difference lies above −0.5 points, which is what counts as
    comparable, and not supported if it lies below and no wider HIC could be tried
    within half the size.
    """
    if missing := missing_runs(group):
        return sections.too_little(missing)
    points, mine = curve(group.candidate), group.candidate.name
    baseline = baseline_of(curve(group.baseline))
    if baseline is None:
        widths = ", ".join(f"{p.width:g}" for p in curve(group.baseline))
        return sections.too_little(
            f"No {group.baseline.name} run has width 1 or less: {widths}."
        )
    sentences = _reductions(baseline, points)
    half = (1 - REDUCTION) * baseline.inference_kb
    smallest, size = points[0].inference_kb, min(half, points[-1].inference_kb)
    if smallest > half:
        sentences.append(
            f"The smallest {mine}, {kilobytes(smallest)}, is larger than half of the "
            f"baseline, {kilobytes(half)}: narrower {mine} runs would tell."
        )
        return Finding(Verdict.TOO_LITTLE, tuple(sentences))
    difference = combine(
        [*at_size(points, size), -1.0],
        [*(p.accuracy for p in points), baseline.accuracy],
    )
    verdict = sections.above(difference, -COMPARABLE_POINTS)
    if verdict is not Verdict.SUPPORTED and size < half:
        verdict = Verdict.TOO_LITTLE
        sentences.append(
            f"The widest {mine}, {kilobytes(size)}, is smaller than half of the "
            f"baseline, {kilobytes(half)}: wider {mine} runs would tell."
        )
    elif verdict is Verdict.TOO_LITTLE:
        threshold = f"−{COMPARABLE_POINTS:g}"
        sentences.append(why_open(difference, threshold, [baseline, *points]))
    what = "half the baseline's size" if size == half else "the widest width"
    quantity = f"{mine} at {what}, {kilobytes(size)}, less the baseline"
    beside = _at_one_size(group, size)
    return Finding(verdict, tuple(sentences), quantity, difference, beside=beside)


def _at_one_size(group: Group, size: float) -> Finding | None:
    """The candidate less the best digital rival of one size; None without rivals."""
    points = curve(group.candidate)
    differences = []
    for rival in digital_rivals(group):
        others = curve(rival)
        if others[0].inference_kb <= size <= others[-1].inference_kb:
            weights = [*at_size(points, size), *(-w for w in at_size(others, size))]
            both = [p.accuracy for p in (*points, *others)]
            differences.append((combine(weights, both), rival))
    what = f"{group.candidate.name} at {kilobytes(size)} less"
    return against_strongest(differences, -COMPARABLE_POINTS, what)


def _reductions(baseline: Point, points: Curve) -> list[str]:
    """The smallest that is about as accurate as the baseline, and exactly so."""
    target, size = baseline.accuracy.mean, baseline.inference_kb
    mine, theirs = points[0].recipe.name, baseline.recipe.name
    name = f"{theirs} at width {baseline.width:g} ({target:.2f} % at {kilobytes(size)})"
    sentences = []
    for accuracy, what in (
        (target - COMPARABLE_POINTS, f"comes within {COMPARABLE_POINTS:g} points of"),
        (target, "reaches"),
    ):
        if reached := smallest_reaching(points, accuracy):
            sentences.append(
                f"The smallest {mine} that {what} {name} has "
                f"{kilobytes(reached.size_kb)} ({reached.how}): "
                f"{less(reached.size_kb, size)}."
            )
        else:
            sentences.append(f"No {mine} {what} {name}.")
        name = "it"
    return sentences


def half_size(group: Group, out: Path) -> tuple[list[Picture], list[tables.Table]]:
    """The candidate beside the baseline, its accuracy and half its size."""
    points, baseline = curve(group.candidate), baseline_of(curve(group.baseline))
    if baseline is None or not points:
        return [], []
    path = out / f"{group.prefix}smallest_{group.candidate.file}"
    return [draw_smallest(path, baseline, points, group.tested_on)], []


def draw_smallest(
    path: Path, baseline: Point, points: Curve, tested_on: str
) -> Picture:
    """A curve beside the baseline, and the smallest of it that is comparable."""
    target, mine = baseline.accuracy.mean, points[0].recipe.name
    reached = smallest_reaching(points, target - COMPARABLE_POINTS)
    with sections.saved(path) as axes:
        axes.axhspan(
            target - COMPARABLE_POINTS, target + COMPARABLE_POINTS, linewidth=0,
            color=baseline.recipe.look.colour, alpha=0.18,
            label=f"baseline ± {COMPARABLE_POINTS:g} points",
        )  # fmt: skip
        axes.axvline(
            (1 - REDUCTION) * baseline.inference_kb, color=drawing.LIMIT,
            linestyle="--", linewidth=1.2,
            label=f"{100 * REDUCTION:g} % less than the baseline",
        )  # fmt: skip
        draw_curve(axes, [baseline], -1)
        draw_curve(axes, points, 1)
        if reached is not None:
            axes.plot(
                reached.size_kb, reached.accuracy, marker="*", markersize=13,
                markeredgecolor="white", color=drawing.LIMIT, linestyle="none",
                zorder=5,
                label=drawing.literal(f"smallest comparable {mine}"),
            )  # fmt: skip
        size_axes(axes, tested_on)
    return Picture(
        path,
        f"{mine} beside the baseline. {in_words([baseline])} {in_words(points)}",
        f"{mine} beside the {baseline.recipe.name} baseline, which it should reach "
        "left of the dashed line: at less than half its size.",
    )
