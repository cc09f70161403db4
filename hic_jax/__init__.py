"""hic_jax: train networks on simulated phase-change memory, in JAX."""

from hic_jax import accounting, algorithms, compensation, crossbar, pcm
from hic_jax.accounting import endurance, model_size
from hic_jax.algorithms import (
    AnalogState,
    HICSpec,
    HybridWeight,
    MixedPrecisionSpec,
    PulsedSGDSpec,
    VolatileSpec,
    age,
    analog_weights,
    hic,
    mixed_precision,
    pulsed_sgd,
    volatile,
)
from hic_jax.deployment import DeployedWeight, deploy
from hic_jax.kernel_axes import KernelAxes
from hic_jax.labels import analog_labels
from hic_jax.tracing import find_kernel_axes
from hic_jax.weights import (
    DAY,
    HOUR,
    MINUTE,
    MONTH,
    YEAR,
    AnalogWeight,
    drift,
    read,
    read_params,
)

__version__ = "0.1.0"

__all__ = [
    "DAY",
    "HOUR",
    "MINUTE",
    "MONTH",
    "YEAR",
    "AnalogState",
    "AnalogWeight",
    "DeployedWeight",
    "HICSpec",
    "HybridWeight",
    "KernelAxes",
    "MixedPrecisionSpec",
    "PulsedSGDSpec",
    "VolatileSpec",
    "accounting",
    "age",
    "algorithms",
    "analog_labels",
    "analog_weights",
    "compensation",
    "crossbar",
    "deploy",
    "drift",
    "endurance",
    "find_kernel_axes",
    "hic",
    "mixed_precision",
    "model_size",
    "pcm",
    "pulsed_sgd",
    "read",
    "read_params",
    "volatile",
]
