"""Verdicts: each claim, each way, and what is missing is said."""

import pytest

from experiments.report import claims, sections, size, wear
from experiments.report.sections import Verdict
from hic_jax import DAY, YEAR

YES, NO, OPEN = Verdict.SUPPORTED, Verdict.NOT_SUPPORTED, Verdict.TOO_LITTLE


def _runs(algorithm, points):
    """Three seeds of each (width, size in kB, accuracy), 0.1 points apart."""
    return [
        {
            "algorithm": algorithm,
            "width": width,
            "seed": seed,
            "accuracy": accuracy + shift,
            "size_kb": size,
            "drift": [],
            "wear": None,
        }
        for width, size, accuracy in points
        for seed, shift in enumerate((-0.1, 0.0, 0.1))
    ]


FP32 = _runs("fp32", [(0.5, 50.0, 88.0), (1, 200.0, 92.0)])


@pytest.mark.parametrize(
    ("accuracies", "verdict", "gain"),
    [((91.0, 94.0), YES, 2.5), ((86.0, 91.0), NO, -1.5), ((88.05, 92.05), OPEN, 0.05)],
)
def test_hic_beats_fp32_or_not(accuracies, verdict, gain):
    points = zip((1, 2), (50.0, 200.0), accuracies, strict=True)
    finding = claims.beats_fp32(FP32 + _runs("hic", points))
    assert finding.verdict is verdict
    assert finding.estimate.mean == pytest.approx(gain)
    assert finding.estimate.seeds == 3
    assert "50 kB to 200 kB" in finding.sentences[0]


def test_no_common_size_one_seed_or_no_runs_are_too_little():
    apart = claims.beats_fp32(FP32 + _runs("hic", [(1, 30.0, 95.0)]))
    assert apart.verdict is OPEN
    assert "FP32 covers 50 kB to 200 kB, HIC 30 kB" in apart.sentences[0]
    one_seed = [
        run for run in FP32 + _runs("hic", [(1, 60.0, 95.0)]) if not run["seed"]
    ]
    finding = claims.beats_fp32(one_seed)
    assert finding.verdict is OPEN
    assert finding.sentences[1] == (
        "It takes two seeds of every width, and there is one of FP32 ×0.5, FP32 ×1, "
        "HIC ×1."
    )
    assert finding.estimate.mean > 5
    for claim in (claims.beats_fp32, claims.halves_the_model):
        assert claim(FP32).sentences == ("There are no HIC runs.",)
        assert claim([]).sentences == ("There are no FP32 and no HIC runs.",)
        assert claim(_runs("hic", [(1, 1.0, 1.0)])).verdict is OPEN


def test_seeds_that_agree_to_the_last_digit_tell_nothing():
    runs = [run | {"accuracy": 90.0 + (run["algorithm"] == "hic")}
            for run in FP32 + _runs("hic", [(1, 60.0, 95.0)])]  # fmt: skip
    finding = claims.beats_fp32(runs)
    assert finding.verdict is OPEN
    assert "last digit" in finding.sentences[1]


@pytest.mark.parametrize(
    ("accuracy", "verdict"), [(92.0, YES), (91.9, YES), (91.5, OPEN), (90.0, NO)]
)
def test_half_the_size_at_comparable_accuracy(accuracy, verdict):
    hic = _runs("hic", [(1, 25.0, 85.0), (2, 100.0, accuracy), (3, 400.0, 93.0)])
    finding = claims.halves_the_model(FP32 + hic)
    assert finding.verdict is verdict
    assert finding.estimate.mean == pytest.approx(accuracy - 92.0)


def test_the_smallest_hic_is_named_and_how_it_is_known():
    hic = _runs("hic", [(1, 25.0, 85.0), (2, 100.0, 92.0)])
    near, exact = claims.halves_the_model(FP32 + hic).sentences[:2]
    assert "within 0.5 points of FP32 at width 1 (92.00 % at 200 kB)" in near
    assert "90.6 kB (interpolated between two widths): 55 % less" in near
    assert "100 kB (measured, width 2): 50 % less" in exact
    larger = _runs("hic", [(1, 100.0, 85.0), (2, 250.0, 92.0)])
    assert "25 % more" in claims.halves_the_model(FP32 + larger).sentences[1]
    smaller = _runs("hic", [(1, 20.0, 93.0)])
    finding = claims.halves_the_model(FP32 + smaller)
    assert finding.verdict is YES
    assert "smallest that was trained" in finding.sentences[0]


def test_sizes_that_cannot_tell():
    narrow = claims.halves_the_model(FP32 + _runs("hic", [(1, 25.0, 85.0)]))
    assert narrow.verdict is OPEN
    assert "wider HIC runs would tell" in narrow.sentences[-1]
    wide = claims.halves_the_model(FP32 + _runs("hic", [(4, 150.0, 95.0)]))
    assert wide.verdict is OPEN
    assert "narrower HIC runs would tell" in wide.sentences[-1]
    fp32 = _runs("fp32", [(2, 800.0, 95.0)])
    finding = claims.halves_the_model(fp32 + _runs("hic", [(1, 25.0, 85.0)]))
    assert finding.sentences == ("No FP32 run has width 1 or less: 2.",)


