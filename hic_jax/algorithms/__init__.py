"""Algorithms that train weights on devices, behind any rule of optax.

To add one, write a subclass of `PairSpec` in a file of its own and enter it in
`ALGORITHMS`, by the name that its flags begin with.
"""

from hic_jax.algorithms.agad import AGADSpec, AGADWeight, agad
from hic_jax.algorithms.arrays import ArraysWeight
from hic_jax.algorithms.base import analog
from hic_jax.algorithms.chopped import ChoppedSpec, ChoppedWeight, chopped_tiki_taka
from hic_jax.algorithms.events import Events
from hic_jax.algorithms.hic import HICEvents, HICSpec, HybridWeight, hic
from hic_jax.algorithms.mixed_precision import (
    MixedPrecisionSpec,
    ResidualWeight,
    mixed_precision,
)
from hic_jax.algorithms.pair_weight import PairWeight
from hic_jax.algorithms.pairs import PairSpec
from hic_jax.algorithms.pulsed import PulsedSpec
from hic_jax.algorithms.pulsed_sgd import PulsedSGDSpec, pulsed_sgd
from hic_jax.algorithms.residual import ResidualSpec, residual
from hic_jax.algorithms.state import (
    AnalogState,
    age,
    analog_states,
    analog_weights,
    zeros_for_totals,
)
from hic_jax.algorithms.tiki_taka import TikiTakaSpec, TikiTakaWeight, tiki_taka
from hic_jax.algorithms.transfer import TransferEvents, TransferSpec
from hic_jax.algorithms.volatile import VolatileSpec, VolatileWeight, volatile

ALGORITHMS: dict[str, type[PairSpec]] = {
    "hic": HICSpec,
    "mixed_precision": MixedPrecisionSpec,
    "pulsed_sgd": PulsedSGDSpec,
    "volatile": VolatileSpec,
    "tiki_taka": TikiTakaSpec,
    "chopped_tiki_taka": ChoppedSpec,
    "agad": AGADSpec,
    "residual": ResidualSpec,
}

__all__ = [
    "ALGORITHMS",
    "AGADSpec",
    "AGADWeight",
    "AnalogState",
    "ArraysWeight",
    "ChoppedSpec",
    "ChoppedWeight",
    "Events",
    "HICEvents",
    "HICSpec",
    "HybridWeight",
    "MixedPrecisionSpec",
    "PairSpec",
    "PairWeight",
    "PulsedSGDSpec",
    "PulsedSpec",
    "ResidualSpec",
    "ResidualWeight",
    "TikiTakaSpec",
    "TikiTakaWeight",
    "TransferEvents",
    "TransferSpec",
    "VolatileSpec",
    "VolatileWeight",
    "agad",
    "age",
    "analog",
    "analog_states",
    "analog_weights",
    "chopped_tiki_taka",
    "hic",
    "mixed_precision",
    "pulsed_sgd",
    "residual",
    "tiki_taka",
    "volatile",
    "zeros_for_totals",
]
