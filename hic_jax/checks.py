"""Checks of user input: one clear error that names field, value and what is allowed."""

import difflib
import math
import numbers
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np


def finite(name: str, value: float) -> None:
    """Raises unless ``value`` is a finite number."""
    if not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise ValueError(f"{name}={value!r}: must be a finite number")


def at_least(name: str, value: float, low: float) -> None:
    """Raises unless ``value`` >= ``low``."""
    finite(name, value)
    if value < low:
        raise ValueError(f"{name}={value!r}: must be at least {low}")


def above(name: str, value: float, low: float) -> None:
    """Raises unless ``value`` > ``low``."""
    finite(name, value)
    if value <= low:
        raise ValueError(f"{name}={value!r}: must be greater than {low}")


def below(name: str, value: float, high: float) -> None:
    """Raises unless ``value`` < ``high``."""
    finite(name, value)
    if value >= high:
        raise ValueError(f"{name}={value!r}: must be less than {high}")


def within(name: str, value: float, low: float, high: float) -> None:
    """Raises unless ``low`` <= ``value`` <= ``high``."""
    finite(name, value)
    if not low <= value <= high:
        raise ValueError(f"{name}={value!r}: must lie in [{low}, {high}]")


def integer(name: str, value: int, low: int, high: int | None = None) -> None:
    """Raises unless ``value`` is an integer in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ValueError(f"{name}={value!r}: must be an integer")
    if value < low or (high is not None and value > high):
        allowed = f"at least {low}" if high is None else f"in [{low}, {high}]"
        raise ValueError(f"{name}={value!r}: must be {allowed}")


def boolean(name: str, value: bool) -> None:
    """Raises unless ``value`` is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name}={value!r}: must be True or False")


def seconds(value: jax.Array | float) -> None:
    """Raises unless ``value`` is one number of seconds, traced or not negative."""
    if jnp.ndim(value):
        raise ValueError(
            f"seconds={value!r}: must be one number; jax.vmap takes several"
        )
    if not isinstance(value, jax.core.Tracer):
        at_least("seconds", float(value), 0.0)


def one_of(name: str, value: str, allowed: Iterable[str]) -> None:
    """Raises unless ``value`` is one of ``allowed``; suggests what was meant."""
    allowed = list(allowed)
    if value not in allowed:
        close = difflib.get_close_matches(str(value), allowed, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(f"{name}={value!r}: must be one of {', '.join(allowed)}{hint}")
