"""Wear of seeds together: whole networks, layers and bit planes."""

import math

import numpy as np
import pytest

from experiments.report import wear
from tests.experiments.report import made
from tests.experiments.report.made import worn as _wear


def _runs(*widths):
    """Runs by (width, number of seeds), without wear."""
    return [made.run(width=w, seed=s) for w, seeds in widths for s in range(seeds)]


def _of(runs, level):
    return wear.wear(made.recipe(runs))[level]


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
    cases = {(case.kind, case.width): case for case in _of(runs, wear.WHOLE)}
    assert set(cases) == {(k, w) for k in ("multilevel", "binary") for w in (1, 2)}
    worst = cases["multilevel", 1]
    assert (worst.most.mean, worst.worst_cycles) == (20.0, 30)
    assert worst.fraction_of_endurance == pytest.approx(3e-8)
    assert worst.trainings_survived == 33_333_333
    assert cases["multilevel", 2].trainings_survived == math.inf
    assert worst.edges == ()
    assert _of(_runs((1, 1)), wear.WHOLE) == []


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
    multilevel, binary = _of(runs, wear.WHOLE)
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
    cases = _of(detailed, wear.LAYER)
    assert [(case.kind, case.part) for case in cases] == [
        (kind, part)
        for kind in ("multilevel", "binary")
        for part in ("stem", "head", "x")
    ]
    stem = cases[0]
    assert (stem.most.mean, stem.worst_cycles, stem.most.seeds) == (6.0, 7, 2)
    assert stem.endurance_cycles == 1e9
    assert stem.trainings_survived == 10**9 // 7
    assert stem.edges == (0, 1, 2, 9)
    assert stem.counts == (0, 4, 6)


def test_planes_are_of_binary_cells_only(detailed):
    low, high = _of(detailed, wear.PLANE)
    assert (low.part, low.kind, low.worst_cycles, low.counts) == (
        "bit 0", "binary", 8, (2, 0, 0),
    )  # fmt: skip
    assert (high.part, high.worst_cycles, high.counts) == ("bit 1", 12, (0, 2, 0))
    assert high.fraction_of_endurance == pytest.approx(1.2e-8)


def test_runs_that_tell_no_parts_have_none(detailed):
    assert _of(detailed[2:], wear.LAYER) == []
    assert _of(detailed[2:], wear.PLANE) == []
    assert {case.part for case in _of(detailed, wear.WHOLE)} == {wear.WHOLE}


def test_parts_are_rows_of_shares(draw):
    cases = [
        _wear("binary", 1, "bit 0", (3, 1)),
        _wear("binary", 0, "bit 1", (4, 0)),
    ]
    axes = draw(wear.draw_parts, cases, "Layers")
    (mesh,) = axes.collections
    np.testing.assert_array_equal(
        mesh.get_array().filled(0.0), [[0.75, 0.25], [1.0, 0.0]]
    )
    assert [text.get_text() for text in axes.get_yticklabels()] == ["bit 0", "bit 1"]
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert lines["most worn device"].get_xydata().tolist() == [[1, 0], [0.5, 1]]
    assert axes.get_ylim() == (1.5, -0.5)  # The first part is on top.


def test_a_layer_may_have_any_name(draw):
    cases = [_wear("binary", 1, name) for name in ("$x_$", "a$", "\\frac$^$")]
    axes = draw(wear.draw_parts, cases, "Layers")
    axes.figure.draw_without_rendering()  # Mathematics would be parsed here.
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels == [r"\$x_\$", r"a\$", r"\frac\$^\$"]


def test_kinds_of_devices_are_those_that_the_runs_tell_of(detailed, tmp_path):
    for run in detailed:
        run["wear"] = {"multilevel": run["wear"]["multilevel"]}
    levels = wear.wear(made.recipe(detailed))
    found = [(case.kind, case.width) for case in levels[wear.WHOLE]]
    assert found == [("multilevel", 1), ("multilevel", 2)]
    assert not levels[wear.LAYER] and not levels[wear.PLANE]
    assert wear.by_part(made.group(detailed), tmp_path) is None
    kind = {"leaky_cell": _kind(9), "histogram": {"edges": [0, 9], "leaky_cell": [4]}}
    layers = {"layers": {"x": {"leaky_cell": _part(9, [4])}}}
    other = made.run("volatile", wear=kind | layers)
    section = wear.by_part(made.group([*detailed, other]), tmp_path)
    assert "Leaky cell devices by layer: most in x" in section.paragraphs[0]
    (table,) = [table for table in section.tables if table.name == "wear_layers"]
    assert [(row["algorithm"], row["worst_cycles"]) for row in table.rows] == [
        ("volatile", 9)
    ]
    assert (tmp_path / "volatile_wear_leaky_cell_layers.svg").is_file()
