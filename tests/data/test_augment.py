"""Augmentation: exact shifts and mirror images, one draw per image, known moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from hic_jax import data
from tests import virtual_devices

seeds = st.integers(0, 2**31 - 1)
random_flip = jax.jit(data.random_flip)
random_crop = jax.jit(data.random_crop, static_argnames="padding")
augment = jax.jit(data.augment, static_argnames="policy")


def _batch(size, side, channels, dtype=np.uint8):
    """Images without symmetry, all different: every shift can be told apart."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (size, side, side, channels)).astype(dtype)


def _shifts(image, padding):
    """Every image that a crop may give, by offset, from NumPy's own padding."""
    height, width, _ = image.shape
    margin = (padding, padding)
    padded = np.pad(image, (margin, margin, (0, 0)), mode="reflect")
    return {
        (row, column): padded[row : row + height, column : column + width]
        for row in range(2 * padding + 1)
        for column in range(2 * padding + 1)
    }


def _offset(cropped, shifts):
    matches = [key for key, image in shifts.items() if np.array_equal(image, cropped)]
    assert len(matches) == 1
    return matches[0]


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_flip_gives_the_image_or_its_mirror(seed):
    images = _batch(16, 8, 3)
    flipped = np.asarray(random_flip(jax.random.key(seed), images))
    assert flipped.dtype == np.uint8
    for before, after in zip(images, flipped, strict=True):
        assert np.array_equal(after, before) or np.array_equal(after, before[:, ::-1])


@settings(max_examples=20, deadline=None)
@given(seed=seeds, padding=st.sampled_from([0, 1, 3]))
def test_crop_gives_one_exact_shift_per_image(seed, padding):
    images = _batch(4, 8, 2)
    cropped = np.asarray(random_crop(jax.random.key(seed), images, padding))
    assert cropped.dtype == np.uint8
    for before, after in zip(images, cropped, strict=True):
        _offset(after, _shifts(before, padding))


def test_flip_is_fair_and_independent_between_images():
    images = np.broadcast_to(_batch(1, 4, 1), (4000, 4, 4, 1))
    flipped = np.asarray(random_flip(jax.random.key(0), images))
    draws = (flipped != images).any(axis=(1, 2, 3)).astype(float)
    # Four standard errors of a fair coin, and of the correlation of neighbours.
    assert abs(draws.mean() - 0.5) < 4 * 0.5 / np.sqrt(4000)
    assert abs(np.corrcoef(draws[1:], draws[:-1])[0, 1]) < 4 / np.sqrt(4000)


def test_crop_offsets_are_uniform_and_independent_between_axes_and_images():
    image = _batch(1, 8, 1)[0]
    images = np.broadcast_to(image, (3600, *image.shape))
    shifts = _shifts(image, 1)
    cropped = np.asarray(random_crop(jax.random.key(1), images, 1))
    offsets = np.array([_offset(after, shifts) for after in cropped])
    cells, counts = np.unique(offsets, axis=0, return_counts=True)
    assert len(cells) == 9
    # 400 expected in each of the 9 cells; four standard errors of a binomial count.
    assert np.abs(counts - 400).max() < 4 * np.sqrt(3600 * (1 / 9) * (8 / 9))
    for axis in (0, 1):
        correlation = np.corrcoef(offsets[1:, axis], offsets[:-1, axis])[0, 1]
        assert abs(correlation) < 4 / np.sqrt(3600)


@pytest.mark.parametrize("policy", ["crop", "crop_flip"])
def test_same_key_same_images_other_key_other_images(policy):
    images = _batch(32, 8, 1)
    first = augment(jax.random.key(7), images, policy)
    again = augment(jax.random.key(7), images, policy)
    other = augment(jax.random.key(8), images, policy)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("side", "padding"), [(32, 4), (28, 3), (8, 1), (4, 0)])
def test_policies_pad_by_an_eighth_of_the_side(side, padding):
    images = _batch(64, side, 1)
    key = jax.random.key(3)
    crop_key, _ = jax.random.split(key)
    cropped = random_crop(crop_key, images, padding)
    assert np.array_equal(augment(key, images, "crop"), cropped)
    offsets = {
        _offset(np.asarray(after), _shifts(before, padding))
        for before, after in zip(images, cropped, strict=True)
    }
    # All 2 padding + 1 rows come up among 64 images: missing one of 9 has p < 0.01.
    assert {row for row, _ in offsets} == set(range(2 * padding + 1))


def test_policies_are_made_of_crop_and_flip():
    images = _batch(16, 8, 1)
    key = jax.random.key(3)
    _, flip_key = jax.random.split(key)
    assert data.POLICIES == ("none", "crop", "crop_flip")
    assert data.augment(key, images, "none") is images
    assert np.array_equal(
        augment(key, images, "crop_flip"),
        random_flip(flip_key, augment(key, images, "crop")),
    )


def test_normalise_is_the_closed_form():
    images = np.array([0, 51, 255], np.uint8).reshape(1, 1, 1, 3)
    mean = np.array([0.5, 0.2, 0.0], np.float32)
    std = np.array([0.25, 0.5, 2.0], np.float32)
    normalised = jax.jit(data.normalise)(images, mean, std)
    assert normalised.dtype == jnp.float32
    # Rounding of three float32 operations.
    np.testing.assert_allclose(normalised.ravel(), [-2.0, 0.0, 0.5], atol=2e-7)


def test_training_images_normalise_to_zero_mean_and_unit_variance():
    digits = data.load("digits")
    normalised = data.normalise(digits.train_images, digits.mean, digits.std)
    # float32 sums over 92,000 pixels.
    assert abs(float(normalised.mean())) < 1e-5
    assert abs(float(normalised.std()) - 1) < 1e-5


def test_augmenting_bytes_first_equals_normalising_first():
    images = _batch(16, 16, 3)
    mean, std = np.full(3, 0.4, np.float32), np.full(3, 0.3, np.float32)
    key = jax.random.key(5)
    bytes_first = data.normalise(augment(key, images, "crop_flip"), mean, std)
    floats_first = augment(key, data.normalise(images, mean, std), "crop_flip")
    # The same four operations, fused differently: a few units in the last place.
    np.testing.assert_allclose(bytes_first, floats_first, atol=1e-6)


def _devices_and_equal():
    """How many devices have a part of some images, and whether that changes them."""
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    images = _batch(16, 8, 1)
    split = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data")))
    one, many = (augment(jax.random.key(0), x, "crop_flip") for x in (images, split))
    return len(many.sharding.device_set), bool(np.array_equal(one, many))


def test_sharding_does_not_change_the_images():
    found = virtual_devices.call(__file__, "_devices_and_equal", devices=4)
    assert found == [4, True]


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("cifar10", "crop_flip"),
        ("cifar100", "crop_flip"),
        ("cinic10", "crop_flip"),
        ("fashion_mnist", "crop_flip"),
        ("my_own_set:1.0.0", "crop_flip"),
        ("digits", "crop"),
        ("mnist", "crop"),
        ("mnist:3.0.1", "crop"),
        ("kmnist", "crop"),
        ("emnist/balanced", "crop"),
        ("svhn_cropped", "crop"),
    ],
)
def test_default_policy(name, policy):
    assert data.default_policy(name) == policy


def test_wrong_arguments_are_named():
    images = _batch(2, 8, 1)
    with pytest.raises(ValueError, match=r"policy='crops'.*crop_flip.*'crop'"):
        data.augment(jax.random.key(0), images, "crops")
    with pytest.raises(ValueError, match=r"padding=8.*\[0, 7\]"):
        data.random_crop(jax.random.key(0), images, 8)
