"""A trained network: what a read of it gives, and how its answers are counted."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hic_jax
from hic_jax.inference.network import accuracy
from tests.small_network import IMAGES, Net, network_of, random_images


def test_every_read_has_its_own_noise():
    noisy = hic_jax.HICSpec(multilevel=hic_jax.pcm.nandakumar_2018())
    network = network_of(noisy)
    keys = jax.random.split(jax.random.key(3))
    first, again, other = map(network.read, (keys[0], keys[0], keys[1]))
    chex.assert_trees_all_equal(first, again)
    for layer in ("first", "head"):
        assert jnp.all(first[layer]["kernel"] != other[layer]["kernel"])
    chex.assert_trees_all_equal(first["norm"], network.params["norm"])


@pytest.mark.parametrize("batch_size", [20, 26, 500])
def test_accuracy_counts_a_last_partial_batch(batch_size):
    network, images = network_of(None), random_images()
    pixels = (np.asarray(images.images) / 255 - 0.5) / 0.25
    variables = {"params": network.params, "batch_stats": network.batch_stats}
    logits = np.asarray(Net().apply(variables, pixels, train=False))
    expected = np.mean(logits.argmax(axis=1) == np.asarray(images.labels))
    assert 0 < expected < 1
    assert IMAGES % 20
    measured = accuracy(
        jax.random.key(0), Net(), network, images, batch_size=batch_size
    )
    assert measured == expected
