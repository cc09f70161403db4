"""Axes of kernels: what is a row, a column, a stack, wherever a model takes it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.flatten_util import ravel_pytree

from hic_jax import KernelAxes, accounting, crossbar, find_kernel_axes

SPEC = crossbar.CrossbarSpec(tile_rows=7)
HOOKS = {
    False: (lax.dot_general, lax.conv_general_dilated),
    True: (crossbar.dot_general(SPEC), crossbar.conv_general_dilated(SPEC)),
}
hooked = pytest.mark.parametrize(
    ("dot", "conv"), HOOKS.values(), ids=["exact", "crossbars"]
)


def shapes(*shape):
    return jax.ShapeDtypeStruct(shape, "float32")


def of_module(module, *x):
    params = jax.eval_shape(module.init, jax.random.key(0), *x)["params"]
    return find_kernel_axes(lambda p, *x: module.apply({"params": p}, *x), params, *x)


def axes(columns, stack=()):
    return KernelAxes(stack=stack, columns=columns)


@hooked
def test_linen_layers(dot, conv):
    assert of_module(nn.Dense(4, dot_general=dot), shapes(2, 3)) == {
        "kernel": axes((1,))
    }
    for features, x in [(4, shapes(2, 5, 6, 2)), (4, shapes(2, 5, 6, 4))]:
        for groups in (1, 2):
            layer = nn.Conv(
                features, (3, 2), feature_group_count=groups, conv_general_dilated=conv
            )
            assert of_module(layer, x) == {"kernel": axes((3,))}
    line = nn.Conv(4, (3,), conv_general_dilated=conv)
    assert of_module(line, shapes(2, 5, 2)) == {"kernel": axes((2,))}


@hooked
def test_axes_of_one_are_told_as_others(dot, conv):
    # A crossbar's reshape loses them.
    for inputs, outputs in [(1, 4), (4, 1), (1, 1)]:
        layer = nn.Dense(outputs, dot_general=dot)
        assert of_module(layer, shapes(2, inputs)) == {"kernel": axes((1,))}
    point = nn.Conv(4, (1, 1), conv_general_dilated=conv)
    assert of_module(point, shapes(2, 5, 5, 1)) == {"kernel": axes((3,))}


def attention(dot):
    return nn.MultiHeadDotProductAttention(2, qkv_dot_general=dot, out_dot_general=dot)


class Block(nn.Module):
    dot: object

    @nn.compact
    def __call__(self, x, _):
        return nn.Dense(8, dot_general=self.dot)(x + attention(self.dot)(x)), None


@hooked
@pytest.mark.parametrize("wrapped", [lambda b: b, nn.remat], ids=["plain", "remat"])
def test_attention_and_stacks_of_it(dot, conv, wrapped):
    # Kernels of (inputs, heads, dim) and of (heads, dim, outputs).
    own = {"query/kernel": (1, 2), "key/kernel": (1, 2), "value/kernel": (1, 2)}
    own["out/kernel"] = (2,)
    x = shapes(3, 5, 8)
    assert of_module(attention(dot), x) == {n: axes(c) for n, c in own.items()}

    for axis in (0, 1):  # Along which the stack lies.
        stack = nn.scan(
            wrapped(Block), {"params": axis}, split_rngs={"params": True}, length=3
        )
        module = "MultiHeadDotProductAttention_0"
        expected = {
            f"{module}/{name}": axes(tuple(c + 1 for c in columns), (axis,))
            for name, columns in own.items()
        }
        expected["Dense_0/kernel"] = axes((2,), (axis,))
        assert of_module(stack(dot), x, None) == expected


@hooked
def test_experts(dot, conv):
    def matrix(params, x):
        return dot(x, params["w"], (((1,), (0,)), ((), ())))

    for axis in range(3):
        mapped = jax.vmap(matrix, in_axes=({"w": axis}, 0))
        shape = [3, 5]
        shape.insert(axis, 4)
        rows_and_columns = [a for a in range(3) if a != axis]
        found = find_kernel_axes(mapped, {"w": shapes(*shape)}, shapes(4, 2, 3))
        assert found == {"w": axes((rows_and_columns[1],), (axis,))}

    batched = (((2,), (1,)), ((0,), (0,)))
    found = find_kernel_axes(
        lambda p, x: dot(x, p["w"], batched), {"w": shapes(4, 3, 5)}, shapes(4, 2, 3)
    )
    assert found == {"w": axes((2,), (0,))}

    # Convolutions become the groups of one, beside the groups that each has.
    for groups in (1, 2):
        experts = nn.vmap(
            nn.Conv, variable_axes={"params": 0}, split_rngs={"params": True}
        )
        layer = experts(
            4, (3, 3), feature_group_count=groups, conv_general_dilated=conv
        )
        assert of_module(layer, shapes(3, 2, 8, 8, 2))["kernel"] == axes((4,), (0,))


def test_experts_that_take_their_rows():
    sizes = jnp.array([1, 2, 3, 4])
    found = find_kernel_axes(
        lambda p, x: lax.ragged_dot(x, p["w"], sizes),
        {"w": shapes(4, 3, 5)},
        shapes(10, 3),
    )
    assert found == {"w": axes((2,), (0,))}


@hooked
def test_nnx_layers(dot, conv):
    rngs = nnx.Rngs(0)
    layers = nnx.Sequential(
        nnx.Conv(2, 4, (3, 3), conv_general_dilated=conv, rngs=rngs),
        nnx.LinearGeneral(4, (2, 3), dot_general=dot, rngs=rngs),
    )
    graph, params, rest = nnx.split(layers, nnx.Param, ...)
    found = find_kernel_axes(
        lambda p, x: nnx.merge(graph, p, rest)(x), params, shapes(1, 5, 5, 2)
    )
    assert list(found.values()) == [axes((3,)), axes((1, 2))]


@pytest.mark.parametrize(
    ("model", "shape", "columns", "stack"),
    [
        (lambda w, x: w @ x[0], (4, 6), (0,), ()),
        (lambda w, x: x @ w.T, (4, 6), (0,), ()),
        (lambda w, x: jnp.einsum("bi,hdi->bhd", x, w), (2, 4, 6), (0, 1), ()),
        (lambda w, x: jnp.einsum("bhi,hio->bho", x.reshape(-1, 2, 3), w),
         (2, 3, 4), (2,), (0,)),
        (lambda w, x: jnp.tensordot(x.reshape(-1, 2, 3), w, 2), (2, 3, 4), (2,), ()),
        # Merged, cut, normalised, rolled, quantised in groups: still the same matrix.
        (lambda w, x: x @ w.reshape(6, -1), (6, 2, 4), (1, 2), ()),
        (lambda w, x: x @ w.reshape(6, 2, 4)[:, 1], (6, 8), (1,), ()),
        (lambda w, x: x @ (w / jnp.linalg.norm(w, axis=0, keepdims=True)),
         (6, 4), (1,), ()),
        (lambda w, x: jax.jit(lambda w: x @ jnp.roll(w, 2, 1))(w), (6, 4), (1,), ()),
        (lambda w, x: x @ jnp.round(w.reshape(-1, 2, 3)).reshape(w.shape),
         (6, 9), (1,), ()),
        (lambda w, x: x @ (1.5 * w - 0.5 * w @ w.T @ w), (6, 4), (1,), ()),
        (lambda w, x: x @ jnp.tile(w, 2)[:, jnp.array([5, 2, 1])], (6, 4), (1,), ()),
        (lambda w, x: x @ jnp.pad(w, ((1, 1), (0, 3)))[1:7], (6, 4), (1,), ()),
        (lambda w, x: x @ w.astype("bfloat16"), (6, 4), (1,), ()),
        # A stack that is indexed: by a loop of Python, by one of JAX.
        (lambda w, x: [x := x @ layer for layer in w], (4, 6, 6), (2,), (0,)),
        (lambda w, x: lax.fori_loop(0, 4, lambda i, x: x @ w[i], x),
         (4, 6, 6), (2,), (0,)),
        (lambda w, x: lax.scan(lambda c, _: ((c[0], c[1] @ c[0]), None), (w, x),
                               length=2), (6, 6), (1,), ()),
        # Of which nobody knows how often they run.
        (lambda w, x: lax.while_loop(lambda x: jnp.sum(x) < 9, lambda x: x @ w.T, x),
         (6, 6), (0,), ()),
        (lambda w, x: lax.while_loop(
            lambda c: jnp.sum(c[1] @ c[0]) < 9, lambda c: (c[0], 2 * c[1]), (w, x)),
         (6, 4), (1,), ()),
        (lambda w, x: lax.cond(x[0, 0] > 0, lambda w, x: x @ w.T, lambda w, x: 0 * x,
                               w, x), (6, 6), (0,), ()),
        (lambda w, x: x @ lax.cond(jnp.sum(w) > 0, lambda w: w, lambda w: -w, w.T),
         (4, 6), (0,), ()),
    ],
)  # fmt: skip
def test_plain_code(model, shape, columns, stack):
    found = find_kernel_axes(model, shapes(*shape), shapes(5, 6))
    assert found == {"": axes(columns, stack)}


def test_parameters_that_travel_in_one_vector():
    params = {"a": shapes(6, 8), "b": shapes(8, 2, 3), "c": shapes(4)}

    def model(params, x):
        flat, unravel = ravel_pytree(params)
        params = unravel(jnp.tanh(flat))
        return jnp.tensordot(x @ params["a"], params["b"], 1)

    found = find_kernel_axes(model, params, shapes(5, 6))
    # One axis for all of them tells matrices apart, but not three axes in a row.
    assert found == {"a": axes((1,)), "b": axes((2,))}


def test_where_axes_are_cut_across_the_last_is_the_columns():
    def model(w, x):
        return x @ w.reshape(6, 4)  # Rows of four, from rows of three.

    assert find_kernel_axes(model, shapes(8, 3), shapes(5, 6)) == {"": axes((1,))}


def test_the_product_with_the_inputs_tells():
    # A regulariser, and a decoder that has the weights of the encoder.
    def model(w, x):
        penalty = jnp.sum((jnp.ones((2, 6)) @ w) ** 2)
        return x @ w.T, x @ w.T @ w, penalty

    assert find_kernel_axes(model, shapes(6, 6), shapes(5, 6)) == {"": axes((0,))}


def test_parameters_that_are_no_weights_are_left_out():
    params = {"w": shapes(6, 4), "gain": shapes(6, 4), "head": shapes(4, 2)}

    def model(params, x):
        return x @ params["w"] * params["gain"][:5]

    assert find_kernel_axes(model, params, shapes(5, 6)) == {"w": axes((1,))}


@st.composite
def rearrangements(draw):
    """A rearrangement of two arrays of (4, 3, 2) as a matrix, in several steps."""
    axis = draw(st.sampled_from([None, 0, 1, 2]))
    steps = draw(
        st.lists(st.sampled_from(["transpose", "reshape", "roll", "cut"]), max_size=3)
    )
    choices = [draw(st.integers(0, 10**6)) for _ in steps]
    rows = draw(st.integers(0, 10**6))

    def rearranged(a, b):
        w = a if axis is None else jnp.concatenate([a, b], axis)
        for step, choice in zip(steps, choices, strict=True):
            draw = np.random.default_rng(choice)
            along = int(draw.integers(w.ndim))
            if step == "transpose":
                w = w.transpose(draw.permutation(w.ndim))
            elif step == "reshape":
                first = draw.choice(
                    [n for n in range(1, w.size + 1) if w.size % n == 0]
                )
                second = w.size // first
                w = w.reshape(first, draw.choice(np.gcd(second, [1, 2, 3, 4])), -1)
            elif step == "roll":
                w = jnp.roll(w, 1, along)
            elif w.shape[along] > 2:
                w = lax.slice_in_dim(w, 1, w.shape[along], axis=along)
        split = rows % (w.ndim - 1) + 1
        return w.reshape(int(np.prod(w.shape[:split])), -1)

    return rearranged


@settings(deadline=None, max_examples=25)
@given(rearrangements())
def test_axes_and_products_are_those_of_the_entries(rearranged):
    """Numbers in place of weights show where every entry goes."""
    size = 24
    names = np.arange(2 * size).reshape(2, 4, 3, 2)
    matrix = np.asarray(rearranged(*jnp.asarray(names)))
    params = {"a": shapes(4, 3, 2), "b": shapes(4, 3, 2)}
    found = accounting.products(
        lambda p, x: x @ rearranged(p["a"], p["b"]), params, shapes(5, len(matrix))
    )
    assert sum(p.geometry.macs for p in found) <= 5 * matrix.size
    for i, name in enumerate("ab"):
        mine = matrix // size == i
        own = [p for p in found if p.parameter == name]
        if not found[0].others:  # Each has entries of its own, as far as can be told.
            assert sum(p.geometry.macs for p in own) == 5 * mine.sum()
        for axis, at in enumerate(np.unravel_index(matrix % size, (4, 3, 2))):
            entries = np.ma.array(at, mask=~mine)
            for p in own:
                if p.axes == KernelAxes.plain(3):
                    continue  # Perhaps it cannot be told.
                if (entries.max(0) > entries.min(0)).any():
                    assert axis in p.axes.rows(3)
                if (entries.max(1) > entries.min(1)).any():
                    assert axis in p.axes.columns
