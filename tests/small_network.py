"""A network and images small enough to be worked out by hand, to be read and mended."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import hic_jax
from hic_jax.inference.network import Network
from hic_jax.training.recipes import AnalogRecipe, Recipe, make_tx
from hic_jax.training.split import Split
from hic_jax.training.state import init_state

IMAGES, CLASSES = 52, 3
SHAPE = (4, 4, 1)
IDEAL = hic_jax.HICSpec(multilevel=hic_jax.pcm.ideal(), refresh_every=0)


class Net(nn.Module):
    """An analog layer whose outputs BatchNorm counts, and one after it."""

    momentum: float = 0.9

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Dense(5, use_bias=False, name="first")(images.reshape(len(images), -1))
        x = nn.BatchNorm(
            use_running_average=not train, momentum=self.momentum, name="norm"
        )(x)
        return nn.Dense(CLASSES, name="head")(nn.relu(x))


def images_of(pixels):
    """Images with labels of their own: pixels (n, 4, 4, 1), 0 to 255."""
    return Split(
        images=jnp.asarray(pixels, jnp.uint8),
        labels=jnp.arange(len(pixels)) % CLASSES,
        mean=jnp.full(1, 0.5),
        std=jnp.full(1, 0.25),
    )


def random_images():
    """The same ones each time."""
    return images_of(np.random.default_rng(0).integers(0, 256, (IMAGES, *SHAPE)))


def network_of(spec=IDEAL):
    """A network with running statistics other than those of the start.

    Without a spec it is digital.
    """
    tx = make_tx(Recipe(), AnalogRecipe(), spec, 1, jax.random.key(1))
    state = init_state(jax.random.key(0), Net(), tx, SHAPE)
    old = {"norm": {"mean": jnp.arange(5.0) - 2, "var": jnp.arange(5.0) + 3}}
    return Network.of(state).replace(batch_stats=old)
