"""Decoded data sets kept on disk as memory-mapped ``.npy`` files.

One folder holds one data set: its arrays, the ``SHA256SUMS`` of their files, and a
marker that says that this module made it. A folder is filled under a temporary name and
renamed when it is complete, so a killed start leaves no half cache and two starts at
once do not mix. What has no marker is never removed.
"""

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from absl import logging

from hic_jax.data.errors import DataError

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
_NUM_CLASSES = "num_classes"
_FILES = tuple(f"{name}.npy" for name in (*ARRAYS, _NUM_CLASSES))
_SUMS = "SHA256SUMS"
_MARKER = "MADE_BY_HIC_JAX"
_STAGING = ".hic_jax-decoding-"  # Begins the names of folders that are being filled.
_STALE_S = 24 * 3600  # no decoding takes a day: such a folder is a killed start's


def default_dir() -> Path:
    """``$XDG_CACHE_HOME/hic_jax/datasets``, by default under ``~/.cache``."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "hic_jax" / "datasets"


def fetch(
    folder: Path, decode: Callable[[Path], int]
) -> tuple[dict[str, np.ndarray], int]:
    """Returns the cached arrays, decoding them first where there is no sound cache.

    Args:
      folder: the data set's own cache folder; its name must identify the data.
      decode: writes every array of ``ARRAYS`` as ``NAME.npy`` into the folder it is
        given and returns the number of classes.

    Returns:
      The read-only memory-mapped arrays by name, and the number of classes.
    """
    cached = _read(folder)
    if cached is None:
        if os.path.lexists(folder) and not _made_here(folder):
            raise DataError(
                f"cache_dir={str(folder.parent)!r}: {folder.name} in it is no cache "
                "that was made here; move it away, or name another folder"
            )
        try:
            _write(folder, decode)
        except OSError as error:
            raise DataError(
                f"cache_dir={str(folder.parent)!r}: the decoded images cannot be "
                f"written there ({error}); name a writable folder with free space"
            ) from error
        cached = _read(folder)
    if cached is None:
        raise DataError(
            f"cache_dir={str(folder.parent)!r}: {folder.name} cannot be read back "
            "after writing; name another folder"
        )
    return cached


def _read(folder: Path) -> tuple[dict[str, np.ndarray], int] | None:
    """The cached arrays and class count; None if absent, incomplete or damaged."""
    if not folder.exists():
        return None
    try:
        # As many bytes as CIFAR-10 decoded, 180 MB, take SHA-256 0.1 s.
        if (folder / _SUMS).read_text() != _sums(folder):
            raise ValueError(f"its files are not those of {_SUMS}")
        arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS
        }
        return arrays, int(np.load(folder / f"{_NUM_CLASSES}.npy"))
    except (OSError, ValueError) as error:
        logging.warning("Cache %s is broken (%s): it is rebuilt.", folder, error)
        return None


def _sums(folder: Path) -> str:
    """Checksums of the arrays' files, headers included, as ``sha256sum`` says them."""
    lines = []
    for name in _FILES:
        with (folder / name).open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")
    return "".join(lines)


def _write(folder: Path, decode: Callable[[Path], int]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(folder.parent)
    staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=folder.parent))
    try:
        (staging / _MARKER).touch()
        num_classes = decode(staging)
        np.save(staging / f"{_NUM_CLASSES}.npy", num_classes)
        (staging / _SUMS).write_text(_sums(staging))
        _publish(staging, folder)
    finally:
        _remove(staging)


def _publish(staging: Path, folder: Path) -> None:
    """Renames ``staging`` to ``folder`` unless another start was there first."""
    with contextlib.suppress(OSError):
        staging.rename(folder)
        return
    if _read(folder) is not None:
        return
    broken = staging.with_name(f"{staging.name}.broken")
    folder.rename(broken)
    with contextlib.suppress(OSError):  # again: another start may be faster
        staging.rename(folder)
    _remove(broken)


def _remove_stale(cache_dir: Path) -> None:
    for path in cache_dir.glob(f"{_STAGING}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.lstat().st_mtime > _STALE_S:
                _remove(path)


def _made_here(folder: Path) -> bool:
    """Whether this module made a folder, which a link to one is not."""
    return not folder.is_symlink() and (folder / _MARKER).is_file()


def _remove(folder: Path) -> None:
    """Removes a folder that was made here, unless something else is in it."""
    if not _made_here(folder):
        return
    mine = (*_FILES, _SUMS, _MARKER)
    with contextlib.suppress(OSError):
        if {path.name for path in folder.iterdir()} <= set(mine):
            for name in mine:
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()


def write_split(
    name: str,
    examples: Iterator[tuple[np.ndarray, int]],
    size: int,
    num_classes: int,
    target: Path,
) -> None:
    """Writes a part of a set to TARGET_images.npy and TARGET_labels.npy.

    Args:
      name: what the user asked for, for messages.
      examples: (H, W, C) uint8 images, and their labels.
      size: how many there are.
      num_classes: what labels must be below.
      target: what the names of the files begin with.

    Raises:
      DataError: at images of different sizes, other labels, or no example.
    """
    shape = None
    labels = np.empty(size, np.int32)
    # Plain writes: on a full disk they raise, where a memory map kills the process.
    with open(f"{target}_images.npy", "wb") as file:
        for index, (image, label) in enumerate(examples):
            if shape is None:
                shape = image.shape
                _write_header(file, (size, *shape))
            if image.shape != shape:
                raise DataError(
                    f"--dataset={name!r}: has images of different sizes, {shape} and "
                    f"{image.shape}; all must have one size"
                )
            if not 0 <= label < num_classes:
                raise DataError(
                    f"--dataset={name!r}: has the label {label}; labels must lie in "
                    f"[0, {num_classes - 1}] (sets with hidden test labels do not)"
                )
            file.write(image.tobytes())
            labels[index] = label
        if shape is None:
            raise DataError(f"--dataset={name!r}: has an empty split")
        file.flush()
        os.fsync(file.fileno())
    np.save(f"{target}_labels.npy", labels)


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
