"""Endurance: the verdict on the most worn device, figures of whole networks."""

import numpy as np

from experiments.report import endurance
from experiments.report.sections import Verdict
from tests.experiments.report import made
from tests.experiments.report.made import worn as _wear

YES, NO, OPEN = Verdict.SUPPORTED, Verdict.NOT_SUPPORTED, Verdict.TOO_LITTLE
FP32 = made.three_seeds("fp32", [(1, 200.0, 92.0)])


def _worn(*cycles, limit=1e9):
    runs = made.three_seeds("hic", [(1, 30.0, 90.0)])[: len(cycles)]
    for run, most in zip(runs, cycles, strict=True):
        kind = {"max": most, "mean": 1.0, "p99": 2.0, "endurance_cycles": limit}
        kind["fraction_of_endurance"] = most / limit
        run["wear"] = {"multilevel": kind, "binary": kind | {"max": 0}}
        run["wear"]["binary"]["fraction_of_endurance"] = 0.0
    return runs


def test_wear_is_a_small_fraction_or_not():
    finding = endurance.spares_the_devices(made.group(_worn(400, 500)))
    assert finding.verdict is YES
    assert "500 cycles, 5.0\xa0×\xa010⁻⁷ of a limit of 10⁹" in finding.sentences[0]
    assert "survives 2,000,000 such trainings" in finding.sentences[0]
    assert finding.estimate.mean == 450.0
    # Of all seeds the worst decides.
    assert (
        endurance.spares_the_devices(made.group(_worn(5, 20, limit=1e3))).verdict is NO
    )
    one = endurance.spares_the_devices(made.group(_worn(500)))
    assert one.verdict is OPEN
    assert "two seeds" in one.sentences[1]


def test_a_long_training_is_extrapolated_and_said():
    """967 cycles in 4,000 steps are 24,175 in 100,000: 2.4 % of a million."""
    runs = _worn(900, 967)
    for run in runs:
        run["summary"] = {"steps": 4000}
    finding = endurance.spares_the_devices(made.group(runs))
    assert finding.verdict is YES
    (sentence,) = (s for s in finding.sentences if "Extrapolated" in s)
    assert "100,000 steps" in sentence
    assert "24,175 cycles: 2.4 % of 10⁶, 0.024 % of 10⁸" in sentence
    assert sentence.endswith("a small fraction of 10⁸ and 10⁹.")
    for run in runs:
        run["summary"] = {"steps": 100_000}
    assert len(endurance.spares_the_devices(made.group(runs)).sentences) == 1
    worse = _worn(900, 967_000_000)
    for run in worse:
        run["summary"] = {"steps": 50_000}
    finding = endurance.spares_the_devices(made.group(worse))
    assert "of none of these a small fraction" in finding.sentences[1]


def test_wear_that_was_not_tracked_is_said():
    untracked = made.three_seeds("hic", [(1, 30.0, 90.0)])
    finding = endurance.spares_the_devices(made.group(untracked))
    assert finding.verdict is OPEN
    assert "--hic_track_wear" in finding.sentences[0]
    assert endurance.spares_the_devices(made.group(FP32)).sentences == (
        "There are no HIC runs.",
    )
    some = endurance.spares_the_devices(made.group(_worn(4, 5) + untracked[2:]))
    assert some.verdict is YES
    assert some.sentences[1] == "1 of 3 HIC runs did not track their wear."


def test_cycles_stand_beside_the_limit(draw):
    cases = [_wear("multilevel", 50), _wear("binary", 0)]
    axes = draw(endurance.draw_endurance, cases)
    assert [bar.get_width() for bar in axes.patches] == [50, 0.5]
    texts = [text.get_text() for text in axes.texts]
    assert texts[0] == "50: 5.0\xa0×\xa010⁻⁸ of the limit"
    assert texts[-1] == "endurance limit 10⁹"
    assert axes.get_xscale() == "log"
    assert axes.get_xlim()[1] > 1e9


def test_devices_that_were_never_written_are_in_the_histogram(draw):
    axes = draw(
        endurance.draw_devices,
        [_wear("multilevel", 1), _wear("binary", 1)],
    )
    for stairs in axes.patches:
        counts, edges, _ = stairs.get_data()
        np.testing.assert_array_equal(counts, (3, 4))
        np.testing.assert_array_equal(edges, (0.5, 1, 2))
    assert axes.get_ylabel() == "devices"


def test_more_cycles_than_the_limit_have_their_place(draw):
    cases = [_wear("multilevel", 50), _wear("binary", 5 * 10**9)]
    axes = draw(endurance.draw_endurance, cases)
    assert axes.get_xlim()[1] > 5e9


def test_wear_of_another_algorithm_is_no_verdict_on_the_candidate(tmp_path):
    """It stands beside it, with the kinds of device that it has."""
    (other,) = _worn(10**8)
    other = made.run(
        "mixed_precision", wear={"multilevel": other["wear"]["multilevel"]}
    )
    group = made.group([*_worn(400, 500), other])
    finding = endurance.spares_the_devices(group)
    assert (finding.verdict, finding.estimate.mean) == (YES, 450.0)
    _, (table,) = endurance.against_endurance(group, tmp_path)
    assert [(row["algorithm"], row["kind"], row["seeds"]) for row in table.rows] == [
        ("hic", "multilevel", 2), ("hic", "binary", 2),
        ("mixed_precision", "multilevel", 1),
    ]  # fmt: skip
    assert [cells[0] for cells in table.cells] == ["HIC", "HIC", "mixed precision"]
    judged = made.group([*_worn(400, 500), other], candidate="mixed_precision")
    assert endurance.spares_the_devices(judged).verdict is NO  # 10 % of the limit.


def test_algorithms_have_rows_of_their_own_in_the_figure(draw):
    other = made.recipe([made.run("mixed_precision")])
    cases = [
        _wear("multilevel", 50), _wear("binary", 5), _wear("multilevel", 500, of=other)
    ]  # fmt: skip
    axes = draw(endurance.draw_endurance, cases)
    assert [bar.get_width() for bar in axes.patches] == [50, 5, 500]
    rows = [text.get_text() for text in axes.get_yticklabels()]
    assert rows == ["HIC ×1", "mixed precision ×1"]
