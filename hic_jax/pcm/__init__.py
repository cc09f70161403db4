"""Phase-change memory: pure functions on arrays, in uS and seconds."""

from hic_jax.pcm import binary, multilevel, pair
from hic_jax.pcm.binary import BinarySpec, BinaryState
from hic_jax.pcm.multilevel import NON_IDEALITIES, MultilevelSpec
from hic_jax.pcm.pair import PairState
from hic_jax.pcm.presets import PRESETS, ideal, linear_noisy, nandakumar_2018, preset

__all__ = [
    "NON_IDEALITIES",
    "PRESETS",
    "BinarySpec",
    "BinaryState",
    "MultilevelSpec",
    "PairState",
    "binary",
    "ideal",
    "linear_noisy",
    "multilevel",
    "nandakumar_2018",
    "pair",
    "preset",
]
