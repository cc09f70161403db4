"""Accuracy at equal size: curves, the gain, its verdict and its figure."""

import math

import pytest
import scipy.stats

from experiments.report import accuracy, size
from experiments.report.accuracy import Gain, Point
from experiments.report.estimates import estimate
from experiments.report.sections import Verdict
from tests.experiments import pictures
from tests.experiments.report import made

YES, NO, OPEN = Verdict.SUPPORTED, Verdict.NOT_SUPPORTED, Verdict.TOO_LITTLE
FP32 = made.three_seeds("fp32", [(0.5, 50.0, 88.0), (1, 200.0, 92.0)])

# Of figures.
_PAIR = made.group([made.run("fp32"), made.run("hic")])
CURVES = [
    (_PAIR.baseline, [Point(1.0, 200.0, estimate([91.0, 93.0]), (91.0, 93.0))]),
    (
        _PAIR.candidate,
        [
            Point(1.0, 30.0, estimate([85.0]), (85.0,)),
            Point(2.0, 100.0, estimate([91.0, 92.0]), (91.0, 92.0)),
        ],
    ),
]


def _curve(*points):
    return accuracy.curve(made.recipe(made.curve("hic", points)))


def test_a_curve_is_sorted_by_size_and_pools_seeds():
    points = _curve((1, 32.0, (90.0, 92.0)), (0.5, 8.0, (80.0,)))
    assert [p.size_kb for p in points] == [8.0, 32.0]
    assert points[1].accuracies == (90.0, 92.0)
    assert points[1].accuracy.mean == 91.0
    assert accuracy.curve(made.group([]).candidate) == []


def test_interpolation_is_linear_in_log_size():
    points = _curve((1, 10.0, (80.0,)), (2, 1000.0, (90.0,)))
    assert accuracy.at_size(points, 100.0) == pytest.approx([0.5, 0.5])
    assert accuracy.at_size(points, 1000.0) == [0.0, 1.0]


def test_gain_at_equal_size_by_hand():
    fp32 = _curve((0.5, 10.0, (79.0, 81.0)), (1, 1000.0, (89.0, 91.0)))
    hic = _curve(
        (1, 1.0, (70.0, 72.0)), (2, 10.0, (82.0,) * 2), (3, 100.0, (92.0,) * 2)
    )
    gain = accuracy.gain_at_equal_size(fp32, hic)
    assert gain.sizes_kb == (10.0, 100.0)
    # FP32 has 80 % at 10 kB and 85 % at 100 kB.
    assert [at.mean for at in gain.at] == pytest.approx([2.0, 7.0])
    assert gain.mean.mean == pytest.approx(4.5)
    # Over the range FP32 weighs 3/4 of its first width and 1/4 of its second; the
    # spread of each is sqrt(2), that of HIC nothing.
    assert gain.mean.std == pytest.approx(math.sqrt(2 * (9 + 1) / 16))
    freedom = (9 + 1) ** 2 / (9**2 + 1)
    half = scipy.stats.t.ppf(0.975, freedom) * math.sqrt(10 / 16)
    assert gain.mean.interval == pytest.approx((4.5 - half, 4.5 + half))


def test_one_common_size_is_enough_and_none_is_none():
    fp32, hic = (
        _curve((1, 10.0, (80.0,))),
        _curve((1, 1.0, (70.0,)), (2, 10.0, (82.0,))),
    )
    assert accuracy.gain_at_equal_size(fp32, hic).mean.mean == pytest.approx(2.0)
    assert accuracy.gain_at_equal_size(fp32, hic[:1]) is None
    assert accuracy.gain_at_equal_size([], hic) is None


@pytest.mark.parametrize(
    ("accuracies", "verdict", "gain"),
    [((91.0, 94.0), YES, 2.5), ((86.0, 91.0), NO, -1.5), ((88.05, 92.05), OPEN, 0.05)],
)
def test_hic_beats_fp32_or_not(accuracies, verdict, gain):
    points = zip((1, 2), (50.0, 200.0), accuracies, strict=True)
    finding = accuracy.beats_baseline(
        made.group(FP32 + made.three_seeds("hic", points))
    )
    assert finding.verdict is verdict
    assert finding.estimate.mean == pytest.approx(gain)
    assert finding.estimate.seeds == 3
    assert "50 kB to 200 kB" in finding.sentences[0]


def test_no_common_size_one_seed_or_no_runs_are_too_little():
    apart = accuracy.beats_baseline(
        made.group(FP32 + made.three_seeds("hic", [(1, 30.0, 95.0)]))
    )
    assert apart.verdict is OPEN
    assert "FP32 covers 50 kB to 200 kB, HIC 30 kB" in apart.sentences[0]
    one_seed = [
        run
        for run in FP32 + made.three_seeds("hic", [(1, 60.0, 95.0)])
        if not run["seed"]
    ]
    finding = accuracy.beats_baseline(made.group(one_seed))
    assert finding.verdict is OPEN
    assert finding.sentences[1] == (
        "It takes two seeds of every width, and there is one of FP32 ×0.5, FP32 ×1, "
        "HIC ×1."
    )
    assert finding.estimate.mean > 5
    for claim in (accuracy.beats_baseline, size.halves_the_model):
        assert claim(made.group(FP32)).sentences == ("There are no HIC runs.",)
        assert claim(made.group([])).sentences == (
            "There are no FP32 and no HIC runs.",
        )
        assert (
            claim(made.group(made.three_seeds("hic", [(1, 1.0, 1.0)]))).verdict is OPEN
        )


def test_seeds_that_agree_to_the_last_digit_tell_nothing():
    runs = [run | {"accuracy": 90.0 + (run["algorithm"] == "hic")}
            for run in FP32 + made.three_seeds("hic", [(1, 60.0, 95.0)])]  # fmt: skip
    finding = accuracy.beats_baseline(made.group(runs))
    assert finding.verdict is OPEN
    assert "last digit" in finding.sentences[1]


def test_accuracy_against_size(draw):
    gain = Gain(estimate([1.0]), (50.0, 100.0), (estimate([1.0]),) * 2)
    axes = draw(accuracy.draw_curves, CURVES, gain, CURVES[0][0])
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


def test_spread_of_seeds_stays_within_accuracies(draw):
    hic = CURVES[1][0]
    best = [Point(1.0, 30.0, estimate([99.0, 100.0, 100.0]), (99.0, 100.0, 100.0))]
    axes = draw(accuracy.draw_curves, [(hic, best)], None, CURVES[0][0])
    (bars,) = pictures.points(axes).values()
    ((low, high),) = pictures.ends(bars)
    assert low == pytest.approx(99.667 - 0.577, abs=1e-3)
    assert high == 100.0
    note, _ = pictures.words_of_legend(axes.figure)
    assert "×1 is the width" in note
