"""Crossbars put under a function compute what hooks in its layers compute."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export, lax
from jax.flatten_util import ravel_pytree

import hic_jax
from hic_jax import crossbar
from hic_jax.crossbar import CrossbarSpec
from tests.crossbar.reference import whole

SPEC = CrossbarSpec(tile_rows=5, tile_columns=3)
DIGITAL = lax.dot_general, lax.conv_general_dilated
HOOKS = crossbar.dot_general(SPEC), crossbar.conv_general_dilated(SPEC)
ROWS = (((1,), (0,)), ((), ()))


def outcome(function, params, *inputs):
    """The results, and the gradient of their sines, as compiled."""

    def loss(params, *inputs):
        y = function(params, *inputs)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(y)), y

    both = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    (_, y), gradient = both(params, *inputs)
    return y, gradient


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def differ(a, b):
    return not np.array_equal(ravel_pytree(a)[0], ravel_pytree(b)[0])


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


def of_linen(module, x, **kwargs):
    """Functions of its parameters, with every kind of products, and parameters."""

    def model(dot, conv):
        layers = module(dot, conv)
        return lambda params, x: layers.apply(params, x, *kwargs.get("more", ()))

    params = module(*DIGITAL).init(jax.random.key(0), x, *kwargs.get("more", ()))
    return model, params


@pytest.mark.parametrize(
    ("module", "shape", "more"),
    [
        (Convolutions, (2, 6, 5, 3), ()),
        (stacked, (2, 3, 6), (None,)),
    ],
    ids=["convolutions", "stacked"],
)
def test_layers_of_linen(module, shape, more):
    x = jax.random.normal(jax.random.key(1), shape)
    model, params = of_linen(module, x, more=more)
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
    np.testing.assert_allclose(_flat(found[1]), _flat(expected[1]), atol=1e-5)


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


def tied(dot):
    """A product with each of two weights, the second one transposed."""
    return lambda w, x: dot(dot(x, w["a"], ROWS), w["b"].T, ROWS)


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
        backward = jax.grad(lambda w: jnp.vdot(*map(_flat, (gradient(w), w))))
        return backward(w), jax.jvp(gradient, (w,), (w,))[1]

    found, expected = (
        jax.jit(curvature, static_argnums=0)(f)
        for f in (
            hic_jax.on_crossbars(tied(lax.dot_general), SPEC), tied(HOOKS[0])
        )
    )  # fmt: skip
    assert np.abs(_flat(expected)).max() > 0.1
    assert_same(found, expected)


def _flat(tree):
    return ravel_pytree(tree)[0]


# ---- which operand are weights, wherever they lie


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

    with pytest.raises(ValueError, match="with the others but for tables"):
        hic_jax.on_crossbars(model, SPEC)(params, tokens)
    under = hic_jax.on_crossbars(model, None, rules={"params/embedding": SPEC})
    embedding = params["params"]["embedding"]
    h = jnp.tanh(embedding[tokens]) @ jnp.eye(6)
    expected = jax.jit(lambda h: HOOKS[0](h, embedding.T, ROWS))(h)
    assert_same(jax.jit(under)(params, tokens), expected)


# ---- calls

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
        function.defjvp(
            lambda primals, tangents: (
                product(*primals),
                2
                * (product(primals[0], tangents[1]) + product(tangents[0], primals[1])),
            )
        )
    w = W
    under = hic_jax.on_crossbars(lambda w, x: function(w, x), SPEC)
    y, transpose = jax.vjp(under, w, X)
    assert_same(y, HOOKS[0](X, w, ROWS))
    assert_same(transpose(y), (2 * X.T @ y, 2 * y @ w.T))
