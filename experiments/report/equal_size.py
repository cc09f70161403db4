"""The gain in accuracy at equal inference model size."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.report import sections, tables
from experiments.report.curves import (
    Curve,
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
from experiments.report.estimates import Estimate, combine
from experiments.report.groups import Group
from experiments.report.sections import Finding, Picture, Verdict
from experiments.words import kilobytes, signed


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
    if missing := missing_runs(group):
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
        sentences.append(why_open(gain.mean, "0", [*pair[0], *pair[1]]))
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
    return against_strongest(gains, 0.0, "gain at equal size over")


def equal_size(group: Group, out: Path) -> tuple[list[Picture], list[tables.Table]]:
    """All recipes beside each other, and the gain; the figure is drawn to ``out``."""
    curves = [curve(recipe) for recipe in group.recipes]
    gain = gain_at_equal_size(curve(group.baseline), curve(group.candidate))
    path = out / f"{group.prefix}accuracy_size"
    picture = draw_curves(path, group, curves, gain)
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
    path: Path, group: Group, curves: Sequence[Curve], gain: Gain | None
) -> Picture:
    """Accuracy against inference model size: seeds, their mean and spread.

    The sizes of a gain are shaded; the widths of the baseline stand below its curve.
    """
    with sections.saved(path) as axes:
        if gain is not None:
            axes.axvspan(
                gain.sizes_kb[0], gain.sizes_kb[-1], color="#888888", alpha=0.12,
                linewidth=0, label="sizes that both cover",
            )  # fmt: skip
        for points in curves:
            draw_curve(axes, points, -1 if points[0].recipe is group.baseline else 1)
        size_axes(axes, group.tested_on)
    return Picture(
        path,
        f"{group.tested_on.capitalize()} accuracy against inference model size. "
        + " ".join(map(in_words, curves)),
        "Means over seeds with their standard deviation; single seeds are faint, and "
        "×1 is the width.",
    )
