"""Phase-change memory: pure functions on arrays, in uS and seconds."""

from hic_jax.pcm import (
    accumulator,
    binary,
    fits,
    multilevel,
    pair,
    programmed,
    writing,
)
from hic_jax.pcm.binary import BinarySpec, BinaryState
from hic_jax.pcm.device import DeviceSpec
from hic_jax.pcm.multilevel import MultilevelSpec
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
    projected,
)
from hic_jax.pcm.programmed import ProgrammedSpec

__all__ = [
    "PRESETS",
    "PROGRAMMED_PRESETS",
    "BinarySpec",
    "BinaryState",
    "DeviceSpec",
    "MultilevelSpec",
    "PairState",
    "ProgrammedSpec",
    "accumulator",
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
    "projected",
    "writing",
]
