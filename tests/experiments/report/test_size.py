"""Accuracy at equal and at half size: curves, verdicts and figures."""

import math

import pytest
import scipy.stats

from experiments.report import curves, equal_size, half_size
from experiments.report.curves import Point
from experiments.report.equal_size import Gain
from experiments.report.estimates import estimate
from experiments.report.sections import Verdict
from tests.experiments import pictures
from tests.experiments.report import made

YES, NO, OPEN = Verdict.SUPPORTED, Verdict.NOT_SUPPORTED, Verdict.TOO_LITTLE
FP32 = made.three_seeds("fp32", [(0.5, 50.0, 88.0), (1, 200.0, 92.0)])

# Of figures.
_PAIR = made.group([made.run("fp32"), made.run("hic")])
BASELINE = Point(_PAIR.baseline, 1.0, 200.0, estimate([91.0, 93.0]), (91.0, 93.0))
CURVE = [
    Point(_PAIR.candidate, 1.0, 30.0, estimate([85.0]), (85.0,)),
    Point(_PAIR.candidate, 2.0, 100.0, estimate([91.0, 92.0]), (91.0, 92.0)),
]


def _curve(*points):
    return curves.curve(made.recipe(made.curve("hic", points)))


def test_a_curve_is_sorted_by_size_and_pools_seeds():
    points = _curve((1, 32.0, (90.0, 92.0)), (0.5, 8.0, (80.0,)))
    assert [p.inference_kb for p in points] == [8.0, 32.0]
    assert points[1].accuracies == (90.0, 92.0)
    assert points[1].accuracy.mean == 91.0
    assert curves.curve(made.group([]).candidate) == []


def test_interpolation_is_linear_in_log_size():
    points = _curve((1, 10.0, (80.0,)), (2, 1000.0, (90.0,)))
    assert curves.at_size(points, 100.0) == pytest.approx([0.5, 0.5])
    assert curves.at_size(points, 1000.0) == [0.0, 1.0]


def test_gain_at_equal_size_by_hand():
    fp32 = _curve((0.5, 10.0, (79.0, 81.0)), (1, 1000.0, (89.0, 91.0)))
    hic = _curve(
        (1, 1.0, (70.0, 72.0)), (2, 10.0, (82.0,) * 2), (3, 100.0, (92.0,) * 2)
    )
    gain = equal_size.gain_at_equal_size(fp32, hic)
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
    assert equal_size.gain_at_equal_size(fp32, hic).mean.mean == pytest.approx(2.0)
    assert equal_size.gain_at_equal_size(fp32, hic[:1]) is None
    assert equal_size.gain_at_equal_size([], hic) is None


@pytest.mark.parametrize(
    ("accuracies", "verdict", "gain"),
    [((91.0, 94.0), YES, 2.5), ((86.0, 91.0), NO, -1.5), ((88.05, 92.05), OPEN, 0.05)],
)
def test_hic_beats_fp32_or_not(accuracies, verdict, gain):
    points = zip((1, 2), (50.0, 200.0), accuracies, strict=True)
    finding = equal_size.beats_baseline(
        made.group(FP32 + made.three_seeds("hic", points))
    )
    assert finding.verdict is verdict
    assert finding.estimate.mean == pytest.approx(gain)
    assert finding.estimate.seeds == 3
    assert "50 kB to 200 kB" in finding.sentences[0]


def test_no_common_size_one_seed_or_no_runs_are_too_little():
    apart = equal_size.beats_baseline(
        made.group(FP32 + made.three_seeds("hic", [(1, 30.0, 95.0)]))
    )
    assert apart.verdict is OPEN
    assert "FP32 covers 50 kB to 200 kB, HIC 30 kB" in apart.sentences[0]
    one_seed = [
        run
        for run in FP32 + made.three_seeds("hic", [(1, 60.0, 95.0)])
        if not run["seed"]
    ]
    finding = equal_size.beats_baseline(made.group(one_seed))
    assert finding.verdict is OPEN
    assert finding.sentences[1] == (
        "It takes two seeds of every width, and there is one of FP32 ×0.5, FP32 ×1, "
        "HIC ×1."
    )
    assert finding.estimate.mean > 5
    for claim in (equal_size.beats_baseline, half_size.halves_the_model):
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
    finding = equal_size.beats_baseline(made.group(runs))
    assert finding.verdict is OPEN
    assert "last digit" in finding.sentences[1]


