"""Which operand of a product are weights, wherever they lie."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import hic_jax
from hic_jax import crossbar
from hic_jax.crossbar import CrossbarSpec
from tests.crossbar.reference import whole
from tests.rewriting.hooked import (
    HOOKS,
    ROWS,
    SPEC,
    assert_same,
    differ,
)


def assert_product(function, w, x, expected):
    """One product, as a hook computes it."""
    assert_same(jax.jit(hic_jax.on_crossbars(function, SPEC))(w, x), expected)


@pytest.mark.parametrize(
    ("subscripts", "shapes", "turned"),
    [
        ("dh,bd->hb", ((6, 3), (4, 6)), "bd,dh->bh"),
        ("ed,bd->be", ((3, 6), (4, 6)), "bd,ed->be"),
        ("hdk,bqd->bhqk", ((2, 6, 3), (2, 4, 6)), "bqd,hdk->bqhk"),
        ("edh,ebd->ebh", ((2, 6, 3), (2, 4, 6)), "ebd,edh->ebh"),
        ("khd,bqkd->bqh", ((2, 3, 6), (2, 4, 2, 6)), "bqkd,khd->bqh"),
    ],
)
def test_weights_on_either_side(subscripts, shapes, turned):
    w, x = (jnp.asarray(whole(i, shape)) for i, shape in enumerate(shapes))
    expected = jnp.einsum(turned, x, w, _dot_general=HOOKS[0])
    axes = [turned.split("->")[1].index(a) for a in subscripts.split("->")[1]]
    expected = jnp.transpose(expected, axes)
    assert differ(expected, jnp.einsum(subscripts, w, x))
    for function in (
        lambda w, x: jnp.einsum(subscripts, w, x),
        lambda w, x: jnp.einsum(turned, x, w).transpose(axes),
    ):
        assert_product(function, w, x, expected)


@pytest.mark.parametrize(
    "move",
    [
        lambda w: w,
        lambda w: jnp.concatenate([w[:4], w[4:]]),
        lambda w: jnp.roll(w, 2, 1)[:, ::-1],
        lambda w: w.astype(jnp.bfloat16).astype(jnp.float32),
        lambda w: jnp.pad(w, ((0, 0), (0, 2)))[:, 1:],
        lambda w: jnp.concatenate([w, jnp.zeros((6, 2))], 1),
        lambda w: w.T.reshape(2, 2, 6)[1].T,
        lambda w: lax.dynamic_slice(w, (0, 1), (6, 2)),
        lambda w: w[:, jnp.array([2, 0])],
        lambda w: jnp.split(w, 2, axis=1)[1],
        lambda w: lax.optimization_barrier((w, w))[0],
    ],
)
def test_weights_may_be_moved(move):
    w, x = jnp.asarray(whole(0, (6, 4))), jnp.asarray(whole(1, (5, 6)))
    expected = jax.jit(lambda w, x: HOOKS[0](x, move(w), ROWS))(w, x)
    assert_product(lambda w, x: x @ move(w), w, x, expected)


@pytest.mark.parametrize(
    ("inputs", "weights", "result"),
    [
        (jnp.bfloat16, jnp.bfloat16, jnp.float32),
        (jnp.float32, jnp.bfloat16, None),
        (jnp.int8, jnp.float32, jnp.float32),
        (jnp.float16, jnp.float16, None),
    ],
)
def test_types_and_ranges(inputs, weights, result):
    spec = CrossbarSpec(
        dac_range="fixed", adc_range="fixed", dac_bound=5.0, adc_bound=3.0, tile_rows=4
    )
    x, w = whole(0, (5, 6)).astype(inputs), whole(1, (6, 4)).astype(weights)
    expected, found = (
        jax.jit(lambda w, x, dot=dot: dot(x, w, ROWS, preferred_element_type=result))
        for dot in (crossbar.dot_general(spec), lax.dot_general)
    )
    found = hic_jax.on_crossbars(found, spec)(w, x)
    assert found.dtype == jax.eval_shape(expected, w, x).dtype
    assert_same(found, expected(w, x))


def test_transposed_convolutions():
    """Of which flax gives the hooks no word."""
    layer = nn.ConvTranspose(3, (3, 2), strides=(2, 2), transpose_kernel=True)
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 2))
    params = layer.init(jax.random.key(1), x)
    y = jax.jit(hic_jax.on_crossbars(layer.apply, SPEC))(params, x)
    exact = layer.apply(params, x)
    kernel = jnp.flip(params["params"]["kernel"], (0, 1)).swapaxes(2, 3)
    (padding,) = [
        e.params["padding"]
        for e in jax.make_jaxpr(layer.apply)(params, x).eqns
        if e.primitive.name == "conv_general_dilated"
    ]
    expected = jax.jit(HOOKS[1], static_argnums=(2, 3, 4, 5, 6))(
        x, kernel, (1, 1), padding, (2, 2), (1, 1), ("NHWC", "HWIO", "NHWC")
    )
    assert_same(y, expected + params["params"]["bias"])
    assert 0.001 < np.abs(y - exact).max() / np.abs(exact).max() < 0.3


def test_a_table_is_analog_where_a_rule_says_so():
    table = nn.Embed(7, 6)
    tokens = jnp.arange(5)
    params = table.init(jax.random.key(0), tokens)

    def model(params, tokens):
        h = table.apply(params, tokens)
        return table.apply(params, jnp.tanh(h) @ jnp.eye(6), method="attend")

    with (
        pytest.warns(UserWarning, match="something up: params/embedding; a rule may"),
        pytest.raises(ValueError, match="with the others but for tables"),
    ):
        hic_jax.on_crossbars(model, SPEC)(params, tokens)
    under = hic_jax.on_crossbars(model, None, rules={"params/embedding": SPEC})
    embedding = params["params"]["embedding"]
    h = jnp.tanh(embedding[tokens]) @ jnp.eye(6)
    expected = jax.jit(lambda h: HOOKS[0](h, embedding.T, ROWS))(h)
    # What goes into the product is compiled with it here, and alone there.
    chex.assert_trees_all_close(jax.jit(under)(params, tokens), expected, rtol=1e-6)
