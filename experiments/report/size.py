"""Model size: how small the candidate may be, and what memory training takes."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.drawing import COLOURS, LIMIT, legend_above, literal
from experiments.report.accuracy import (
    Point,
    at_size,
    curve,
    draw_curve,
    in_words,
    missing_of,
    single_seeds,
    size_axes,
)
from experiments.report.estimates import combine
from experiments.report.groups import Group, Recipe, name_of
from experiments.report.sections import (
    COMPARABLE_POINTS,
    Finding,
    Picture,
    Section,
    Verdict,
    above,
    height,
    saved,
    too_little,
    typical,
    why_open,
)
from experiments.report.tables import ALGORITHM, WIDTH, Column, Row, Table, plain
from experiments.words import ABSENT, kilobytes

# Share of the baseline's size that the paper saves.
REDUCTION = 0.5


@dataclasses.dataclass(frozen=True)
class Reached:
    """The smallest model whose mean accuracy reaches a target.

    Attributes:
      size_kb: inference model size, kB.
      accuracy: accuracy of the curve at this size, %.
      width: multiplier of the channels that was measured; None if the size is
        interpolated between two widths.
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


def baseline_of(points: Sequence[Point]) -> Point | None:
    """The one of width 1, or else the widest below; None if all are wider."""
    return max(
        (point for point in points if point.width <= 1),
        key=lambda point: point.width,
        default=None,
    )


# ---- The claim


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
    if missing := missing_of(group):
        return too_little(missing)
    points, mine = curve(group.candidate), group.candidate.name
    baseline = baseline_of(curve(group.baseline))
    if baseline is None:
        widths = ", ".join(f"{p.width:g}" for p in curve(group.baseline))
        return too_little(
            f"No {group.baseline.name} run has width 1 or less: {widths}."
        )
    sentences = _reductions(group, baseline, points)
    half = (1 - REDUCTION) * baseline.size_kb
    if points[0].size_kb > half:
        sentences.append(
            f"The smallest {mine}, {kilobytes(points[0].size_kb)}, is larger than half "
            f"of the baseline, {kilobytes(half)}: narrower {mine} runs would tell."
        )
        return Finding(Verdict.TOO_LITTLE, tuple(sentences))
    size = min(half, points[-1].size_kb)
    difference = combine(
        [*at_size(points, size), -1.0],
        [*(p.accuracy for p in points), baseline.accuracy],
    )
    verdict = above(difference, -COMPARABLE_POINTS)
    if verdict is not Verdict.SUPPORTED and size < half:
        verdict = Verdict.TOO_LITTLE
        sentences.append(
            f"The widest {mine}, {kilobytes(size)}, is smaller than half of the "
            f"baseline, {kilobytes(half)}: wider {mine} runs would tell."
        )
    elif verdict is Verdict.TOO_LITTLE:
        single = single_seeds(group, [baseline], points)
        sentences.append(why_open(difference, f"−{COMPARABLE_POINTS:g}", single))
    what = "half the baseline's size" if size == half else "the widest width"
    return Finding(
        verdict,
        tuple(sentences),
        f"{mine} at {what}, {kilobytes(size)}, less the baseline",
        difference,
    )


def _reductions(group: Group, baseline: Point, points: Sequence[Point]) -> list[str]:
    """The smallest that is about as accurate as the baseline, and exactly so."""
    target, size = baseline.accuracy.mean, baseline.size_kb
    mine, width = group.candidate.name, f"{group.baseline.name} at width"
    name = f"{width} {baseline.width:g} ({target:.2f} % at {kilobytes(size)})"
    sentences = []
    for accuracy, what in (
        (target - COMPARABLE_POINTS, f"comes within {COMPARABLE_POINTS:g} points of"),
        (target, "reaches"),
    ):
        reached = smallest_reaching(points, accuracy)
        if reached is None:
            sentences.append(f"No {mine} {what} {name}.")
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
                f"The smallest {mine} that {what} {name} has "
                f"{kilobytes(reached.size_kb)} ({how}): {abs(saved):.0f} % "
                f"{'less' if saved >= 0 else 'more'}."
            )
        name = "it"
    return sentences


