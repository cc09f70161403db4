"""Checks of user input: one clear error that names field, value and what is allowed.

Numbers become float32 and int32 arrays: what such an array cannot hold is refused here,
under the name that the user knows it by.
"""

import difflib
import math
import numbers
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

FLOAT32_MAX = float(np.finfo(np.float32).max)
FLOAT32_TINY = float(np.finfo(np.float32).tiny)  # Smaller is zero to XLA.
INT32_MAX = 2**31 - 1

# The oldest that devices get, s: 300 years. Within it, and with the bounds of
# `hic_jax.pcm.MultilevelSpec`, drifted conductances stay in float32.
SECONDS_MAX = 1e10


def finite(name: str, value: float) -> None:
    """Raises unless ``value`` is a number that is finite in float32."""
    if not isinstance(value, numbers.Real) or not abs(value) < math.inf:
        raise ValueError(f"{name}={value!r}: must be a finite number")
    if abs(value) > FLOAT32_MAX:
        raise ValueError(
            f"{name}={value!r}: must be a finite number in float32, of a size up to "
            f"{FLOAT32_MAX:.1e}"
        )


def _in_float32(value: float) -> float:
    """A finite number as arrays hold it: zero where it is too small to be normal."""
    rounded = float(np.float32(value))
    return rounded if abs(rounded) >= FLOAT32_TINY else 0.0


def at_least(name: str, value: float, low: float) -> None:
    """Raises unless ``value`` >= ``low``."""
    finite(name, value)
    if value < low:
        raise ValueError(f"{name}={value!r}: must be at least {low}")


def at_most(name: str, value: float, high: float) -> None:
    """Raises unless ``value`` <= ``high``."""
    finite(name, value)
    if value > high:
        raise ValueError(f"{name}={value!r}: must be at most {high}")


def above(name: str, value: float, low: float) -> None:
    """Raises unless ``value`` > ``low``, in float32, too."""
    finite(name, value)
    if _in_float32(value) <= _in_float32(low):
        also = "" if value <= low else ", in float32, too"
        raise ValueError(f"{name}={value!r}: must be greater than {low}{also}")


def below(name: str, value: float, high: float) -> None:
    """Raises unless ``value`` < ``high``, in float32, too."""
    finite(name, value)
    if _in_float32(value) >= _in_float32(high):
        also = "" if value >= high else ", in float32, too"
        raise ValueError(f"{name}={value!r}: must be less than {high}{also}")


def within(name: str, value: float, low: float, high: float) -> None:
    """Raises unless ``low`` <= ``value`` <= ``high``."""
    finite(name, value)
    if not low <= value <= high:
        raise ValueError(f"{name}={value!r}: must lie in [{low}, {high}]")


def integer(name: str, value: int, low: int, high: int = INT32_MAX) -> None:
    """Raises unless ``value`` is an integer in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ValueError(f"{name}={value!r}: must be an integer")
    if not low <= value <= high:
        open_ended = high == INT32_MAX and value < low
        allowed = f"at least {low}" if open_ended else f"in [{low}, {high}]"
        raise ValueError(f"{name}={value!r}: must be {allowed}")


def boolean(name: str, value: bool) -> None:
    """Raises unless ``value`` is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name}={value!r}: must be True or False")


def seconds(value: jax.Array | float) -> None:
    """Raises unless ``value`` is traced, or one number of seconds that devices age."""
    if jnp.ndim(value):
        raise ValueError(
            f"seconds={value!r}: must be one number; jax.vmap takes several"
        )
    if not isinstance(value, jax.core.Tracer):
        number = value if isinstance(value, numbers.Real) else float(value)
        at_least("seconds", number, 0.0)
        at_most("seconds", number, SECONDS_MAX)


def one_of(name: str, value: str, allowed: Iterable[str]) -> None:
    """Raises unless ``value`` is one of ``allowed``; suggests what was meant."""
    allowed = list(allowed)
    if value not in allowed:
        raise ValueError(f"{name}={value!r}: must be {names(allowed, value)}")


def names(allowed: Iterable[str], value: str = "") -> str:
    """What is allowed, in words, and which of it ``value`` may have meant."""
    allowed = list(allowed)
    close = difflib.get_close_matches(str(value), allowed, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"one of {', '.join(allowed)}{hint}"
