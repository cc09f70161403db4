"""The paper's four claims, each a function from runs to a verdict.

A verdict compares a quantity with a threshold. It falls where the whole 95 % interval
of the quantity lies on one side, and there is too little data to tell where the
interval holds the threshold, or where there is none: it takes two seeds, and seeds that
differ. The docstring of each claim states its rule, and the page prints it.
"""

import dataclasses
import enum
import math
from collections.abc import Callable, Iterable, Sequence

from experiments.report.estimates import (
    Ageing,
    Estimate,
    Point,
    Run,
    ageing,
    at_size,
    baseline_of,
    combine,
    curve,
    gain_at_equal_size,
    smallest_reaching,
)
from experiments.report.wear import wear
from experiments.words import (
    duration,
    kilobytes,
    minus,
    on_devices,
    scientific,
    signed,
    trainings,
)
from hic_jax.inference import TRAINED

# Accuracies that differ by less are comparable; a loss below it is negligible (points).
COMPARABLE_POINTS = 0.5

# Share of the FP32 baseline's size that the paper saves.
REDUCTION = 0.5

# Share of its endurance limit that a device may use up.
SMALL_FRACTION = 0.01


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


def beats_fp32(runs: Sequence[Run]) -> Finding:
    """At comparable inference model size HIC beats the FP32 baseline.

    Rule: the gain is the mean accuracy of HIC less that of FP32 at equal inference
    model size, both interpolated linearly in the logarithm of the size and averaged
    over the range of log size that both curves cover. The claim is supported if the
    95 % interval of the gain lies above 0, and not supported if it lies below.
    """
    fp32, hic = curve(runs, "fp32"), curve(runs, "hic")
    if missing := _missing(fp32, hic):
        return Finding(Verdict.TOO_LITTLE, (missing,))
    gain = gain_at_equal_size(fp32, hic)
    if gain is None:
        return Finding(
            Verdict.TOO_LITTLE,
            (
                f"The sizes do not overlap: FP32 covers {_range(fp32)}, HIC "
                f"{_range(hic)}. Wider HIC or narrower FP32 runs would tell.",
            ),
        )
    verdict = above(gain.mean, 0.0)
    low, high = gain.sizes_kb[0], gain.sizes_kb[-1]
    where = f"{kilobytes(low)} to {kilobytes(high)}"
    sentences = [
        f"Over the sizes that both cover, {where}, the gain of HIC is "
        f"{signed(gain.mean.mean)} points on average."
        if low < high
        else f"At {kilobytes(low)}, the one size that both cover, the gain of HIC is "
        f"{signed(gain.mean.mean)} points."
    ]
    if verdict is Verdict.TOO_LITTLE:
        sentences.append(_why_open(gain.mean, "0", FP32=fp32, HIC=hic))
    return Finding(verdict, tuple(sentences), "gain at equal size", gain.mean)


