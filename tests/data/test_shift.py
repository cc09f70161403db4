"""Images of another kind: what each shift does to pixels."""

import numpy as np
import pytest

from hic_jax import data


@pytest.fixture
def images():
    return np.random.default_rng(1).integers(0, 256, (50, 6, 6, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", data.SHIFTS)
def test_shape_type_and_repetition(images, name):
    before = images.copy()
    shifted = data.shift(images, name)
    assert shifted.shape == images.shape and shifted.dtype == np.uint8
    np.testing.assert_array_equal(shifted, data.shift(images, name))
    np.testing.assert_array_equal(images, before)
    assert np.array_equal(shifted, images) == (name == "none")


def test_light_polarity_and_mounting(images):
    assert data.shift(images, "dim").max() == images.max() // 3
    np.testing.assert_array_equal(data.shift(images, "invert"), 255 - images)
    rotated = data.shift(images, "rotate")
    np.testing.assert_array_equal(rotated[:, 0, 0], images[:, 0, -1])
    np.testing.assert_array_equal(rotated[:, -1, 0], images[:, 0, 0])


def test_noise_has_a_fifth_of_full_scale():
    grey = np.full((100, 16, 16, 1), 128, np.uint8)
    noise = data.shift(grey, "noise").astype(float) - 128
    # 48 of 255, where clipping at 2.7 standard deviations takes 0.4 %.
    assert abs(noise.mean()) < 1.0
    assert noise.std() == pytest.approx(48, rel=0.02)


def test_what_cannot_be():
    images = np.zeros((2, 4, 6, 1), np.uint8)
    with pytest.raises(ValueError, match="shift=rotate: images are 4x6"):
        data.shift(images, "rotate")
    with pytest.raises(ValueError, match=r"shift='rotated': .*mean 'rotate'"):
        data.shift(images, "rotated")
