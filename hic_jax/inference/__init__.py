"""Inference: a trained network as it is read later, on its chip or on a fresh one."""

import importlib
from typing import TYPE_CHECKING

from hic_jax.inference import chip_files, compensation, deployment

if TYPE_CHECKING:
    from hic_jax.inference import (
        compensations,
        network,
        over_time,
        quantised,
        sensitivity,
    )
    from hic_jax.inference.over_time import (
        CHIPS_MAX,
        CONFIDENCE,
        OF_READING,
        TRAINED,
        Reading,
        accuracy_over_time,
        interval_of_mean,
        make_chip,
        over_chips,
    )

__all__ = [
    "CHIPS_MAX",
    "CONFIDENCE",
    "OF_READING",
    "TRAINED",
    "Reading",
    "accuracy_over_time",
    "chip_files",
    "compensation",
    "compensations",
    "deployment",
    "interval_of_mean",
    "make_chip",
    "network",
    "over_chips",
    "over_time",
    "quantised",
    "sensitivity",
]

# What has training behind it, and is imported when it is asked for.
_LATE = ("compensations", "network", "over_time", "quantised", "sensitivity")


def __getattr__(name: str) -> object:
    """What has training behind it: a module, or a name of `over_time`."""
    if name in _LATE:
        return importlib.import_module(f"hic_jax.inference.{name}")
    if name in __all__:
        return getattr(importlib.import_module("hic_jax.inference.over_time"), name)
    raise AttributeError(f"module 'hic_jax.inference' has no attribute {name!r}")
