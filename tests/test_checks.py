"""Checks of numbers: what float32 and int32 arrays cannot hold is refused by name."""

import math

import numpy as np
import pytest

from hic_jax import checks


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (3.5e38, "must be a finite number in float32, of a size up to 3.4e+38"),
        (-1e300, "must be a finite number in float32, of a size up to 3.4e+38"),
        (10**400, "must be a finite number in float32, of a size up to 3.4e+38"),
        (math.nan, "must be a finite number"),
        (-math.inf, "must be a finite number"),
        ("1", "must be a finite number"),
    ],
    ids=lambda x: str(x)[:9],
)
def test_numbers_that_float32_cannot_hold(value, what):
    with pytest.raises(ValueError) as refusal:
        checks.finite("x", value)
    assert str(refusal.value) == f"x={value!r}: {what}"


@pytest.mark.parametrize("value", [3.4e38, -3.4e38, 0, 1e-300, np.float32(2.0)])
def test_numbers_that_float32_can_hold(value):
    checks.finite("x", value)


def test_what_is_above_and_below_in_float64_alone_is_refused():
    # XLA takes numbers below the smallest normal one of float32, 1.2e-38, for zero.
    for value in (1e-300, 1e-46, 1e-39):
        with pytest.raises(ValueError, match=r"greater than 0\.0, in float32, too"):
            checks.above("x", value, 0.0)
    checks.above("x", 1.2e-38, 0.0)
    with pytest.raises(ValueError, match=r"less than 1\.0, in float32, too"):
        checks.below("x", 1 - 1e-9, 1.0)
    checks.below("x", 1 - 1e-7, 1.0)
    with pytest.raises(ValueError, match=r"x=0\.1: must be greater than 0\.1$"):
        checks.above("x", 0.1, 0.1)


@pytest.mark.parametrize(
    ("value", "low", "what"),
    [
        (2**31, 0, "must be in [0, 2147483647]"),
        (10**30, 1, "must be in [1, 2147483647]"),
        (0, 1, "must be at least 1"),
        (True, 0, "must be an integer"),
        (2.0, 0, "must be an integer"),
    ],
)
def test_integers_that_int32_cannot_hold(value, low, what):
    with pytest.raises(ValueError) as refusal:
        checks.integer("n", value, low)
    assert str(refusal.value) == f"n={value!r}: {what}"


@pytest.mark.parametrize("value", [-1.0, 1.1e10, math.nan, 1e39, 10**30])
def test_seconds_that_no_device_gets_old(value):
    with pytest.raises(ValueError, match=r"^seconds=.*: must be"):
        checks.seconds(value)


def test_names_that_are_allowed_and_what_was_meant():
    assert checks.names(["gdc", "adabs"]) == "one of gdc, adabs"
    assert checks.names(["gdc", "adabs"], "adabn") == (
        "one of gdc, adabs (did you mean 'adabs'?)"
    )
