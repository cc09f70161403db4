"""TFDS data sets that lie prepared on disk: where they are, and their pixels.

Finding one needs only paths, so that a start with a filled cache does not import
``tensorflow_datasets``; decoding imports it inside the function. TensorFlow is never
imported: ``as_data_source`` reads array_record files and decodes with OpenCV where it
is installed, else with PIL.
"""

import contextlib
import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import auto as tqdm

from hic_jax.data import array_cache
from hic_jax.data.errors import DataError

_CONFIG = re.compile(r"\w[\w\-.]*")
_NAME = re.compile(
    rf"(?P<name>[\w\-]+)(/(?P<config>{_CONFIG.pattern}))?"
    r"(:(?P<version>\d+\.\d+\.\d+))?"
)
_VERSION = re.compile(r"\d+\.\d+\.\d+")
# What a set may have beside its images and labels, by the names in features.json.
FEATURES = frozenset(
    f"tensorflow_datasets.core.features.{name}"
    for name in (
        "bounding_boxes.BBoxFeature",
        "class_label_feature.ClassLabel",
        "feature.Tensor",  # An earlier name of the tensor.
        "features_dict.FeaturesDict",
        "image_feature.Image",
        "labeled_image.LabeledImage",
        "scalar.Scalar",
        "sequence_feature.Sequence",
        "tensor_feature.Tensor",
        "text_feature.Text",
    )
)
# Images decoded at a time. One thread: tfds parses records in Python, and a second
# thread did not measurably shorten the 12 s of 60,000 CIFAR images on two cores.
_CHUNK = 500
_LAYOUT = 2  # of the cached files: one of another layout has another fingerprint


