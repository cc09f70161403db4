"""Noise that is new in every product: that of weights drawn anew for each."""

import dataclasses
import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hic_jax
from hic_jax import crossbar, pcm
from hic_jax.crossbar import CrossbarSpec, LinenConvGeneralDilated, LinenDotGeneral
from hic_jax.inference.compensations import adabs
from hic_jax.inference.network import answers
from hic_jax.weights import YEAR
from tests.key_recorder import keys_used_once
from tests.small_network import SHAPE, Net, images_of, network_of, random_images

OFF = {"dac_bits": 0, "adc_bits": 0, "error_dac_bits": 0, "error_adc_bits": 0}
TILED = CrossbarSpec(**OFF, tile_rows=5)
CONVERTED = CrossbarSpec(tile_rows=5, dac_bits=4, adc_bits=6)
EXAMPLES, DRAWS = 3, 1000
KEY = jax.random.key(7)


def dense(spec):
    hook = spec and LinenDotGeneral(spec)
    return nn.Dense(4, dot_general=hook), (12,)


def convolution(spec):
    hook = spec and LinenConvGeneralDilated(spec)
    layer = nn.Conv(4, (3, 3), (2, 2), feature_group_count=2, conv_general_dilated=hook)
    return layer, (4, 4, 4)


def transposed(spec):
    assert spec is None  # It takes no hook.
    return nn.ConvTranspose(3, (2, 2), (2, 2)), (2, 2, 3)


@functools.cache
def outputs(make, spec, how):
    """(DRAWS, EXAMPLES, ...) of a layer whose weights are new in every product."""
    layer, shape = make(spec)
    x = jax.random.normal(jax.random.key(0), (EXAMPLES, *shape))
    params = layer.init(jax.random.key(1), x)["params"]
    std = jax.random.uniform(jax.random.key(2), params["kernel"].shape, maxval=0.5)

    def added(key):
        with crossbar.fresh_noise({"kernel": std**2, "bias": None}, key):
            return layer.apply({"params": params}, x)

    def drawn(key):
        # Every position of a result is a product of its own: only what each finds
        # alone is kept, of weights that are drawn for it.
        kernel, result = params["kernel"], jax.eval_shape(added, key)
        places = int(np.prod(result.shape[1:-1], dtype=int))

        def at(example, place, key):
            noise = std * jax.random.normal(key, std.shape)
            held = params | {"kernel": kernel + noise}
            return layer.apply({"params": held}, x[example]).reshape(places, -1)[place]

        keys = jax.random.split(key, EXAMPLES * places).reshape(EXAMPLES, places)
        every = jax.vmap(jax.vmap(at, (None, 0, 0)), (0, None, 0))
        return every(jnp.arange(EXAMPLES), jnp.arange(places), keys).reshape(
            result.shape
        )

    function = {"added": added, "drawn": drawn}[how]
    y = jax.jit(jax.vmap(function))(jax.random.split(KEY, DRAWS))
    return np.asarray(y, np.float64).reshape(DRAWS, -1)


@pytest.mark.parametrize(
    ("make", "spec"),
    [
        (dense, None), (convolution, None), (transposed, None),
        (dense, TILED), (convolution, TILED), (dense, CONVERTED),
    ],
)  # fmt: skip
def test_it_is_that_of_weights_drawn_anew_for_every_product(make, spec):
    added, drawn = (outputs(make, spec, how) for how in ("added", "drawn"))
    std = drawn.std(axis=0)
    assert std.min() > 0.01
    # Five standard errors of both, of each result and of all of them together.
    error, results = 5 * np.sqrt(2 / DRAWS), std.size
    off = (added.mean(axis=0) - drawn.mean(axis=0)) / std
    np.testing.assert_allclose(off, 0, atol=error)
    ratio = added.std(axis=0) / std
    np.testing.assert_allclose(ratio, 1, atol=error / np.sqrt(2))
    assert ratio.mean() == pytest.approx(1, abs=error / np.sqrt(2 * results))
    if spec is CONVERTED:
        return  # The range of one ADC is that of all its columns.
    # Two columns, two places and two examples: their noise is independent.
    correlation = np.corrcoef(added.T) - np.eye(added.shape[1])
    assert np.abs(correlation).max() < 5.5 / np.sqrt(DRAWS)


