"""Statistics of write-erase cycles: by kind of device, by layer, by bit plane.

Pure functions on the runs of `experiments.report.estimates`, whose ``wear`` is that of
`hic_jax.endurance`.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from experiments.report.estimates import COUNTS, Estimate, Run, estimate

KINDS = ("multilevel", "binary")
ALL = "all"


@dataclasses.dataclass(frozen=True)
class Wear:
    """Write-erase cycles of some devices of one width.

    Attributes:
      kind: multilevel or binary.
      width: multiplier of the channels.
      most: cycles of each seed's most worn device, over seeds.
      mean: cycles of the mean device, the mean over seeds.
      p99: the 99th percentile of the devices, the mean over seeds.
      worst: cycles of the most worn device of all seeds.
      endurance_cycles: the limit; the lowest, if the runs were summarised with several.
      fraction: of its limit that the most worn device of all seeds has used up.
      trainings: like this one that this device survives; infinite if it saw no cycle.
      edges: of a histogram in cycles; empty where a seed has none.
      counts: devices of all seeds between each two edges.
      part: of the network: a layer, a bit plane, or all of it.
    """

    kind: str
    width: float
    most: Estimate
    mean: float
    p99: float
    worst: int
    endurance_cycles: float
    fraction: float
    trainings: float
    edges: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    part: str = ALL


# The fields of one seed, by part of the network.
Parts = dict[str, dict[str, Any]]


def wear(runs: Sequence[Run]) -> list[Wear]:
    """Wear by kind of device and width, of runs that tracked it."""
    return list(_by_part(runs, _whole))


def wear_by_layer(runs: Sequence[Run]) -> list[Wear]:
    """The same of each layer, in the order of the network."""
    return list(_by_part(runs, _layers))


def wear_by_plane(runs: Sequence[Run]) -> list[Wear]:
    """The same of the binary cells that hold each bit, the least significant first."""
    return list(_by_part(runs, _planes))


def _by_part(runs: Sequence[Run], parts: Callable[[Run, str], Parts]) -> Iterator[Wear]:
    for kind in KINDS:
        widths: dict[float, list[Run]] = {}
        for run in runs:
            if run["wear"]:
                widths.setdefault(run["width"], []).append(run)
        for width, mine in sorted(widths.items()):
            seeds = [parts(run, kind) for run in mine]
            for name in dict.fromkeys(name for seed in seeds for name in seed):
                of_seeds = [seed[name] for seed in seeds if name in seed]
                yield _wear(kind, width, name, of_seeds)


def _whole(run: Run, kind: str) -> Parts:
    histogram = run["wear"].get("histogram", {})
    return {ALL: _seed(run, kind, run["wear"][kind], histogram.get(kind))}


def _layers(run: Run, kind: str) -> Parts:
    layers = run["wear"].get("layers", {})
    arrays = (run["summary"].get("operations") or {}).get("arrays", {})
    # The network names its layers in order; the devices are stored by name.
    names = sorted(layers, key=[*arrays, *layers].index)
    return {
        name.removesuffix("/kernel"): _seed(run, kind, fields, fields["histogram"])
        for name in names
        for fields in [layers[name][kind]]
    }


def _planes(run: Run, kind: str) -> Parts:
    planes = run["wear"].get("binary_planes", ()) if kind == "binary" else ()
    return {
        f"bit {bit}": _seed(run, kind, fields, fields["histogram"])
        for bit, fields in enumerate(planes)
    }


def _seed(
    run: Run, kind: str, fields: dict[str, Any], counts: list[int] | None
) -> dict[str, Any]:
    wear = run["wear"]
    return fields | {
        "endurance_cycles": wear[kind]["endurance_cycles"],
        "edges": wear["histogram"]["edges"] if counts else [],
        "counts": counts,
    }


def _wear(kind: str, width: float, part: str, seeds: Sequence[dict[str, Any]]) -> Wear:
    return Wear(
        kind,
        width,
        estimate([seed["max"] for seed in seeds], COUNTS),
        float(np.mean([seed["mean"] for seed in seeds])),
        float(np.mean([seed["p99"] for seed in seeds])),
        max(seed["max"] for seed in seeds),
        min(seed["endurance_cycles"] for seed in seeds),
        max(seed["fraction_of_endurance"] for seed in seeds),
        min(
            int(seed["endurance_cycles"] // seed["max"]) if seed["max"] else math.inf
            for seed in seeds
        ),
        *_histogram(seeds),
        part,
    )


def _histogram(
    seeds: Sequence[dict[str, Any]],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Edges and the devices of all seeds; the edges of one seed begin another's."""
    edges = max((seed["edges"] for seed in seeds), key=len)
    counts = np.zeros(max(len(edges) - 1, 0), int)
    for seed in seeds:
        if not seed["edges"] or seed["edges"] != edges[: len(seed["edges"])]:
            return (), ()
        counts[: len(seed["counts"])] += seed["counts"]
    return tuple(edges), tuple(counts.tolist())
