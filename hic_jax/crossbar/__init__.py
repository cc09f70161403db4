"""Crossbar products: converters, tiles, and the hooks that flax layers take.

`hic_jax.on_crossbars` puts them under any function, without hooks.
"""

from hic_jax.crossbar.fresh import fresh_noise
from hic_jax.crossbar.hooks import conv_general_dilated, dot_general
from hic_jax.crossbar.layers import LayerCrossbars
from hic_jax.crossbar.linen import (
    COLLECTION,
    STREAM,
    LinenConvGeneralDilated,
    LinenDotGeneral,
    rngs,
)
from hic_jax.crossbar.nnx import NnxConvGeneralDilated, NnxDotGeneral
from hic_jax.crossbar.spec import CrossbarSpec
from hic_jax.crossbar.totals import gradient_totals

__all__ = [
    "COLLECTION",
    "STREAM",
    "CrossbarSpec",
    "LayerCrossbars",
    "LinenConvGeneralDilated",
    "LinenDotGeneral",
    "NnxConvGeneralDilated",
    "NnxDotGeneral",
    "conv_general_dilated",
    "dot_general",
    "fresh_noise",
    "gradient_totals",
    "rngs",
]
