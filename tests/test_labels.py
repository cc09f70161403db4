"""`analog_labels`: what crossbars hold, by the model's products, or by names."""

import dataclasses
import functools
import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from jax import lax

import hic_jax
from hic_jax import crossbar, pcm
from hic_jax.releases import as_pure

IDEAL = hic_jax.HICSpec(multilevel=pcm.ideal(), refresh_every=0)


def shapes(*shape, dtype="float32"):
    return jax.ShapeDtypeStruct(shape, dtype)


def test_a_kernel_is_analog_whatever_its_layer_is_called():
    kernel = jnp.ones((2, 2))
    params = {
        name: {"kernel": kernel}
        for name in ("embedding", "patch_embedding", "scale", "head")
    }
    params["tokens"] = {"embedding": kernel, "pos_embedding": kernel}
    labels = hic_jax.analog_labels(params, digital=["head"])
    assert labels == {
        "embedding": {"kernel": "analog"},
        "patch_embedding": {"kernel": "analog"},
        "scale": {"kernel": "analog"},
        "head": {"kernel": "digital"},
        "tokens": {"embedding": "digital", "pos_embedding": "digital"},
    }
    embed = nnx.state(nnx.Embed(5, 4, rngs=nnx.Rngs(0)), nnx.Param)
    assert nnx.to_pure_dict(hic_jax.analog_labels(embed)) == {"embedding": "digital"}


def test_digital_layers_that_are_not_there_are_named():
    params = {"head": {"kernel": jnp.ones((2, 2))}}
    with pytest.raises(ValueError, match=r"digital='hed': there is no parameter"):
        hic_jax.analog_labels(params, digital=["head", "hed"])
    with pytest.raises(ValueError, match=r"digital='head': must be a sequence"):
        hic_jax.analog_labels(params, digital="head")


def test_linen_and_nnx_kernels_are_analog_and_biases_are_not():
    linen = nn.Sequential([nn.Embed(5, 4), nn.Dense(3)])
    params = linen.init(jax.random.key(0), jnp.zeros(2, int))["params"]
    labels = hic_jax.analog_labels(params)
    assert labels["layers_0"]["embedding"] == "digital"
    assert labels["layers_1"] == {"kernel": "analog", "bias": "digital"}
    model = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
    labels = nnx.to_pure_dict(hic_jax.analog_labels(nnx.state(model, nnx.Param)))
    assert labels == {"kernel": "analog", "bias": "digital"}


def test_what_one_vector_or_a_name_tells_is_digital():
    matrix, vector = jnp.ones((3, 4)), jnp.ones((1, 1, 4))
    digital = {
        "cls": vector, "cls_token": vector, "query": vector, "gamma": matrix[:1],
        "layer_scale": matrix, "layer_scale_2": matrix, "gamma_1": matrix,
        "temperature": matrix, "probe": matrix, "pos_embed": matrix,
        "norm": {"scale": matrix, "offset": matrix}, "lookup": {"embeddings": matrix},
    }  # fmt: skip
    analog = {
        "w": matrix, "w1": vector, "in_proj": matrix, "patch_embed": matrix,
        "one_input": {"kernel": matrix[:1]}, "conv": {"weight": vector},
    }  # fmt: skip
    labels = hic_jax.analog_labels({"no": digital, "yes": analog})
    assert set(jax.tree.leaves(labels["no"])) == {"digital"}
    assert set(jax.tree.leaves(labels["yes"])) == {"analog"}


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Embedding:
    """As Equinox has it: a table that is called as the matrices of others are."""

    weight: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Linear:
    weight: jax.Array


def test_a_module_that_is_an_embedding_is_a_table():
    params = {"tokens": Embedding(jnp.ones((5, 4))), "head": Linear(jnp.ones((4, 3)))}
    labels = hic_jax.analog_labels(params)
    assert labels["tokens"].weight == "digital"
    assert labels["head"].weight == "analog"


class Vision(nn.Module):
    """A transformer of images, with most that is not multiplied in one."""

    dot: object = None

    @nn.compact
    def __call__(self, images):
        ones = nn.initializers.ones
        x = nn.Conv(8, (2, 2), (2, 2), name="embedding")(images)
        x = x.reshape(len(x), -1, 8)
        start = self.param("start", ones, (1, 1, 8))
        x = jnp.concatenate([jnp.broadcast_to(start, (len(x), 1, 8)), x], 1)
        x += self.param("places", ones, (1, 5, 8))
        attend = nn.MultiHeadAttention(2, qkv_dot_general=self.dot, name="attend")
        x += self.param("strength", ones, (5, 8)) * attend(nn.LayerNorm()(x))
        query = self.param("pool", ones, (8,))
        x = jnp.einsum("bt,btc->bc", nn.softmax(x @ query), x)
        cold = self.param("coldness", ones, (8,))
        x = jnp.einsum("bc,c->bc", x, cold)  # A product in which nothing is summed.
        return nn.Dense(3, dot_general=self.dot, name="head")(x)


