"""Rules by path: the first match wins, and a rule that says nothing is an error."""

import pytest

from hic_jax.path_rules import first_match

PATHS = ("stem/kernel", "stage1_block1/conv1/kernel", "stage2_block1/conv1/kernel")


def test_the_first_match_of_the_beginning_wins():
    rules = {"stage1": 4, "stage": 2, ".*conv1": 1, "st": 8}
    with pytest.raises(ValueError, match=r"rule='\.\*conv1': must match"):
        first_match(PATHS, rules)
    del rules[".*conv1"]
    assert first_match(PATHS, rules) == dict(zip(PATHS, (8, 4, 2), strict=True))


def test_what_no_rule_matches_is_left_out():
    assert first_match(PATHS, {"stem": "a"}) == {"stem/kernel": "a"}
    assert first_match(PATHS, {}) == {}


@pytest.mark.parametrize("rule", ["tem", "head", "kernel$", "(stem"])
def test_a_rule_that_says_nothing_is_named(rule):
    with pytest.raises(ValueError) as error:
        first_match(PATHS, {rule: 1})
    assert f"rule={rule!r}: must" in str(error.value)
