"""Hooks in nnx layers: each keeps the ranges of one layer, and says so of a second."""

import copy
import functools
import pickle

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hic_jax import crossbar
from hic_jax.crossbar import CrossbarSpec

RUNNING = CrossbarSpec(dac_range="running", adc_range="running", range_momentum=0.5)
X = jax.random.normal(jax.random.key(0), (5, 8))
TOKENS = jax.random.normal(jax.random.key(1), (3, 5, 8))
SHARED = "NnxDotGeneral: is called by two layers.*give each layer one of its own"


def hook():
    return crossbar.NnxDotGeneral(RUNNING)


def linear(dot, features=8, **options):
    return nnx.Linear(8, features, dot_general=dot, rngs=nnx.Rngs(0), **options)


class Net(nnx.Module):
    """Two layers."""

    def __init__(self, first, second, features=8):
        self.first = linear(first)
        self.second = linear(second, features)

    def __call__(self, x):
        return self.second(100 * nnx.relu(self.first(x)))


def call(model, x):
    return model(x)


def gradient(model, x):
    return nnx.grad(lambda model, x: jnp.sum(model(x)))(model, x)


RUNS = {
    "eager": call,
    "jit": nnx.jit(call),
    "gradient": nnx.jit(gradient),
    "remat": lambda model, x: nnx.remat(call)(model, x),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("features", [8, 3])
def test_a_second_layer_is_refused(run, features):
    dot = hook()
    with pytest.raises(ValueError, match=SHARED):
        run(Net(dot, dot, features), X)


def test_a_second_layer_is_refused_without_a_model_around():
    dot = hook()
    first, second = linear(dot), linear(dot)
    first(X)
    with pytest.raises(ValueError, match=SHARED):
        second(X)


def test_attention_needs_a_hook_for_each_layer():
    def attention():
        return nnx.MultiHeadAttention(
            2, 8, decode=False, qkv_dot_general=hook(), rngs=nnx.Rngs(0)
        )

    with pytest.raises(ValueError, match=SHARED):
        attention()(TOKENS)
    mended = attention()
    layers = mended.query, mended.key, mended.value
    for layer in layers:
        layer.dot_general = hook()
    mended(TOKENS)
    sums = {float(layer.dot_general.ranges[1, 0]) for layer in layers}
    assert len(sums) == 3


def test_a_hook_that_is_made_for_every_call_is_refused():
    make = functools.partial(crossbar.NnxDotGeneral, RUNNING)
    layer = nnx.LinearGeneral(8, 4, dot_general_cls=make, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="NnxDotGeneral: is no part of the layer"):
        layer(X)
    with pytest.raises(ValueError, match="NnxDotGeneral: is no part of the layer"):
        nn.Dense(4, dot_general=hook()).init(jax.random.key(0), X)


class Twice(nnx.Module):
    """One layer, applied to what it made; its kernel is cast at every call."""

    def __init__(self):
        self.layer = linear(hook(), use_bias=False, dtype=jnp.bfloat16)

    def __call__(self, x):
        return self.layer(self.layer(x))


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_a_layer_applied_twice_works(run):
    model = Twice()
    run(model, X)
    run(model, X)
    state = model.layer.dot_general.ranges[...]
    assert state[0, 1] == 1 - 0.5**4  # Four batches.


def _pickled(model):
    try:
        pickle.dumps(nnx.Linear(1, 1, rngs=nnx.Rngs(0)))
    except AttributeError:  # As with flax 0.11.2.
        pytest.skip("this flax pickles no layer of its own")
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("again", [
    nnx.clone,
    copy.deepcopy,
    _pickled,
    lambda model: jax.tree.map(jnp.copy, model),
], ids=["clone", "deepcopy", "pickle", "tree"])  # fmt: skip
def test_a_copy_goes_on_from_where_it_was_made(again):
    model = Net(hook(), hook())
    model(X)
    other = again(model)
    for each in (model, other):  # In turns.
        each(X)
    for layer, same in ((model.first, other.first), (model.second, other.second)):
        ranges = layer.dot_general.ranges[...]
        assert ranges[0, 1] == 0.75
        np.testing.assert_array_equal(ranges, same.dot_general.ranges[...])
    # What is told apart is no part of a program.
    assert nnx.split(model)[0] == nnx.split(other)[0]


def test_outside_of_layers_a_hook_is_called_as_it_is():
    dot, w = hook(), jnp.ones((8, 3))
    rows = (((1,), (0,)), ((), ()))
    dot(X, w, rows)
    assert dot.ranges[0, 1] == 0.5
    np.testing.assert_allclose(dot(X, w, rows), X @ w, atol=0.15)
