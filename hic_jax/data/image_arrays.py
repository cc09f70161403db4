"""Images in the arrays of an NPZ file.

``train_images``, ``train_labels``, ``test_images`` and ``test_labels``, or ``images``
and ``labels``: images (N, H, W) or (N, H, W, C) uint8, C from 1 to 4, labels (N,) or
(N, 1) whole numbers from 0 on. What else is there is left out, and told.
"""

from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from hic_jax.data import array_cache, held_out
from hic_jax.data.errors import DataError, wrong

_MOST_CHANNELS = 4


def read(name: str, path: Path) -> tuple[dict[str, np.ndarray], int]:
    """Images and labels by part; see `own_images.read`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {key: file[key] for key in _wanted(name, file)}
    except DataError:
        raise
    except Exception as error:  # Of a ZIP file, of a member, of NumPy.
        raise wrong(
            name,
            f"cannot be read as an NPZ file of numbers "
            f"({type(error).__name__}: {error}); must be one, as numpy.savez writes it",
        ) from error
    for key in stored:
        kind = key.rpartition("_")[2]
        check = _checked_images if kind == "images" else _checked_labels
        stored[key] = check(name, key, stored[key])
    if "images" in stored:
        images, labels = stored["images"], stored["labels"]
        _check_pair(name, "images", "labels", images, labels)
        _num_classes(name, "labels", labels, least=2)
        test = held_out.a_fifth(labels)
        stored = {
            "train_images": images[~test], "train_labels": labels[~test],
            "test_images": images[test], "test_labels": labels[test],
        }  # fmt: skip
    for part in ("train", "test"):
        pair = f"{part}_images", f"{part}_labels"
        _check_pair(name, *pair, *(stored[key] for key in pair))
    num_classes = _num_classes(name, "train_labels", stored["train_labels"])
    highest = stored["test_labels"].max()
    if highest >= num_classes:
        raise wrong(
            name,
            f"test_labels has {highest}, which train_labels lacks; "
            f"must lie in [0, {num_classes - 1}]",
        )
    return stored, num_classes


def _wanted(name: str, file: Any) -> tuple[str, ...]:
    """Names of the arrays to be read."""
    names = file.files
    alone = ("images", "labels")
    wanted = alone if set(alone) & set(names) else array_cache.ARRAYS
    if missing := [key for key in wanted if key not in names]:
        raise wrong(
            name,
            f"lacks the array {missing[0]}; must have "
            f"{', '.join(array_cache.ARRAYS)}, or {' and '.join(alone)}, and has "
            f"{', '.join(names) or 'none'}",
        )
    if others := [key for key in names if key not in wanted]:
        logging.warning("--dataset=%r: left out: %s", name, ", ".join(others))
    return wanted


def _checked_images(name: str, key: str, images: np.ndarray) -> np.ndarray:
    """Images as (N, H, W, C)."""
    shape = images.shape
    channels = shape[3] if images.ndim == 4 else 1
    right = images.ndim in (3, 4) and 1 <= channels <= _MOST_CHANNELS
    if not right or images.dtype != np.uint8 or not images.size:
        raise wrong(
            name,
            f"{key} is {shape} {images.dtype}; must be a uint8 array "
            "(N, H, W), or (N, H, W, C) with 1 to "
            f"{_MOST_CHANNELS} channels, not empty",
        )
    return images.reshape(*shape[:3], channels)


def _checked_labels(name: str, key: str, labels: np.ndarray) -> np.ndarray:
    """Labels as (N,) int32."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not labels.size:
        raise wrong(
            name,
            f"{key} is {labels.shape} {labels.dtype}; must be (N,) "
            "or (N, 1) whole numbers, not empty",
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > np.iinfo(np.int32).max:
        raise wrong(
            name,
            f"{key} has {low if low < 0 else high}; labels must be "
            "0, 1, ... up to the number of classes less one",
        )
    return labels.astype(np.int32)


def _check_pair(
    name: str, first: str, second: str, images: np.ndarray, labels: np.ndarray
) -> None:
    if len(images) != len(labels):
        raise wrong(
            name,
            f"{first} has {len(images)} images, and {second} "
            f"{len(labels)} labels; must have as many",
        )


def _num_classes(name: str, key: str, labels: np.ndarray, least: int = 1) -> int:
    """Classes of labels, of each of which there must be so many images."""
    found, counts = np.unique(labels, return_counts=True)
    if len(found) < 2:
        raise wrong(
            name, f"{key} has the class {found[0]} alone; must have two or more"
        )
    missing = np.flatnonzero(found != np.arange(len(found)))
    if len(missing):
        raise wrong(
            name,
            f"{key} has {found[-1]} and lacks {missing[0]}; classes must be numbered "
            "from 0 on, each with an image to train with",
        )
    if counts.min() < least:
        raise wrong(
            name,
            f"{key} has {counts.argmin()} once, and a fifth of each class is for "
            f"tests; must have each class {least} times or more",
        )
    return len(found)
