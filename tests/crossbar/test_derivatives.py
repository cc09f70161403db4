"""Derivatives of gradients: those of the product, as converters are passed straight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hic_jax import crossbar
from hic_jax.crossbar import CrossbarSpec

# Codes of 16 bits, so that what is found is that of the product to about 1e-4.
FINE = {
    "dac_bits": 16, "adc_bits": 16, "error_dac_bits": 16, "error_adc_bits": 16,
}  # fmt: skip
SPECS = [
    CrossbarSpec(**FINE),
    CrossbarSpec(**FINE, tile_rows=5, tile_columns=2),
    CrossbarSpec(**FINE, dac_range="fixed", adc_range="fixed", dac_bound=5.0),
]
MATRIX = (((1,), (0,)), ((), ()))
CLOSE = 0.01


def dense(dot):
    return lambda x, w: dot(x, w, MATRIX)


def strided(conv):
    return lambda x, w: conv(
        x, w, (2, 1), "SAME", feature_group_count=2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip


def products(kind, spec):
    """The product on crossbars, the digital one, and shapes of operands."""
    if kind == "matrix":
        ours, exact = crossbar.dot_general(spec), jax.lax.dot_general
        return dense(ours), dense(exact), ((7, 6), (6, 3))
    ours, exact = crossbar.conv_general_dilated(spec), jax.lax.conv_general_dilated
    return strided(ours), strided(exact), ((2, 4, 4, 4), (3, 3, 2, 4))


def second_derivatives(product, x, w, along):
    """By kind, each a pytree of arrays."""

    def loss(x, w):
        return jnp.sum(jnp.tanh(product(x, w)) ** 2)

    gradient = jax.grad(loss, (0, 1))

    def slope(x, w):
        return sum(map(jnp.vdot, gradient(x, w), along))

    def penalty(w):
        (x_bar,) = jax.vjp(lambda x: product(x, w), x)[1](jnp.sin(product(x, w)))
        return jnp.sum(x_bar**2)

    return {
        "reverse over reverse": jax.grad(slope, (0, 1))(x, w),
        "forward over reverse": jax.jvp(gradient, (x, w), along)[1],
        "gradient penalty": jax.grad(penalty)(w),
        "third": jax.grad(lambda w: jnp.sum(jax.grad(slope, 1)(x, w) ** 2))(w),
    }


@pytest.mark.parametrize("spec", SPECS, ids=["one array", "tiles", "fixed"])
@pytest.mark.parametrize("kind", ["matrix", "convolution"])
def test_at_sixteen_bits_they_are_those_of_the_product(kind, spec):
    ours, exact, shapes = products(kind, spec)
    x, w = (0.5 * jax.random.normal(jax.random.key(i), s) for i, s in enumerate(shapes))
    x = x.at[0].set(0.0)  # Nothing, whose range is nothing, has derivatives, too.
    along = tuple(
        jax.random.normal(jax.random.key(i + 2), s) for i, s in enumerate(shapes)
    )
    found, expected = (
        jax.jit(second_derivatives, static_argnums=0)(product, x, w, along)
        for product in (ours, exact)
    )
    for name in expected:
        pair = map(jax.tree.leaves, (found[name], expected[name]))
        for a, b in zip(*pair, strict=True):
            assert np.linalg.norm(a - b) < CLOSE * np.linalg.norm(b), name


@pytest.mark.parametrize("kind", ["matrix", "convolution"])
def test_where_there_is_no_error_there_is_curvature(kind):
    ours, exact, shapes = products(kind, CrossbarSpec())
    x, w = (jax.random.normal(jax.random.key(i), s) for i, s in enumerate(shapes))
    along = jax.random.normal(jax.random.key(2), w.shape)

    def curvature(product):
        target = product(x, w)  # Reached: all errors are 0.
        gradient = jax.grad(lambda w: jnp.sum((product(x, w) - target) ** 2))
        np.testing.assert_allclose(gradient(w), 0, atol=1e-5)
        return jax.jvp(gradient, (w,), (along,))[1]

    found, expected = curvature(ours), curvature(exact)
    # Inputs of eight bits.
    assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected)