def halves_the_model(runs: Sequence[Run]) -> Finding:
    """HIC needs about 50 % less inference model size for FP32-comparable accuracy.

    Rule: the baseline is FP32 at width 1, or the widest below it. The quantity is the
    mean accuracy of HIC at half the baseline's inference model size (interpolated
    linearly in the logarithm of the size; of the widest HIC, if that is smaller than
    half) less the mean accuracy of the baseline. The claim is supported if the 95 %
    interval of this difference lies above −0.5 points, which is what counts as
    comparable, and not supported if it lies below and no wider HIC could be tried
    within half the size.
    """
    fp32, hic = curve(runs, "fp32"), curve(runs, "hic")
    if missing := _missing(fp32, hic):
        return Finding(Verdict.TOO_LITTLE, (missing,))
    baseline = baseline_of(fp32)
    if baseline is None:
        return Finding(
            Verdict.TOO_LITTLE,
            (f"No FP32 run has width 1 or less: {_widths(fp32)}.",),
        )
    sentences = _reductions(hic, baseline)
    half = (1 - REDUCTION) * baseline.size_kb
    if hic[0].size_kb > half:
        sentences.append(
            f"The smallest HIC, {kilobytes(hic[0].size_kb)}, is larger than half of "
            f"the baseline, {kilobytes(half)}: narrower HIC runs would tell."
        )
        return Finding(Verdict.TOO_LITTLE, tuple(sentences))
    size = min(half, hic[-1].size_kb)
    difference = combine(
        [*at_size(hic, size), -1.0], [*(p.accuracy for p in hic), baseline.accuracy]
    )
    verdict = above(difference, -COMPARABLE_POINTS)
    if verdict is not Verdict.SUPPORTED and size < half:
        verdict = Verdict.TOO_LITTLE
        sentences.append(
            f"The widest HIC, {kilobytes(size)}, is smaller than half of the baseline, "
            f"{kilobytes(half)}: wider HIC runs would tell."
        )
    elif verdict is Verdict.TOO_LITTLE:
        sentences.append(
            _why_open(difference, f"−{COMPARABLE_POINTS:g}", FP32=[baseline], HIC=hic)
        )
    what = "half the baseline's size" if size == half else "the widest width"
    return Finding(
        verdict,
        tuple(sentences),
        f"HIC at {what}, {kilobytes(size)}, less the baseline",
        difference,
    )


def withstands_drift(runs: Sequence[Run]) -> Finding:
    """A year of drift has a negligible effect on accuracy.

    Rule: the loss is the accuracy (mean over chips) at the first time less that at the
    last, with AdaBS (whose gains compare noisy reads), on the devices that were
    trained; on inference chips only where the trained ones were not read, as the two
    are never mixed. The first time is at
    most an hour, the last at least a year. The claim is supported if the 95 % interval
    of the loss over seeds lies below 0.5 points at every width that was read, and not
    supported if it lies above at any.
    """
    cases = [a for a in ageing(runs) if a.compensation == "adabs"]
    if not cases:
        return Finding(Verdict.TOO_LITTLE, (_why_not_read(runs),))
    if any(case.devices == TRAINED for case in cases):
        cases = [case for case in cases if case.devices == TRAINED]
    verdict = in_all(map(drift_verdict, cases))
    deciding = [case for case in cases if drift_verdict(case) is verdict]
    worst = max(deciding, key=lambda case: case.loss.mean)
    widths = len({case.width for case in deciding})
    sentences = [
        f"With AdaBS, {on_devices(worst.devices)} lose "
        f"{minus(f'{worst.loss.mean:.2f}')} points "
        f"from {duration(worst.times[0])} to {duration(worst.times[-1])} at width "
        f"{worst.width:g}" + (f", the most of {widths} widths." if widths > 1 else ".")
    ]
    for case in cases:
        if not case.spans_a_year:
            sentences.append(
                f"Width {case.width:g} was read from {duration(case.times[0])} to "
                f"{duration(case.times[-1])}, not from an hour at most to a year."
            )
    if verdict is Verdict.TOO_LITTLE and worst.spans_a_year:
        sentences.append(_why_open(worst.loss, f"{COMPARABLE_POINTS:g}"))
    return Finding(
        verdict, tuple(sentences), f"loss at width {worst.width:g}", worst.loss
    )


def _why_not_read(runs: Sequence[Run]) -> str:
    """What is missing of readings with AdaBS."""
    names = {row["compensation"] for run in runs for row in run["drift"]}
    if not names:
        return "No run was read over time (experiments.drift)."
    if any(name.startswith("adabs") for name in names):
        return (
            "The runs were read over time with AdaBS only against an ideal reference, "
            "which no chip has."
        )
    return "The runs were read over time without AdaBS."


def drift_verdict(case: Ageing) -> Verdict:
    """Of one width on one kind of devices."""
    if not case.spans_a_year:
        return Verdict.TOO_LITTLE
    return below(case.loss, COMPARABLE_POINTS)


