"""Image-classification data sets as arrays in host memory."""

import dataclasses
import functools
import importlib.util
import os
from pathlib import Path

import numpy as np

from hic_jax import checks
from hic_jax.data import array_cache, held_out, located, own_images, prepared
from hic_jax.data.errors import DataError

_DIGITS_TEST_SIZE = 360
_VALIDATION_SEED = 0
_CHUNK = 4096  # images counted at a time


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A labelled set of equally sized images.

    Invariants, checked: images are uint8 of one (H, W, C) in both parts, labels are
    int32 in [0, num_classes), and both parts hold at least one image. The arrays may
    be read-only memory maps.
    """

    name: str
    train_images: np.ndarray  # (N, H, W, C) uint8
    train_labels: np.ndarray  # (N,) int32
    test_images: np.ndarray  # (M, H, W, C) uint8
    test_labels: np.ndarray  # (M,) int32
    num_classes: int

    def __post_init__(self):
        for part in ("train", "test"):
            images = getattr(self, f"{part}_images")
            labels = getattr(self, f"{part}_labels")
            if images.ndim != 4 or images.dtype != np.uint8 or not len(images):
                raise DataError(
                    f"{part}_images of {self.name!r}: must be a non-empty (N, H, W, C) "
                    f"uint8 array, got {images.shape} {images.dtype}"
                )
            if labels.shape != images.shape[:1] or labels.dtype != np.int32:
                raise DataError(
                    f"{part}_labels of {self.name!r}: must be ({len(images)},) int32, "
                    f"got {labels.shape} {labels.dtype}"
                )
            if labels.min() < 0 or labels.max() >= self.num_classes:
                raise DataError(
                    f"{part}_labels of {self.name!r}: must lie in "
                    f"[0, {self.num_classes - 1}], got values in "
                    f"[{labels.min()}, {labels.max()}]"
                )
        if self.test_images.shape[1:] != self.image_shape:
            raise DataError(
                f"--dataset={self.name!r}: training images are {self.image_shape}, "
                f"test images {self.test_images.shape[1:]}; all must have one size"
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return self.train_images.shape[1:]

    def with_validation(self, images: int) -> "Dataset":
        """The set with training images held out, and these in the place of the tests.

        What is chosen, as a recipe, is chosen by them, so that the test images judge
        what they had no part in.

        Args:
          images: how many; always the same ones, drawn at random. 0 for none: the set
            as it is.

        Raises:
          ValueError: if none would be left to train with.
        """
        if images == 0:
            return self
        size = len(self.train_labels)
        checks.integer("validation", images, 0, size - 1)
        order = np.random.default_rng(_VALIDATION_SEED).permutation(size)
        held, kept = np.sort(order[:images]), np.sort(order[images:])
        return dataclasses.replace(
            self,
            train_images=self.train_images[kept],
            train_labels=self.train_labels[kept],
            test_images=self.train_images[held],
            test_labels=self.train_labels[held],
        )

    def downscaled(self, factor: int) -> "Dataset":
        """The set with images of fewer pixels, for a quick look: means of squares.

        Args:
          factor: height and width of the squares, pixels; 1 leaves the set as it is.

        Raises:
          ValueError: if images cannot be cut into such squares.
        """
        height, width, channels = self.image_shape
        checks.integer("downscale", factor, 1)
        if height % factor or width % factor:
            raise ValueError(
                f"downscale={factor}: must divide the images' {height}x{width} pixels"
            )
        if factor == 1:
            return self

        def means(images):
            cut = images.reshape(
                -1, height // factor, factor, width // factor, factor, channels
            )
            total = cut.sum(axis=(2, 4), dtype=np.uint32)
            return np.round(total / factor**2).astype(np.uint8)

        return dataclasses.replace(
            self,
            train_images=means(self.train_images),
            test_images=means(self.test_images),
        )

    @property
    def mean(self) -> np.ndarray:
        """(C,) float32: mean of the training pixels, on the 0..1 scale."""
        return self._moments[0]

    @property
    def std(self) -> np.ndarray:
        """(C,) float32: standard deviation of the training pixels, 0..1 scale."""
        return self._moments[1]

    @functools.cached_property
    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        # A histogram: exact counts, and no float copy of all images.
        channels = self.image_shape[-1]
        counts = np.zeros((channels, 256))
        for start in range(0, len(self.train_images), _CHUNK):
            pixels = self.train_images[start : start + _CHUNK].reshape(-1, channels)
            for channel in range(channels):
                counts[channel] += np.bincount(pixels[:, channel], minlength=256)
        shares = counts / counts.sum(axis=1, keepdims=True)
        levels = np.arange(256) / 255
        mean = shares @ levels
        variance = (shares * (levels - mean[:, np.newaxis]) ** 2).sum(axis=1)
        return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)


def load(
    name: str,
    data_dir: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
    download: bool | None = None,
) -> Dataset:
    """Loads a data set by name, without TensorFlow.

    ``digits`` is scikit-learn's: 1,797 images of 8x8x1, 1,437 of them for training.
    ``images:PATH`` are images of one's own, in a folder or an NPZ file, as
    `hic_jax.data.own_images` says. Every other name is an image-classification set of
    TensorFlow Datasets, ``name[/config][:version]``, read from ``data_dir`` in
    array_record format. Its splits 'train' and 'test' are taken ('validation' where
    there is no test).

    A set that is not prepared under ``data_dir`` is downloaded and prepared there
    first. tfds's own way needs TensorFlow for that; here the few functions of it that
    the usual sets (cifar10, cifar100, mnist, fashion_mnist, kmnist, emnist,
    svhn_cropped) ask for are stood in for, see ``hic_jax.data.preparation``. Sets
    that need more of it have to be prepared once where TensorFlow is installed.

    The first start decodes all images into ``.npy`` files under ``cache_dir``; later
    starts check these by SHA-256, map them into memory and do not even import tfds.

    Args:
      name: 'digits', 'images:' and a path, or the TFDS name, for example 'cifar10'.
      data_dir: folder of prepared TFDS sets; ``$TFDS_DATA_DIR`` or
        ``~/tensorflow_datasets`` if None. It must exist if given.
      cache_dir: folder for decoded images; ``hic_jax/datasets`` under
        ``$XDG_CACHE_HOME`` or ``~/.cache`` if None.
      download: whether a set that is not prepared may be downloaded; None if
        ``$HIC_JAX_NO_DOWNLOAD`` does not forbid it.

    Returns:
      The data set; arrays of images that were decoded are read-only memory maps.

    Raises:
      DataError: with the field, its value, and what is allowed.

    Examples:
      >>> digits = load("digits")
      >>> digits.train_images.shape, digits.test_images.shape, digits.num_classes
      ((1437, 8, 8, 1), (360, 8, 8, 1), 10)
    """
    if name == "digits":
        return _load_digits()
    cache = Path(cache_dir).expanduser() if cache_dir else array_cache.default_dir()
    if own_images.is_own(name):
        arrays, num_classes = own_images.read(name, cache)
        return Dataset(name=name, num_classes=num_classes, **arrays)
    folder = located.folder_of(name, data_dir, download, prepared.classification_keys)
    reference = prepared.Reference.parse(name)
    key = f"{reference.name}-{folder.name}-{prepared.fingerprint(folder)}"
    arrays, num_classes = array_cache.fetch(
        cache / key, lambda target: prepared.decode(name, folder, target)
    )
    return Dataset(name=name, num_classes=num_classes, **arrays)


def _load_digits() -> Dataset:
    # Read from scikit-learn's file: to import it takes longer than to import JAX.
    sklearn = importlib.util.find_spec("sklearn")
    if sklearn is None or sklearn.submodule_search_locations is None:
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")
    (folder,) = sklearn.submodule_search_locations
    rows = np.loadtxt(f"{folder}/datasets/data/digits.csv.gz", delimiter=",")
    images = np.round(rows[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    labels = rows[:, -1].astype(np.int32)
    test = held_out.stratified(labels, _DIGITS_TEST_SIZE)
    return Dataset(
        name="digits",
        train_images=images[~test],
        train_labels=labels[~test],
        test_images=images[test],
        test_labels=labels[test],
        num_classes=10,
    )
