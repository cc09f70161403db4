"""Data: images with classes by name, augmentation on the device; text as characters.

``load`` gives uint8 arrays in host memory; put them on the device once, then draw
batches there and pass them through ``augment`` and ``normalise`` under ``jit``.
``load_text`` gives the characters of a file.
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
from hic_jax.data.text import Text, is_text, load_text

__all__ = [
    "POLICIES",
    "SHIFTS",
    "DataError",
    "Dataset",
    "Text",
    "augment",
    "default_policy",
    "is_text",
    "load",
    "load_text",
    "normalise",
    "random_crop",
    "random_flip",
    "shift",
]
