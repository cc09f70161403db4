"""Crossbar products for Linen, of any spec.

    nn.Dense(10, dot_general=crossbar.LinenDotGeneral(spec))

What a product keeps and draws belongs to the layer that computes it, even where several
layers are given one hook: running ranges are in the layer's collection "crossbar" and
are updated where that is mutable, and noise is drawn from the layer's stream "crossbar"
of random numbers, ``apply(..., rngs=crossbar.rngs(key))``.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from jax import lax

from hic_jax.crossbar import running
from hic_jax.crossbar.hooks import convolve, multiply_general, takes_arguments_of
from hic_jax.crossbar.spec import CrossbarSpec
from hic_jax.crossbar.straight_through import Ranges

# The collection of running ranges, and the stream of random numbers of noise.
COLLECTION = STREAM = "crossbar"


# No count of steps, tensors or tiles, to which others fold in their numbers.
_NOISE = 0xADC0_0153


def rngs(key: jax.Array) -> dict[str, jax.Array]:
    """``rngs`` of `flax.linen.Module.apply` for noise, apart from what else uses a key.

    Args:
      key: a new one for every batch.
    """
    return {STREAM: jax.random.fold_in(key, _NOISE)}


@dataclasses.dataclass(frozen=True)
class LinenDotGeneral:
    """`hic_jax.crossbar.dot_general` for Linen layers, with state and noise.

    Attributes:
      spec: arrays and converters.
    """

    spec: CrossbarSpec

    @takes_arguments_of(lax.dot_general)
    def __call__(self, *arguments, **options):
        """As `jax.lax.dot_general`, in a compact method of a layer."""
        return _in_layer(self, DotGeneral, multiply_general, arguments, options)


@dataclasses.dataclass(frozen=True)
class LinenConvGeneralDilated:
    """`hic_jax.crossbar.conv_general_dilated` for Linen layers, with state and noise.

    Attributes:
      spec: arrays and converters.
    """

    spec: CrossbarSpec

    @takes_arguments_of(lax.conv_general_dilated)
    def __call__(self, *arguments, **options):
        """As `jax.lax.conv_general_dilated`, in a compact method of a layer."""
        return _in_layer(self, ConvGeneralDilated, convolve, arguments, options)


def _in_layer(
    hook: "LinenDotGeneral | LinenConvGeneralDilated",
    module: "type[_Product]",
    function: Callable,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
) -> jax.Array:
    """Computes a product as a part of the layer that calls the hook."""
    spec = hook.spec
    if not (spec.runs or spec.adc_noise):
        return function(spec, Ranges(), None, *arguments, **options)[0]
    part = module(spec)  # Linen makes it a part of the module whose method runs.
    if part.parent is None:
        raise ValueError(
            f"{type(hook).__name__}: must be called by a Linen layer, which holds its "
            "running ranges and draws its noise"
        )
    return part(function, *arguments, **options)


class _Product(nn.Module):
    """The part of a layer that is one product."""

    spec: CrossbarSpec

    @nn.compact
    def __call__(
        self, function: Callable, *arguments: Any, **options: Any
    ) -> jax.Array:
        spec = self.spec
        key = self._key() if spec.adc_noise else None
        if not spec.runs:
            return function(spec, Ranges(), key, *arguments, **options)[0]
        state = self.variable(COLLECTION, "ranges", running.start)
        ranges = running.means(state.value)
        y, seen = function(spec, ranges, key, *arguments, **options)
        if self.is_mutable_collection(COLLECTION) and not self.is_initializing():
            state.value = running.updated(state.value, seen, spec.range_momentum)
        return y

    def _key(self) -> jax.Array:
        # Linen takes "params" where a stream is missing, as it is in `init`.
        if not (self.has_rng(STREAM) or self.has_rng("params")):
            raise ValueError(
                f"adc_noise={self.spec.adc_noise}: noise needs a new key for every "
                "read: apply(..., rngs=crossbar.rngs(key))"
            )
        return self.make_rng(STREAM)


# Their names are those of the state in the collection.
class DotGeneral(_Product):
    """The part of a layer that is a matrix product."""


class ConvGeneralDilated(_Product):
    """The part of a layer that is a convolution."""
