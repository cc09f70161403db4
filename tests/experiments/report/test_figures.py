"""Figures show what was computed, with words and units on their axes."""

import pytest

from experiments.report import accuracy, drift, size
from experiments.report.accuracy import Gain, Point
from experiments.report.drift import Ageing
from experiments.report.estimates import estimate
from experiments.report.size import Reached
from hic_jax import YEAR
from tests.experiments import pictures

FP32 = [Point(1.0, 200.0, estimate([91.0, 93.0]), (91.0, 93.0))]
HIC = [
    Point(1.0, 30.0, estimate([85.0]), (85.0,)),
    Point(2.0, 100.0, estimate([91.0, 92.0]), (91.0, 92.0)),
]


def _lines(axes):
    return {line.get_label(): line for line in axes.get_lines()}


def test_accuracy_against_size(draw):
    gain = Gain(estimate([1.0]), (50.0, 100.0), (estimate([1.0]),) * 2)
    axes = draw(accuracy.accuracy_against_size, {"fp32": FP32, "hic": HIC}, gain)
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "inference model size (kB)"
    assert axes.get_ylabel() == "test accuracy (%)"
    means = [line.get_xydata().tolist() for line in axes.get_lines()]
    assert [[30.0, 85.0], [100.0, 91.5]] in means
    seeds = [[100.0, 91.0], [100.0, 92.0]]
    assert seeds in means
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["sizes that both cover", "FP32", "HIC"]
    (shade,) = axes.patches
    assert (shade.get_x(), shade.get_x() + shade.get_width()) == (50.0, 100.0)


def test_the_smallest_comparable_model(draw):
    reached = Reached(100.0, 91.5, 2.0, False)
    axes = draw(size.smallest_comparable, FP32[0], HIC, reached)
    lines = _lines(axes)
    assert lines["50 % less than the baseline"].get_xdata() == [100.0, 100.0]
    assert lines["smallest comparable HIC"].get_xydata().tolist() == [[100.0, 91.5]]
    (band,) = axes.patches
    assert band.get_y() == 91.5
    assert band.get_height() == pytest.approx(1.0)
    assert "smallest comparable HIC" not in _lines(
        draw(size.smallest_comparable, FP32[0], HIC, None)
    )


def _case(compensation, means, stds, devices="trained"):
    times = (25.0, YEAR)[: len(means)]
    return Ageing(
        devices, 1.0, compensation, times, (estimate([90.0]),) * 2, means, stds,
        4, estimate([0.5]),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("devices", "word"), [("trained", "training"), ("hermes_2", "programming")]
)
def test_chips_are_bars_around_their_mean(draw, devices, word):
    means = (90.0, 99.5)
    case = _case("adabs", means, (1.0, 2.0), devices)
    axes = draw(drift.accuracy_over_time, [case])
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == f"time after {word}"
    (bars,) = pictures.points(axes).values()
    assert bars.lines[0].get_ydata().tolist() == list(means)
    assert bars.lines[0].get_marker() == "D"
    assert pictures.ends(bars) == [[89.0, 91.0], [97.5, 100.0]]  # Not beyond 100 %.
    note, labels = pictures.words_of_legend(axes.figure)
    assert labels == ["AdaBS: BatchNorm re-estimated"]
    assert "4 chips ± standard deviation of one" in note


def test_fp32_of_the_same_width_and_chance_stand_beside_it(draw):
    lost = _case("none", (80.0, 0.5), (1.0, 2.0))
    kept = _case("adabs", (90.0, 89.0), (1.0, 1.0))
    known = {"classes": 10, "fp32": 92.5}
    axes = draw(drift.accuracy_over_time, [lost, kept], **known)
    lines = {name: line.get_ydata()[0] for name, line in _lines(axes).items()}
    assert lines["FP32, which does not drift"] == 92.5
    assert lines["chance, 1 of 10 classes"] == 10.0
    assert axes.get_ylim()[0] == 0
    # Nor do bars go below 0.
    assert pictures.ends(pictures.points(axes)["no compensation"])[1] == [0.0, 2.5]
    # From nearby chance would be far away.
    nearby = _lines(draw(drift.accuracy_over_time, [kept], **known))
    assert "FP32, which does not drift" in nearby
    assert not [name for name in nearby if name.startswith("chance")]


def test_spread_of_seeds_stays_within_accuracies(draw):
    best = [Point(1.0, 30.0, estimate([99.0, 100.0, 100.0]), (99.0, 100.0, 100.0))]
    axes = draw(accuracy.accuracy_against_size, {"hic": best}, None)
    (bars,) = pictures.points(axes).values()
    ((low, high),) = pictures.ends(bars)
    assert low == pytest.approx(99.667 - 0.577, abs=1e-3)
    assert high == 100.0
    note, _ = pictures.words_of_legend(axes.figure)
    assert "×1 is the width" in note
