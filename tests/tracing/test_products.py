"""Products in a model: how many, of which weights, and what is behind them."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from hic_jax import accounting, crossbar
from hic_jax.crossbar import CrossbarSpec
from hic_jax.crossbar.geometry import Geometry


def shapes(*shape):
    return jax.ShapeDtypeStruct(shape, "float32")


def macs(model, params, *x):
    """Multiply-accumulates by parameter, and all parameters that have no product."""
    found = accounting.products(model, params, *x)
    counts = {}
    for p in found:
        counts.setdefault(p.parameter, []).append(p.repeats * p.geometry.macs)
    return counts, {name for p in found for name in p.others}


class Attention(nn.Module):
    dot: object = None

    @nn.compact
    def __call__(self, x):
        attend = nn.MultiHeadAttention(2, qkv_dot_general=self.dot, qkv_features=6)
        return attend(nn.Dense(4, dot_general=self.dot)(x))


@pytest.mark.parametrize("hooked", [False, True])
def test_attention_has_products_of_activations(hooked):
    dot = crossbar.dot_general(CrossbarSpec()) if hooked else None
    model, x = Attention(dot), shapes(3, 5, 8)
    params = jax.eval_shape(model.init, jax.random.key(0), x)
    found = accounting.products(model.apply, params, x)
    rows = [
        (p.parameter and p.parameter.split("/")[-2], p.geometry.macs) for p in found
    ]
    tokens = 3 * 5
    projections = [(name, tokens * 4 * 6) for name in ("query", "key", "value")]
    scores = (None, 3 * 2 * 5 * 5 * 3)
    assert sorted(rows, key=str) == sorted(
        [("Dense_0", tokens * 8 * 4), *projections, scores, scores,
         ("out", tokens * 6 * 4)], key=str,
    )  # fmt: skip
    # Errors go back to both factors of a score, and not to the data.
    backward = {p.parameter: p.backward_products for p in found}
    assert backward[None] == 2
    assert backward["params/Dense_0/kernel"] == 0
    assert backward["params/MultiHeadAttention_0/out/kernel"] == 1


@pytest.mark.parametrize("hooked", [False, True])
def test_scan_vmap_remat_and_jit_repeat_what_is_in_them(hooked):
    dot = crossbar.dot_general(CrossbarSpec()) if hooked else lax.dot_general

    @jax.jit
    @jax.checkpoint
    def layer(w, x):
        return dot(x, 2 * w, (((0,), (0,)), ((), ())))

    def model(params, x):
        x, _ = lax.scan(lambda x, w: (layer(w, x), None), x, params["stack"])
        return layer(params["last"], x)

    params = {"stack": shapes(7, 3, 3), "last": shapes(3, 2)}
    batch = jax.vmap(model, in_axes=(None, 0))
    found = accounting.products(batch, params, shapes(5, 3))
    macs = {p.parameter: p.repeats * p.geometry.macs for p in found}
    assert macs == {"stack": 5 * 7 * 9, "last": 5 * 6}
    # What a round hands to the next depends on the parameters.
    assert all(p.backward_products == 1 for p in found)


def test_a_kernel_on_the_left_is_a_kernel():
    def model(params, x):
        return jnp.einsum("oi,bi->ob", params["w"] / jnp.max(params["w"]), x)

    (found,) = accounting.products(model, {"w": shapes(4, 3)}, shapes(5, 3))
    assert found.parameter == "w"
    assert found.geometry == Geometry(
        groups=1, features=3, taps=1, columns=4, positions=5, pixels=5
    )


def test_what_cannot_be_counted_is_an_error():
    params, x = {"w": shapes(3, 3)}, shapes(2, 3)

    def while_it_is_small(params, x):
        return lax.while_loop(lambda x: x.sum() < 1, lambda x: x @ params["w"], x)

    def if_it_is_small(params, x):
        return lax.cond(x.sum() < 1, lambda: x @ params["w"], lambda: x)

    for model, kind in [(while_it_is_small, "while"), (if_it_is_small, "cond")]:
        with pytest.raises(
            ValueError, match=f"function: has a product inside '{kind}'"
        ):
            accounting.products(model, params, x)

    dot = crossbar.dot_general(CrossbarSpec())
    layer = nn.Dense(1, dot_general=dot)
    params = jax.eval_shape(layer.init, jax.random.key(0), x)
    gradient = jax.grad(lambda p, x: layer.apply(p, x).sum())
    with pytest.raises(ValueError, match="function: must be a forward pass"):
        accounting.products(gradient, params, x)


def test_concatenated_parameters_have_what_they_bring():
    params = {"a": shapes(3, 4), "b": shapes(3, 2), "c": shapes(1, 4)}
    x = shapes(5, 3)

    def columns(p, x):
        return x @ jnp.concatenate([p["a"], 2 * p["b"], p["a"]], 1)

    assert macs(columns, params, x) == ({"a": [60, 60], "b": [30]}, set())

    def rows(p, x):
        return x @ jnp.concatenate([p["a"][:2], p["c"]])

    assert macs(rows, params, x) == ({"a": [40], "c": [20]}, set())

    def taken_apart(p, x):
        a, b = jnp.split(jnp.concatenate([p["a"], p["b"]], 1), [4], 1)
        return x @ a, x @ b, x[:2] @ b[:, 1:]

    assert macs(taken_apart, params, x) == ({"a": [60], "b": [30, 6]}, set())

    def in_blocks(p, x):  # Of zeros there is nothing to multiply.
        blocks = jax.scipy.linalg.block_diag(p["a"], p["b"])
        return jnp.concatenate([x, x], 1) @ blocks

    assert macs(in_blocks, params, x) == ({"a": [60], "b": [30]}, set())


@pytest.mark.parametrize("hooked", [False, True])
def test_layers_and_experts_that_are_stacked_on_the_way(hooked):
    dot = crossbar.dot_general(CrossbarSpec()) if hooked else lax.dot_general
    layers = [shapes(3, 3) for _ in range(4)]

    def multiply(x, w):
        return dot(x, w, (((1,), (0,)), ((), ())))

    def scanned(layers, x):
        return lax.scan(lambda x, w: (multiply(x, w), None), x, jnp.stack(layers))

    def mapped(layers, x):
        return jax.vmap(multiply, in_axes=(None, 0))(x, jnp.stack(layers))

    def merged(layers, x):
        return multiply(x, jnp.stack(layers, 1).reshape(3, 12))

    each = {str(i): [5 * 9] for i in range(4)}
    for model in (scanned, mapped, merged):
        assert macs(model, layers, shapes(5, 3)) == (each, set())


def test_of_parameters_that_make_the_same_entries_the_largest_counts():
    def normalised(p, x):
        return x @ (p["v"] * p["gain"] / jnp.linalg.norm(p["v"], axis=0))

    params = {"v": shapes(3, 4), "gain": shapes(4)}
    assert macs(normalised, params, shapes(5, 3)) == ({"v": [60]}, {"gain"})

    def adapted(p, x):
        return x @ (p["w"] + p["down"] @ p["up"])

    params = {"w": shapes(8, 9), "down": shapes(8, 2), "up": shapes(2, 9)}
    counts, others = macs(adapted, params, shapes(5, 8))
    assert counts == {"w": [5 * 72], "up": [8 * 2 * 9]}
    assert others == {"down", "up"}


@pytest.mark.parametrize(
    ("strides", "padding", "kernel"),
    [((2, 2), "SAME", (3, 3)), ((2, 3), "VALID", (3, 2)), ((3, 1), "SAME", (2, 5))],
)
def test_a_transposed_convolution_multiplies_each_input_once_per_tap(
    strides, padding, kernel
):
    layer = nn.ConvTranspose(3, kernel, strides, padding=padding, use_bias=False)
    x = jnp.ones((2, 4, 5, 6))
    params = jax.tree.map(jnp.ones_like, layer.init(jax.random.key(0), x))
    (found,) = accounting.products(layer.apply, params, x)
    # With ones everywhere the outputs add up to the number of products.
    assert found.geometry.macs == int(layer.apply(params, x).sum())
    if padding == "VALID":  # Nothing of it is cut off.
        assert found.geometry.macs == x.size * np.prod(kernel) * 3


def test_conversions_of_a_transposed_convolution():
    spec = CrossbarSpec(tile_rows=4, tile_columns=0)
    for conv in (lax.conv_general_dilated, crossbar.conv_general_dilated(spec)):
        dilated = functools.partial(
            conv, window_strides=(1,), padding=((2, 2),), lhs_dilation=(2,),
            dimension_numbers=("NWC", "WIO", "NWC"),
        )  # fmt: skip
        # Five inputs with a zero between each two, and two zeros at either end: three
        # taps lie at eleven positions of these thirteen. Every input meets all three.
        (found,) = accounting.products(
            lambda k, x: dilated(x, k),  # noqa: B023
            shapes(3, 4, 2), shapes(1, 5, 4),
        )  # fmt: skip
        geometry = found.geometry
        assert geometry.positions == 11
        assert geometry.zeros == 11 * 3 - 5 * 3
        assert geometry.macs == 15 * 4 * 2
        # An array has room for one feature; outputs are read of all four.
        assert geometry.forward_conversions(spec) == (15 * 4, 11 * 2 * 4)
        assert geometry.backward_conversions(spec) == (15 * 2 * 4, 5 * 4)


def test_a_ragged_product_multiplies_each_row_once():
    sizes = jnp.array([4, 0, 5, 1])
    params, x = {"experts": shapes(4, 6, 7)}, shapes(10, 6)
    (found,) = accounting.products(
        lambda p, x: lax.ragged_dot(x, p["experts"], sizes), params, x
    )
    assert found.geometry == Geometry(
        groups=1, features=6, taps=1, columns=7, positions=10, pixels=10
    )
    assert (found.parameter, found.repeats) == ("experts", 1)


def test_a_table_that_is_multiplied_elsewhere():
    embed = nn.Embed(11, 4)

    def model(params, tokens):
        table = nn.Embed(11, 4).bind(params)
        return table.attend(table(tokens))

    params = jax.eval_shape(embed.init, jax.random.key(0), jnp.zeros(3, int))
    (found,) = accounting.products(model, params, jnp.zeros(3, int))
    assert found.parameter == "params/embedding"
    assert (found.geometry.features, found.geometry.columns) == (4, 11)
    assert found.axes.columns == (0,)


def test_a_loop_of_which_the_index_is_known_multiplies_weights():
    def model(w, x):
        return lax.fori_loop(0, 7, lambda i, x: x @ w[i], x)

    (found,) = accounting.products(model, shapes(7, 3, 3), shapes(5, 3))
    assert (found.parameter, found.repeats, found.geometry.macs) == ("", 7, 45)
