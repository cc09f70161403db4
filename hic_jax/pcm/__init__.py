"""Phase-change memory: pure functions on arrays, in uS and seconds."""

from hic_jax.pcm import binary, fits, multilevel, pair, programmed
from hic_jax.pcm.binary import BinarySpec, BinaryState
from hic_jax.pcm.multilevel import NON_IDEALITIES, MultilevelSpec
from hic_jax.pcm.pair import PairState
from hic_jax.pcm.presets import (
    PRESETS,
    PROGRAMMED_PRESETS,
    hermes_1,
    hermes_2,
    ideal,
    linear_noisy,
    nandakumar_2018,
    nandakumar_2019,
    preset,
    programmed_preset,
)
from hic_jax.pcm.programmed import ProgrammedSpec

__all__ = [
    "NON_IDEALITIES",
    "PRESETS",
    "PROGRAMMED_PRESETS",
    "BinarySpec",
    "BinaryState",
    "MultilevelSpec",
    "PairState",
    "ProgrammedSpec",
    "binary",
    "fits",
    "hermes_1",
    "hermes_2",
    "ideal",
    "linear_noisy",
    "multilevel",
    "nandakumar_2018",
    "nandakumar_2019",
    "pair",
    "preset",
    "programmed",
    "programmed_preset",
]
