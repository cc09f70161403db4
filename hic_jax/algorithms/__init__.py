"""Algorithms that train weights on devices, behind any rule of optax.

To add one, write a subclass of `PairSpec` in a file of its own and enter it in
`ALGORITHMS`, by the name that its flags begin with.
"""

from hic_jax.algorithms.base import (
    AnalogState,
    age,
    analog,
    analog_states,
    analog_weights,
)
from hic_jax.algorithms.events import Events
from hic_jax.algorithms.hic import HICEvents, HICSpec, HybridWeight, hic
from hic_jax.algorithms.mixed_precision import (
    MixedPrecisionSpec,
    ResidualWeight,
    mixed_precision,
)
from hic_jax.algorithms.pair_weight import PairWeight
from hic_jax.algorithms.pairs import PairSpec
from hic_jax.algorithms.pulsed_sgd import PulsedSGDSpec, pulsed_sgd
from hic_jax.algorithms.volatile import VolatileSpec, VolatileWeight, volatile

ALGORITHMS: dict[str, type[PairSpec]] = {
    "hic": HICSpec,
    "mixed_precision": MixedPrecisionSpec,
    "pulsed_sgd": PulsedSGDSpec,
    "volatile": VolatileSpec,
}

__all__ = [
    "ALGORITHMS",
    "AnalogState",
    "Events",
    "HICEvents",
    "HICSpec",
    "HybridWeight",
    "MixedPrecisionSpec",
    "PairSpec",
    "PairWeight",
    "PulsedSGDSpec",
    "ResidualWeight",
    "VolatileSpec",
    "VolatileWeight",
    "age",
    "analog",
    "analog_states",
    "analog_weights",
    "hic",
    "mixed_precision",
    "pulsed_sgd",
    "volatile",
]
