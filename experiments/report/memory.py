"""Model size: what inference takes, and what memory training takes."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from experiments.drawing import COLOURS, legend_above, literal
from experiments.report.groups import Group, Recipe
from experiments.report.sections import Picture, Section, height, saved, typical
from experiments.report.tables import ALGORITHM, WIDTH, Column, Table, number, row_of
from experiments.words import ABSENT, kilobytes, less


@dataclasses.dataclass(frozen=True)
class Memory:
    """Model size of one recipe and width; see `hic_jax.model_size`."""

    recipe: Recipe
    width: float  # multiplier of the channels
    analog_weights: int
    digital_weights: int
    multilevel_devices: int
    inference_bits: int  # memory of the inference model
    fp32_bits: int  # memory of the weights in training, all in floating point
    # The same with a floating-point accumulator; without devices as fp32_bits.
    mixed_precision_bits: int
    training_bits: int  # the same as this algorithm holds the weights
    optimizer_bits: int  # memory of the optimizer's buffers, which comes on top
    binary_devices: int | None = None  # None of an algorithm that has no binary cells


def memory(group: Group) -> list[Memory]:
    """Model size by recipe and width: it is the same for all seeds."""
    _, _, *needed, optional = [field.name for field in dataclasses.fields(Memory)]
    found = []
    for recipe in group.recipes:
        for width, seeds in recipe.by_width():
            told = [s["summary"] for s in seeds if s["summary"].keys() >= {*needed}]
            for summary in told[:1]:
                fields = {name: summary.get(name) for name in (*needed, optional)}
                found.append(Memory(recipe, width, **fields))
    return found


def model_size(group: Group, out: Path) -> Section | None:
    """What the network takes in inference, and its weights in training."""
    memories = memory(group)
    if not memories:
        return None
    paragraphs, pictures = [], []
    analog = [memory for memory in memories if memory.analog_weights]
    for recipe in dict.fromkeys(memory.recipe for memory in analog):
        one = typical([m for m in analog if m.recipe is recipe])
        mine, mixed, fp32 = one.training_bits, one.mixed_precision_bits, one.fp32_bits
        paragraphs.append(
            f"At width {one.width:g} the inference model takes "
            f"{one.inference_bits:,} bits, its analog weights "
            f"{one.multilevel_devices:,} multi-level devices. Training by "
            f"{recipe.name} holds the weights in {kilobytes(mine / 8000)}: "
            f"{less(mine, fp32)} than FP32 ({kilobytes(fp32 / 8000)}) and "
            f"{less(mine, mixed)} than mixed precision with a floating-point "
            f"accumulator ({kilobytes(mixed / 8000)})."
        )
    if analog:
        pictures.append(draw_memory(out / f"{group.prefix}training_memory", analog))
    paragraphs.append(
        "FP32 holds all weights at 32 bits. The others hold digital weights at 32 "
        "bits, analog ones at the nominal bits of their multi-level devices, and what "
        "accumulates updates beside each of these: 32 bits in mixed precision, the "
        "word of the binary cells in HIC. Buffers of the optimizer come on top; "
        "activations and gradients are not counted."
    )
    rows = list(map(row_of, memories))
    table = Table("memory", "Weights, devices and bits", _COLUMNS, rows)
    title = "Model size and memory of training"
    return Section("memory", title, pictures, [table], paragraphs)


def draw_memory(path: Path, memories: Sequence[Memory]) -> Picture:
    """Weights in training: floating point, mixed precision, each recipe on devices."""
    fp32 = ("FP32", COLOURS["fp32"])
    mixed = ("mixed precision, FP32 accumulator", COLOURS["gdc"])
    bars: dict[tuple[str, str], dict[float, float]] = {fp32: {}, mixed: {}}
    said = ["Memory of the weights in training."]
    for m in memories:
        mine = (literal(m.recipe.name), m.recipe.look.colour)
        bars[fp32][m.width] = m.fp32_bits / 8000
        bars[mixed][m.width] = m.mixed_precision_bits / 8000
        bars.setdefault(mine, {})[m.width] = m.training_bits / 8000
        said.append(
            f"Width {m.width:g}: FP32 {m.fp32_bits / 8000:,.0f} kB, mixed precision "
            f"{m.mixed_precision_bits / 8000:,.0f} kB, {m.recipe.name} "
            f"{m.training_bits / 8000:,.0f} kB."
        )
    widths = sorted({memory.width for memory in memories})
    with saved(path, height=height((len(bars) + 0.2) * len(widths))) as axes:
        for index, ((label, colour), sizes) in enumerate(bars.items()):
            shift = 0.81 / len(bars) * (index - (len(bars) - 1) / 2)
            drawn = axes.barh(
                [widths.index(width) + shift for width in sizes], list(sizes.values()),
                height=0.75 / len(bars), color=colour, label=label,
            )  # fmt: skip
            axes.bar_label(drawn, fmt="{:,.0f}", padding=3, fontsize=8.5)
        axes.set_yticks(range(len(widths)), [f"×{width:g}" for width in widths])
        axes.invert_yaxis()
        axes.set(xlabel="memory of the weights in training (kB)", ylabel="width")
        axes.margins(x=0.12)
        axes.grid(visible=False, axis="y")
        legend_above(axes)
    caption = "The same network trained by each of the schemes."
    return Picture(path, " ".join(said), caption)


def _kb(bits: int) -> str:
    return f"{bits / 8000:,.1f}"


_COLUMNS = (
    ALGORITHM,
    WIDTH,
    number("analog weights", "analog_weights", ",d"),
    number("digital weights", "digital_weights", ",d"),
    number("multi-level devices", "multilevel_devices", ",d"),
    number("binary cells", "binary_devices", ",d"),
    number("inference (bits)", "inference_bits", ",d"),
    number("training: FP32 (kB)", "fp32_bits", _kb),
    Column(
        "mixed precision (kB)",
        lambda row: (
            _kb(row["mixed_precision_bits"]) if row["analog_weights"] else ABSENT
        ),
        "number",
    ),
    number("by this algorithm (kB)", "training_bits", _kb),
    number("optimizer (kB)", "optimizer_bits", _kb),
)
