"""Phase-change memory and others: pure functions on arrays, in uS and seconds."""

from hic_jax.pcm import (
    accumulator,
    binary,
    fits,
    multilevel,
    pair,
    programmed,
    stepping,
    writing,
)
from hic_jax.pcm.binary import BinarySpec, BinaryState
from hic_jax.pcm.device import DeviceSpec
from hic_jax.pcm.measured import TableSpec, TwoSidedTableSpec
from hic_jax.pcm.multilevel import MultilevelSpec
from hic_jax.pcm.pair import PairState
from hic_jax.pcm.presets import (
    PRESETS,
    PROGRAMMED_PRESETS,
    ecram,
    gokmen_vlasov,
    hermes_1,
    hermes_2,
    ideal,
    ideal_two_sided,
    linear_noisy,
    nandakumar_2018,
    nandakumar_2019,
    preset,
    programmed_preset,
    projected,
    reram_2018,
    reram_hfo2,
    reram_om,
)
from hic_jax.pcm.programmed import ProgrammedSpec
from hic_jax.pcm.two_sided import (
    ConstantStepSpec,
    ExpStepSpec,
    SoftBoundsSpec,
    TwoSidedSpec,
)

__all__ = [
    "PRESETS",
    "PROGRAMMED_PRESETS",
    "BinarySpec",
    "BinaryState",
    "ConstantStepSpec",
    "DeviceSpec",
    "ExpStepSpec",
    "MultilevelSpec",
    "PairState",
    "ProgrammedSpec",
    "SoftBoundsSpec",
    "TableSpec",
    "TwoSidedSpec",
    "TwoSidedTableSpec",
    "accumulator",
    "binary",
    "ecram",
    "fits",
    "gokmen_vlasov",
    "hermes_1",
    "hermes_2",
    "ideal",
    "ideal_two_sided",
    "linear_noisy",
    "multilevel",
    "nandakumar_2018",
    "nandakumar_2019",
    "pair",
    "preset",
    "programmed",
    "programmed_preset",
    "projected",
    "reram_2018",
    "reram_hfo2",
    "reram_om",
    "stepping",
    "writing",
]
