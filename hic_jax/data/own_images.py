"""Images of the user's own: a folder of folders, one for each class, or an NPZ file.

``images:PATH`` names them. Where nothing says what is for tests, a fifth of each class
is, always the same images.
"""

from pathlib import Path

import numpy as np

from hic_jax.data import image_arrays, image_folders
from hic_jax.data.errors import wrong

# What the name of such a set begins with, where other data sets have theirs.
PREFIX = "images:"


def is_own(name: str) -> bool:
    """Whether a data set is images of the user's own, by its name."""
    return name.startswith(PREFIX)


def read(name: str, cache: Path) -> tuple[dict[str, np.ndarray], int]:
    """The images of a folder or a file.

    Args:
      name: "images:PATH".
      cache: folder for decoded images.

    Returns:
      Arrays of `array_cache.ARRAYS` by name, and the number of classes.

    Raises:
      DataError: with the file and what is allowed.
    """
    path = Path(name.removeprefix(PREFIX)).expanduser()
    if path.is_dir():
        return image_folders.read(name, path, cache)
    if path.is_file() and path.suffix == ".npz":
        return image_arrays.read(name, path)
    raise wrong(
        name, "must be images: and the path of a folder of classes, or of an .npz file"
    )
