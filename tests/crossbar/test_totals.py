"""What single examples ask of weights, added up: against loops over all of them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hic_jax import crossbar
from hic_jax.crossbar import CrossbarSpec, conv_general_dilated, dot_general

OFF = {"dac_bits": 0, "adc_bits": 0, "error_dac_bits": 0, "error_adc_bits": 0}
EXACT = CrossbarSpec(**OFF, tile_rows=5, tile_columns=2)
COARSE = CrossbarSpec(tile_rows=5, dac_bits=3, error_dac_bits=3)
EXAMPLES, KEY = 4, jax.random.key(0)


class Net(nn.Module):
    """A layer whose outputs count by some factors: these are its errors."""

    layer: nn.Module

    @nn.compact
    def __call__(self, x, errors):
        return jnp.sum(self.layer(x) * errors)


def made(layer, shape):
    """Parameters of a layer, inputs, and errors of its outputs, of both signs."""
    x = jax.random.normal(KEY, (EXAMPLES, *shape))
    params = layer.init(KEY, x)["params"]
    y = jax.eval_shape(lambda: layer.apply({"params": params}, x))
    errors = jax.random.normal(jax.random.key(1), y.shape)
    return {"layer": params}, x, errors


def gradients(layer, params, x, errors):
    """Gradient and total of the kernel."""

    def loss(params, zeros):
        with crossbar.gradient_totals({"layer": {"kernel": zeros}}):
            return Net(layer).apply({"params": params}, x, errors)

    zeros = jnp.zeros_like(params["layer"]["kernel"])
    grads, totals = jax.grad(loss, (0, 1))(params, zeros)
    return grads["layer"]["kernel"], totals


def dense(spec):
    layer = nn.Dense(3, dot_general=spec and dot_general(spec))
    return layer, (7,)


def of_tokens(spec):
    layer = nn.DenseGeneral((2, 3), dot_general=dot_general(spec))
    return layer, (2, 7)  # A sequence, every position an example of its own.


def every_example(x, errors, shape):
    """One outer product after another."""
    rows = np.reshape(x, (-1, 7)).astype(float)
    columns = np.reshape(errors, (len(rows), -1)).astype(float)
    net = total = np.zeros((7, columns.shape[1]))
    for row, column in zip(rows, columns, strict=True):
        net = net + np.outer(row, column)
        total = total + np.abs(np.outer(row, column))
    return net.reshape(shape), total.reshape(shape)


@pytest.mark.parametrize("make", [dense, of_tokens])
def test_totals_are_those_of_every_example(make):
    layer, shape = make(EXACT)
    params, x, errors = made(layer, shape)
    found = jax.jit(lambda *given: gradients(layer, *given))(params, x, errors)
    expected = every_example(x, errors, found[0].shape)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert (expected[1] > 1.2 * np.abs(expected[0])).mean() > 0.5  # Much cancels.


@pytest.mark.parametrize("groups", [1, 2])
def test_those_of_a_convolution_are_of_every_patch(groups):
    layer = nn.Conv(
        4, (3, 3), (2, 2), padding="VALID", feature_group_count=groups,
        conv_general_dilated=conv_general_dilated(EXACT),
    )  # fmt: skip
    params, x, errors = made(layer, (6, 7, 2))
    _, found = gradients(layer, params, x, errors)
    expected = np.zeros(found.shape)
    _, rows, columns, _ = errors.shape
    outputs = 4 // groups
    for b, i, j, o in np.ndindex(EXAMPLES, rows, columns, 4):
        patch = np.asarray(x)[b, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        group = o // outputs
        mine = patch[..., group * 2 // groups : (group + 1) * 2 // groups]
        expected[..., o] += np.abs(mine * float(errors[b, i, j, o]))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_they_are_of_what_converters_let_through():
    layer, shape = dense(COARSE)
    params, x, errors = made(layer, shape)
    net, total = gradients(layer, params, x, errors)
    alone = jax.jit(lambda x, errors: gradients(layer, params, x[None], errors[None]))
    parts = [alone(*one) for one in zip(x, errors, strict=True)]
    # Of a single example nothing cancels.
    for one, same in parts:
        np.testing.assert_allclose(np.abs(one), same, rtol=1e-6)
    np.testing.assert_allclose(total, sum(same for _, same in parts), rtol=1e-5)
    np.testing.assert_allclose(net, sum(one for one, _ in parts), rtol=1e-4, atol=1e-5)
    _, exact = every_example(x, errors, net.shape)
    assert np.abs(total - exact).max() > 0.05 * exact.max()


def test_they_are_the_same_in_scan_and_vmap_and_leave_gradients_alone():
    layer, shape = dense(EXACT)
    params, x, errors = made(layer, shape)
    net, total = gradients(layer, params, x, errors)

    def once(carry, _):
        return carry, gradients(layer, params, x, errors)

    _, scanned = jax.lax.scan(once, 0, length=2)
    double = {"layer": jax.tree.map(lambda w: jnp.stack([w, 2 * w]), params["layer"])}
    mapped = jax.vmap(gradients, (None, 0, None, None))(layer, double, x, errors)
    for many in (scanned, mapped):
        for one, other in zip(many, (net, total), strict=True):
            np.testing.assert_allclose(one, jnp.stack([other] * 2), rtol=1e-6)
    alone = jax.grad(lambda p: Net(layer).apply({"params": p}, x, errors))(params)
    np.testing.assert_array_equal(alone["layer"]["kernel"], net)


def test_a_layer_that_runs_twice_adds_up_what_it_is_asked_for():
    layer, shape = dense(EXACT)
    params, x, _ = made(layer, shape)

    def loss(zeros):
        with crossbar.gradient_totals({"kernel": zeros, "bias": None}):
            apply = layer.bind({"params": params["layer"]})
            return jnp.sum(apply(x) - apply(2 * x))

    zeros = jnp.zeros((7, 3))
    expected = 3 * np.abs(x).sum(axis=0)[:, None] * np.ones(3)
    np.testing.assert_allclose(jax.grad(loss)(zeros), expected, rtol=1e-5)


class Einsum(nn.Module):
    """A layer whose product JAX traces by itself, and keeps."""

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.ones, (7, 3))
        return jnp.einsum("bi,io->bo", x, kernel, _dot_general=dot_general(EXACT))


@pytest.mark.parametrize(
    ("layer", "path", "shape", "message"),
    [
        (dense(EXACT)[0], "far", (7, 3), "zeros: far/kernel is to have totals, and no"),
        (dense(None)[0], "layer", (7, 3), "zeros: layer/kernel .* layer with hooks"),
        (Einsum(), "layer", (7, 3), "zeros: layer/kernel .* layer with hooks"),
        (
            dense(EXACT)[0],
            "layer",
            (3, 7),
            r"layer/kernel has the shape \(3, 7\); must",
        ),
    ],
)
def test_what_has_no_totals_is_refused(layer, path, shape, message):
    params, x, errors = made(layer, (7,))
    with (
        pytest.raises(ValueError, match=message),
        crossbar.gradient_totals({path: {"kernel": jnp.zeros(shape)}}),
    ):
        Net(layer).apply({"params": params}, x, errors)