def _drifted(losses, *, width=1, last=YEAR, devices="trained", compensation="adabs"):
    """A run for each loss in points, read at 25 s and at the last time."""
    return [
        {
            "algorithm": "hic",
            "width": width,
            "seed": seed,
            "drift": [
                {
                    "time": time,
                    "devices": devices,
                    "compensation": compensation,
                    "accuracies": [0.9 - lost / 100] * 2,
                }
                for time, lost in ((25.0, 0.0), (last, loss))
            ],
        }
        for seed, loss in enumerate(losses)
    ]


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [((0.1, 0.2, 0.15), YES), ((3.0, 3.2, 3.1), NO), ((0.2, 0.9, 0.6), OPEN)],
)
def test_a_year_is_negligible_or_not(losses, verdict):
    finding = claims.withstands_drift(_drifted(losses))
    assert finding.verdict is verdict
    assert finding.estimate.mean == pytest.approx(sum(losses) / 3)


def test_every_width_must_withstand():
    good, bad = _drifted((0.1, 0.2, 0.15)), _drifted((3.0, 3.2, 3.1), width=0.5)
    unsure = _drifted((9.0,), width=0.25)
    finding = claims.withstands_drift(good + bad + unsure)
    assert finding.verdict is NO
    # What decides is named, not the width that tells nothing.
    assert finding.quantity == "loss at width 0.5"
    assert claims.withstands_drift(good + unsure).verdict is OPEN


def test_chips_count_only_where_the_trained_devices_were_not_read():
    chips = _drifted((3.0, 3.2, 3.1), devices="hermes_2")
    finding = claims.withstands_drift(chips)
    assert finding.verdict is NO
    assert "chips of hermes_2" in finding.sentences[0]
    both = claims.withstands_drift(chips + _drifted((0.1, 0.2, 0.15)))
    assert both.verdict is YES
    assert "the trained devices" in both.sentences[0]


def test_what_was_not_read_over_a_year_with_adabs_is_open():
    short = claims.withstands_drift(_drifted((0.1, 0.2, 0.15), last=DAY))
    assert short.verdict is OPEN
    assert "from 25 s to 1 day" in short.sentences[1]
    other = claims.withstands_drift(_drifted((0.1, 0.2), compensation="gdc"))
    assert other.sentences == ("The runs were read over time without AdaBS.",)
    ideal = _drifted((0.1, 0.2), compensation="adabs, ideal reference")
    (sentence,) = claims.withstands_drift(ideal).sentences
    assert sentence.endswith("only against an ideal reference, which no chip has.")
    assert claims.withstands_drift(FP32).verdict is OPEN
    assert "experiments.drift" in claims.withstands_drift(FP32).sentences[0]


def _worn(*cycles, limit=1e9):
    runs = _runs("hic", [(1, 30.0, 90.0)])[: len(cycles)]
    for run, most in zip(runs, cycles, strict=True):
        kind = {"max": most, "mean": 1.0, "p99": 2.0, "endurance_cycles": limit}
        kind["fraction_of_endurance"] = most / limit
        run["wear"] = {"multilevel": kind, "binary": kind | {"max": 0}}
        run["wear"]["binary"]["fraction_of_endurance"] = 0.0
    return runs


def test_wear_is_a_small_fraction_or_not():
    finding = claims.spares_the_devices(_worn(400, 500))
    assert finding.verdict is YES
    assert "500 cycles, 5.0\xa0×\xa010⁻⁷ of a limit of 10⁹" in finding.sentences[0]
    assert "survives 2,000,000 such trainings" in finding.sentences[0]
    assert finding.estimate.mean == 450.0
    # Of all seeds the worst decides.
    assert claims.spares_the_devices(_worn(5, 20, limit=1e3)).verdict is NO
    one = claims.spares_the_devices(_worn(500))
    assert one.verdict is OPEN
    assert "two seeds" in one.sentences[1]


def test_wear_that_was_not_tracked_is_said():
    untracked = _runs("hic", [(1, 30.0, 90.0)])
    finding = claims.spares_the_devices(untracked)
    assert finding.verdict is OPEN
    assert "--track_wear" in finding.sentences[0]
    assert claims.spares_the_devices(FP32).sentences == ("There are no HIC runs.",)
    some = claims.spares_the_devices(_worn(4, 5) + untracked[2:])
    assert some.verdict is YES
    assert some.sentences[1] == "1 of 3 HIC runs did not track their wear."


def test_rules_state_their_thresholds():
    rules = {name: claims.rule(claim) for name, claim in claims.CLAIMS.items()}
    assert f"−{sections.COMPARABLE_POINTS:g} points" in rules["half-size"]
    assert f"below {sections.COMPARABLE_POINTS:g} points" in rules["drift"]
    assert f"below {100 * wear.SMALL_FRACTION:g} %" in rules["endurance"]
    assert f"{100 * size.REDUCTION:g} % less" in claims.statement(
        claims.halves_the_model
    )
    assert all("95 %" in rules[name] for name in ("equal-size", "half-size", "drift"))
