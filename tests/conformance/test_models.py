"""Every registered network: it fits its data, and crossbars compute all its kernels."""

import functools

import jax
import jax.numpy as jnp
import pytest

from hic_jax import accounting, crossbar, models
from hic_jax.crossbar import CrossbarSpec, LayerCrossbars
from hic_jax.labels import analog_labels
from hic_jax.packing import path_name
from hic_jax.training.state import initial_variables

CLASSES = 5

# Fields that make a network small; a newcomer may do without.
SMALL = {
    "cnn": {"layers": 2, "channels": 2},
    "mlp": {"units": 4},
    "vit": {"layers": 1, "heads": 2, "features": 8},
    "gpt": {"layers": 1, "heads": 2, "features": 8, "context": 6},
}
EXAMPLES = {
    "images": jax.ShapeDtypeStruct((8, 8, 1), jnp.float32),
    "text": jax.ShapeDtypeStruct((6,), jnp.int32),
}
every_model = pytest.mark.parametrize("name", models.MODELS)


def made(name, crossbars=None, width=1.0, dtype="float32"):
    """A network and one input of it."""
    crossbars = crossbars or LayerCrossbars()
    spec = models.MODELS[name](**SMALL.get(name, {}))
    model = spec.make(
        num_classes=CLASSES, width=width, crossbars=crossbars, dtype=dtype
    )
    return model, EXAMPLES[spec.takes]


@functools.cache
def shapes(name, width=1.0):
    """Shapes of its variables."""
    model, one = made(name, width=width)
    init = functools.partial(
        initial_variables, model=model, input_shape=one.shape, input_dtype=one.dtype
    )
    return jax.eval_shape(init, jax.random.key(0))


def kernels(name):
    """Paths of the layers whose kernels are analog."""
    labels = jax.tree_util.tree_leaves_with_path(analog_labels(shapes(name)["params"]))
    found = [path_name(path) for path, label in labels if label == "analog"]
    assert all(path.endswith("/kernel") for path in found)
    return {path.removesuffix("/kernel") for path in found}


def on_arrays(name, crossbars):
    """Layers with kernels that a pass of two inputs computes, and whether on arrays."""
    model, one = made(name, crossbars)
    variables = shapes(name)

    def forward(params, x):
        others = {"batch_stats": variables.get("batch_stats", {})}
        others = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), others)
        return model.apply(
            {"params": params, **others}, x, train=False,
            rngs=crossbar.rngs(jax.random.key(0)),
        )  # fmt: skip

    two = jax.ShapeDtypeStruct((2, *one.shape), one.dtype)
    return {
        product.parameter.removesuffix("/kernel"): product.tile is not None
        for product in accounting.products(forward, variables["params"], two)
        if product.parameter
    }


@every_model
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_are_float32_for_each_class(name, dtype):
    model, one = made(name, dtype=dtype)
    for train in (False, True):
        x = jax.ShapeDtypeStruct((2, *one.shape), one.dtype)
        logits, _ = jax.eval_shape(
            lambda v, x, train=train: model.apply(
                v, x, train=train, mutable=["batch_stats"]
            ),
            shapes(name),
            x,
        )
        places = one.shape if len(one.shape) == 1 else ()
        assert (logits.shape, logits.dtype) == ((2, *places, CLASSES), jnp.float32)


@every_model
def test_crossbars_compute_every_kernel_and_no_other(name):
    spec = CrossbarSpec(adc_noise=0.5)
    assert kernels(name)
    everywhere = dict.fromkeys(kernels(name), True)
    assert on_arrays(name, LayerCrossbars(spec)) == everywhere
    assert on_arrays(name, LayerCrossbars()) == dict.fromkeys(everywhere, False)
    layer = min(everywhere)
    but_one = on_arrays(name, LayerCrossbars(spec, {layer: None}))
    assert but_one == everywhere | {layer: False}


@every_model
def test_a_width_is_a_multiplier_of_channels(name):
    def weights(width):
        leaves = jax.tree_util.tree_leaves_with_path(shapes(name, width)["params"])
        return {path_name(path): leaf.size for path, leaf in leaves}

    # Twice the channels are twice the biases, and up to four times the kernels.
    one, two = weights(2.0), weights(4.0)
    assert one.keys() == two.keys()
    ratios = {two[path] / one[path] for path in one if "kernel" in path}
    assert max(ratios) == 4.0
    assert two["head/kernel"] == 2 * one["head/kernel"]
    for width in (0.0, -1.0, 101.0, float("nan")):
        with pytest.raises(ValueError, match=r"^width="):
            models.MODELS[name]().check_width(width)


@every_model
def test_the_spec_tells_networks_apart(name):
    (one, _), (same, _), (other, _) = (made(name), made(name), made(name, width=2.0))
    assert one == same and hash(one) == hash(same)  # As jit tells them.
    assert one != other