def test_a_layer_that_is_called_twice_has_noise_of_its_own_in_each_call():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            layer = nn.Dense(300, use_bias=False, name="layer")
            return layer(x), layer(x)

    params = {"layer": {"kernel": jnp.zeros((3, 300))}}
    with (
        keys_used_once(),
        crossbar.fresh_noise({"layer": {"kernel": jnp.ones((3, 300))}}, KEY),
    ):
        one, two = Twice().apply({"params": params}, jnp.ones((2, 3)))
    found = np.corrcoef(np.concatenate([one, two])) - np.eye(4)
    assert np.abs(found).max() < 5 / np.sqrt(300)
    assert np.std(one) == pytest.approx(np.sqrt(3), rel=0.15)  # 600 draws.


class Other(nn.Module):
    """A layer that multiplies in its own way."""

    @nn.compact
    def __call__(self, x):
        return x @ self.param("kernel", nn.initializers.ones, (3, 2))


@pytest.mark.parametrize(
    ("variances", "message"),
    [
        (
            {"kernel": jnp.ones((3, 2))},
            "kernel: .* to a Other; must be of a Dense",
        ),
        ({"far": {"kernel": jnp.ones((3, 2))}}, "far/kernel has noise .* no Linen lay"),
    ],
)
def test_noise_that_no_product_would_add_is_refused(variances, message):
    with (
        pytest.raises(ValueError, match=message),
        crossbar.fresh_noise(variances, KEY),
    ):
        Other().apply({"params": {"kernel": jnp.ones((3, 2))}}, jnp.ones((1, 3)))


def test_gradients_are_those_of_the_weights_that_were_read():
    layer, (rows,) = dense(TILED)
    x = jax.random.normal(jax.random.key(0), (EXAMPLES, rows))
    params = layer.init(jax.random.key(1), x)["params"]
    variances = {"kernel": jnp.ones((rows, 4)), "bias": None}

    def total(params, x, noisy):
        with crossbar.fresh_noise(variances if noisy else None, KEY):
            return jnp.sum(layer.apply({"params": params}, x))

    noisy, exact = (jax.grad(total, (0, 1))(params, x, on) for on in (True, False))
    jax.tree.map(np.testing.assert_array_equal, noisy, exact)


# ---- networks


def aged(spectrum, gains=None):
    device = dataclasses.replace(pcm.nandakumar_2018(), read_spectrum=spectrum)
    network = network_of(hic_jax.HICSpec(multilevel=device, refresh_every=0))
    weights = hic_jax.drift(network.weights, YEAR, jax.random.key(3))
    return network.replace(weights=weights, gains=gains)


def test_inference_and_adabs_add_it_to_products_and_read_the_rest():
    network, images = aged("white"), random_images()
    exact = hic_jax.read_params(network.params, network.weights)
    variables = network.variables(KEY, fresh=False)
    # One computation compiled twice; noise would be 0.01 and more.
    chex.assert_trees_all_close(variables["params"], exact, atol=1e-7)
    variances = network.fresh_variances()
    shapes = [v.shape for v in jax.tree.leaves(variances)]
    assert shapes == [(16, 5), (5, 3)]

    # Of images that are all alike BatchNorm sees nothing but the noise.
    white = images_of(np.full((52, *SHAPE), 255))
    keys = jax.random.split(KEY, 4)
    found = [adabs(key, Net(), network, white, batches=2).batch_stats for key in keys]
    found = np.mean([stats["norm"]["var"] for stats in found], axis=0)
    added = 2.0**2 * np.asarray(variances["first"]["kernel"]).sum(axis=0)
    old = 0.015 * np.asarray(network.batch_stats["norm"]["var"])
    # 208 draws of each of five outputs: four standard errors of their mean, and the
    # twenty-sixth that a variance of 26 images lacks.
    ratio = ((found - old) / 0.985 / added).mean()
    assert ratio == pytest.approx(1 - 1 / 26, abs=4 * np.sqrt(2 / 208 / 5))
    right = [answers(key, Net(), network, images).correct for key in keys]
    assert len(set(map(int, right))) > 1


def test_gains_are_on_the_noise_of_products_too():
    one = aged("white")
    gains = jax.tree.map(lambda v: jnp.full((1, 1), 2.0), one.fresh_variances())
    two = one.replace(gains=gains)
    for layer in ("first", "head"):
        before, after = (n.fresh_variances()[layer]["kernel"] for n in (one, two))
        np.testing.assert_allclose(after, 4 * before)
    assert not jax.tree.leaves(aged("per_read", gains).fresh_variances())
