"""Rows and columns of the tables of what the hardware takes: memory, energy, wear."""

import dataclasses
import inspect
import re

from experiments.report.costs import Cost, Memory
from experiments.report.tables import (
    ALGORITHM,
    WIDTH,
    Column,
    Row,
    name_of,
    plain,
    statistics,
    statistics_columns,
)
from experiments.report.wear import Wear
from experiments.words import ABSENT, scientific, si, trainings
from hic_jax.accounting import EnergyTable

# Kinds of `hic_jax.accounting.Operations`, as figures and tables call them.
OPERATIONS = {
    "analog_macs": "MACs in arrays",
    "digital_macs": "digital MACs",
    "gradient_macs": "MACs of gradients",
    "dac_conversions": "DAC conversions",
    "adc_conversions": "ADC conversions",
    "product_reads": "device reads in MACs",
    "multilevel_reads": "multi-level reads",
    "multilevel_sets": "multi-level SETs",
    "multilevel_resets": "multi-level RESETs",
    "binary_reads": "binary reads",
    "binary_sets": "binary SETs",
    "binary_resets": "binary RESETs",
}

# ---- Wear


def wear_row(case: Wear) -> Row:
    """Write-erase cycles; the estimate is of each seed's most worn device."""
    return {
        "kind": case.kind,
        "width": case.width,
        "part": case.part,
        "mean_device_cycles": case.mean,
        "p99_cycles": case.p99,
        "worst_cycles": case.worst,
        **statistics(case.most),
        "endurance_cycles": case.endurance_cycles,
        "fraction_of_endurance": case.fraction,
        "trainings_survived": case.trainings,
    }


def histogram_rows(case: Wear) -> list[Row]:
    """Devices of all seeds by cycles, the upper end of each bin excluded."""
    bins = zip(case.edges[:-1], case.edges[1:], case.counts, strict=True)
    return [
        {
            "kind": case.kind,
            "width": case.width,
            "part": case.part,
            "cycles_from": low,
            "cycles_to": high,
            "devices": devices,
        }
        for low, high, devices in bins
    ]


WEAR = (
    Column("devices", name_of("kind"), look=""),
    WIDTH,
    Column("mean device", plain(",.1f", "mean_device_cycles")),
    Column("99 % of devices", lambda row: f"≤ {row['p99_cycles']:,.0f}"),
    *statistics_columns("most worn, mean", ",.1f"),
    Column("most worn of all", plain(",d", "worst_cycles")),
    Column("of the limit", lambda row: scientific(row["fraction_of_endurance"])),
    Column(
        "trainings survived",
        lambda row: trainings(row["trainings_survived"]).removesuffix(" of"),
    ),
)
PART_WEAR = (WEAR[0], Column("part", lambda row: row["part"], look=""), *WEAR[1:])

# ---- Memory


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

# ---- Operations and energy


def operations_row(cost: Cost) -> Row:
    """Numbers of operations by kind, means over seeds."""
    return {
        "algorithm": cost.algorithm,
        "width": cost.width,
        "seeds": cost.total.seeds,
        **cost.operations,
    }


def energy_row(cost: Cost) -> Row:
    """Energy by kind of operation, means over seeds; the estimate is of the total."""
    energies = {f"{name}_j": joules for name, joules in cost.energy.items()}
    return {
        "algorithm": cost.algorithm,
        "width": cost.width,
        **energies,
        **statistics(cost.total),
    }


def operations_columns(kinds: list[str]) -> tuple[Column, ...]:
    """Of the kinds that there are."""
    counts = (Column(OPERATIONS[kind], _si(kind)) for kind in kinds)
    return (ALGORITHM, WIDTH, *counts)


def energy_columns(kinds: list[str]) -> tuple[Column, ...]:
    """Of the kinds that there are."""
    joules = (Column(OPERATIONS[kind], _si(f"{kind}_j", "J")) for kind in kinds)
    return (
        ALGORITHM,
        WIDTH,
        *joules,
        Column("total", _si("mean", "J")),
        Column("std", _si("std", "J")),
        Column("seeds", plain("d", "seeds")),
    )


def _si(key: str, unit: str = ""):
    return lambda row: si(row[key], unit) if row[key] else ABSENT


def energy_table_rows(table: EnergyTable) -> list[Row]:
    """The energy of each operation, and where it comes from."""
    defaults, sources = EnergyTable(), _attributes(EnergyTable)
    return [
        {
            "field": name,
            "pj": f"{value:g}",
            "source": sources[name]
            if value == getattr(defaults, name)
            else "given, not the default of this version",
        }
        for name, value in vars(table).items()
    ]


def energy_table_remark() -> str:
    """What the library says of its own table."""
    return " ".join(inspect.getdoc(EnergyTable).split("\n\n")[1].split())


def _attributes(cls: type) -> dict[str, str]:
    """What the docstring of a class says of each of its attributes."""
    text = inspect.getdoc(cls).split("Attributes:\n")[1]
    entries = re.findall(r"^  (\w+): (.*?)(?=^  \w+: |\Z)", text, re.M | re.S)
    return {name: " ".join(meaning.split()) for name, meaning in entries}


ENERGY_TABLE = (
    Column("energy", lambda row: row["field"], look=""),
    Column("pJ", lambda row: row["pj"]),
    Column("what it is, and its source", lambda row: row["source"], look="prose"),
)
