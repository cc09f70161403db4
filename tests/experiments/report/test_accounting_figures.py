"""Figures of wear, memory and energy show what was counted."""

import numpy as np

from experiments.report import energy, size, wear
from experiments.report.energy import Cost
from experiments.report.estimates import estimate
from experiments.report.size import Memory
from experiments.report.wear import Wear


def _wear(kind, worst, part="all", counts=(3, 4)):
    return Wear(
        kind, 1.0, estimate([worst]), 1.0, 2.0, worst, 1e9, worst / 1e9, 1.0,
        (0, 1, 2), counts, part,
    )  # fmt: skip


def test_cycles_stand_beside_the_limit(draw):
    cases = [_wear("multilevel", 50), _wear("binary", 0)]
    axes = draw(wear.cycles_against_endurance, cases)
    assert [bar.get_width() for bar in axes.patches] == [50, 0.5]
    texts = [text.get_text() for text in axes.texts]
    assert texts[0] == "50: 5.0\xa0×\xa010⁻⁸ of the limit"
    assert texts[-1] == "endurance limit 10⁹"
    assert axes.get_xscale() == "log"
    assert axes.get_xlim()[1] > 1e9


def test_devices_that_were_never_written_are_in_the_histogram(draw):
    axes = draw(
        wear.cycles_of_devices,
        [_wear("multilevel", 1), _wear("binary", 1)],
    )
    for stairs in axes.patches:
        counts, edges, _ = stairs.get_data()
        np.testing.assert_array_equal(counts, (3, 4))
        np.testing.assert_array_equal(edges, (0.5, 1, 2))
    assert axes.get_ylabel() == "devices"


def test_parts_are_rows_of_shares(draw):
    cases = [
        _wear("binary", 1, "bit 0", (3, 1)),
        _wear("binary", 0, "bit 1", (4, 0)),
    ]
    axes = draw(wear.cycles_by_part, cases)
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
    axes = draw(wear.cycles_by_part, cases)
    axes.figure.draw_without_rendering()  # Mathematics would be parsed here.
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels == [r"\$x_\$", r"a\$", r"\frac\$^\$"]


def test_memory_of_three_schemes(draw):
    memories = [
        Memory("hic", width, 1, 1, 1, 1, 8000, *(8000 * kb for kb in sizes), 0)
        for width, sizes in ((0.5, (62, 70, 22)), (1.0, (245, 275, 85)))
    ]
    axes = draw(size.training_memory, memories)
    bars = {
        bars.get_label(): [bar.get_width() for bar in bars] for bars in axes.containers
    }
    assert bars == {
        "FP32": [62, 245],
        "mixed precision, FP32 accumulator": [70, 275],
        "HIC": [22, 85],
    }
    assert [text.get_text() for text in axes.texts][:2] == ["62", "245"]


def test_energy_by_kind_leaves_out_what_takes_none(draw):
    costs = [
        Cost(name, 1.0, {}, energy, estimate([sum(energy.values())] * 2))
        for name, energy in (
            ("fp32", {"analog_macs": 0.0, "digital_macs": 2e-5, "binary_sets": 0.0}),
            ("hic", {"analog_macs": 1e-7, "digital_macs": 0.0, "binary_sets": 0.0}),
        )
    ]
    axes = draw(energy.energy_by_kind, costs, "J")
    assert axes.get_xscale() == "log"
    rows = [text.get_text() for text in axes.get_yticklabels()]
    assert rows == ["MACs in arrays", "digital MACs", "total"]
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}
    assert lines["HIC"] == [[1e-7, 0], [1e-7, 2]]
    assert lines["FP32"] == [[2e-5, 1], [2e-5, 2]]


def test_more_cycles_than_the_limit_have_their_place(draw):
    cases = [_wear("multilevel", 50), _wear("binary", 5 * 10**9)]
    axes = draw(wear.cycles_against_endurance, cases)
    assert axes.get_xlim()[1] > 5e9
