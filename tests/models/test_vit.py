"""ViT: patches of an image, in their places."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.config import resolve
from experiments.setup import Experiment
from hic_jax import data
from hic_jax.labels import analog_labels
from hic_jax.models import ViT, ViTSpec
from hic_jax.packing import path_name

CLASSES = 10
MODEL = ViT(patch=4, layers=1, heads=2, features=8, num_classes=CLASSES)


def _images(count=3, shape=(8, 12, 2)):
    return jax.random.normal(jax.random.key(1), (count, *shape))


def _params(images, model=MODEL):
    return model.init(jax.random.key(0), images, train=False)["params"]


def test_without_its_blocks_it_is_a_mean_of_patches():
    """Worked out in NumPy: attention and perceptron are made to add nothing."""
    images = _images()
    params = jax.tree.map(np.asarray, _params(images))
    for name in ("out", "down"):
        params["block1"][name]["kernel"] = np.zeros_like(
            params["block1"][name]["kernel"]
        )
    # (images, rows, 4, columns, 4, channels) to (images, patches, pixels).
    cut = np.asarray(images).reshape(3, 2, 4, 3, 4, 2).transpose(0, 1, 3, 2, 4, 5)
    kernel = params["patches"]["kernel"].reshape(-1, 8)
    x = cut.reshape(3, 6, -1) @ kernel + params["positions"]["embedding"]
    normal = x - x.mean(axis=-1, keepdims=True)
    normal /= np.sqrt((normal**2).mean(axis=-1, keepdims=True) + 1e-6)
    expected = normal.mean(axis=1) @ params["head"]["kernel"]
    logits = MODEL.apply({"params": params}, images, train=False)
    np.testing.assert_allclose(logits, expected, atol=1e-5)  # Of order 1, in float32.


def test_patches_look_at_each_other_and_places_count():
    images = _images(1)
    params = _params(images)
    logits = jax.jit(lambda x: MODEL.apply({"params": params}, x, train=False))
    swapped = jnp.concatenate([images[:, 4:], images[:, :4]], axis=1)
    assert not np.allclose(logits(swapped), logits(images), atol=1e-3)
    # Without positions, the mean over patches does not tell where they are.
    params["positions"]["embedding"] *= 0
    alike = [MODEL.apply({"params": params}, x, train=False) for x in (swapped, images)]
    np.testing.assert_allclose(*alike, atol=1e-5)


def test_places_are_digital_and_kernels_analog():
    model = ViTSpec().make(
        num_classes=CLASSES, width=0.5, crossbars=MODEL.crossbars, dtype="float32"
    )
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    params = jax.eval_shape(lambda x: _params(x, model), images)
    labels = jax.tree_util.tree_leaves_with_path(analog_labels(params))
    digital = {path_name(p) for p, label in labels if label == "digital"}
    assert {p for p in digital if not p.endswith(("bias", "scale"))} == {
        "positions/embedding"
    }
    assert params["patches"]["kernel"].shape == (4, 4, 3, 64)
    assert params["positions"]["embedding"].shape == (64, 64)
    assert params["block4"]["up"]["kernel"].shape == (64, 256)


def test_it_learns_digits():
    digits = data.load("digits")
    images = jnp.asarray(digits.train_images[:40] / 255.0 - 0.5, jnp.float32)
    labels, params = jnp.asarray(digits.train_labels[:40]), _params(images)
    tx = optax.adam(0.02)

    def loss(params):
        logits = MODEL.apply({"params": params}, images, train=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def step(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state)
        return (optax.apply_updates(params, updates), state), value

    losses = jax.jit(
        lambda params: jax.lax.scan(step, (params, tx.init(params)), length=100)[1]
    )(params)
    # Guessing costs log(10) = 2.3; forty images can be learnt by heart.
    assert losses[0] > 2.0 and losses[-1] < 0.1


def test_a_patch_that_does_not_divide_the_images_is_refused():
    ViTSpec(patch=4).check_shown((8, 12, 1))
    with pytest.raises(ValueError, match=r"^patch=4: must divide the images' 8x10 pix"):
        ViTSpec(patch=4).check_shown((8, 10, 1))
    with pytest.raises(ValueError, match=r"^vit_patch=3: must divide the images' 8x8"):
        Experiment.of(resolve(model="vit", vit_patch=3))
    with pytest.raises(ValueError, match=r"^vit_patch=0: must be"):
        resolve(model="vit", vit_patch=0)
