"""Crossbars put under a function compute what hooks in its layers compute."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

import hic_jax
from tests.crossbar.reference import whole
from tests.rewriting.hooked import (
    DIGITAL,
    HOOKS,
    ROWS,
    SPEC,
    assert_same,
    differ,
    flat,
    tied,
)


def outcome(function, params, *inputs):
    """The results, and the gradient of their sines, as compiled."""

    def loss(params, *inputs):
        y = function(params, *inputs)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(y)), y

    both = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    (_, y), gradient = both(params, *inputs)
    return y, gradient


def assert_as_with_hooks(model, params, *inputs):
    """``model(dot, conv)`` makes a function; crossbars go into it, and under it."""
    digital = model(*DIGITAL)
    expected = outcome(model(*HOOKS), params, *inputs)
    assert differ(expected[0], digital(params, *inputs))
    assert_same(outcome(hic_jax.on_crossbars(digital, SPEC), params, *inputs), expected)


# ---- layers


class Convolutions(nn.Module):
    dot: object
    conv: object

    @nn.compact
    def __call__(self, x):
        conv = functools.partial(nn.Conv, conv_general_dilated=self.conv)
        x = nn.relu(conv(4, (3, 2), strides=2)(x))
        x = conv(4, (3, 3), feature_group_count=2, padding="CIRCULAR")(x)
        return nn.Dense(3, dot_general=self.dot)(x.reshape(len(x), -1))


class Attention(nn.Module):
    dot: object

    @nn.compact
    def __call__(self, x):
        return x + nn.MultiHeadDotProductAttention(
            2, qkv_dot_general=self.dot, out_dot_general=self.dot
        )(x)


def stacked(dot, conv):
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return nn.Dense(6, dot_general=dot)(nn.tanh(Attention(dot)(x))), None

    layers = nn.scan(
        nn.remat(Block), {"params": 0}, split_rngs={"params": True}, length=2
    )
    return layers()


@pytest.mark.parametrize(
    ("module", "shape", "more"),
    [
        (Convolutions, (2, 6, 5, 3), ()),
        (stacked, (2, 3, 6), (None,)),
    ],
    ids=["convolutions", "stacked"],
)
def test_layers_of_linen(module, shape, more):
    def model(dot, conv):
        layers = module(dot, conv)
        return lambda params, x: layers.apply(params, x, *more)

    x = jax.random.normal(jax.random.key(1), shape)
    params = module(*DIGITAL).init(jax.random.key(0), x, *more)
    assert_as_with_hooks(model, params, x)


def test_layers_of_nnx():
    def layers(dot, conv):
        rngs = nnx.Rngs(0)
        return nnx.Sequential(
            nnx.Linear(6, 4, dot_general=dot, rngs=rngs),
            nnx.BatchNorm(4, rngs=rngs),
            nnx.Linear(4, 2, dot_general=dot, rngs=rngs),
        )

    x = jax.random.normal(jax.random.key(0), (3, 6))

    def loss(model, x):
        return jnp.sum(jnp.sin(model(x)))

    hooked, plain = layers(*HOOKS), layers(*DIGITAL)
    expected = nnx.jit(nnx.value_and_grad(loss))(hooked, x)
    under = hic_jax.on_crossbars(loss, SPEC)
    found = nnx.jit(nnx.value_and_grad(under))(plain, x)
    assert_same(found[0], expected[0])
    assert_same(*(list(jax.tree.leaves(gradient)) for _, gradient in (found, expected)))
    # A module is changed where it is, as by itself.
    mean = plain.layers[1].mean[...]
    assert mean.any()
    np.testing.assert_array_equal(mean, hooked.layers[1].mean[...])
    under(plain, x)
    assert differ(plain.layers[1].mean[...], mean)


# ---- plain functions, through the transformations of JAX


def through_jit(step):
    return jax.jit(step)


def through_scan(step):
    def repeated(w, x):
        return lax.scan(lambda x, i: (step(w, x), x + i), x, jnp.arange(2.0))

    return repeated


def through_scan_of_weights(step):
    def repeated(w, x):
        weights = jnp.stack([w, w.T])
        return lax.scan(lambda x, w: (step(w, x), None), x, weights, reverse=True)[0]

    return repeated


def through_a_carried_weight(step):
    def repeated(w, x):
        return lax.scan(lambda c, _: ((c[0], step(*c)), None), (w, x), length=2)[0][1]

    return repeated


def through_cond(step):
    return lambda w, x: lax.cond(x[0, 0] > 0, step, lambda w, x: x, w, jnp.abs(x))


def through_switch(step):
    other = lambda w, x: step(w.T, x)  # noqa: E731
    return lambda w, x: lax.switch(2, [lambda w, x: x, step, other], w, x)


def through_fori_loop(step):
    def repeated(w, x):
        weights = jnp.stack([w, w.T])
        return lax.fori_loop(0, 2, lambda i, x: step(weights[i], x), x)

    return repeated


def through_remat(step):
    return jax.checkpoint(step, policy=jax.checkpoint_policies.nothing_saveable)


def through_derivatives_of_others(step):
    @jax.custom_vjp
    def clipped(x):
        return x

    clipped.defvjp(lambda x: (x, None), lambda _, error: (jnp.clip(error, -0.5, 0.5),))
    return lambda w, x: jax.nn.silu(clipped(step(w, jax.nn.relu6(x))))


@pytest.mark.parametrize(
    "through",
    [
        lambda step: step, through_jit, through_scan, through_scan_of_weights,
        through_a_carried_weight, through_cond, through_switch, through_fori_loop,
        through_remat, through_derivatives_of_others,
    ],
)  # fmt: skip
def test_transformations_inside(through):
    def model(dot, conv):
        function = through(lambda w, x: jnp.tanh(dot(x, w, ROWS)))
        return lambda w, x: function(w, x)

    x, w = jnp.asarray(whole(0, (4, 6)) / 8), jnp.asarray(whole(1, (6, 6)) / 16)
    assert_as_with_hooks(model, w, x)


def test_vmap_inside():
    def model(dot):
        step = lambda w, x: jnp.tanh(dot(x, w, ROWS))  # noqa: E731
        return jax.vmap(step, in_axes=(None, 0), out_axes=1)

    x, w = jnp.asarray(whole(0, (2, 4, 6)) / 8), jnp.asarray(whole(1, (6, 6)) / 16)
    found = outcome(hic_jax.on_crossbars(model(lax.dot_general), SPEC), w, x)
    expected = outcome(model(HOOKS[0]), w, x)
    assert_same(found[0], expected[0])
    # The gradient of the weights is added up in another order.
    np.testing.assert_allclose(flat(found[1]), flat(expected[1]), atol=1e-5)


def test_a_while_loop():
    """Which has no gradient backward."""

    def model(dot):
        def function(w, x):
            def more(count_and_x):
                count, x = count_and_x
                return jnp.sum(dot(x, w.T, ROWS)) < 10 * (2 - count)

            def step(count_and_x):
                count, x = count_and_x
                return count + 1, dot(x, w, ROWS)

            return lax.while_loop(more, step, (0, x))

        return function

    x, w = jnp.asarray(whole(0, (4, 6)) / 8), jnp.asarray(whole(1, (6, 6)) / 16)
    found = jax.jit(hic_jax.on_crossbars(model(lax.dot_general), SPEC))(w, x)
    expected = jax.jit(model(HOOKS[0]))(w, x)
    assert expected[0] > 0 and differ(expected, model(lax.dot_general)(w, x))
    assert_same(found, expected)


@pytest.mark.parametrize(
    ("outside", "chips"),
    [
        (lambda f: jax.jit(jax.vmap(f, (None, 0))), False),
        (lambda f: jax.jit(jax.vmap(f, (0, 0))), True),
        (lambda f: jax.jit(lambda w, x: lax.map(lambda x: f(w, x), x)), False),
        (lambda f: jax.jit(jax.checkpoint(lambda w, x: f(w, x[0]))), False),
        (lambda f: lambda w, x: f(w, x[0]), False),
    ],
    ids=["vmap", "vmap of weights", "scan", "remat", "eager"],
)  # fmt: skip
def test_transformations_outside(outside, chips):
    w = {"a": jnp.asarray(whole(0, (6, 4))), "b": jnp.asarray(whole(1, (6, 4)))}
    if chips:
        w = jax.tree.map(lambda v: jnp.stack([v, 2 * v, -v]), w)
    x = jnp.asarray(whole(2, (3, 4, 6)))
    under = hic_jax.on_crossbars(tied(lax.dot_general), SPEC)
    assert_same(outside(under)(w, x), outside(tied(HOOKS[0]))(w, x))


def test_second_derivatives():
    w = {"a": jnp.asarray(whole(0, (6, 4)) / 16), "b": jnp.asarray(whole(1, (6, 4)))}
    x = jnp.asarray(whole(2, (3, 6)) / 8)

    def curvature(function):
        gradient = jax.grad(lambda w: jnp.sum(jnp.tanh(function(w, x)) ** 2))
        backward = jax.grad(lambda w: jnp.vdot(*map(flat, (gradient(w), w))))
        return backward(w), jax.jvp(gradient, (w,), (w,))[1]

    found, expected = (
        jax.jit(curvature, static_argnums=0)(f)
        for f in (
            hic_jax.on_crossbars(tied(lax.dot_general), SPEC), tied(HOOKS[0])
        )
    )  # fmt: skip
    assert np.abs(flat(expected)).max() > 0.1
    assert_same(found, expected)


# ---- derivatives of others around a product


@pytest.mark.parametrize("kind", ["vjp", "jvp"])
def test_the_derivative_of_an_author_stays(kind):
    """The product is computed by crossbars, twice the derivative by its author."""

    def product(w, x):
        return x @ w

    if kind == "vjp":
        function = jax.custom_vjp(product)
        function.defvjp(
            lambda w, x: (product(w, x), (w, x)),
            lambda kept, error: (2 * kept[1].T @ error, 2 * error @ kept[0].T),
        )
    else:
        function = jax.custom_jvp(product)

        @function.defjvp
        def derivative(primals, tangents):
            (w, x), (w_dot, x_dot) = primals, tangents
            return x @ w, 2 * (x_dot @ w + x @ w_dot)

    x, w = jnp.asarray(whole(0, (5, 6))), jnp.asarray(whole(1, (6, 4)) / 8)
    under = hic_jax.on_crossbars(lambda w, x: function(w, x), SPEC)
    y, transpose = jax.vjp(under, w, x)
    assert_same(y, HOOKS[0](x, w, ROWS))
    assert_same(transpose(y), (2 * x.T @ y, 2 * y @ w.T))