INT8 = made.three_seeds("int8", [(0.5, 12.5, 87.8), (1, 50.0, 91.8), (2, 200.0, 95)])


@pytest.mark.parametrize(
    ("others", "rival", "lead", "verdict"),
    [
        (INT8, "FP32 rounded to int8", -0.9, NO),
        (
            made.three_seeds("int4", [(1, 50.0, 80.0), (2, 200.0, 84.0)]),
            "FP32",
            2.5,
            YES,
        ),
        (made.three_seeds("int4", [(1, 1.0, 99.0)]), "FP32", 2.5, YES),
    ],
    ids=["stronger", "weaker", "of no such size"],
)
def test_the_strongest_digital_rival_of_equal_size(others, rival, lead, verdict):
    """HIC has 91 % at 50 kB and 94 % at 200 kB, FP32 88 and 92, int8 91.8 and 95."""
    hic = made.three_seeds("hic", [(1, 50.0, 91.0), (2, 200.0, 94.0)])
    finding = equal_size.beats_baseline(made.group(FP32 + hic + others))
    assert finding.verdict is YES
    assert finding.estimate.mean == pytest.approx(2.5)
    assert finding.beside.verdict is verdict
    assert finding.beside.estimate.mean == pytest.approx(lead)
    assert finding.beside.quantity == f"gain at equal size over {rival}"
    assert f"rival of that size, {rival}, it is {verdict}" in finding.short


def test_the_strongest_digital_rival_at_half_the_size():
    """At 100 kB HIC has 92.5 %, halfway in log size, and int8 93.4 %."""
    hic = made.three_seeds("hic", [(1, 50.0, 91.0), (2, 200.0, 94.0)])
    finding = half_size.halves_the_model(made.group(FP32 + hic + INT8))
    assert finding.verdict is YES
    assert finding.beside.verdict is NO
    assert finding.beside.estimate.mean == pytest.approx(92.5 - 93.4)
    assert "HIC at 100 kB less FP32 rounded to int8" in finding.beside.judged


def test_without_rivals_nothing_stands_beside_a_verdict():
    hic = made.three_seeds("hic", [(1, 50.0, 91.0), (2, 200.0, 94.0)])
    other = made.three_seeds("volatile", [(1, 50.0, 99.0), (2, 200.0, 99.0)])
    for claim in (equal_size.beats_baseline, half_size.halves_the_model):
        finding = claim(made.group(FP32 + hic + other))
        assert finding.beside is None
        assert finding.short == finding.sentences[0]


def test_accuracy_against_size(draw):
    gain = Gain(estimate([1.0]), (50.0, 100.0), (estimate([1.0]),) * 2)
    axes = draw(equal_size.draw_curves, _PAIR, [[BASELINE], CURVE], gain)
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


def test_accuracy_on_validation_data_is_called_so(draw):
    config = {"validation": 300}
    pair = made.group([made.run("fp32", config=config), made.run("hic", config=config)])
    axes = draw(equal_size.draw_curves, pair, [[BASELINE], CURVE], None)
    assert axes.get_ylabel() == "validation accuracy (%)"


def test_spread_of_seeds_stays_within_accuracies(draw):
    seeds = (99.0, 100.0, 100.0)
    best = [Point(_PAIR.candidate, 1.0, 30.0, estimate(seeds), seeds)]
    axes = draw(equal_size.draw_curves, _PAIR, [best], None)
    (bars,) = pictures.points(axes).values()
    ((low, high),) = pictures.ends(bars)
    assert low == pytest.approx(99.667 - 0.577, abs=1e-3)
    assert high == 100.0
    note, _ = pictures.words_of_legend(axes.figure)
    assert "×1 is the width" in note


