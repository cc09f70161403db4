"""Convolutions with values that the CPU compiler keeps apart."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from hic_jax import convolution
from hic_jax.convolution import materialised

NHWC = ("NHWC", "HWIO", "NHWC")


def layer(convolve, x, w, stride=1):
    y = convolve(
        jax.nn.relu(x), w, (stride, stride), "SAME",
        dimension_numbers=NHWC,
    )  # fmt: skip
    return jnp.sum(jnp.sin(y))


@pytest.fixture
def operands():
    keys = jax.random.split(jax.random.key(0))
    return (
        jax.random.normal(keys[0], (4, 8, 8, 5)),
        jax.random.normal(keys[1], (3, 3, 5, 6)),
    )


@pytest.mark.parametrize("stride", [1, 2])
def test_is_the_convolution_of_lax(operands, stride):
    ours, theirs = (
        jax.jit(
            jax.value_and_grad(lambda x, w, f=f: layer(f, x, w, stride), argnums=(0, 1))
        )(*operands)
        for f in (convolution.conv_general_dilated, lax.conv_general_dilated)
    )
    chex.assert_trees_all_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_has_derivatives_of_all_kinds(operands):
    x, w = operands
    batch = jnp.stack([w, 2 * w, -w])

    def directional(f, w):
        return jax.jvp(jax.grad(lambda w: layer(f, x, w)), (w,), (w,))[1]

    ours, theirs = (
        jax.vmap(lambda w, f=f: directional(f, w))(batch)
        for f in (convolution.conv_general_dilated, lax.conv_general_dilated)
    )
    # Sums of 256 terms of order one.
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="what the CPU compiler does")
def test_the_gradient_does_not_compute_its_inputs_again_while_transposing(operands):
    def recomputes(f):
        gradient = jax.jit(jax.grad(lambda w, x: layer(f, x, w)))
        program = gradient.lower(operands[1], operands[0]).compile().as_text()
        fusions = re.findall(r"^%fused.*?^}", program, flags=re.MULTILINE | re.DOTALL)
        return any("transpose(" in f and "maximum(" in f for f in fusions)

    assert recomputes(lax.conv_general_dilated)  # If not, `materialised` may go.
    assert not recomputes(convolution.conv_general_dilated)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_nan_in_one_image_is_none_in_another(dtype):
    x = jnp.ones((2, 4, 4, 1), dtype).at[0, 0, 0, 0].set(jnp.nan)
    w = jnp.ones((3, 3, 1, 1), dtype)

    def convolved(f):
        return jax.jit(lambda x, w: f(x, w, (1, 1), "SAME", dimension_numbers=NHWC))

    y, expected = (
        np.asarray(convolved(f)(x, w), np.float32)
        for f in (convolution.conv_general_dilated, lax.conv_general_dilated)
    )
    np.testing.assert_array_equal(y, expected)
    assert y[1, 1, 1, 0] == 9


def test_integers_and_complex_numbers_pass():
    for dtype in ("int8", "complex64"):
        x = jnp.ones((1, 4, 4, 1), dtype)
        w = jnp.ones((3, 3, 1, 1), dtype)
        y = convolution.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=NHWC
        )
        assert y[0, 1, 1, 0] == 9


@pytest.mark.parametrize("shape", [(), (3,), (0, 2)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_materialised_changes_nothing(shape, dtype):
    x = jnp.full(shape, 1.5, dtype)
    y, gradient = jax.jit(
        lambda x: (materialised(x), jax.grad(lambda x: jnp.sum(3 * materialised(x)))(x))
    )(x)
    chex.assert_trees_all_equal(y, x)
    chex.assert_trees_all_equal(gradient, 3 * jnp.ones_like(x))
