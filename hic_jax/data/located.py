"""Where a data set of TFDS lies prepared; downloaded first, if it may be."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import logging

from hic_jax.data import preparation, prepared
from hic_jax.data.errors import DataError, wrong

# Set in the environment, it has nothing downloaded.
NO_DOWNLOAD = "HIC_JAX_NO_DOWNLOAD"


def folder_of(
    name: str,
    data_dir: str | os.PathLike | None,
    download: bool | None,
    check: Callable[[str, Any], Any],
) -> Path:
    """The folder of a prepared set.

    Args:
      name: ``name[/config][:version]``.
      data_dir: folder of prepared TFDS sets; ``$TFDS_DATA_DIR`` or
        ``~/tensorflow_datasets`` if None. It must exist if given.
      download: whether a set that is not prepared may be downloaded; None if
        ``$HIC_JAX_NO_DOWNLOAD`` does not forbid it.
      check: raises, given the name and the features of a set that is to be downloaded,
        if it is of no use.

    Raises:
      DataError: if it cannot be had.
    """
    reference = prepared.Reference.parse(name)
    root = _root(data_dir)
    folder = prepared.find(root, reference)
    if folder is not None:
        return folder
    preparation.check_known(name, reference, root)
    if download is None:
        download = not os.environ.get(NO_DOWNLOAD)
    if not download:
        raise wrong(
            name,
            f"is not prepared under --data_dir={str(root)!r}, where it was looked for, "
            "and nothing is to be downloaded (--no_download); allow it, or name the "
            "--data_dir that holds the set",
        )
    logging.info("Preparing %s under %s.", name, root)
    try:
        preparation.download_and_prepare(name, reference, root, check)
    except DataError:
        # Of two starts at once, the second finds the place taken.
        if prepared.find(root, reference) is None:
            raise
    folder = prepared.find(root, reference)
    if folder is None:
        raise wrong(
            name,
            f"was prepared, but is not under --data_dir={str(root)!r}; name its config "
            "as in 'emnist/balanced'",
        )
    return folder


def _root(data_dir: str | os.PathLike | None) -> Path:
    if data_dir is None:
        default = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
        return Path(default).expanduser()
    root = Path(data_dir).expanduser()
    if not root.is_dir():
        raise DataError(
            f"--data_dir={str(data_dir)!r}: must be an existing folder; prepared sets "
            "are looked for, and downloaded sets put, in it"
        )
    return root
