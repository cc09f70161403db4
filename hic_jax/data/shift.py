"""Images of another kind than those that a network was trained on."""

from collections.abc import Callable

import numpy as np

from hic_jax import checks

_NOISE_STD = 48.0  # of 255


def shift(images: np.ndarray, name: str) -> np.ndarray:
    """Changes images as a change of sensor, light or mounting would.

    Args:
      images: (n, h, w, c) uint8.
      name: of `SHIFTS`.

    Returns:
      (n, h, w, c) uint8, the same every time.

    Raises:
      ValueError: at a name that is not there, or an image that is not square and to be
        rotated.
    """
    checks.one_of("shift", name, SHIFTS)
    return SHIFTS[name](images)


def _dim(images: np.ndarray) -> np.ndarray:
    """A third of the light."""
    return images // 3


def _invert(images: np.ndarray) -> np.ndarray:
    """A negative."""
    return 255 - images


def _noise(images: np.ndarray) -> np.ndarray:
    """Gaussian noise, a fifth of full scale."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(images.shape, np.float32) * _NOISE_STD
    return np.clip(np.rint(images + noise), 0, 255).astype(np.uint8)


def _rotate(images: np.ndarray) -> np.ndarray:
    """A quarter turn, anticlockwise."""
    height, width = images.shape[1:3]
    if height != width:
        raise ValueError(
            f"shift=rotate: images are {height}x{width}; must be square for that"
        )
    return np.ascontiguousarray(np.rot90(images, axes=(1, 2)))


SHIFTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda images: images,
    "dim": _dim,
    "invert": _invert,
    "noise": _noise,
    "rotate": _rotate,
}
