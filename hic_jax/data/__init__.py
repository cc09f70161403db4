"""Image-classification data: sets by name, and augmentation on the device.

``load`` gives uint8 arrays in host memory; put them on the device once, then draw
batches there and pass them through ``augment`` and ``normalise`` under ``jit``.
"""

from hic_jax.data.augment import (
    POLICIES,
    augment,
    default_policy,
    normalise,
    random_crop,
    random_flip,
)
from hic_jax.data.datasets import Dataset, load
from hic_jax.data.errors import DataError
from hic_jax.data.shift import SHIFTS, shift

__all__ = [
    "POLICIES",
    "SHIFTS",
    "DataError",
    "Dataset",
    "augment",
    "default_policy",
    "load",
    "normalise",
    "random_crop",
    "random_flip",
    "shift",
]