@pytest.mark.parametrize("hooked", [False, True])
def test_products_with_the_inputs_tell_what_is_analog(hooked):
    model = Vision(crossbar.dot_general(crossbar.CrossbarSpec()) if hooked else None)
    images = shapes(2, 4, 4, 1)
    params = jax.eval_shape(model.init, jax.random.key(0), images)
    labels = functools.partial(
        hic_jax.analog_labels, model=model.apply, inputs=(images,)
    )
    with pytest.warns(UserWarning) as said:
        found = labels(params)["params"]
    attention = {
        name: {"kernel": "analog"} for name in ("query", "key", "value", "out")
    }
    for layer in attention.values():
        layer["bias"] = "digital"  # Of two dimensions, too.
    assert found.pop("attend") == attention
    assert found.pop("LayerNorm_0") == {"scale": "digital", "bias": "digital"}
    for layer in ("embedding", "head"):
        assert found.pop(layer) == {"kernel": "analog", "bias": "digital"}
    assert found.pop("pool") == "analog"  # A matrix of one column.
    assert set(found.values()) == {"digital"}
    # What might have been meant is named.
    (message,) = [str(w.message) for w in said]
    listed = message.removeprefix(
        "digital, as tables or not multiplied with the inputs: "
    )
    names = [name.removeprefix("params/") for name in listed.split("], ")]
    assert sorted(n.split("[")[0] for n in names) == [
        "attend/key/bias", "attend/query/bias", "attend/value/bias",
        "places", "start", "strength",
    ]  # fmt: skip

    # Named as digital, they are not.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        named = ["params/places", "params/start", "params/strength", "params/attend"]
        found = labels(params, digital=named)["params"]
    assert set(jax.tree.leaves(found["attend"])) == {"digital"}
    assert found["head"]["kernel"] == "analog"


class Language(nn.Module):
    tied: bool

    @nn.compact
    def __call__(self, tokens):
        table = nn.Embed(11, 4)
        x = nn.Dense(4)(table(tokens))
        return table.attend(x) if self.tied else nn.Dense(11)(x)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_tables_stay_digital(tied, shape):
    model, tokens = Language(tied), shapes(*shape, dtype="int32")
    params = jax.eval_shape(model.init, jax.random.key(0), tokens)["params"]
    with pytest.warns(UserWarning, match=r"digital.*: Embed_0/embedding\[11, 4\]$"):
        labels = hic_jax.analog_labels(
            params, model=lambda p, x: model.apply({"params": p}, x), inputs=[tokens]
        )
    assert labels.pop("Embed_0") == {"embedding": "digital"}
    layers = list(labels.values())
    assert layers == [{"kernel": "analog", "bias": "digital"}] * (1 if tied else 2)


def test_layers_of_a_scan_and_products_of_parameters():
    def model(params, x):
        x, _ = lax.scan(lambda x, w: (x @ w, None), x, params["stack"])
        weights = params["base"] + params["down"] @ params["up"]
        return x @ weights + params["bias"][0]

    params = {
        "stack": shapes(3, 4, 4), "base": shapes(4, 4), "bias": shapes(3, 4),
        "down": shapes(4, 2), "up": shapes(2, 4),
    }  # fmt: skip
    with pytest.warns(UserWarning, match=r"bias\[3, 4\], down\[4, 2\], up\[2, 4\]$"):
        labels = hic_jax.analog_labels(params, model=model, inputs=(shapes(5, 4),))
    analog = {name for name, label in labels.items() if label == "analog"}
    assert analog == {"stack", "base"}


def test_a_model_that_multiplies_nothing_with_its_inputs():
    params, x = {"w": shapes(3, 4)}, jnp.ones((2, 3))
    with pytest.raises(ValueError, match="model: multiplies none of params with its"):
        hic_jax.analog_labels(params, model=lambda params: x @ params["w"])
    with pytest.raises(ValueError, match=r"inputs=.*: must be a list or a tuple"):
        hic_jax.analog_labels(params, model=lambda p, x: x @ p["w"], inputs=x)
    with pytest.raises(ValueError, match="inputs: are of no use without a model"):
        hic_jax.analog_labels(params, inputs=(x,))


def test_labels_by_the_model_train_nnx_inside_jit():
    model = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    labels = functools.partial(
        hic_jax.analog_labels,
        model=lambda params, x: nnx.merge(graph, params, rest)(x),
        inputs=(shapes(5, 4),),
    )
    tx = optax.partition(
        {
            "analog": optax.chain(optax.sgd(1.0), hic_jax.hic(IDEAL, 0)),
            "digital": optax.sgd(1.0),
        },
        labels,
    )
    state = tx.init(params)
    ones = jax.tree.map(jnp.ones_like, params)
    updates, state = jax.jit(tx.update)(ones, state, params)
    assert hic_jax.analog_weights(state)["kernel"].shape == (4, 3)
    assert jnp.all(as_pure(updates)["bias"] == -1)
