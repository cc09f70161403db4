"""How functions with crossbars under them are called, and what they answer."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import export, lax

import hic_jax
from tests.crossbar.reference import whole
from tests.rewriting.hooked import (
    SPEC,
    assert_same,
    differ,
    tied,
)

X, W = jnp.asarray(whole(0, (5, 6))), jnp.asarray(whole(1, (6, 4)) / 8)


def test_arguments_that_are_no_arrays():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            x = nn.Dense(4)(x)
            x = nn.BatchNorm(use_running_average=not train)(x)
            return nn.Dropout(0.5, deterministic=not train)(x)

    net = Net()
    variables = net.init(jax.random.key(0), X, False)
    under = hic_jax.on_crossbars(net.apply, SPEC)
    options = {"mutable": ["batch_stats"], "rngs": {"dropout": jax.random.key(1)}}
    y, changed = jax.jit(lambda v, x: under(v, x, True, **options))(variables, X)
    exact, exactly = net.apply(variables, X, True, **options)
    np.testing.assert_array_equal(y == 0, exact == 0)
    assert differ(y, exact) and differ(changed, exactly)
    assert_same(*(jax.tree.map(jnp.shape, tree) for tree in (changed, exactly)))


def test_it_is_traced_once_for_a_shape():
    traces = []

    def model(w, x):
        traces.append(x.shape)
        return x @ w

    w = W
    step = jax.jit(hic_jax.on_crossbars(model, SPEC))
    assert_same(step(w, X), step(w, 1 * X))
    step(w, X[:2])
    assert traces == [(5, 6), (2, 6)]


def test_a_donated_argument_is_gone():
    def model(params, x):
        return jax.jit(lambda w, x: w - 0.1 * (x.T @ (x @ w)), donate_argnums=0)(
            params, x
        )

    w = 1 * W
    step = jax.jit(hic_jax.on_crossbars(model, SPEC), donate_argnums=0)
    assert step(w, X).shape == w.shape
    assert w.is_deleted() and not X.is_deleted()


def test_a_program_for_any_batch():
    (batch,) = export.symbolic_shape("batch")
    under = jax.jit(hic_jax.on_crossbars(tied(lax.dot_general), SPEC))
    shape = jax.ShapeDtypeStruct((batch, 6), jnp.float32)
    weights = {"a": W, "b": W}
    program = export.export(under)(weights, shape)
    for size in (1, 5):
        assert_same(program.call(weights, X[:size]), under(weights, X[:size]))


def test_a_gradient_for_any_batch_is_that_of_each():
    """Of a convolution, and of matrices in a loop."""
    (batch,) = export.symbolic_shape("batch")
    x = jax.random.normal(jax.random.key(0), (5, 6, 6, 2))
    params = {
        "conv": jax.random.normal(jax.random.key(1), (3, 3, 2, 4)),
        "loop": jax.random.normal(jax.random.key(2), (3, 4, 4)),
    }

    def model(params, x):
        numbers = ("NHWC", "HWIO", "NHWC")
        x = lax.conv_general_dilated(
            x, params["conv"], (2, 2), "SAME", dimension_numbers=numbers
        )
        return lax.scan(lambda x, w: (x @ w, None), x.mean((1, 2)), params["loop"])[0]

    under = hic_jax.on_crossbars(model, SPEC)

    @jax.jit
    def with_gradient(params, x):
        return under(params, x), jax.grad(lambda p: jnp.sum(under(p, x) ** 2))(params)

    shape = jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype)
    program = export.export(with_gradient)(params, shape)
    for size in (1, 5):
        found = program.call(params, x[:size])
        expected = with_gradient(params, x[:size])
        jax.tree.map(np.testing.assert_array_equal, found[0], expected[0])
        # Sums over the batch, perhaps in another order.
        close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-3)
        jax.tree.map(close, found[1], expected[1])
        assert all(np.abs(w).max() > 0.1 for w in found[1].values())


def test_results_that_are_no_arrays():
    def model(w, x):
        return {"y": x @ w, "name": "head", "none": None, "three": 3}

    found = hic_jax.on_crossbars(model, SPEC)(W, X)
    assert (found.pop("name"), found.pop("none"), found.pop("three")) == (
        "head",
        None,
        3,
    )
    assert found["y"].shape == (5, 4)
