"""Flax modules of crossbar products whose converters' ranges are running means.

    nn.Dense(10, dot_general=crossbar.LinenDotGeneral(spec))
    nnx.Linear(64, 10, dot_general=crossbar.NnxDotGeneral(spec), rngs=rngs)

A running range is state of the model, as BatchNorm's statistics are: in Linen the
collection "crossbar", updated where that is mutable; in nnx an `nnx.BatchStat`, updated
until `nnx.Module.eval` is called. Without a running range the modules hold nothing.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from hic_jax.crossbar.hooks import convolve, multiply_general
from hic_jax.crossbar.spec import CrossbarSpec
from hic_jax.crossbar.straight_through import Ranges

COLLECTION = "crossbar"

# State of the ranges, (2, 2) float32: for DAC and ADC what was seen, weighted by age,
# and the sum of those weights. Their ratio is a mean from the first batch on.


def _start() -> jax.Array:
    return jnp.zeros((2, 2), jnp.float32)


def _means(state: jax.Array) -> Ranges:
    total, weight = state.T
    return Ranges(*jnp.where(weight > 0, total / jnp.where(weight > 0, weight, 1), 0))


def _updated(state: jax.Array, seen: Ranges, momentum: float) -> jax.Array:
    seen = jnp.stack([jnp.stack(seen), jnp.ones(2, jnp.float32)], axis=1)
    return momentum * state + (1 - momentum) * jax.lax.stop_gradient(seen)


class _LinenProduct(nn.Module):
    """A product with its running ranges."""

    spec: CrossbarSpec

    def _run(self, function: Callable, *arguments: Any, **options: Any) -> jax.Array:
        if not self.spec.runs:
            return function(self.spec, Ranges(), *arguments, **options)[0]
        state = self.variable(COLLECTION, "ranges", _start)
        y, seen = function(self.spec, _means(state.value), *arguments, **options)
        if self.is_mutable_collection(COLLECTION) and not self.is_initializing():
            state.value = _updated(state.value, seen, self.spec.range_momentum)
        return y


class LinenDotGeneral(_LinenProduct):
    """`hic_jax.crossbar.dot_general` for Linen, of any range.

    Attributes:
      spec: arrays and converters.
    """

    @nn.compact
    def __call__(self, lhs: jax.Array, rhs: jax.Array, *arguments, **options):
        """As `jax.lax.dot_general`."""
        return self._run(multiply_general, lhs, rhs, *arguments, **options)


class LinenConvGeneralDilated(_LinenProduct):
    """`hic_jax.crossbar.conv_general_dilated` for Linen, of any range.

    Attributes:
      spec: arrays and converters.
    """

    @nn.compact
    def __call__(self, lhs: jax.Array, rhs: jax.Array, *arguments, **options):
        """As `jax.lax.conv_general_dilated`."""
        return self._run(convolve, lhs, rhs, *arguments, **options)


class _NnxProduct(nnx.Module):
    """A product with its running ranges."""

    def __init__(self, spec: CrossbarSpec):
        self.spec = spec
        self.use_running_average = False
        if spec.runs:
            self.ranges = nnx.BatchStat(_start())

    def _run(self, function: Callable, *arguments: Any, **options: Any) -> jax.Array:
        if not self.spec.runs:
            return function(self.spec, Ranges(), *arguments, **options)[0]
        state = self.ranges[...]
        y, seen = function(self.spec, _means(state), *arguments, **options)
        if not self.use_running_average:
            self.ranges[...] = _updated(state, seen, self.spec.range_momentum)
        return y


class NnxDotGeneral(_NnxProduct):
    """`hic_jax.crossbar.dot_general` for nnx, of any range."""

    def __call__(self, lhs: jax.Array, rhs: jax.Array, *arguments, **options):
        """As `jax.lax.dot_general`."""
        return self._run(multiply_general, lhs, rhs, *arguments, **options)


class NnxConvGeneralDilated(_NnxProduct):
    """`hic_jax.crossbar.conv_general_dilated` for nnx, of any range."""

    def __call__(self, lhs: jax.Array, rhs: jax.Array, *arguments, **options):
        """As `jax.lax.conv_general_dilated`."""
        return self._run(convolve, lhs, rhs, *arguments, **options)
