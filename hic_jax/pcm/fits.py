"""Fitted curves of relative conductance g = G / G_max, with g > 0: constants only."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hic_jax.pcm.namespace import numpy_of

# Of NumPy or of JAX, as the result then is.
Array = Any

# Relative conductance at which the curves of a device at zero are evaluated.
MIN_RELATIVE = 1e-7


@dataclasses.dataclass(frozen=True)
class Polynomial:
    r""":math:`\sum_i c_i g^i`.

    Attributes:
      coefficients: c_0, c_1, ...
    """

    coefficients: tuple[float, ...]

    def __call__(self, g: Array) -> Array:
        """The curve at ``g``."""
        total = numpy_of(g).zeros_like(g)
        for c in reversed(self.coefficients):
            total = total * g + c
        return total


@dataclasses.dataclass(frozen=True, kw_only=True)
class Logarithm:
    r""":math:`a \ln g + b`, kept in [low, high].

    Attributes:
      slope: a.
      offset: b.
      low: lowest value.
      high: highest value.
    """

    slope: float
    offset: float
    low: float
    high: float

    def __call__(self, g: Array) -> Array:
        """The curve at ``g``."""
        xp = numpy_of(g)
        return xp.clip(self.slope * xp.log(g) + self.offset, self.low, self.high)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Power:
    r""":math:`a g^p`, at most ``high``.

    Attributes:
      factor: a.
      exponent: p.
      high: highest value.
    """

    factor: float
    exponent: float
    high: float

    def __call__(self, g: Array) -> Array:
        """The curve at ``g``."""
        return numpy_of(g).minimum(self.factor * g**self.exponent, self.high)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Piecewise:
    """One curve below a conductance, another from there on.

    Attributes:
      split: relative conductance where the second begins.
      below: the first.
      above: the second.
    """

    split: float
    below: "Fit"
    above: "Fit"

    def __call__(self, g: Array) -> Array:
        """The curve at ``g``."""
        return numpy_of(g).where(g < self.split, self.below(g), self.above(g))


Fit = Polynomial | Logarithm | Power | Piecewise


def at(curve: Fit, g: jax.Array, g_max: float) -> jax.Array:
    """A curve at a conductance ``g``; both in the unit of ``g_max``."""
    return curve(jnp.maximum(g / g_max, MIN_RELATIVE))


@functools.lru_cache(maxsize=64)
def extremes(curve: Fit) -> tuple[float, float]:
    """Least and greatest value of a curve on its way to full conductance.

    Seen at 1,000 places, as many in each decade: what a curve does between them is not.
    """
    values = curve(np.geomspace(MIN_RELATIVE, 1.0, 1000))
    return float(np.min(values)), float(np.max(values))
