"""hic_jax: train networks on simulated phase-change memory, in JAX."""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from hic_jax import accounting, algorithms, crossbar, inference, pcm
from hic_jax.accounting import endurance, model_size
from hic_jax.algorithms import (
    AGADSpec,
    AnalogState,
    ChoppedSpec,
    HICSpec,
    HybridWeight,
    MixedPrecisionSpec,
    PulsedSGDSpec,
    ResidualSpec,
    TikiTakaSpec,
    VolatileSpec,
    agad,
    age,
    analog_weights,
    chopped_tiki_taka,
    hic,
    mixed_precision,
    pulsed_sgd,
    residual,
    tiki_taka,
    volatile,
)
from hic_jax.inference import compensation
from hic_jax.inference.chip_files import load_chip, save_chip
from hic_jax.inference.deployment import Clip, DeployedWeight, deploy
from hic_jax.kernel_axes import KernelAxes
from hic_jax.labels import analog_labels
from hic_jax.rewriting import on_crossbars
from hic_jax.shards import Shards
from hic_jax.tracing import find_kernel_axes
from hic_jax.weights import (
    DAY,
    HOUR,
    MINUTE,
    MONTH,
    YEAR,
    AnalogWeight,
    drift,
    fresh_variances,
    read,
    read_params,
)

if TYPE_CHECKING:
    from hic_jax import data, fitting, models, training

__version__ = "0.1.0"

__all__ = [
    "DAY",
    "HOUR",
    "MINUTE",
    "MONTH",
    "YEAR",
    "AGADSpec",
    "AnalogState",
    "AnalogWeight",
    "ChoppedSpec",
    "Clip",
    "DeployedWeight",
    "HICSpec",
    "HybridWeight",
    "KernelAxes",
    "MixedPrecisionSpec",
    "PulsedSGDSpec",
    "ResidualSpec",
    "Shards",
    "TikiTakaSpec",
    "VolatileSpec",
    "accounting",
    "agad",
    "age",
    "algorithms",
    "analog_labels",
    "analog_weights",
    "chopped_tiki_taka",
    "compensation",
    "crossbar",
    "data",
    "deploy",
    "drift",
    "endurance",
    "find_kernel_axes",
    "fitting",
    "fresh_variances",
    "hic",
    "inference",
    "load_chip",
    "mixed_precision",
    "model_size",
    "models",
    "on_crossbars",
    "pcm",
    "pulsed_sgd",
    "read",
    "read_params",
    "residual",
    "save_chip",
    "tiki_taka",
    "training",
    "volatile",
]


def __getattr__(name: str) -> ModuleType:
    """Modules that are imported when they are asked for, with SciPy behind them."""
    if name in ("data", "fitting", "models", "training"):
        return importlib.import_module(f"hic_jax.{name}")
    raise AttributeError(f"module 'hic_jax' has no attribute {name!r}")
