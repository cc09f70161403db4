"""Post-training quantisation of a network, with BatchNorm estimated anew."""

import jax
import numpy as np
import pytest

from hic_jax.inference.network import accuracy
from hic_jax.inference.quantised import quantised
from hic_jax.quantisation import quantise_kernels
from tests.small_network import Net, network_of, random_images

KEY = jax.random.key(3)


def test_kernels_are_rounded_and_statistics_follow():
    network = network_of(None)
    images = random_images()
    found = quantised(KEY, Net(), network, images, bits=4)
    expected = quantise_kernels(network.params, 4)
    jax.tree.map(np.testing.assert_array_equal, found.params, expected)
    # Of 13 batches of the images' own statistics, 1.5 % of the old ones are left.
    first = expected["first"]["kernel"]
    pixels = (images.images.reshape(len(images.labels), -1) / 255 - 0.5) / 0.25
    mean = np.mean(pixels @ first, axis=0)
    assert np.max(np.abs(found.batch_stats["norm"]["mean"] - mean)) < 0.5
    assert np.max(np.abs(network.batch_stats["norm"]["mean"] - mean)) > 1.0


def test_many_bits_classify_as_none():
    model, images = Net(), random_images()
    exact = network_of(None)
    ready = quantised(KEY, model, exact, images, bits=16)
    same = exact.replace(batch_stats=ready.batch_stats)
    assert accuracy(KEY, model, ready, images) == accuracy(KEY, model, same, images)


def test_devices_are_refused():
    with pytest.raises(ValueError, match="must have no analog weights"):
        quantised(
            KEY,
            Net(),
            network_of(),
            random_images(),
            bits=4,
        )
