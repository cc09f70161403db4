"""Write-erase cycles of the devices, against what they endure."""

from typing import Any

import numpy as np

from hic_jax import checks
from hic_jax.accounting.tensors import analog_tensors
from hic_jax.weights import Pulses

# Write-erase cycles that a product-class PCM cell endures: J. Nanomaterials 2013,
# 195325, Table 4. Records are 2e12 (Kim et al., IEDM 2016), tutorials say 1e6 to 1e8.
ENDURANCE_CYCLES = 1e9


def endurance(
    weights: Any, *, endurance_cycles: float = ENDURANCE_CYCLES
) -> dict[str, Any]:
    """Write-erase cycles that the devices have seen.

    A cycle is a SET and a RESET; a device whose pulses are uneven is charged the
    larger number of the two, so that a multi-level device pays a whole cycle for every
    partial SET. Of two-sided devices it is an up and a down pulse, each a partial one.
    The writing of the initial weights counts. (The counters of multi-level devices stop
    at 65,535, those of binary cells at 2^counter_bits - 1 RESETs.)

    Args:
      weights: pytree of weights on devices.
      endurance_cycles: the limit that ``fraction_of_endurance`` refers to.

    Returns:
      A dict of numbers and lists, as JSON holds them:
        multilevel, binary: ``max``, ``mean``, ``p99`` cycles per device, ``sets`` and
          ``resets`` (all devices together), ``endurance_cycles`` and
          ``fraction_of_endurance``, that of the most worn device;
        trainings: for both kinds, how many trainings like this one, this one included,
          the most worn device survives; None if no device has seen a cycle;
        histogram: ``edges`` in cycles, and for both kinds the number of devices
          between each two of them, the upper one excluded;
        binary_planes: of the cells that hold a bit of the words, least significant
          first: the fields of a kind, ``trainings``, and a ``histogram`` between the
          same edges;
        layers: of each tensor, by its path: the same for both kinds;
        full_counters: how many counters have stopped, so that their devices have seen
          as many cycles at least.

    Raises:
      ValueError: if wear was not tracked, or nothing is analog.
    """
    checks.above("endurance_cycles", endurance_cycles, 0.0)
    tensors = _pulses_by_tensor(weights)
    kinds = _by_kind(tensors)
    edges = _edges(max(int(_cycles(p).max(initial=0)) for p in kinds.values()))
    summaries = {kind: _summary(p, endurance_cycles) for kind, p in kinds.items()}

    def part(pulses: Pulses) -> dict[str, Any]:
        fields = _summary(pulses, endurance_cycles)
        del fields["endurance_cycles"]
        return fields | {
            "trainings": _trainings(fields["max"], endurance_cycles),
            "histogram": _histogram(pulses, edges),
        }

    none = (np.empty((0, 0), int),) * 2
    return {
        **summaries,
        "trainings": {
            kind: _trainings(fields["max"], endurance_cycles)
            for kind, fields in summaries.items()
        },
        "histogram": {"edges": edges}
        | {kind: _histogram(pulses, edges) for kind, pulses in kinds.items()},
        "binary_planes": [
            part(plane)
            for plane in _planes([p.get("binary", none) for p in tensors.values()])
        ],
        "layers": {
            name: {kind: part(p) for kind, p in pulses.items()}
            for name, pulses in tensors.items()
        },
        "full_counters": sum(
            int(weight.full_counters()) for weight in analog_tensors(weights).values()
        ),
    }


def device_pulses(weights: Any) -> dict[str, Pulses]:
    """SETs and RESETs of every device.

    Args:
      weights: pytree of weights on devices with wear tracked.

    Returns:
      For every kind, as "multilevel" and "binary", two arrays (SETs, RESETs) with an
      entry per device.
    """
    return _by_kind(_pulses_by_tensor(weights))


def _by_kind(tensors: dict[str, dict[str, Pulses]]) -> dict[str, Pulses]:
    """Those of all tensors, by the kinds that there are."""
    kinds = {kind: None for pulses in tensors.values() for kind in pulses}
    return {
        kind: _joined([pulses[kind] for pulses in tensors.values() if kind in pulses])
        for kind in kinds
    }


def _pulses_by_tensor(weights: Any) -> dict[str, dict[str, Pulses]]:
    """For every tensor and kind, pulses of shape (d, n) or (bits, n)."""
    tensors = analog_tensors(weights)
    if not tensors:
        raise ValueError("weights hold no analog weight: there is no wear to count")
    return {name: weight.pulses() for name, weight in tensors.items()}


def _joined(pulses: list[Pulses]) -> Pulses:
    """Those of several groups of devices, flat."""
    sets = np.concatenate([np.ravel(sets) for sets, _ in pulses])
    return sets, np.concatenate([np.ravel(resets) for _, resets in pulses])


def _planes(cells: list[Pulses]) -> list[Pulses]:
    """Bit by bit; where words differ in width, the longer ones have the last bits."""
    bits = max((len(sets) for sets, _ in cells), default=0)
    return [
        _joined([(s[k], r[k]) for s, r in cells if k < len(s)]) for k in range(bits)
    ]


def _cycles(pulses: Pulses) -> np.ndarray:
    return np.maximum(*pulses)


def _summary(pulses: Pulses, endurance_cycles: float) -> dict[str, float]:
    sets, resets = pulses
    cycles = _cycles(pulses)
    return {
        "max": int(cycles.max(initial=0)),
        "mean": float(cycles.mean()) if cycles.size else 0.0,
        "p99": float(np.percentile(cycles, 99)) if cycles.size else 0.0,
        "sets": int(sets.sum(dtype=np.int64)),
        "resets": int(resets.sum(dtype=np.int64)),
        "endurance_cycles": endurance_cycles,
        "fraction_of_endurance": float(cycles.max(initial=0) / endurance_cycles),
    }


def _trainings(most_cycles: float, endurance_cycles: float) -> int | None:
    return int(endurance_cycles // most_cycles) if most_cycles else None


def _edges(largest: int) -> list[int]:
    """Whole numbers in steps of half an octave, to above ``largest``.

    0, 1, 2, 3, 4, 6, 8, 12, 16, ...: all runs share them, as far as they go.
    """
    edges = [0, 1, 2, 3]
    while edges[-1] <= largest:
        edges.append(2 * edges[-2])
    return edges


def _histogram(pulses: Pulses, edges: list[int]) -> list[int]:
    # Whole numbers are counted one by one: np.histogram would sort millions of devices.
    devices = np.bincount(_cycles(pulses).ravel(), minlength=edges[-1])
    return np.add.reduceat(devices, edges[:-1]).tolist()
