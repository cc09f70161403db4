"""Figures show what was computed, with words and units on their axes."""

import pytest

from experiments.report import figures
from experiments.report.estimates import (
    Ageing,
    Gain,
    Point,
    Reached,
    estimate,
)
from hic_jax import YEAR

FP32 = [Point(1.0, 200.0, estimate([91.0, 93.0]), (91.0, 93.0))]
HIC = [
    Point(1.0, 30.0, estimate([85.0]), (85.0,)),
    Point(2.0, 100.0, estimate([91.0, 92.0]), (91.0, 92.0)),
]


def _lines(axes):
    return {line.get_label(): line for line in axes.get_lines()}


def test_accuracy_against_size(draw):
    gain = Gain(estimate([1.0]), (50.0, 100.0), (estimate([1.0]),) * 2)
    axes = draw(figures.accuracy_against_size, {"fp32": FP32, "hic": HIC}, gain)
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
    axes = draw(figures.smallest_comparable, FP32[0], HIC, reached)
    lines = _lines(axes)
    assert lines["50 % less than the baseline"].get_xdata() == [100.0, 100.0]
    assert lines["smallest comparable HIC"].get_xydata().tolist() == [[100.0, 91.5]]
    (band,) = axes.patches
    assert band.get_y() == 91.5
    assert band.get_height() == pytest.approx(1.0)
    assert "smallest comparable HIC" not in _lines(
        draw(figures.smallest_comparable, FP32[0], HIC, None)
    )


@pytest.mark.parametrize(
    ("devices", "word"), [("trained", "training"), ("hermes_2", "programming")]
)
def test_chips_are_a_band_around_their_mean(draw, devices, word):
    means = (90.0, 99.5)
    case = Ageing(
        devices, 1.0, "adabs", (25.0, YEAR), (estimate([90.0]),) * 2, means, (1.0, 2.0),
        4, estimate([0.5]),
    )  # fmt: skip
    axes = draw(figures.accuracy_over_time, [case])
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == f"time after {word}"
    assert _lines(axes)["AdaBS"].get_ydata().tolist() == list(means)
    (band,) = axes.collections
    ends = band.get_paths()[0].vertices[:, 1]
    assert (ends.min(), ends.max()) == (89.0, 100.0)  # Not beyond 100 %.