def spares_the_devices(runs: Sequence[Run]) -> Finding:
    """Write-erase cycles are a small fraction of the endurance of PCM.

    Rule: the fraction of the endurance limit that the most worn device of all runs has
    used up in training. The claim is supported if it is below 1 % and there are at
    least two seeds of some width, so that a spread is known, and not supported if it is
    1 % or more. The limit is the one that the runs were summarised with.
    """
    hic = [run for run in runs if run["algorithm"] != "fp32"]
    cases = wear(hic)
    if not cases:
        return Finding(
            Verdict.TOO_LITTLE,
            (
                "No run tracked its wear (--track_wear)."
                if hic
                else "There are no HIC runs.",
            ),
        )
    worst = max(cases, key=lambda case: case.fraction)
    sentences = [
        f"The most worn device, a {DEVICES[worst.kind]} at width {worst.width:g}, has "
        f"seen {worst.worst:,} cycles, {scientific(worst.fraction)} of a limit of "
        f"{scientific(worst.endurance_cycles)}: it survives "
        f"{trainings(worst.trainings)} such "
        "trainings."
    ]
    verdict = Verdict.SUPPORTED
    if worst.fraction >= SMALL_FRACTION:
        verdict = Verdict.NOT_SUPPORTED
    elif max(case.most.seeds for case in cases) < 2:
        verdict = Verdict.TOO_LITTLE
        sentences.append("It takes two seeds of a width.")
    if untracked := sum(not run["wear"] for run in hic):
        sentences.append(
            f"{untracked} of {len(hic)} HIC runs did not track their wear."
        )
    return Finding(
        verdict,
        tuple(sentences),
        f"cycles of the most worn {DEVICES[worst.kind]} at width {worst.width:g}",
        worst.most,
        "cycles",
    )


CLAIMS: dict[str, Callable[[Sequence[Run]], Finding]] = {
    "equal-size": beats_fp32,
    "half-size": halves_the_model,
    "drift": withstands_drift,
    "endurance": spares_the_devices,
}

DEVICES = {"multilevel": "multi-level device", "binary": "binary cell"}


def statement(claim: Callable) -> str:
    """The claim itself: the first line of its docstring."""
    return claim.__doc__.splitlines()[0].removesuffix(".")


def rule(claim: Callable) -> str:
    """The rule of its verdict, from its docstring."""
    text = " ".join(claim.__doc__.split("Rule: ")[1].split())
    return text[0].upper() + text[1:]


def _missing(fp32: Sequence[Point], hic: Sequence[Point]) -> str:
    absent = [name for name, runs in (("FP32", fp32), ("HIC", hic)) if not runs]
    return f"There are no {' and no '.join(absent)} runs." if absent else ""


def _range(points: Sequence[Point]) -> str:
    low, high = kilobytes(points[0].size_kb), kilobytes(points[-1].size_kb)
    return low if low == high else f"{low} to {high}"


def _widths(points: Sequence[Point]) -> str:
    return ", ".join(f"{point.width:g}" for point in points)


def _why_open(quantity: Estimate, threshold: str, **curves: Sequence[Point]) -> str:
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


def _reductions(hic: Sequence[Point], baseline: Point) -> list[str]:
    """The smallest HIC that is about as accurate as the baseline, and exactly so."""
    target, size = baseline.accuracy.mean, baseline.size_kb
    name = f"FP32 at width {baseline.width:g} ({target:.2f} % at {kilobytes(size)})"
    sentences = []
    for accuracy, what in (
        (target - COMPARABLE_POINTS, f"comes within {COMPARABLE_POINTS:g} points of"),
        (target, "reaches"),
    ):
        reached = smallest_reaching(hic, accuracy)
        if reached is None:
            sentences.append(f"No HIC {what} {name}.")
        else:
            how = (
                "interpolated between two widths"
                if reached.width is None
                else f"measured, width {reached.width:g}"
            )
            if reached.smallest:
                how += ", the smallest that was trained"
            saved = 100 * (1 - reached.size_kb / size)
            sentences.append(
                f"The smallest HIC that {what} {name} has "
                f"{kilobytes(reached.size_kb)} ({how}): {abs(saved):.0f} % "
                f"{'less' if saved >= 0 else 'more'}."
            )
        name = "it"
    return sentences
