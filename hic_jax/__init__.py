"""hic_jax: train networks on simulated hybrid phase-change memory, in JAX."""

from hic_jax import accounting, compensation, crossbar, pcm
from hic_jax.accounting import endurance, model_size
from hic_jax.deployment import DeployedWeight, deploy
from hic_jax.device_state import HICState, age, hybrid_weights
from hic_jax.kernel_axes import KernelAxes
from hic_jax.labels import analog_labels
from hic_jax.spec import HICSpec
from hic_jax.tracing import find_kernel_axes
from hic_jax.transform import hic
from hic_jax.weights import (
    DAY,
    HOUR,
    MINUTE,
    MONTH,
    YEAR,
    HybridWeight,
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
    "DeployedWeight",
    "HICSpec",
    "HICState",
    "HybridWeight",
    "KernelAxes",
    "accounting",
    "age",
    "analog_labels",
    "compensation",
    "crossbar",
    "deploy",
    "drift",
    "endurance",
    "find_kernel_axes",
    "hic",
    "hybrid_weights",
    "model_size",
    "pcm",
    "read",
    "read_params",
]
