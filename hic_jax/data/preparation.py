"""Downloading and preparing TFDS data sets without TensorFlow.

``tensorflow_datasets`` 4.9 reads array_record files without TensorFlow, but makes them
with it: its archive extraction and most builders open files through ``tf.io.gfile``,
and ``features.Image`` encodes NumPy images with ``tf.image.encode_png``. Nothing else
of TensorFlow is needed by the usual sets (cifar10, cifar100, mnist, fashion_mnist,
kmnist, emnist, svhn_cropped, ...), so while a set is prepared those few functions are
stood in for by Python's file functions and PIL. PNG is lossless: the decoded pixels
are the same. A set that needs more of TensorFlow gets an error that says so.

The stand-in is put where tfds keeps its own lazy import (a private place, read from
tfds 4.9.10: it has no setting for that, nor for retries and timeouts), only while a set
is prepared; ``sys.modules`` never holds 'tensorflow'. Should a later tfds keep it
elsewhere, preparing fails with that same error.
"""

import contextlib
import difflib
import functools
import glob
import importlib.resources.abc
import importlib.util
import io
import logging
import os
import shutil
import textwrap
import types
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from tqdm import auto as tqdm

from hic_jax.data import prepared
from hic_jax.data.errors import DataError

# tfds retries for minutes and waits for ever; without a network that helps nobody.
_RETRIES = 2
_TIMEOUT_S = (10.0, 60.0)  # to connect, between two packets


def check_known(name: str, reference: prepared.Reference, data_dir: Path) -> None:
    """Raises, suggesting what may be meant, if TFDS has no such data set or config.

    Args:
      name: what the user asked for.
      reference: its parts.
      data_dir: the folder whose sets are suggested too.
    """
    import tensorflow_datasets as tfds

    # Community sets are left out: listing them needs a network and TensorFlow.
    known = tfds.list_builders(with_community_datasets=False)
    if reference.name not in known:
        local = prepared.list_names(data_dir)
        raise DataError(
            f"--dataset={name!r}: must be 'digits', an image-classification set of "
            "https://www.tensorflow.org/datasets/catalog, a set prepared under "
            f"--data_dir ({', '.join(local) or 'none there'}), or images: and the path "
            "of your own" + _suggestion(reference.name, ["digits", *known, *local])
        )
    configs = list(tfds.builder_cls(reference.name).builder_configs)
    if reference.config and reference.config not in configs:
        raise DataError(
            f"--dataset={name!r}: the config must be one of "
            f"{', '.join(configs) or 'none (the set has no configs)'}"
            + _suggestion(reference.config, configs)
        )


def _suggestion(wrong: str, allowed: list[str]) -> str:
    close = difflib.get_close_matches(wrong.lower(), allowed, n=3)
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""


def download_and_prepare(
    name: str,
    reference: prepared.Reference,
    data_dir: Path,
    check: Callable[[str, Any], Any],
) -> None:
    """Downloads a TFDS data set and prepares it as array_record files.

    A failed attempt leaves nothing but complete downloads, which are kept for a later
    one under ``data_dir/downloads``.

    Args:
      name: what the user asked for, for messages.
      reference: its parts.
      data_dir: the folder of prepared sets.
      check: raises, given the name and the features, if the set is of no use.
    """
    import tensorflow_datasets as tfds

    # What tfds says of sizes is not known before, and the rest is in the exception.
    silence = contextlib.redirect_stdout(io.StringIO())
    try:
        with _cleaned_up(reference, data_dir), _without_tensorflow(), silence:
            # Not tfds.builder, which may read the set from what lies in data_dir.
            builder = tfds.builder_cls(reference.name)(
                data_dir=data_dir, config=reference.config, version=reference.version
            )
            check(name, builder.info.features)
            builder.download_and_prepare(file_format="array_record")
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"--dataset={name!r}: is not prepared under --data_dir={str(data_dir)!r} "
            f"and {_reason(name, error)}"
        ) from error


@contextlib.contextmanager
def _cleaned_up(reference: prepared.Reference, data_dir: Path) -> Iterator[None]:
    """Takes away, after a failure, partial downloads of this start and empty folders.

    Of several starts at once, none takes away what is another's.
    """
    from tensorflow_datasets.core.download import download_manager

    downloads = data_dir / "downloads"
    absent = [
        folder
        for folder in (
            downloads / "extracted",
            downloads / reference.name,
            downloads,
            data_dir / reference.name / (reference.config or ""),
            data_dir / reference.name,
            data_dir,
        )
        if not folder.exists()
    ]
    # tfds names partial downloads by chance, and has no setting for that either.
    mine = uuid.uuid4().hex
    names = _StandIn(uuid4=lambda: _StandIn(hex=mine + uuid.uuid4().hex))
    try:
        with _replaced(vars(download_manager), {"uuid": names}):
            yield
    except BaseException:
        for pattern in (f"*.tmp.{mine}*", f"*/*.tmp.{mine}*"):
            for partial in downloads.glob(pattern):
                shutil.rmtree(partial, ignore_errors=True)
        for folder in absent:
            with contextlib.suppress(OSError):  # It is not empty, or never was made.
                folder.rmdir()
        raise


