"""Normalisation and random augmentation of image batches, as pure functions.

Everything is one fused XLA computation on the device that holds the batch, takes its
key explicitly and draws for every image of its own; with jax's partitionable keys a
batch sharded over several devices gives the same images as on one.
"""

import jax
import jax.numpy as jnp

from hic_jax import checks
from hic_jax.data.text import is_text

POLICIES = ("none", "crop", "crop_flip")

# Mirrored characters are other characters, or none.
CHARACTER_SETS = frozenset(
    {
        "binarized_mnist",
        "binary_alpha_digits",
        "cmaterdb",
        "digits",
        "emnist",
        "kmnist",
        "mnist",
        "mnist_corrupted",
        "omniglot",
        "svhn_cropped",
    }
)


def default_policy(name: str) -> str:
    """The usual augmentation for a data set: 'crop' for characters, else 'crop_flip'.

    Text has none.

    Args:
      name: as given to ``load``, so 'emnist/balanced' is one of the EMNIST sets, or to
        ``load_text``.

    Examples:
      >>> default_policy("cifar10"), default_policy("emnist/balanced")
      ('crop_flip', 'crop')
    """
    if is_text(name):
        return "none"
    builder_name = name.split("/")[0].split(":")[0]
    return "crop" if builder_name in CHARACTER_SETS else "crop_flip"


def normalise(images: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
    """Maps bytes to (images / 255 - mean) / std.

    Args:
      images: (N, H, W, C) uint8.
      mean: (C,) mean per channel on the 0..1 scale.
      std: (C,) standard deviation per channel on the 0..1 scale.

    Returns:
      (N, H, W, C) float32.
    """
    mean = jnp.asarray(mean, jnp.float32).reshape(1, 1, 1, -1)
    std = jnp.asarray(std, jnp.float32).reshape(1, 1, 1, -1)
    return (jnp.asarray(images, jnp.float32) / 255.0 - mean) / std


def random_flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Mirrors every image left to right with probability 1/2.

    Args:
      key: a ``jax.random`` key.
      images: (N, H, W, C), any dtype.

    Returns:
      (N, H, W, C), same dtype.
    """
    flipped = jax.random.bernoulli(key, shape=(images.shape[0], 1, 1, 1))
    return jnp.where(flipped, images[:, :, ::-1], images)


def random_crop(key: jax.Array, images: jax.Array, padding: int) -> jax.Array:
    """Shifts every image by up to ``padding`` pixels along each axis.

    An image is padded on all sides and cut back to its size at a place of its own,
    both offsets uniform in {0, ..., 2 padding}. The padding mirrors the image (without
    repeating the edge): unlike zeros it keeps the statistics of the pixels, adds no
    frame that gives the shift away, is background where the border is background (as
    in characters), and means the same before and after ``normalise``.

    Args:
      key: a ``jax.random`` key.
      images: (N, H, W, C), any dtype.
      padding: pixels, static, less than H and W.

    Returns:
      (N, H, W, C), same dtype.
    """
    count, height, width, channels = images.shape
    checks.integer("padding", padding, 0, min(height, width) - 1)
    margin = (padding, padding)
    padded = jnp.pad(images, ((0, 0), margin, margin, (0, 0)), mode="reflect")
    offsets = jax.random.randint(key, (count, 2), 0, 2 * padding + 1)

    # A slice per image is a contiguous copy: 5 times as fast on a CPU as shifting by
    # products with one-hot matrices, and exact for every dtype.
    def crop(image, offset):
        start = (offset[0], offset[1], 0)
        return jax.lax.dynamic_slice(image, start, (height, width, channels))

    return jax.vmap(crop)(padded, offsets)


def augment(key: jax.Array, images: jax.Array, policy: str) -> jax.Array:
    """Augments a batch by one of ``POLICIES``.

    'none' returns the images as they are, 'crop' shifts them by up to 1/8 of their
    side (4 pixels of 32, 3 of 28, 1 of 8), 'crop_flip' shifts and mirrors them, as is
    usual for CIFAR (He et al., 2016, section 4.2, there with zero padding).

    Args:
      key: a ``jax.random`` key.
      images: (N, H, W, C); bytes are four times less to move than floats, so augment
        first and ``normalise`` after.
      policy: static.

    Returns:
      (N, H, W, C), same dtype.
    """
    checks.one_of("policy", policy, POLICIES)
    if policy == "none":
        return images
    crop_key, flip_key = jax.random.split(key)
    padding = min(images.shape[1:3]) // 8
    images = random_crop(crop_key, images, padding)
    return random_flip(flip_key, images) if policy == "crop_flip" else images
