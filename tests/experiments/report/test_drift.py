"""Drift: accuracy over time, the verdict on a year, figures."""

import math

import numpy as np
import pytest

from experiments.report import drift
from experiments.report.drift import Ageing
from experiments.report.estimates import estimate
from experiments.report.sections import Verdict
from hic_jax import DAY, HOUR, YEAR
from tests.experiments import pictures
from tests.experiments.report import made

YES, NO, OPEN = Verdict.SUPPORTED, Verdict.NOT_SUPPORTED, Verdict.TOO_LITTLE
FP32 = made.three_seeds("fp32", [(1, 200.0, 92.0)])


def _row(time, accuracies, devices="trained", compensation="adabs"):
    return {
        "time": time,
        "devices": devices,
        "compensation": compensation,
        "accuracies": accuracies,
    }


def test_drift_is_over_seeds_and_never_mixes_devices():
    first, second = made.curve("hic", [(1, 1.0, (90.0, 90.0))])
    first["drift"] = [
        _row(25.0, [0.90, 0.92]),
        _row(HOUR, [0.5, 0.5]),
        _row(YEAR, [0.88, 0.88]),
        _row(25.0, [0.1, 0.1], "hermes_2"),
    ]
    second["drift"] = [_row(YEAR, [0.80, 0.84]), _row(25.0, [0.90, 0.90])]
    trained, chips = drift.ageing(made.recipe([first, second]))
    assert (trained.devices, chips.devices) == ("trained", "hermes_2")
    assert trained.times == (25.0, YEAR)  # What both seeds have.
    assert trained.chips == 4
    assert [a.mean for a in trained.accuracy] == pytest.approx([90.5, 85.0])
    # 91 - 88 and 90 - 82 points.
    assert trained.loss.mean == pytest.approx(5.5)
    assert trained.loss.std == pytest.approx(5 / math.sqrt(2))
    assert trained.chip_std[1] == pytest.approx(np.std([88, 88, 80, 84], ddof=1))
    assert chips.chip_mean == pytest.approx((10.0,))


def test_seeds_without_a_common_time_have_no_curve():
    runs = made.curve("hic", [(1, 1.0, (90.0, 90.0))])
    for run, time in zip(runs, (25.0, 26.0), strict=True):
        run["drift"] = [_row(time, [0.9])]
    assert drift.ageing(made.recipe(runs)) == []


def _drifted(losses, *, width=1, last=YEAR, devices="trained", compensation="adabs"):
    """A run for each loss in points, read at 25 s and at the last time."""
    return [
        made.run(
            width=width,
            seed=seed,
            drift=[
                {
                    "time": time,
                    "devices": devices,
                    "compensation": compensation,
                    "accuracies": [0.9 - lost / 100] * 2,
                }
                for time, lost in ((25.0, 0.0), (last, loss))
            ],
        )
        for seed, loss in enumerate(losses)
    ]


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [((0.1, 0.2, 0.15), YES), ((3.0, 3.2, 3.1), NO), ((0.2, 0.9, 0.6), OPEN)],
)
def test_a_year_is_negligible_or_not(losses, verdict):
    finding = drift.withstands_drift(made.group(_drifted(losses)))
    assert finding.verdict is verdict
    assert finding.estimate.mean == pytest.approx(sum(losses) / 3)


def test_every_width_must_withstand():
    good, bad = _drifted((0.1, 0.2, 0.15)), _drifted((3.0, 3.2, 3.1), width=0.5)
    unsure = _drifted((9.0,), width=0.25)
    finding = drift.withstands_drift(made.group(good + bad + unsure))
    assert finding.verdict is NO
    # What decides is named, not the width that tells nothing.
    assert finding.quantity == "loss at width 0.5"
    assert drift.withstands_drift(made.group(good + unsure)).verdict is OPEN


