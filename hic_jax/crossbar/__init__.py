"""Crossbar products: converters, tiles, and the hooks that flax layers take."""

from hic_jax.crossbar.hooks import conv_general_dilated, dot_general
from hic_jax.crossbar.layers import LayerCrossbars
from hic_jax.crossbar.running import (
    COLLECTION,
    LinenConvGeneralDilated,
    LinenDotGeneral,
    NnxConvGeneralDilated,
    NnxDotGeneral,
)
from hic_jax.crossbar.spec import CrossbarSpec

__all__ = [
    "COLLECTION",
    "CrossbarSpec",
    "LayerCrossbars",
    "LinenConvGeneralDilated",
    "LinenDotGeneral",
    "NnxConvGeneralDilated",
    "NnxDotGeneral",
    "conv_general_dilated",
    "dot_general",
]