class _NeedsTensorFlow(AttributeError):
    """A builder asked for a part of TensorFlow that has no stand-in."""


class _StandIn(types.SimpleNamespace):
    def __getattr__(self, name: str) -> NoReturn:
        raise _NeedsTensorFlow(f"it asks for {name}")


class _PngImage:
    """The result of ``tf.image.encode_png``, whose ``numpy()`` are the bytes."""

    def __init__(self, image: np.ndarray):
        self.image = image  # (H, W, C) uint8

    def numpy(self) -> bytes:
        from PIL import Image

        if self.image.dtype != np.uint8:
            raise _NeedsTensorFlow(f"it asks for {self.image.dtype} images")
        gray = self.image.shape[-1] == 1
        encoded = io.BytesIO()
        Image.fromarray(self.image[..., 0] if gray else self.image).save(encoded, "PNG")
        return encoded.getvalue()


_TENSORFLOW = _StandIn(
    executing_eagerly=lambda: True,
    compat=_StandIn(as_text=os.fsdecode, as_bytes=os.fsencode),
    image=_StandIn(encode_png=_PngImage),
    io=_StandIn(
        gfile=_StandIn(
            GFile=open,
            exists=os.path.exists,
            glob=glob.glob,
            isdir=os.path.isdir,
            listdir=os.listdir,
            makedirs=functools.partial(os.makedirs, exist_ok=True),
            remove=os.remove,
            walk=os.walk,
        )
    ),
)


@contextlib.contextmanager
def _without_tensorflow() -> Iterator[None]:
    """Lets tfds prepare sets without TensorFlow, and give up soon if offline."""
    from tensorflow_datasets.core import dataset_builder
    from tensorflow_datasets.core.download import downloader
    from tensorflow_datasets.core.utils import lazy_imports_utils, tqdm_utils

    open_url = functools.partial(downloader._open_with_requests, timeout=_TIMEOUT_S)
    with contextlib.ExitStack() as stack:

        def replace(owner, **values):
            stack.enter_context(_replaced(vars(owner), values))

        # All of tfds shares a lazy module, whose _module is what it would import.
        replace(lazy_imports_utils.tensorflow, _module=_TENSORFLOW)
        if importlib.util.find_spec("importlib_resources") is None:
            # tfds imports this backport without depending on it.
            replace(dataset_builder.importlib_resources, _module=importlib.resources)
        replace(downloader, MAX_RETRIES=_RETRIES, _open_with_requests=open_url)
        replace(tqdm_utils, tqdm_lib=_StandIn(tqdm=_Bar))
        # Each retry would be a warning, and the last one is in the exception.
        requests_log = logging.getLogger("urllib3")
        stack.callback(requests_log.setLevel, requests_log.level)
        requests_log.setLevel(logging.ERROR)
        yield


class _Bar(tqdm.tqdm):
    """A bar on a terminal, where it leaves no trace."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options | {"disable": None, "leave": False})


@contextlib.contextmanager
def _replaced(names: dict[str, Any], values: dict[str, Any]) -> Iterator[None]:
    """Gives names other values, and in the end those that they had, if any."""
    before = {name: names[name] for name in values if name in names}
    names.update(values)
    try:
        yield
    finally:
        for name in values:
            names.pop(name, None)
        names.update(before)


def _reason(name: str, error: BaseException) -> str:
    """Why preparing failed and what to do, from the chain of causes."""
    import requests
    import tensorflow_datasets as tfds

    causes = list(_causes(error))
    network = (requests.RequestException, tfds.download.DownloadError)
    for cause in causes:
        if isinstance(cause, network):
            request = getattr(cause, "request", None)
            url = f"from {request.url}: {type(cause).__name__}" if request else cause
            return (
                f"could not be downloaded ({url}); a network is needed once, or name "
                "a --data_dir that holds the set prepared in array_record format"
            )
    for cause in causes:
        if isinstance(cause, _NeedsTensorFlow) or _is_missing_tensorflow(cause):
            return (
                f"cannot be prepared without TensorFlow ({cause}); prepare it once "
                f"where that is installed (tfds build {name} "
                "--file_format=array_record --data_dir=DIR) and name that --data_dir"
            )
    message = textwrap.shorten(str(error), 1000)  # tfds quotes whole images
    return f"preparing it failed ({type(error).__name__}: {message})"


def _is_missing_tensorflow(error: BaseException) -> bool:
    return isinstance(error, ImportError) and error.name == "tensorflow"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