def test_chips_count_only_where_the_trained_devices_were_not_read():
    chips = _drifted((3.0, 3.2, 3.1), devices="hermes_2")
    finding = drift.withstands_drift(made.group(chips))
    assert finding.verdict is NO
    assert "chips of hermes_2" in finding.sentences[0]
    both = drift.withstands_drift(made.group(chips + _drifted((0.1, 0.2, 0.15))))
    assert both.verdict is YES
    assert "the trained devices" in both.sentences[0]


def test_what_was_not_read_over_a_year_with_adabs_is_open():
    short = drift.withstands_drift(made.group(_drifted((0.1, 0.2, 0.15), last=DAY)))
    assert short.verdict is OPEN
    assert "from 25 s to 1 day" in short.sentences[1]
    other = drift.withstands_drift(made.group(_drifted((0.1, 0.2), compensation="gdc")))
    assert other.sentences == ("The runs were read over time without AdaBS.",)
    ideal = _drifted((0.1, 0.2), compensation="adabs, ideal reference")
    (sentence,) = drift.withstands_drift(made.group(ideal)).sentences
    assert sentence.endswith("only against an ideal reference, which no chip has.")
    assert drift.withstands_drift(made.group(FP32)).verdict is OPEN
    assert "experiments.drift" in drift.withstands_drift(made.group(FP32)).sentences[0]


def _case(compensation, means, stds, devices="trained"):
    times = (25.0, YEAR)[: len(means)]
    return Ageing(
        made.HIC, devices, 1.0, compensation, times, (estimate([90.0]),) * 2,
        means, stds, 4, estimate([0.5]),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("devices", "word"), [("trained", "training"), ("hermes_2", "programming")]
)
def test_chips_are_bars_around_their_mean(draw, devices, word):
    means = (90.0, 99.5)
    case = _case("adabs", means, (1.0, 2.0), devices)
    axes = draw(drift.draw_over_time, [case])
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
    known = {"classes": 10, "digital": ("FP32", 92.5)}
    axes = draw(drift.draw_over_time, [lost, kept], **known)
    lines = {name: line.get_ydata()[0] for name, line in pictures.lines(axes).items()}
    assert lines["FP32, which does not drift"] == 92.5
    assert lines["chance, 1 of 10 classes"] == 10.0
    assert axes.get_ylim()[0] == 0
    # Nor do bars go below 0.
    assert pictures.ends(pictures.points(axes)["no compensation"])[1] == [0.0, 2.5]
    # From nearby chance would be far away.
    nearby = pictures.lines(draw(drift.draw_over_time, [kept], **known))
    assert "FP32, which does not drift" in nearby
    assert not [name for name in nearby if name.startswith("chance")]


def test_other_algorithms_drift_beside_the_candidate(tmp_path):
    """In the table and in figures of their own, beside FP32 of the same width."""
    other = made.run("volatile", drift=[_row(25.0, [0.8]), _row(YEAR, [0.7])])
    group = made.group([*FP32, *_drifted((0.1, 0.2)), other])
    pictures, (losses, _) = drift.over_time(group, tmp_path)
    assert [(row["algorithm"], row["seeds"]) for row in losses.rows] == [
        ("hic", 2), ("volatile", 1),
    ]  # fmt: skip
    assert losses.rows[1]["mean"] == pytest.approx(10.0)
    assert [cells[0] for cells in losses.cells] == ["HIC", "volatile cells"]
    assert [picture.path.name for picture in pictures] == [
        "drift_trained_width1", "volatile_drift_trained_width1",
    ]  # fmt: skip
    assert all("FP32: 92.0 %." in picture.alt for picture in pictures)
    assert drift.withstands_drift(group).estimate.mean == pytest.approx(0.15)


def test_a_baseline_that_drifts_is_no_line(tmp_path):
    runs = [*_drifted((0.1, 0.2)), made.run("volatile", drift=[_row(25.0, [0.8])])]
    group = made.group(runs, "hic", "volatile")
    pictures, _ = drift.over_time(group, tmp_path)
    assert len(pictures) == 2
    assert not any("HIC: 90" in picture.alt for picture in pictures)
