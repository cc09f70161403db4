"""The likelihood of trains as a function of a vector: the constants of a model."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hic_jax.fitting import likelihood
from hic_jax.fitting.likelihood import Data
from hic_jax.fitting.models import Model

# At such a share of its bounds a constant counts as lying at one.
_AT_BOUND = 1e-9
_NEWTON_STEPS, _HALVINGS = 30, 8
# What is no number is no place for a maximum.
IMPOSSIBLE = 1e12


class Unravel:
    """Constants by name of a vector; equal, and of one hash, for equal shapes."""

    def __init__(self, constants: dict[str, Any]):
        self.shapes = tuple((k, np.shape(v)) for k, v in sorted(constants.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unravel) and self.shapes == other.shapes

    def __hash__(self) -> int:
        return hash(self.shapes)

    def __call__(self, vector: Any) -> dict[str, Any]:
        """The constants of a vector."""
        found, at = {}, 0
        for name, shape in self.shapes:
            size = math.prod(shape)
            found[name] = vector[at : at + size].reshape(shape)
            at += size
        return found

    def vector(self, constants: dict[str, Any]) -> np.ndarray:
        """The vector of constants."""
        return np.concatenate([np.ravel(constants[k]) for k, _ in self.shapes])


@dataclasses.dataclass(frozen=True)
class Surface:
    """Minus the logarithm of the likelihood over vectors of constants.

    To be made and used with 64-bit numbers in JAX.

    Attributes:
      model: what is fitted.
      fixed: constants that are not free.
      data: what it is fitted to.
      unravel: names of a vector's constants.
      low: least values of the vector.
      high: greatest ones.
      reads: whether values were read with noise.
      spread: whether devices have steps of their own size.
    """

    model: Model
    fixed: dict[str, Any]
    data: Data
    unravel: Unravel
    low: np.ndarray
    high: np.ndarray
    reads: bool
    spread: bool

    @property
    def _arguments(self) -> tuple:
        fixed = {k: jnp.asarray(v, jnp.float64) for k, v in self.fixed.items()}
        return fixed, self.data, self.unravel, self.model, self.reads, self.spread

    def __call__(self, vector: np.ndarray) -> float:
        """The value; `IMPOSSIBLE` where it is no number."""
        return float(_loss(vector, *self._arguments))

    def slope(self, vector: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and gradient."""
        value, slope = _slope(vector, *self._arguments)
        return float(value), np.asarray(slope)

    def hessian(self, vector: np.ndarray) -> np.ndarray:
        """Second derivatives."""
        return np.asarray(_hessian(vector, *self._arguments))

    def free(self, vector: np.ndarray) -> np.ndarray:
        """Which constants lie at neither of their bounds."""
        near = _AT_BOUND * np.maximum(1.0, abs(vector))
        return (vector > self.low + near) & (vector < self.high - near)

    def with_constant(self, index: int, value: float) -> "Surface":
        """The surface on which a constant has that value alone."""
        low, high = self.low.copy(), self.high.copy()
        low[index] = high[index] = value
        return dataclasses.replace(self, low=low, high=high)

    def polished(
        self, vector: np.ndarray, within: float = 1e-9
    ) -> tuple[np.ndarray, float]:
        """The minimum nearby, and its value within so much, by Newton's steps.

        Where the surface bends downwards they go down all the same, and they are halved
        until it is lower. Constants at a bound stay there unless it falls inwards.
        """
        vector = np.clip(vector, self.low, self.high)
        value, slope = self.slope(vector)
        for _ in range(_NEWTON_STEPS):
            falls_inwards = np.where(slope < 0, vector < self.high, vector > self.low)
            free = self.free(vector) | (falls_inwards & (self.low < self.high))
            try:
                bends, ways = np.linalg.eigh(self.hessian(vector)[np.ix_(free, free)])
            except np.linalg.LinAlgError:
                break
            step = np.zeros_like(vector)
            bends = np.fmax(abs(bends), 1e-12 * abs(bends).max(initial=1.0))
            step[free] = -ways @ (ways.T @ slope[free] / bends)
            trials = (
                np.clip(vector + step / 2**halvings, self.low, self.high)
                for halvings in range(_HALVINGS)
            )
            lower = next((trial for trial in trials if self(trial) < value), None)
            if lower is None:
                break
            before, vector = value, lower
            value, slope = self.slope(vector)
            if before - value < within:
                break
        return vector, value


_STATIC = (3, 4, 5, 6)


@functools.partial(jax.jit, static_argnums=_STATIC)
def _loss(vector, fixed, data, unravel, model, reads, spread):
    constants = {**fixed, **unravel(vector)}
    likely = likelihood.by_device(model, constants, data, reads=reads, spread=spread)
    found = -jnp.sum(likely)
    return jnp.where(jnp.isfinite(found), found, IMPOSSIBLE)


_slope = jax.jit(jax.value_and_grad(_loss), static_argnums=_STATIC)
_hessian = jax.jit(jax.hessian(_loss), static_argnums=_STATIC)
