"""Decoded data sets kept on disk as memory-mapped ``.npy`` files.

One folder holds one data set: four arrays and ``manifest.json``, which says what the
arrays must look like. A folder is filled under a temporary name and renamed when it is
complete, so a killed start leaves no half cache and two starts at once do not mix.
"""

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import logging

from hic_jax.data.errors import DataError

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
_MANIFEST = "manifest.json"
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
        manifest = json.loads((folder / _MANIFEST).read_text())
        arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS
        }
        for name, array in arrays.items():
            if _description(array) != manifest["arrays"][name]:
                raise ValueError(f"{name} is {_description(array)}")
        return arrays, int(manifest["num_classes"])
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        logging.warning("Cache %s is broken (%s): it is rebuilt.", folder, error)
        return None


def _write(folder: Path, decode: Callable[[Path], int]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(folder.parent)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        num_classes = decode(staging)
        arrays = {
            name: _description(np.load(staging / f"{name}.npy", mmap_mode="r"))
            for name in ARRAYS
        }
        manifest = {"num_classes": num_classes, "arrays": arrays}
        (staging / _MANIFEST).write_text(json.dumps(manifest, indent=1))
        _publish(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


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
    shutil.rmtree(broken, ignore_errors=True)


def _remove_stale(cache_dir: Path) -> None:
    for path in cache_dir.glob(".*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE_S:
                shutil.rmtree(path)


def _description(array: np.ndarray) -> dict[str, object]:
    return {"shape": list(array.shape), "dtype": str(array.dtype)}
