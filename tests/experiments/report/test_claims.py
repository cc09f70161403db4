"""Claims say what they judge, for whom, and by which rule."""

import pytest

from experiments.report import claims, endurance, half_size, sections
from tests.experiments.report import made


def test_rules_state_their_thresholds():
    group = made.group([])
    said = {n: claims.stated(claim, group) for n, (claim, _) in claims.CLAIMS.items()}
    rules = {name: rule for name, (_, rule) in said.items()}
    assert f"−{sections.COMPARABLE_POINTS:g} points" in rules["half-size"]
    assert f"below {sections.COMPARABLE_POINTS:g} points" in rules["drift"]
    assert f"below {100 * endurance.SMALL_FRACTION:g} %" in rules["endurance"]
    assert f"{100 * half_size.REDUCTION:g} % less" in said["half-size"][0]
    assert all("95 %" in rules[name] for name in ("equal-size", "half-size", "drift"))


def test_claims_are_about_the_pair():
    """Another candidate is judged by the same rules, under its own name."""
    points = {
        "fp32": [(0.5, 50.0, 88.0), (1, 200.0, 92.0)],
        "hic": [(1, 50.0, 86.0), (2, 200.0, 90.0)],
        "pulsed_sgd": [(1, 50.0, 91.0), (2, 200.0, 95.0)],
    }
    runs = [run for name in points for run in made.three_seeds(name, points[name])]
    group = made.group(runs, "hic", "pulsed_sgd")
    (gain, _), (half, _), *_ = claims.CLAIMS.values()
    title, rule = claims.stated(gain, group)
    assert title == (
        "At comparable inference model size pulsed SGD beats the HIC baseline"
    )
    assert "accuracy of pulsed SGD less that of HIC" in rule
    assert gain(group).verdict is sections.Verdict.SUPPORTED
    assert gain(group).estimate.mean == pytest.approx(5.0)
    assert claims.stated(half, group)[0].endswith("size for HIC-comparable accuracy")
    assert "HIC at width 1 (86.00 % at 50 kB)" in half(group).sentences[0]
    # And the pair of the paper is judged as if the third had not run.
    alone = made.group([run for run in runs if run["algorithm"] != "pulsed_sgd"])
    assert gain(made.group(runs)) == gain(alone)
    assert gain(alone).estimate.mean == pytest.approx(-2.0)