@dataclasses.dataclass(frozen=True)
class Reference:
    """A data set as TFDS names it: ``name[/config][:version]``."""

    name: str
    config: str | None = None
    version: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Reads ``name[/config][:version]``, as TFDS writes it."""
        match = _NAME.fullmatch(text)
        if match is None:
            raise DataError(
                f"--dataset={text!r}: must be 'digits', a TFDS name of the form "
                "name[/config][:version], as in 'cifar10' or 'emnist/balanced', or "
                "images: and the path of your own"
            )
        return cls(**match.groupdict())


def find(data_dir: Path, reference: Reference) -> Path | None:
    """The folder of the prepared set (the newest version unless one is asked for)."""
    folder = data_dir / reference.name
    config = reference.config or _default_config(folder)
    if config is not None:
        folder = folder / config
    versions = [
        path.parent
        for path in folder.glob("*/dataset_info.json")
        if _VERSION.fullmatch(path.parent.name)
        and reference.version in (None, path.parent.name)
    ]
    return max(
        versions,
        key=lambda path: [int(part) for part in path.name.split(".")],
        default=None,
    )


def list_names(data_dir: Path) -> list[str]:
    """Names of the sets that have a prepared version under ``data_dir``."""
    found = {
        path.relative_to(data_dir).parts[0]
        for pattern in ("*/*/dataset_info.json", "*/*/*/dataset_info.json")
        for path in data_dir.glob(pattern)
    }
    return sorted(found)


def fingerprint(folder: Path) -> str:
    """16 hex digits that differ between any two copies of a prepared set.

    Hashes the descriptions (``dataset_info.json``, ``features.json``), the resolved
    path, and the size and time of every file, so that a set prepared anew in the same
    place counts as another copy too.
    """
    digest = hashlib.sha256(f"{_LAYOUT} {folder.resolve()}".encode())
    for path in sorted(folder.iterdir()):
        stat = path.stat()
        digest.update(f"\n{path.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        if path.suffix == ".json":
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def decode(name: str, folder: Path, target: Path) -> int:
    """Decodes a prepared image-classification set into ``.npy`` files.

    Args:
      name: what the user asked for, for messages.
      folder: the prepared set, ``data_dir/name[/config]/version``.
      target: receives ``train_images.npy`` (N, H, W, C) uint8, ``train_labels.npy``
        (N,) int32, and the same for test.

    Returns:
      The number of classes.
    """
    import tensorflow_datasets as tfds

    with _readable(name, folder):
        check_features(name, folder)
        builder = tfds.builder_from_directory(folder)
        image_key, label_key = classification_keys(name, builder.info.features)
        num_classes = builder.info.features[label_key].num_classes or 0
        sources = {
            part: builder.as_data_source(split)
            for part, split in _splits(name, builder.info.splits).items()
        }
    total = sum(len(source) for source in sources.values())
    # None: no bar where nobody looks on.
    with tqdm.tqdm(
        total=total, unit=" images", desc=f"Decoding {name}", disable=None
    ) as bar:
        for part, source in sources.items():
            examples = (
                (example[image_key], example[label_key])
                for example in _iterate(name, folder, source, bar)
            )
            array_cache.write_split(
                name, examples, len(source), num_classes, target / part
            )
    return num_classes


def texts(name: str, folder: Path) -> tuple[str, str, str]:
    """Training, validation and test part of a prepared text, each of one example.

    Args:
      name: what the user asked for, for messages.
      folder: the prepared set.
    """
    import tensorflow_datasets as tfds

    with _readable(name, folder):
        check_features(name, folder)
        builder = tfds.builder_from_directory(folder)
        train, validation, test = (
            "".join(example["text"].decode() for example in source)
            for source in map(builder.as_data_source, ("train", "validation", "test"))
        )
    return train, validation, test


def check_features(name: str, folder: Path) -> None:
    """Raises unless ``features.json`` names classes of `FEATURES` alone.

    TFDS imports the module of any class that is named there, and so runs what may have
    come with the data. To be asked before TFDS sees the folder.

    Args:
      name: what the user asked for, for messages.
      folder: the prepared set.
    """
    path = folder / "features.json"
    for class_name in _class_names(path.read_text(encoding="utf-8")):
        if class_name not in FEATURES:
            raise DataError(
                f"--dataset={name!r}: {str(path)!r} names the class {class_name!r}; "
                f"must be one of {', '.join(sorted(FEATURES))}"
            )


def _class_names(content: Any) -> Iterator[str]:
    """Whatever TFDS may take for the name of a class.

    It knows two forms of the file, both of which may hold JSON in strings.
    """
    if isinstance(content, str):
        try:
            content = json.loads(content)
        except ValueError:
            return
    if isinstance(content, dict):
        for key in ("type", "pythonClassName", "python_class_name"):
            if isinstance(content.get(key), str):
                yield content[key]
        content = list(content.values())
    for part in content if isinstance(content, list) else ():
        yield from _class_names(part)


def classification_keys(name: str, features: Any) -> tuple[str, str]:
    """The keys of the image and the class label; raises for other kinds of sets."""
    import tensorflow_datasets as tfds

    images = [
        key
        for key, feature in features.items()
        if isinstance(feature, tfds.features.Image)
        and not isinstance(feature, tfds.features.LabeledImage)
        and feature.np_dtype == np.uint8
    ]
    labels = [
        key
        for key, feature in features.items()
        if isinstance(feature, tfds.features.ClassLabel)
    ]
    image_key = "image" if "image" in images else images[0] if len(images) == 1 else ""
    label_key = "label" if "label" in labels else labels[0] if len(labels) == 1 else ""
    if not image_key or not label_key:
        raise DataError(
            f"--dataset={name!r}: is not an image-classification set; it must have "
            "one 8-bit image ('image') and one class label ('label'), and has "
            f"{', '.join(f'{key}: {value}' for key, value in features.items())}"
        )
    return image_key, label_key


@contextlib.contextmanager
def _readable(name: str, folder: Path) -> Iterator[None]:
    """Turns whatever tfds raises on a damaged copy into a ``DataError``."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"--dataset={name!r}: the copy prepared in {str(folder)!r} cannot be read "
            f"({type(error).__name__}: {error}); it must be complete and in "
            "array_record format"
        ) from error


def _default_config(folder: Path) -> str | None:
    """The config TFDS means when only the set is named; None for sets without."""
    path = folder / ".config" / "metadata.json"
    if not path.is_file():
        return None
    try:
        config = dict(json.loads(path.read_text())).get("default_config_name")
        if config and not _CONFIG.fullmatch(config):
            raise ValueError("must be letters, digits and any of _-.")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{str(path)!r}: default_config_name: {error}") from error
    return config or None


def _splits(name: str, available: Any) -> dict[str, str]:
    """The TFDS split behind the training and the test part."""
    test = "test" if "test" in available else "validation"
    if "train" not in available or test not in available:
        raise DataError(
            f"--dataset={name!r}: must have a 'train' split and a 'test' or "
            f"'validation' split, and has {', '.join(available) or 'none'}"
        )
    return {"train": "train", "test": test}


def _iterate(
    name: str, folder: Path, source: Any, bar: tqdm.tqdm
) -> Iterator[dict[str, Any]]:
    """Yields the decoded examples of a data source in order."""
    with _readable(name, folder):
        for start in range(0, len(source), _CHUNK):
            chunk = range(start, min(start + _CHUNK, len(source)))
            yield from source.__getitems__(chunk)
            bar.update(len(chunk))