def half_size(group: Group, out: Path) -> tuple[list[Picture], list[Table]]:
    """The candidate beside the baseline, its accuracy and half its size."""
    points, baseline = curve(group.candidate), baseline_of(curve(group.baseline))
    if baseline is None or not points:
        return [], []
    mine, theirs = group.candidate, group.baseline
    picture = Picture(
        out / f"{group.prefix}smallest_{mine.file}",
        f"{mine.name} beside the baseline. {in_words(theirs, [baseline])} "
        f"{in_words(mine, points)}",
        f"{mine.name} beside the {theirs.name} baseline, which it should reach left of "
        "the dashed line: at less than half its size.",
    )
    reached = smallest_reaching(points, baseline.accuracy.mean - COMPARABLE_POINTS)
    draw_smallest(picture.path, (theirs, baseline), (mine, points), reached)
    return [picture], []


def draw_smallest(
    path: Path,
    baseline: tuple[Recipe, Point],
    candidate: tuple[Recipe, Sequence[Point]],
    reached: Reached | None,
) -> None:
    """A curve beside the baseline, its accuracy and half its size.

    Args:
      path: of the figure.
      baseline: of `baseline_of`, and its recipe.
      candidate: the curve and its recipe.
      reached: the smallest of the curve that is comparable with the baseline.
    """
    (theirs, point), (mine, points) = baseline, candidate
    target = point.accuracy.mean
    with saved(path) as axes:
        axes.axhspan(
            target - COMPARABLE_POINTS, target + COMPARABLE_POINTS, linewidth=0,
            color=theirs.look.colour, alpha=0.18,
            label=f"baseline ± {COMPARABLE_POINTS:g} points",
        )  # fmt: skip
        axes.axvline(
            (1 - REDUCTION) * point.size_kb, color=LIMIT, linestyle="--", linewidth=1.2,
            label=f"{100 * REDUCTION:g} % less than the baseline",
        )  # fmt: skip
        draw_curve(axes, theirs, [point], -1)
        draw_curve(axes, mine, points, 1)
        if reached is not None:
            axes.plot(
                reached.size_kb, reached.accuracy, marker="*", markersize=13,
                markeredgecolor="white", color=LIMIT, linestyle="none", zorder=5,
                label=literal(f"smallest comparable {mine.name}"),
            )  # fmt: skip
        size_axes(axes)


# ---- Memory


@dataclasses.dataclass(frozen=True)
class Memory:
    """Model size of one recipe and width; see `hic_jax.model_size`.

    Attributes:
      algorithm: label of the recipe.
      width: multiplier of the channels.
      analog_weights: number of analog weights.
      digital_weights: number of digital weights.
      multilevel_devices: number of multi-level devices.
      inference_bits: memory of the inference model, bits.
      fp32_bits: memory of the weights in training, all in floating point, bits.
      mixed_precision_bits: memory of the weights in training with a floating-point
        accumulator, bits; of networks without devices as in floating point.
      training_bits: memory of the weights in training, as this algorithm holds them,
        bits.
      optimizer_bits: memory of the optimizer's buffers, which comes on top, bits.
      binary_devices: number of binary cells; None of an algorithm that has none.
    """

    algorithm: str
    width: float
    analog_weights: int
    digital_weights: int
    multilevel_devices: int
    inference_bits: int
    fp32_bits: int
    mixed_precision_bits: int
    training_bits: int
    optimizer_bits: int
    binary_devices: int | None = None


def memory(group: Group) -> list[Memory]:
    """Model size by recipe and width: it is the same for all seeds."""
    *needed, optional = [field.name for field in dataclasses.fields(Memory)][2:]
    found = []
    for recipe in group.recipes:
        for width, seeds in recipe.by_width():
            told = [s["summary"] for s in seeds if s["summary"].keys() >= {*needed}]
            for summary in told[:1]:
                fields = {name: summary.get(name) for name in (*needed, optional)}
                found.append(Memory(recipe.label, width, **fields))
    return found


