"""Statistics of what runs take of their hardware: memory, operations, energy.

Pure functions on the runs of `experiments.report.estimates`, of whose ``summary`` they
read what `experiments.runs.hardware` counted. Runs that did not record it are passed
over.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from experiments.report.estimates import COUNTS, Estimate, Run, estimate
from hic_jax.accounting import EnergyTable, Operations, energy

TOTAL = "total"


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
        for algorithm, width, summaries in _by_width(runs)
        if (recorded := [s for s in summaries if s.keys() >= set(_MEMORY)])
    ]


@dataclasses.dataclass(frozen=True)
class Cost:
    """Operations and energy of one algorithm and width.

    Attributes:
      algorithm: that trained it.
      width: multiplier of the channels.
      operations: by kind, the mean over seeds.
      energy: J by kind of operation, the mean over seeds. An estimate.
      total: energy of all kinds in J, over seeds.
    """

    algorithm: str
    width: float
    operations: dict[str, float]
    energy: dict[str, float]
    total: Estimate


def costs(runs: Sequence[Run], what: str, table: EnergyTable) -> list[Cost]:
    """What operations take, by the same table for all runs.

    Args:
      runs: those that counted nothing are passed over.
      what: an ``"inference"`` of one image, or the whole ``"training"``.
      table: energy of each operation.
    """
    found = []
    for algorithm, width, summaries in _by_width(runs):
        stored = [(summary.get("operations") or {}).get(what) for summary in summaries]
        counts = [counted for counted in stored if _are_fields(counted, Operations)]
        if counts:
            seeds = [energy(Operations(**counted), table) for counted in counts]
            joules = _mean(seeds)
            del joules[TOTAL]
            total = estimate([seed[TOTAL] for seed in seeds], COUNTS)
            found.append(Cost(algorithm, width, _mean(counts), joules, total))
    return found


def kinds(parts: Sequence[dict[str, float]]) -> list[str]:
    """Kinds of operation of which any has some."""
    return [name for name in parts[0] if any(part[name] for part in parts)]


def common_energy_table(runs: Sequence[Run]) -> EnergyTable | None:
    """The table that all runs with energies were summarised with; None without one."""
    energies = [energy for run in runs if (energy := run["summary"].get("energy"))]
    tables = [energy.get("table") for energy in energies]
    if not tables or not all(_are_fields(table, EnergyTable) for table in tables):
        return None
    first, *others = {EnergyTable(**table) for table in tables}
    return None if others else first


def _are_fields(stored: dict[str, float] | None, cls: type) -> bool:
    """Whether something was stored, and not by a version with other fields."""
    fields = {field.name for field in dataclasses.fields(cls)}
    return stored is not None and set(stored) == fields


def _by_width(
    runs: Sequence[Run],
) -> Iterator[tuple[str, float, list[dict[str, Any]]]]:
    """Algorithm, width and the summaries of their seeds; FP32 first, by width."""
    summaries: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for run in runs:
        case = (run["algorithm"], run["width"])
        summaries.setdefault(case, []).append(run["summary"])
    for (algorithm, width), mine in sorted(summaries.items()):
        yield algorithm, width, mine


def _mean(seeds: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([s[name] for s in seeds])) for name in seeds[0]}