def test_the_smallest_that_reaches_an_accuracy():
    points = _curve((1, 10.0, (80.0,)), (2, 1000.0, (90.0,)), (3, 2000.0, (89.0,)))
    between = half_size.smallest_reaching(points, 85.0)
    assert between.how == "interpolated between two widths"
    assert between.size_kb == pytest.approx(100.0)
    assert between.accuracy == 85.0
    measured = half_size.smallest_reaching(points, 90.0)
    assert (measured.size_kb, measured.how) == (1000.0, "measured, width 2")
    first = half_size.smallest_reaching(points, 79.0)
    assert (first.size_kb, first.accuracy) == (10.0, 80.0)
    assert first.how == "measured, width 1, the smallest that was trained"
    assert half_size.smallest_reaching(points, 91.0) is None


def test_the_baseline_has_width_one_or_the_next_below():
    points = _curve((0.5, 1.0, (1.0,)), (0.75, 2.0, (1.0,)), (2, 3.0, (1.0,)))
    assert half_size.baseline_of(points).width == 0.75
    assert half_size.baseline_of(points[2:]) is None


@pytest.mark.parametrize(
    ("reached", "verdict"), [(92.0, YES), (91.9, YES), (91.5, OPEN), (90.0, NO)]
)
def test_half_the_size_at_comparable_accuracy(reached, verdict):
    hic = made.three_seeds(
        "hic", [(1, 25.0, 85.0), (2, 100.0, reached), (3, 400.0, 93.0)]
    )
    finding = half_size.halves_the_model(made.group(FP32 + hic))
    assert finding.verdict is verdict
    assert finding.estimate.mean == pytest.approx(reached - 92.0)


def test_the_smallest_hic_is_named_and_how_it_is_known():
    hic = made.three_seeds("hic", [(1, 25.0, 85.0), (2, 100.0, 92.0)])
    near, exact = half_size.halves_the_model(made.group(FP32 + hic)).sentences[:2]
    assert "within 0.5 points of FP32 at width 1 (92.00 % at 200 kB)" in near
    assert "90.6 kB (interpolated between two widths): 55 % less" in near
    assert "100 kB (measured, width 2): 50 % less" in exact
    larger = made.three_seeds("hic", [(1, 100.0, 85.0), (2, 250.0, 92.0)])
    assert (
        "25 % more"
        in half_size.halves_the_model(made.group(FP32 + larger)).sentences[1]
    )
    smaller = made.three_seeds("hic", [(1, 20.0, 93.0)])
    finding = half_size.halves_the_model(made.group(FP32 + smaller))
    assert finding.verdict is YES
    assert "smallest that was trained" in finding.sentences[0]


def test_sizes_that_cannot_tell():
    narrow = half_size.halves_the_model(
        made.group(FP32 + made.three_seeds("hic", [(1, 25.0, 85.0)]))
    )
    assert narrow.verdict is OPEN
    assert "wider HIC runs would tell" in narrow.sentences[-1]
    wide = half_size.halves_the_model(
        made.group(FP32 + made.three_seeds("hic", [(4, 150.0, 95.0)]))
    )
    assert wide.verdict is OPEN
    assert "narrower HIC runs would tell" in wide.sentences[-1]
    fp32 = made.three_seeds("fp32", [(2, 800.0, 95.0)])
    finding = half_size.halves_the_model(
        made.group(fp32 + made.three_seeds("hic", [(1, 25.0, 85.0)]))
    )
    assert finding.sentences == ("No FP32 run has width 1 or less: 2.",)


def test_the_smallest_comparable_model(draw):
    axes = draw(half_size.draw_smallest, BASELINE, CURVE, "test")
    lines = pictures.lines(axes)
    assert lines["50 % less than the baseline"].get_xdata() == [100.0, 100.0]
    assert lines["smallest comparable HIC"].get_xydata().tolist() == [[100.0, 91.5]]
    (band,) = axes.patches
    assert band.get_y() == 91.5
    assert band.get_height() == pytest.approx(1.0)
    assert "smallest comparable HIC" not in pictures.lines(
        draw(half_size.draw_smallest, BASELINE, CURVE[:1], "test")
    )
