"""Accuracy against inference model size: the gain at equal size, and half the size."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes

from experiments import drawing
from experiments.report import sections, tables
from experiments.report.estimates import SHARES, Estimate, combine, estimate
from experiments.report.groups import Group, Recipe
from experiments.report.sections import COMPARABLE_POINTS, Finding, Picture, Verdict
from experiments.words import kilobytes, less, signed

# Share of the baseline's size that the paper saves.
REDUCTION = 0.5


@dataclasses.dataclass(frozen=True)
class Point:
    """Runs of one recipe and one width."""

    recipe: Recipe
    width: float  # multiplier of the channels
    inference_kb: float  # inference model size, kB
    accuracy: Estimate  # test accuracy in %, over seeds
    accuracies: tuple[float, ...]  # test accuracy of each seed, %


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


def _missing(group: Group) -> str:
    """What of the pair did not run, in a sentence; empty if both did."""
    pair = (group.baseline, group.candidate)
    absent = [recipe.name for recipe in pair if not recipe.runs]
    return f"There are no {' and no '.join(absent)} runs." if absent else ""


def _why_open(quantity: Estimate, threshold: str, points: Curve) -> str:
    """What is missing to tell; of single seeds, the points that have one."""
    single = [f"{p.recipe.name} ×{p.width:g}" for p in points if p.accuracy.seeds < 2]
    return sections.why_open(quantity, threshold, single)


def _in_words(points: Curve) -> str:
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


def _strongest(
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


# ---- The gain at equal size


@dataclasses.dataclass(frozen=True)
class Gain:
    """What the candidate gains over the baseline at equal size, in points."""

    mean: Estimate  # mean over log size, where both curves are
    sizes_kb: tuple[float, ...]  # ends of this range, and what was measured in it
    at: tuple[Estimate, ...]  # the gain at each of ``sizes_kb``


def gain_at_equal_size(baseline: Curve, candidate: Curve) -> Gain | None:
    """The difference of two curves, linear in log size; None if no size is in both."""
    if not baseline or not candidate:
        return None
    low = max(baseline[0].inference_kb, candidate[0].inference_kb)
    high = min(baseline[-1].inference_kb, candidate[-1].inference_kb)
    if low > high:
        return None
    points = [*candidate, *baseline]
    sizes = sorted({p.inference_kb for p in points if low <= p.inference_kb <= high})
    weights = np.array(
        [
            [*at_size(candidate, size), *(-w for w in at_size(baseline, size))]
            for size in sizes
        ]
    )
    mean = weights[0]
    if low < high:
        mean = np.trapezoid(weights, np.log(sizes), axis=0) / np.log(high / low)
    found, *at = (combine(w, [p.accuracy for p in points]) for w in (mean, *weights))
    return Gain(found, tuple(sizes), tuple(at))


def beats_baseline(group: Group) -> Finding:
    """At comparable inference model size HIC beats the FP32 baseline.

    Rule: the gain is the mean accuracy of HIC less that of FP32 at equal inference
    model size, both interpolated linearly in the logarithm of the size and averaged
    over the range of log size that both curves cover. The claim is supported if the
    95 % interval of the gain lies above 0, and not supported if it lies below.
    """
    if missing := _missing(group):
        return sections.too_little(missing)
    pair = curve(group.baseline), curve(group.candidate)
    theirs, mine = group.baseline.name, group.candidate.name
    gain = gain_at_equal_size(*pair)
    if gain is None:
        covered = [
            " to ".join(dict.fromkeys(kilobytes(p.inference_kb) for p in (c[0], c[-1])))
            for c in pair
        ]
        return sections.too_little(
            f"The sizes do not overlap: {theirs} covers {covered[0]}, {mine} "
            f"{covered[1]}. Wider {mine} or narrower {theirs} runs would tell."
        )
    low, high = kilobytes(gain.sizes_kb[0]), kilobytes(gain.sizes_kb[-1])
    points = f"{signed(gain.mean.mean)} points"
    sentences = [
        f"Over the sizes that both cover, {low} to {high}, the gain of {mine} is "
        f"{points} on average."
        if len(gain.sizes_kb) > 1
        else f"At {low}, the one size that both cover, the gain of {mine} is {points}."
    ]
    verdict = sections.above(gain.mean, 0.0)
    if verdict is Verdict.TOO_LITTLE:
        sentences.append(_why_open(gain.mean, "0", [*pair[0], *pair[1]]))
    return Finding(
        verdict,
        tuple(sentences),
        "gain at equal size",
        gain.mean,
        beside=_at_equal_size(group),
    )


def _at_equal_size(group: Group) -> Finding | None:
    """The gain over the digital rival over which it is least; None without rivals."""
    gains = [
        (gain.mean, rival)
        for rival in digital_rivals(group)
        if (gain := gain_at_equal_size(curve(rival), curve(group.candidate)))
    ]
    return _strongest(gains, 0.0, "gain at equal size over")


def equal_size(group: Group, out: Path) -> tuple[list[Picture], list[tables.Table]]:
    """All recipes beside each other, and the gain; the figure is drawn to ``out``."""
    curves = [curve(recipe) for recipe in group.recipes]
    gain = gain_at_equal_size(curve(group.baseline), curve(group.candidate))
    path = out / f"{group.prefix}accuracy_size"
    picture = draw_curves(path, curves, gain, below=group.baseline)
    rows = [tables.row_of(point) for points in curves for point in points]
    found = [tables.Table("accuracy_size", "Accuracy by size", _POINTS, rows)]
    if gain is not None:
        gains = [*zip(gain.sizes_kb, gain.at, strict=True), (None, gain.mean)]
        rows = [{"inference_kb": size, **tables.fields_of(at)} for size, at in gains]
        caption = f"Gain of {group.candidate.name} at equal size"
        caption += ", and its mean over the range"
        found.append(tables.Table("gain", caption, _GAINS, rows))
    return [picture], found


_SIZE = tables.number("size (kB)", "inference_kb", ",.1f")
_POINTS = (
    tables.ALGORITHM,
    tables.WIDTH,
    _SIZE,
    *tables.statistics_columns("accuracy (%)"),
)
_GAINS = (
    _SIZE._replace(
        text=lambda row: "mean" if row["inference_kb"] is None else _SIZE.text(row)
    ),
    *tables.statistics_columns("gain (points)", "+.2f"),
)


def draw_curves(
    path: Path, curves: Sequence[Curve], gain: Gain | None, below: Recipe
) -> Picture:
    """Accuracy against inference model size: seeds, their mean and spread.

    The sizes of a gain are shaded; the widths of one recipe stand below its curve.
    """
    with sections.saved(path) as axes:
        if gain is not None:
            axes.axvspan(
                gain.sizes_kb[0], gain.sizes_kb[-1], color="#888888", alpha=0.12,
                linewidth=0, label="sizes that both cover",
            )  # fmt: skip
        for points in curves:
            _draw_curve(axes, points, -1 if points[0].recipe is below else 1)
        _size_axes(axes)
    return Picture(
        path,
        "Test accuracy against inference model size. "
        + " ".join(map(_in_words, curves)),
        "Means over seeds with their standard deviation; single seeds are faint, and "
        "×1 is the width.",
    )


# ---- Half the size


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
    if missing := _missing(group):
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
        sentences.append(_why_open(difference, threshold, [baseline, *points]))
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
    return _strongest(differences, -COMPARABLE_POINTS, what)


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
    return [draw_smallest(path, baseline, points)], []


def draw_smallest(path: Path, baseline: Point, points: Curve) -> Picture:
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
        _draw_curve(axes, [baseline], -1)
        _draw_curve(axes, points, 1)
        if reached is not None:
            axes.plot(
                reached.size_kb, reached.accuracy, marker="*", markersize=13,
                markeredgecolor="white", color=drawing.LIMIT, linestyle="none",
                zorder=5,
                label=drawing.literal(f"smallest comparable {mine}"),
            )  # fmt: skip
        _size_axes(axes)
    return Picture(
        path,
        f"{mine} beside the baseline. {_in_words([baseline])} {_in_words(points)}",
        f"{mine} beside the {baseline.recipe.name} baseline, which it should reach "
        "left of the dashed line: at less than half its size.",
    )


# ---- What both figures share


def _draw_curve(axes: Axes, points: Curve, side: int) -> None:
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


def _size_axes(axes: Axes) -> None:
    """Axes of accuracy against inference model size."""
    axes.set(xscale="log", xlabel="inference model size (kB)")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.margins(x=0.13, y=0.14)
    drawing.accuracy_axis(axes)
    drawing.legend_above(
        axes,
        "Mean of the seeds ± standard deviation of one; lines only join the points. "
        "×1 is the width of the network.",
    )
