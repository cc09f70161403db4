"""Wear of seeds together: whole networks, layers and bit planes."""

import math

import pytest

from experiments.report import wear as wear_lib


def _runs(*widths):
    """Runs by (width, number of seeds), without wear."""
    return [
        {"width": width, "seed": seed, "wear": None, "summary": {}}
        for width, seeds in widths
        for seed in range(seeds)
    ]


def _kind(most):
    return {
        "max": most,
        "mean": 2.0,
        "p99": 5.0,
        "endurance_cycles": 1e9,
        "fraction_of_endurance": most / 1e9,
    }


def test_wear_is_that_of_the_worst_seed():
    runs = _runs((1, 2), (2, 1))
    for run, most in zip(runs, (10, 30, 0), strict=True):
        run["wear"] = {"multilevel": _kind(most), "binary": _kind(7)}
    cases = {(case.kind, case.width): case for case in wear_lib.wear(runs)}
    assert set(cases) == {(k, w) for k in ("multilevel", "binary") for w in (1, 2)}
    worst = cases["multilevel", 1]
    assert (worst.most.mean, worst.worst) == (20.0, 30)
    assert worst.fraction == pytest.approx(3e-8)
    assert worst.trainings == 33_333_333
    assert cases["multilevel", 2].trainings == math.inf
    assert worst.edges == ()
    assert wear_lib.wear(_runs((1, 1))) == []


def test_histograms_of_seeds_add_up():
    runs = _runs((1, 2))
    histograms = (
        {"edges": [0, 1, 2], "multilevel": [4, 6], "binary": [1, 0]},
        {"edges": [0, 1, 2, 3], "multilevel": [1, 1, 8], "binary": [0, 0, 2]},
    )
    for run, histogram in zip(runs, histograms, strict=True):
        run["wear"] = {
            "multilevel": _kind(2), "binary": _kind(2), "histogram": histogram
        }  # fmt: skip
    multilevel, binary = wear_lib.wear(runs)
    assert multilevel.edges == binary.edges == (0, 1, 2, 3)
    assert multilevel.counts == (5, 7, 8)
    assert binary.counts == (1, 0, 2)


def _part(most, counts):
    fields = _kind(most) | {"histogram": counts}
    del fields["endurance_cycles"]
    return fields


@pytest.fixture
def detailed():
    """Two seeds of one width with layers and planes, and one of another without."""
    runs = _runs((1, 2), (2, 1))
    for run, most in zip(runs[:2], (4, 6), strict=True):
        layers = {
            name: {
                kind: _part(most + more, [0, 2, 3]) for kind in ("multilevel", "binary")
            }
            for name, more in (("head/kernel", 0), ("stem/kernel", 1), ("x", 2))
        }
        run["wear"] = {
            "multilevel": _kind(most),
            "binary": _kind(most),
            "histogram": {"edges": [0, 1, 2, 9]},
            "layers": layers,
            "binary_planes": [_part(8, [1, 0, 0]), _part(2 * most, [0, 1, 0])],
        }
        run["summary"] = {
            "operations": {"arrays": {"stem/kernel": 1, "head/kernel": 1}}
        }
    runs[2]["wear"] = {"multilevel": _kind(1), "binary": _kind(1)}
    return runs


def test_layers_stand_in_the_order_of_the_network(detailed):
    cases = wear_lib.wear_by_layer(detailed)
    assert [(case.kind, case.part) for case in cases] == [
        (kind, part)
        for kind in ("multilevel", "binary")
        for part in ("stem", "head", "x")
    ]
    stem = cases[0]
    assert (stem.most.mean, stem.worst, stem.most.seeds) == (6.0, 7, 2)
    assert stem.endurance_cycles == 1e9
    assert stem.trainings == 10**9 // 7
    assert stem.edges == (0, 1, 2, 9)
    assert stem.counts == (0, 4, 6)


def test_planes_are_of_binary_cells_only(detailed):
    low, high = wear_lib.wear_by_plane(detailed)
    assert (low.part, low.kind, low.worst, low.counts) == (
        "bit 0", "binary", 8, (2, 0, 0),
    )  # fmt: skip
    assert (high.part, high.worst, high.counts) == ("bit 1", 12, (0, 2, 0))
    assert high.fraction == pytest.approx(1.2e-8)


def test_runs_that_tell_no_parts_have_none(detailed):
    assert wear_lib.wear_by_layer(detailed[2:]) == []
    assert wear_lib.wear_by_plane(detailed[2:]) == []
    assert {case.part for case in wear_lib.wear(detailed)} == {wear_lib.ALL}
