"""Writing into folders: by the first of several processes, and alone.

An error of the file system is a `RunFolderError` that names the folder.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from experiments.runs.locks import Lock
from experiments.runs.stored import RunFolderError


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Makes an error of the file system a `RunFolderError` that names the folder."""
    try:
        yield
    except OSError as error:
        raise RunFolderError(f"workdir={path}: {error}") from error


def wait_for_all() -> None:
    """Waits until all processes are here: they have read, or the first has written."""
    multihost_utils.sync_global_devices("run folder")


def by_first(path: Path, write: Callable[[], Any]) -> Any:
    """What the first process gets by writing in a folder; None in the others.

    If it fails there, none goes on.

    Raises:
      RunFolderError: in every process.
    """
    result, error = None, None
    if jax.process_index() == 0:
        try:
            with writing(path):
                result = write()
        except RunFolderError as caught:
            error = caught
    failed = multihost_utils.broadcast_one_to_all(np.int32(error is not None))
    if error is not None:
        raise error
    if failed:
        raise RunFolderError(f"workdir={path}: the first process cannot write there")
    return result


@contextlib.contextmanager
def held(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Makes a folder, if there is none, where meanwhile no other process writes.

    Raises:
      RunFolderError: if it cannot be written, or is being written and not waited for.
    """

    def begin() -> Lock:
        path.mkdir(parents=True, exist_ok=True)
        return Lock(path, wait=wait)

    lock = by_first(path, begin)
    try:
        yield
    finally:
        if lock is not None:
            lock.close()
