"""Model size: how small HIC may be, and what memory its training takes."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.drawing import COLOURS, LIMIT, legend_above
from experiments.report.accuracy import (
    Point,
    at_size,
    curve,
    draw_curve,
    in_words,
    missing,
    size_axes,
)
from experiments.report.energy import by_width
from experiments.report.estimates import Run, combine
from experiments.report.sections import (
    COMPARABLE_POINTS,
    Evidence,
    Finding,
    Picture,
    Topic,
    Verdict,
    above,
    height,
    less,
    saved,
    typical,
    why_open,
)
from experiments.report.tables import ALGORITHM, WIDTH, Column, Row, Table, plain
from experiments.words import (
    ABSENT,
    kilobytes,
)

# Share of the FP32 baseline's size that the paper saves.
REDUCTION = 0.5


@dataclasses.dataclass(frozen=True)
class Reached:
    """The smallest model whose mean accuracy reaches a target.

    Attributes:
      size_kb: its inference model size.
      accuracy: in %, that of the curve at this size.
      width: if it was measured; None if it is interpolated between two widths.
      smallest: whether it is the smallest that was measured, so that a smaller one
        might do.
    """

    size_kb: float
    accuracy: float
    width: float | None
    smallest: bool


def smallest_reaching(points: Sequence[Point], accuracy: float) -> Reached | None:
    """Where a curve first reaches an accuracy; None if nowhere."""
    for index, point in enumerate(points):
        if point.accuracy.mean < accuracy:
            continue
        if index == 0 or point.accuracy.mean == accuracy:
            mean = point.accuracy.mean
            return Reached(point.size_kb, mean, point.width, index == 0)
        before = points[index - 1]
        share = (accuracy - before.accuracy.mean) / (
            point.accuracy.mean - before.accuracy.mean
        )
        size = before.size_kb * (point.size_kb / before.size_kb) ** share
        return Reached(size, accuracy, None, False)
    return None


def baseline_of(fp32: Sequence[Point]) -> Point | None:
    """FP32 at width 1, or else the widest below; None if all are wider."""
    return max(
        (point for point in fp32 if point.width <= 1),
        key=lambda point: point.width,
        default=None,
    )


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
    if absent := missing(fp32, hic):
        return Finding(Verdict.TOO_LITTLE, (absent,))
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
            why_open(difference, f"−{COMPARABLE_POINTS:g}", FP32=[baseline], HIC=hic)
        )
    what = "half the baseline's size" if size == half else "the widest width"
    return Finding(
        verdict,
        tuple(sentences),
        f"HIC at {what}, {kilobytes(size)}, less the baseline",
        difference,
    )


def _widths(points: Sequence[Point]) -> str:
    return ", ".join(f"{point.width:g}" for point in points)


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


def half_size(
    fp32: Sequence[Point], hic: Sequence[Point], out: Path, prefix: str
) -> Evidence:
    """What stands with the claim on half the size."""
    baseline = baseline_of(fp32)
    if baseline is None or not hic:
        return [], []
    target = baseline.accuracy.mean - COMPARABLE_POINTS
    picture = Picture(
        out / f"{prefix}smallest_hic",
        f"HIC beside the baseline. {in_words('fp32', [baseline])} "
        f"{in_words('hic', hic)}",
        "HIC beside the FP32 baseline, which it should reach left of the dashed line: "
        "at less than half its size.",
    )
    reached = smallest_reaching(hic, target)
    smallest_comparable(picture.path, baseline, hic, reached)
    return [picture], []


def smallest_comparable(
    path: Path, baseline: Point, hic: Sequence[Point], reached: Reached | None
) -> None:
    """HIC beside the FP32 baseline, its accuracy and half its size.

    Args:
      path: of the figure.
      baseline: of `estimates.baseline_of`.
      hic: the curve of HIC.
      reached: the smallest HIC that is comparable with the baseline.
    """
    target = baseline.accuracy.mean
    with saved(path) as axes:
        axes.axhspan(
            target - COMPARABLE_POINTS, target + COMPARABLE_POINTS, linewidth=0,
            color=COLOURS["fp32"], alpha=0.18,
            label=f"baseline ± {COMPARABLE_POINTS:g} points",
        )  # fmt: skip
        axes.axvline(
            (1 - REDUCTION) * baseline.size_kb,
            color=LIMIT,
            linestyle="--",
            linewidth=1.2,
            label=f"{100 * REDUCTION:g} % less than the baseline",
        )
        draw_curve(axes, "fp32", [baseline])
        draw_curve(axes, "hic", hic)
        if reached is not None:
            axes.plot(
                reached.size_kb,
                reached.accuracy,
                marker="*",
                markersize=13,
                markeredgecolor="white",
                color=LIMIT,
                linestyle="none",
                label="smallest comparable HIC",
                zorder=5,
            )
        size_axes(axes)


@dataclasses.dataclass(frozen=True)
class Memory:
    """Model size of one algorithm and width; see `hic_jax.model_size`.

    Attributes:
      algorithm: that trained it.
      width: multiplier of the channels.
      analog_weights: how many.
      digital_weights: how many.
      multilevel_devices: how many.
      binary_devices: how many.
      inference_bits: of the inference model.
      fp32_bits: of the weights in training, all in floating point.
      mixed_precision_bits: of the same with a floating-point accumulator; of networks
        without devices as in floating point.
      training_bits: of the same as this algorithm holds them.
      optimizer_bits: of the optimizer's buffers, which come on top.
    """

    algorithm: str
    width: float
    analog_weights: int
    digital_weights: int
    multilevel_devices: int
    binary_devices: int
    inference_bits: int
    fp32_bits: int
    mixed_precision_bits: int
    training_bits: int
    optimizer_bits: int


_MEMORY = [field.name for field in dataclasses.fields(Memory)][2:]


def memory(runs: Sequence[Run]) -> list[Memory]:
    """Model size by algorithm and width: it is the same for all seeds."""
    return [
        Memory(algorithm, width, *(recorded[0][name] for name in _MEMORY))
        for algorithm, width, summaries in by_width(runs)
        if (recorded := [s for s in summaries if s.keys() >= set(_MEMORY)])
    ]


def model_size(runs: Sequence[Run], out: Path, prefix: str) -> Topic | None:
    """What the network takes in inference, and in training."""
    memories = memory(runs)
    if not memories:
        return None
    paragraphs, pictures = [], []
    if analog := [memory for memory in memories if memory.analog_weights]:
        one = typical(analog)
        hic, mixed, fp32 = (
            bits / 8000
            for bits in (one.training_bits, one.mixed_precision_bits, one.fp32_bits)
        )
        paragraphs.append(
            f"At width {one.width:g} the inference model takes "
            f"{one.inference_bits:,} bits, its analog weights "
            f"{one.multilevel_devices:,} multi-level devices. Training by HIC holds "
            f"the weights in {kilobytes(hic)}: {less(hic, fp32)} than FP32 "
            f"({kilobytes(fp32)}) and {less(hic, mixed)} than mixed precision with a "
            f"floating-point accumulator ({kilobytes(mixed)})."
        )
        picture = Picture(
            out / f"{prefix}training_memory",
            "Memory of the weights in training. "
            + " ".join(
                f"Width {m.width:g}: FP32 {m.fp32_bits / 8000:,.0f} kB, mixed "
                f"precision {m.mixed_precision_bits / 8000:,.0f} kB, HIC "
                f"{m.training_bits / 8000:,.0f} kB."
                for m in analog
            ),
            "The same network trained by the three schemes.",
        )
        training_memory(picture.path, analog)
        pictures.append(picture)
    paragraphs.append(
        "FP32 holds all weights at 32 bits. The two others hold digital weights at 32 "
        "bits, analog ones at the nominal bits of their multi-level devices, and an "
        "accumulator beside each of these: 32 bits in mixed precision, the word of the "
        "binary cells in HIC. Buffers of the optimizer come on top; activations and "
        "gradients are not counted."
    )
    rows = [memory_row(memory) for memory in memories]
    table = Table("memory", "Weights, devices and bits", MEMORY, rows)
    return Topic(
        "memory", "Model size and memory of training", paragraphs, pictures, [table]
    )


def training_memory(path: Path, memories: Sequence[Memory]) -> None:
    """Memory of the weights in training: all floating point, mixed precision, HIC.

    Args:
      path: of the figure.
      memories: of networks with devices, one a width.
    """
    schemes = {
        "FP32": ("fp32_bits", COLOURS["fp32"]),
        "mixed precision, FP32 accumulator": ("mixed_precision_bits", COLOURS["gdc"]),
        "HIC": ("training_bits", COLOURS["hic"]),
    }
    with saved(path, height=height(3.2 * len(memories))) as axes:
        for index, (label, (name, colour)) in enumerate(schemes.items()):
            rows = np.arange(len(memories)) + 0.27 * (index - 1)
            sizes = [getattr(memory, name) / 8000 for memory in memories]
            bars = axes.barh(rows, sizes, height=0.25, color=colour, label=label)
            axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8.5)
        axes.set_yticks(range(len(memories)), [f"×{m.width:g}" for m in memories])
        axes.invert_yaxis()
        axes.set(xlabel="memory of the weights in training (kB)", ylabel="width")
        axes.margins(x=0.12)
        axes.grid(visible=False, axis="y")
        legend_above(axes)


def memory_row(memory: Memory) -> Row:
    """Weights, devices and bits of one algorithm and width."""
    return dataclasses.asdict(memory)


def _kilobytes(name: str, devices: bool = False):
    """Bits in kB; of schemes with devices, where there are some."""

    def text(row: Row) -> str:
        absent = devices and not row["analog_weights"]
        return ABSENT if absent else f"{row[name] / 8000:,.1f}"

    return text


MEMORY = (
    ALGORITHM,
    WIDTH,
    Column("analog weights", plain(",d", "analog_weights")),
    Column("digital weights", plain(",d", "digital_weights")),
    Column("multi-level devices", plain(",d", "multilevel_devices")),
    Column("binary cells", plain(",d", "binary_devices")),
    Column("inference (bits)", plain(",d", "inference_bits")),
    Column("training: FP32 (kB)", _kilobytes("fp32_bits")),
    Column("mixed precision (kB)", _kilobytes("mixed_precision_bits", devices=True)),
    Column("HIC (kB)", _kilobytes("training_bits", devices=True)),
    Column("optimizer (kB)", _kilobytes("optimizer_bits")),
)