def model_size(group: Group, out: Path) -> Section | None:
    """What the network takes in inference, and its weights in training."""
    memories = memory(group)
    if not memories:
        return None
    paragraphs, pictures = [], []
    analog = [memory for memory in memories if memory.analog_weights]
    for algorithm in dict.fromkeys(memory.algorithm for memory in analog):
        one = typical([m for m in analog if m.algorithm == algorithm])
        mine, mixed, fp32 = (
            bits / 8000
            for bits in (one.training_bits, one.mixed_precision_bits, one.fp32_bits)
        )
        paragraphs.append(
            f"At width {one.width:g} the inference model takes "
            f"{one.inference_bits:,} bits, its analog weights "
            f"{one.multilevel_devices:,} multi-level devices. Training by "
            f"{name_of(algorithm)} holds "
            f"the weights in {kilobytes(mine)}: {_less(mine, fp32)} than FP32 "
            f"({kilobytes(fp32)}) and {_less(mine, mixed)} than mixed precision with a "
            f"floating-point accumulator ({kilobytes(mixed)})."
        )
    if analog:
        picture = Picture(
            out / f"{group.prefix}training_memory",
            "Memory of the weights in training. "
            + " ".join(
                f"Width {m.width:g}: FP32 {m.fp32_bits / 8000:,.0f} kB, mixed "
                f"precision {m.mixed_precision_bits / 8000:,.0f} kB, "
                f"{name_of(m.algorithm)} {m.training_bits / 8000:,.0f} kB."
                for m in analog
            ),
            "The same network trained by each of the schemes.",
        )
        looks = {recipe.label: recipe.look.colour for recipe in group.recipes}
        draw_memory(picture.path, analog, looks)
        pictures.append(picture)
    paragraphs.append(
        "FP32 holds all weights at 32 bits. The others hold digital weights at 32 "
        "bits, analog ones at the nominal bits of their multi-level devices, and what "
        "accumulates updates beside each of these: 32 bits in mixed precision, the "
        "word of the binary cells in HIC. Buffers of the optimizer come on top; "
        "activations and gradients are not counted."
    )
    rows = [dataclasses.asdict(memory) for memory in memories]
    table = Table("memory", "Weights, devices and bits", _MEMORY, rows)
    title = "Model size and memory of training"
    return Section("memory", title, pictures, [table], paragraphs)


def draw_memory(
    path: Path, memories: Sequence[Memory], colours: dict[str, str]
) -> None:
    """Memory of the weights in training: floating point, mixed precision, each recipe.

    Args:
      path: of the figure.
      memories: of networks with devices.
      colours: of their recipes, by label.
    """
    algorithms = dict.fromkeys(memory.algorithm for memory in memories)
    schemes = [
        ("FP32", "fp32_bits", COLOURS["fp32"], memories),
        ("mixed precision, FP32 accumulator", "mixed_precision_bits", COLOURS["gdc"],
         memories),
        *(
            (literal(name_of(a)), "training_bits", colours[a],
             [m for m in memories if m.algorithm == a])
            for a in algorithms
        ),
    ]  # fmt: skip
    widths = sorted({memory.width for memory in memories})
    with saved(path, height=height((len(schemes) + 0.2) * len(widths))) as axes:
        for index, (label, name, colour, mine) in enumerate(schemes):
            sizes = {memory.width: getattr(memory, name) / 8000 for memory in mine}
            shift = 0.81 / len(schemes) * (index - (len(schemes) - 1) / 2)
            bars = axes.barh(
                [widths.index(width) + shift for width in sizes], list(sizes.values()),
                height=0.75 / len(schemes), color=colour, label=label,
            )  # fmt: skip
            axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8.5)
        axes.set_yticks(range(len(widths)), [f"×{width:g}" for width in widths])
        axes.invert_yaxis()
        axes.set(xlabel="memory of the weights in training (kB)", ylabel="width")
        axes.margins(x=0.12)
        axes.grid(visible=False, axis="y")
        legend_above(axes)


def _less(size: float, than: float) -> str:
    saved = 100 * (1 - size / than)
    return f"{abs(saved):.0f}\u00a0% {'less' if saved >= 0 else 'more'}"


def _kilobytes(name: str, devices: bool = False) -> Callable[[Row], str]:
    """Bits in kB; of schemes with devices, where there are some."""

    def text(row: Row) -> str:
        absent = devices and not row["analog_weights"]
        return ABSENT if absent else f"{row[name] / 8000:,.1f}"

    return text


_MEMORY = (
    ALGORITHM,
    WIDTH,
    Column("analog weights", plain(",d", "analog_weights")),
    Column("digital weights", plain(",d", "digital_weights")),
    Column("multi-level devices", plain(",d", "multilevel_devices")),
    Column("binary cells", plain(",d", "binary_devices")),
    Column("inference (bits)", plain(",d", "inference_bits")),
    Column("training: FP32 (kB)", _kilobytes("fp32_bits")),
    Column("mixed precision (kB)", _kilobytes("mixed_precision_bits", devices=True)),
    Column("by this algorithm (kB)", _kilobytes("training_bits")),
    Column("optimizer (kB)", _kilobytes("optimizer_bits")),
)
