"""Noise that is new in every product, in products that `on_crossbars` finds."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hic_jax
from hic_jax import crossbar
from hic_jax.crossbar import CrossbarSpec, LayerCrossbars
from hic_jax.labels import analog_labels
from tests.key_recorder import keys_used_once

SPEC = CrossbarSpec(tile_rows=5, dac_bits=4, adc_bits=6)
EXACT = CrossbarSpec(dac_bits=0, adc_bits=0, error_dac_bits=0, error_adc_bits=0)
KEY = jax.random.key(7)
X = jax.random.normal(jax.random.key(0), (3, 6, 6, 2))


class Net(nn.Module):
    """A convolution, and a dense layer that is called twice, with hooks or without."""

    crossbars: LayerCrossbars = LayerCrossbars()

    @nn.compact
    def __call__(self, x):
        hook = self.crossbars.conv_general_dilated(("conv",))
        x = nn.Conv(4, (3, 3), conv_general_dilated=hook, name="conv")(x)
        hook = self.crossbars.dot_general(("dense",))
        layer = nn.Dense(4, dot_general=hook, name="dense")
        return layer(nn.relu(layer(x)))


PARAMS = Net().init(jax.random.key(1), X)["params"]
VARIANCES = jax.tree.map(
    lambda x: 0.01 * jnp.ones(x.shape) if x.ndim > 1 else None, PARAMS
)


def _noisy(function, variances, params=PARAMS):
    with keys_used_once(), crossbar.fresh_noise(variances, KEY):
        return function({"params": params}, X)


@pytest.mark.parametrize("jitted", [False, True])
@pytest.mark.parametrize("layers", [{}, {"dense": None}, {"conv": None}], ids=str)
def test_it_is_that_of_layers_with_hooks(layers, jitted):
    """The same draws, in the same sums: of crossbars, and of layers without."""
    hooked = Net(LayerCrossbars(SPEC, layers))
    rules = {f"params/{name}": spec for name, spec in layers.items()}
    # What is computed by a function that is compiled itself has noise, too.
    bare = jax.jit(Net().apply) if jitted else Net().apply
    found = _noisy(hic_jax.on_crossbars(bare, SPEC, rules=rules), VARIANCES)
    expected = _noisy(hooked.apply, VARIANCES)
    # Rounding of float32, which changes no code here.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    quiet = hic_jax.on_crossbars(bare, SPEC, rules=rules)({"params": PARAMS}, X)
    assert np.abs(found - quiet).max() > 0.1  # Of sums over 18 weights, and over 4.


def test_a_hook_that_there_is_takes_its_own():
    mixed = Net(LayerCrossbars(None, {"conv": SPEC}))
    found = _noisy(hic_jax.on_crossbars(mixed.apply, SPEC), VARIANCES)
    expected = _noisy(Net(LayerCrossbars(SPEC)).apply, VARIANCES)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("moved", [lambda w: w.T, lambda w: w.reshape(3, 2, 4)[:, 1]])
def test_variances_are_moved_as_the_weights_are(moved):
    """A function of one's own; each weight has a variance of its own."""
    variances = {"w": jnp.arange(24.0).reshape(6, 4)}
    kernel = moved(variances["w"])
    x = jnp.eye(len(kernel))

    def noise(key):
        def function(params, x):
            return jax.checkpoint(lambda w, x: x @ moved(w))(params["w"], x)

        on = hic_jax.on_crossbars(function, EXACT)
        with crossbar.fresh_noise(variances, key):
            return on({"w": jnp.zeros((6, 4))}, x)

    y = jax.jit(jax.vmap(noise))(jax.random.split(KEY, 4000))
    # Rows of one input each: the variance of a sum is that of a weight. Five standard
    # errors of a variance, which are 2.2 % of it each.
    np.testing.assert_allclose(y.var(axis=0), kernel, rtol=5 * np.sqrt(2 / 4000))


def test_gradients_are_those_of_the_weights_that_were_read():
    on = hic_jax.on_crossbars(Net().apply, EXACT)

    def total(params, noisy):
        variances = {"dense": {"kernel": VARIANCES["dense"]["kernel"]}}
        with crossbar.fresh_noise(variances if noisy else None, KEY):
            y = on({"params": params | {"dense": dense(params)}}, X)
        return jnp.sum(y)

    def dense(params):  # So that no rectifier is between the noise and the sum.
        return jax.tree.map(jnp.abs, params["dense"]) | {"bias": 9.0 * jnp.ones(4)}

    noisy, exact = (jax.grad(total)(PARAMS, on)["conv"]["bias"] for on in (True, False))
    np.testing.assert_allclose(noisy, exact, rtol=1e-5)


def _loop(params, x):
    return jax.lax.scan(lambda x, w: (x @ w, None), x, params["stack"]["kernel"])[0]


def _beside(params, x):
    return x @ jnp.concatenate([w["kernel"] for w in params.values()], axis=1)


@pytest.mark.parametrize(
    ("function", "params", "message"),
    [
        (_loop, {"stack": {"kernel": jnp.ones((3, 2, 2))}}, "stack/kernel: has noise"),
        (
            _beside,
            {n: {"kernel": jnp.ones((2, 3))} for n in "ab"},
            "a/kernel: has noise",
        ),
    ],
)
def test_noise_that_cannot_be_moved_is_refused(function, params, message):
    on = hic_jax.on_crossbars(function, SPEC, analog=analog_labels)
    variances = jax.tree.map(jnp.ones_like, params)
    noise = crossbar.fresh_noise(variances, KEY)
    with pytest.raises(ValueError, match=f"^{message} .*in a loop, or beside"), noise:
        on(params, jnp.ones((1, 2)))


def test_noise_that_is_misplaced_is_refused():
    wrong = {"dense": {"kernel": jnp.ones((4, 3))}}
    with pytest.raises(ValueError, match=r"dense/kernel has the shape \(4, 3\)"):
        _noisy(hic_jax.on_crossbars(Net().apply, SPEC), wrong)
    absent = {"head": {"kernel": jnp.ones((4, 4))}}
    with pytest.raises(ValueError, match=r"head/kernel has noise .* nor on_cross"):
        _noisy(hic_jax.on_crossbars(Net().apply, SPEC), absent)
    on = hic_jax.on_crossbars(lambda params, x: _noisy(Net().apply, VARIANCES), SPEC)
    with pytest.raises(ValueError, match="fresh_noise: begins inside a function"):
        on({"params": PARAMS}, X)
