"""What the hardware takes, after the claims: memory, operations and energy, wear."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from experiments.drawing import NAMES
from experiments.report import accounting_figures, accounting_tables, costs
from experiments.report.costs import Cost
from experiments.report.estimates import Run
from experiments.report.evidence import Picture
from experiments.report.tables import Table
from experiments.report.wear import Wear, wear, wear_by_layer, wear_by_plane
from experiments.words import counted, kilobytes, scientific, si
from hic_jax.accounting import EnergyTable


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


def account(
    runs: Sequence[Run], out: Path, prefix: str, energy_table: EnergyTable | None = None
) -> list[Topic]:
    """What the runs recorded; figures go to ``out`` under names of a prefix.

    Args:
      runs: of one group.
      out: folder of the figures.
      prefix: of their names.
      energy_table: energy of each operation; None for what the runs were summarised
        with.
    """
    topics = (
        _memory(runs, out, prefix),
        _energy(runs, out, prefix, energy_table),
        _wear(runs, out, prefix),
    )
    return [topic for topic in topics if topic]


def _memory(runs: Sequence[Run], out: Path, prefix: str) -> Topic | None:
    memories = costs.memory(runs)
    if not memories:
        return None
    paragraphs, pictures = [], []
    if analog := [memory for memory in memories if memory.analog_weights]:
        one = _typical(analog)
        hic, mixed, fp32 = (
            bits / 8000
            for bits in (one.training_bits, one.mixed_precision_bits, one.fp32_bits)
        )
        paragraphs.append(
            f"At width {one.width:g} the inference model takes "
            f"{one.inference_bits:,} bits, its analog weights "
            f"{one.multilevel_devices:,} multi-level devices. Training by HIC holds "
            f"the weights in {kilobytes(hic)}: {_less(hic, fp32)} than FP32 "
            f"({kilobytes(fp32)}) and {_less(hic, mixed)} than mixed precision with a "
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
        accounting_figures.training_memory(picture.path, analog)
        pictures.append(picture)
    paragraphs.append(
        "FP32 holds all weights at 32 bits. The two others hold digital weights at 32 "
        "bits, analog ones at the nominal bits of their multi-level devices, and an "
        "accumulator beside each of these: 32 bits in mixed precision, the word of the "
        "binary cells in HIC. Buffers of the optimizer come on top; activations and "
        "gradients are not counted."
    )
    rows = [accounting_tables.memory_row(memory) for memory in memories]
    table = Table("memory", "Weights, devices and bits", accounting_tables.MEMORY, rows)
    return Topic(
        "memory", "Model size and memory of training", paragraphs, pictures, [table]
    )


def _energy(
    runs: Sequence[Run], out: Path, prefix: str, given: EnergyTable | None
) -> Topic | None:
    table = given or costs.common_energy_table(runs)
    mixed = (
        "The runs were not all summarised with one table that this version knows; here "
        "all have its own, unless --energy_table names another. "
        if table is None
        else ""
    )
    table = table or EnergyTable()
    found = {what: costs.costs(runs, what, table) for what in ("inference", "training")}
    if not any(found.values()):
        return None
    names = {"inference": "An inference of one image", "training": "A training"}
    pictures, counts, joules = [], [], []
    for what, cases in found.items():
        if not cases:
            continue
        picture = Picture(
            out / f"{prefix}energy_{what}",
            f"Energy by kind of operation. {_takes(names[what], cases)}",
            f"{names[what]}: each kind of operation, and all. Of marks in one row, the "
            "narrower network is on the left.",
        )
        label = "J per image" if what == "inference" else "J, the whole training"
        accounting_figures.energy_by_kind(
            picture.path, cases, f"estimated energy ({label})"
        )
        pictures.append(picture)
        counted_kinds = costs.kinds([cost.operations for cost in cases])
        counts.append(
            Table(
                f"operations_{what}",
                f"Operations, {what} (means over seeds)",
                accounting_tables.operations_columns(counted_kinds),
                [accounting_tables.operations_row(cost) for cost in cases],
            )
        )
        joules.append(
            Table(
                f"energy_{what}",
                f"Estimated energy, {what} (means over seeds)",
                accounting_tables.energy_columns(
                    costs.kinds([cost.energy for cost in cases])
                ),
                [accounting_tables.energy_row(cost) for cost in cases],
            )
        )
    paragraphs = [
        " ".join(_takes(names[what], cases) for what, cases in found.items() if cases),
        f"{mixed}Every energy is an estimate: counted operations times the energy of "
        "each in the last table here. Not counted are activations, normalisation, the "
        "optimizer's arithmetic, digital sums over tiles, and the movement of data. A "
        "MAC is a multiply-accumulate.",
        accounting_tables.energy_table_remark(),
    ]
    energies = Table(
        "energy_table",
        "Energy of each operation, and where it comes from",
        accounting_tables.ENERGY_TABLE,
        accounting_tables.energy_table_rows(table),
        folded=True,
    )
    return Topic(
        "energy", "Operations and energy", paragraphs, pictures,
        [*joules, *counts, energies],
    )  # fmt: skip


def _wear(runs: Sequence[Run], out: Path, prefix: str) -> Topic | None:
    layers, planes = wear_by_layer(runs), wear_by_plane(runs)
    if not layers:
        return None
    width = max(layers, key=lambda case: case.fraction).width
    parts = {
        "multilevel_layers": (layers, "multilevel", "Multi-level devices by layer"),
        "binary_layers": (layers, "binary", "Binary cells by layer"),
        "binary_planes": (planes, "binary", "Binary cells by bit of their word"),
    }
    paragraphs, pictures = [], []
    for name, (cases, kind, title) in parts.items():
        mine = [case for case in cases if (case.kind, case.width) == (kind, width)]
        if not mine:
            continue
        worst = max(mine, key=lambda case: case.worst)
        most = (
            f"most in {worst.part}, where one has seen "
            f"{counted(worst.worst, 'cycle')}, {scientific(worst.fraction)} of its "
            "limit"
        )
        paragraphs.append(f"{title}: {most}.")
        if mine[0].edges:
            picture = Picture(
                out / f"{prefix}wear_{name}",
                f"Histogram of write-erase cycles. {title}, width {width:g}: {most}.",
                f"{title}, width {width:g}: share of the devices of all seeds.",
            )
            accounting_figures.cycles_by_part(picture.path, mine)
            pictures.append(picture)
    paragraphs = [
        f"At width {width:g}, which wears its devices most. " + " ".join(paragraphs),
        "Bit 0 is the least significant. The tables have all widths.",
    ]
    return Topic(
        "wear", "Wear by layer and bit plane", paragraphs, pictures,
        _wear_tables(wear(runs), layers, planes),
    )  # fmt: skip


def _wear_tables(
    whole: Sequence[Wear], layers: Sequence[Wear], planes: Sequence[Wear]
) -> list[Table]:
    """Cycles of the parts, and the histograms of these and of the whole."""
    found = [
        Table(
            name,
            f"Write-erase cycles by {part}",
            accounting_tables.PART_WEAR,
            [accounting_tables.wear_row(case) for case in cases],
            folded=True,
        )
        for name, part, cases in (
            ("wear_planes", "bit plane", planes),
            ("wear_layers", "layer", layers),
        )
    ]
    cases = (*whole, *layers, *planes)
    bins = [row for case in cases for row in accounting_tables.histogram_rows(case)]
    found.append(Table("wear_histograms", "", (), bins))
    return [table for table in found if table.rows]


def _typical(cases: Sequence):
    """Of one width: 1, or else the widest."""
    return next((c for c in cases if c.width == 1), max(cases, key=lambda c: c.width))


def _less(size: float, than: float) -> str:
    saved = 100 * (1 - size / than)
    return f"{abs(saved):.0f}\u00a0% {'less' if saved >= 0 else 'more'}"


def _takes(what: str, cases: Sequence[Cost]) -> str:
    """The energy of one width, by algorithm."""
    width = _typical(cases).width
    same = [cost for cost in cases if cost.width == width]
    energies = " and ".join(
        f"{si(cost.total.mean, 'J')} by {NAMES[cost.algorithm]}" for cost in same
    )
    return f"{what} takes an estimated {energies} at width {width:g}."
