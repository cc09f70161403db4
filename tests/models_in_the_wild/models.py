"""Models in the manner of well-known public ones, without a thought of crossbars.

Each function of `MODELS` makes a `Model`, as small as it can be; with a ``width``, or
with inputs and a number of outputs of their own, those that `put_on_pcm` trains.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


@dataclasses.dataclass
class Model:
    """A function, what it is called with, and what of it is analog.

    Attributes:
      function: of parameters and inputs; its result is an array.
      params: parameters.
      inputs: the other arguments.
      analog: paths of the kernels, in order of the products.
      init: other parameters of a random key, as its library draws them.
    """

    function: Callable[..., jax.Array]
    params: Any
    inputs: tuple[Any, ...]
    analog: list[str]
    init: Callable[[jax.Array], Any]


def normal(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def of_linen(module: nn.Module, inputs: tuple[Any, ...], analog: list[str]) -> Model:
    rng = np.random.default_rng(0)

    def some(path, leaf):  # What `init` draws would have to be compiled.
        around = 1.0 if path[-1].key in ("scale", "var") else 0.0
        deviation = max(1, math.prod(leaf.shape[:-1])) ** -0.5
        return jnp.float32(rng.normal(around, 0.5 * deviation, leaf.shape))

    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    params = jax.tree_util.tree_map_with_path(some, shapes)
    analog = [f"params/{path}/kernel" for path in analog]
    return Model(
        module.apply, params, inputs, analog, lambda key: module.init(key, *inputs)
    )


class CNN(nn.Module):
    width: int = 1
    outputs: int = 3

    @nn.compact
    def __call__(self, images):
        x = nn.relu(nn.Conv(4 * self.width, (3, 3))(images))
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Conv(4 * self.width, (3, 3))(x))
        return nn.Dense(self.outputs)(x.reshape(len(x), -1))


def cnn(*inputs, **size):
    inputs = inputs or (normal(1, 2, 6, 6, 1),)
    return of_linen(CNN(**size), inputs, ["Conv_0", "Conv_1", "Dense_0"])


class ResidualBlock(nn.Module):
    channels: int
    stride: int

    @nn.compact
    def __call__(self, x):
        norm = functools.partial(nn.BatchNorm, use_running_average=False)
        conv = functools.partial(nn.Conv, use_bias=False)
        y = nn.relu(norm()(conv(self.channels, (3, 3), self.stride)(x)))
        y = norm()(conv(self.channels, (3, 3))(y))
        if x.shape != y.shape:
            x = norm()(conv(self.channels, (1, 1), self.stride, name="projection")(x))
        return nn.relu(x + y)


class ResNet(nn.Module):
    width: int = 1
    outputs: int = 3

    @nn.compact
    def __call__(self, images):
        x = nn.Conv(2 * self.width, (3, 3), use_bias=False, name="stem")(images)
        x = ResidualBlock(4 * self.width, 2)(nn.relu(x))
        return nn.Dense(self.outputs, name="head")(x.mean((1, 2)))


def resnet(*inputs, **size):
    block = "ResidualBlock_0"
    model = of_linen(
        ResNet(**size),
        inputs or (normal(1, 2, 6, 6, 2),),
        ["stem", f"{block}/Conv_0", f"{block}/Conv_1", f"{block}/projection", "head"],
    )

    def in_training(variables, images):
        logits, _ = ResNet(**size).apply(variables, images, mutable=["batch_stats"])
        return logits

    return dataclasses.replace(model, function=in_training)


class EncoderBlock(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(2, name="attention")(y, y)
        y = nn.Dense(2 * x.shape[-1], name="up")(nn.LayerNorm()(x))
        return x + nn.Dense(x.shape[-1], name="down")(nn.gelu(y))


class ViT(nn.Module):
    width: int = 1
    outputs: int = 3

    @nn.compact
    def __call__(self, images):
        wide = 6 * self.width
        x = nn.Conv(wide, (2, 2), strides=(2, 2), name="patches")(images)
        x = x.reshape(len(x), -1, wide)
        token = self.param("cls", nn.initializers.zeros, (1, 1, wide))
        x = jnp.concatenate([jnp.tile(token, (len(x), 1, 1)), x], axis=1)
        x = x + self.param("pos_embedding", nn.initializers.normal(), (1, *x.shape[1:]))
        x = EncoderBlock(name="block")(x)
        return nn.Dense(self.outputs, name="head")(nn.LayerNorm()(x)[:, 0])


ATTENTION = ["query", "key", "value", "out"]


def vit(*inputs, **size):
    block = [f"block/attention/{name}" for name in ATTENTION]
    analog = ["patches", *block, "block/up", "block/down", "head"]
    return of_linen(ViT(**size), inputs or (normal(1, 2, 4, 4, 1),), analog)


class DecoderBlock(nn.Module):
    @nn.compact
    def __call__(self, x, mask):
        y = nn.RMSNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(2, name="attention")(y, y, mask=mask)
        y, wide = nn.RMSNorm()(x), 4 * x.shape[-1] // 3
        gate = nn.silu(nn.Dense(wide, False, name="gate")(y))
        y = gate * nn.Dense(wide, False, name="up")(y)
        return x + nn.Dense(x.shape[-1], False, name="down")(y), None


class Decoder(nn.Module):
    """A language model whose layers are scanned, and whose embedding is its head."""

    scanned: bool = True
    width: int = 1
    characters: int = 7

    @nn.compact
    def __call__(self, tokens):
        table = nn.Embed(self.characters, 6 * self.width, name="embed")
        mask, x = nn.make_causal_mask(tokens), table(tokens)
        if self.scanned:
            layers = nn.scan(
                nn.remat(DecoderBlock),
                {"params": 0},
                split_rngs={"params": True},
                in_axes=nn.broadcast,
                length=2,
            )
            x, _ = layers(name="layers")(x, mask)
        else:
            for i in range(2):
                x, _ = DecoderBlock(name=f"layer{i}")(x, mask)
        return table.attend(nn.RMSNorm()(x))


def decoder(*inputs, scanned: bool = True, **size):
    inputs = inputs or (jnp.array([[1, 2, 3, 4], [5, 6, 0, 1]]),)
    own = [*(f"attention/{name}" for name in ATTENTION), "gate", "up", "down"]
    layers = ["layers"] if scanned else ["layer0", "layer1"]
    analog = [f"{layer}/{name}" for layer in layers for name in own]
    return of_linen(Decoder(scanned, **size), inputs, analog)


def unstacked(params):
    """Parameters of the scanned decoder, for the one that is not."""
    own = dict(params["params"])
    layers = own.pop("layers")
    each = {f"layer{i}": jax.tree.map(lambda x, i=i: x[i], layers) for i in range(2)}
    return {"params": own | each}


class Sequences(nn.Module):
    cell: nn.Module
    outputs: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.outputs, name="head")(nn.RNN(self.cell)(x)[:, -1])


def lstm(*inputs, width=1, outputs=3):
    gates = [f"cell/{kind}{gate}" for kind in "hi" for gate in "ifgo"]
    module = Sequences(nn.OptimizedLSTMCell(4 * width), outputs)
    return of_linen(module, inputs or (normal(1, 2, 3, 2),), [*gates, "head"])


def fused_lstm(*inputs, width=1, outputs=3):
    """A plain function, whose gates are one kernel for inputs and state together."""
    inputs = inputs or (normal(2, 2, 3, 2),)
    rows, wide = inputs[0].shape[-1] + 4 * width, 4 * width

    def function(params, x):
        def step(carry, x):
            h, c = carry
            gates = jnp.concatenate([x, h], axis=-1) @ params["gates"]["w"]
            i, g, f, o = jnp.split(gates + params["gates"]["b"], 4, axis=-1)
            c = nn.sigmoid(f + 1) * c + nn.sigmoid(i) * jnp.tanh(g)
            h = nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        start = jnp.zeros((2, len(x), wide))
        (h, _), _ = jax.lax.scan(step, (start[0], start[1]), jnp.swapaxes(x, 0, 1))
        return h @ params["head"]["w"]

    def init(key):
        gates, head = jax.random.split(key)
        gates = rows**-0.5 * jax.random.normal(gates, (rows, 4 * wide))
        head = wide**-0.5 * jax.random.normal(head, (wide, outputs))
        return {"gates": {"w": gates, "b": jnp.zeros(4 * wide)}, "head": {"w": head}}

    return Model(function, init(jax.random.key(0)), inputs, ["gates/w", "head/w"], init)


def gru(*inputs, width=1, outputs=3):
    gates = [f"cell/{kind}{gate}" for gate in "rz" for kind in "ih"]
    gates += ["cell/in", "cell/hn", "head"]
    module = Sequences(nn.GRUCell(4 * width), outputs)
    return of_linen(module, inputs or (normal(1, 2, 3, 2),), gates)


class VAE(nn.Module):
    width: int = 1

    @nn.compact
    def __call__(self, x, key):
        hidden, latent = 6 * self.width, 2 * self.width
        h = nn.relu(nn.Dense(hidden, name="encoder")(x))
        mean = nn.Dense(latent, name="mean")(h)
        log_var = nn.Dense(latent, name="log_var")(h)
        z = mean + jnp.exp(log_var / 2) * jax.random.normal(key, mean.shape)
        h = nn.relu(nn.Dense(hidden, name="decoder")(z))
        return nn.sigmoid(nn.Dense(x.shape[-1], name="pixels")(h))


def vae(*inputs, **size):
    inputs = inputs or (normal(1, 3, 8), jax.random.key(2))
    layers = ["encoder", "mean", "log_var", "decoder", "pixels"]
    return of_linen(VAE(**size), inputs, layers)


class MixerBlock(nn.Module):
    hidden: int

    @nn.compact
    def __call__(self, x):
        def mlp(y, name):
            inner = nn.gelu(nn.Dense(self.hidden, name=f"{name}_in")(y))
            return nn.Dense(y.shape[-1], name=f"{name}_out")(inner)

        y = jnp.swapaxes(nn.LayerNorm()(x), 1, 2)
        x = x + jnp.swapaxes(mlp(y, "tokens"), 1, 2)
        return x + mlp(nn.LayerNorm()(x), "channels")


class Mixer(nn.Module):
    width: int = 1
    outputs: int = 3

    @nn.compact
    def __call__(self, images):
        x = nn.Conv(4 * self.width, (2, 2), strides=(2, 2), name="stem")(images)
        x = x.reshape(len(x), -1, x.shape[-1])
        x = MixerBlock(5 * self.width, name="block")(x)
        return nn.Dense(self.outputs, name="head")(nn.LayerNorm()(x).mean(1))


def mixer(*inputs, **size):
    parts = [
        f"{name}_{end}" for name in ("tokens", "channels") for end in ("in", "out")
    ]
    analog = ["stem", *(f"block/{part}" for part in parts), "head"]
    return of_linen(Mixer(**size), inputs or (normal(1, 2, 4, 6, 1),), analog)


class UNet(nn.Module):
    width: int = 1

    @nn.compact
    def __call__(self, x):
        wide = 3 * self.width
        skip = nn.relu(nn.Conv(wide, (3, 3), name="down")(x))
        x = nn.avg_pool(skip, (2, 2), (2, 2))
        x = nn.relu(nn.Conv(4 * self.width, (3, 3), name="bottom")(x))
        x = nn.ConvTranspose(wide, (2, 2), strides=(2, 2), name="up")(x)
        x = jnp.concatenate([skip, x], axis=-1)
        return nn.Conv(1, (3, 3), name="out")(x)


def unet(*inputs, **size):
    inputs = inputs or (normal(1, 2, 6, 4, 1),)
    return of_linen(UNet(**size), inputs, ["down", "bottom", "up", "out"])


class GroupedQueries(nnx.Module):
    """Four heads of queries, two of keys and values, whose projections are einsums."""

    def __init__(self, features: int, width: int, rngs: nnx.Rngs):
        init, head = nnx.initializers.lecun_normal(), 3 * width
        self.query = nnx.Param(init(rngs.params(), (4, features, head)))
        self.key_value = nnx.Param(init(rngs.params(), (2, 2, features, head)))
        self.out = nnx.Einsum(
            "btnh,nhd->btd", (4, head, features), (features,), rngs=rngs
        )
        self.norm = nnx.RMSNorm(features, rngs=rngs)

    def __call__(self, x):
        y = self.norm(x)
        q = jnp.einsum("btd,ndh->btnh", y, self.query[...])
        k, v = jnp.einsum("bsd,ckdh->cbskh", y, self.key_value[...])
        q = q.reshape(*q.shape[:2], 2, 2, -1)
        scores = jnp.einsum("btkgh,bskh->bkgts", q, k) / q.shape[-1] ** 0.5
        mixed = jnp.einsum("bkgts,bskh->btkgh", nnx.softmax(scores), v)
        return x + self.out(mixed.reshape(*x.shape[:2], 4, -1))


def grouped_queries(*inputs, width=1):
    inputs = inputs or (normal(1, 2, 3, 6),)

    def parts(rngs):
        block = GroupedQueries(inputs[0].shape[-1], width, rngs)
        return nnx.split(block, nnx.Param, ...)

    graph, params, rest = parts(nnx.Rngs(0))

    def function(params, x):
        return nnx.merge(graph, params, rest)(x)

    analog = ["query/value", "key_value/value", "out/kernel/value"]
    return Model(function, params, inputs, analog, lambda key: parts(nnx.Rngs(key))[1])


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass
class Perceptron:
    """A module that is a pytree, of functions, too, as those of Equinox are."""

    weights: list[jax.Array]
    activation: Callable

    def __call__(self, x):
        first, second = self.weights
        return second @ self.activation(first @ x)

    def tree_flatten_with_keys(self):
        key = jax.tree_util.GetAttrKey
        return [
            (key("weights"), self.weights),
            (key("activation"), self.activation),
        ], None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


def module_as_pytree(*inputs, width=1, outputs=3):
    inputs, hidden = inputs or (normal(2, 4, 6),), 5 * width

    def function(module, x):
        return jax.vmap(module)(x)

    def init(key):
        first, second = jax.random.split(key)
        rows = inputs[0].shape[-1]
        weights = [
            rows**-0.5 * jax.random.normal(first, (hidden, rows)),
            hidden**-0.5 * jax.random.normal(second, (outputs, hidden)),
        ]
        return Perceptron(weights, jnp.tanh)

    analog = ["weights/0", "weights/1"]
    return Model(function, init(jax.random.key(0)), inputs, analog, init)


class EquinoxUNet(eqx.Module):
    down: eqx.nn.Conv2d
    up: eqx.nn.ConvTranspose2d
    out: eqx.nn.Conv2d

    def __init__(self, width, key):
        down, up, out = jax.random.split(key, 3)
        wide, narrow = 3 * width, 2 * width
        self.down = eqx.nn.Conv2d(1, wide, 3, stride=2, padding=1, key=down)
        self.up = eqx.nn.ConvTranspose2d(wide, narrow, 2, stride=2, key=up)
        self.out = eqx.nn.Conv2d(1 + narrow, 1, 3, padding=1, key=out)

    def __call__(self, x):
        up = jax.nn.relu(self.up(jax.nn.relu(self.down(x))))
        return self.out(jnp.concatenate([x, up]))


def equinox_unet(*inputs, width=1):
    inputs, init = (
        inputs or (normal(1, 2, 1, 6, 4),),
        functools.partial(EquinoxUNet, width),
    )

    def function(module, images):
        return jax.vmap(module)(images)

    analog = [f"{layer}/weight" for layer in ("down", "up", "out")]
    return Model(function, init(jax.random.key(0)), inputs, analog, init)


def haiku_cnn(*inputs, width=1, outputs=3):
    inputs = inputs or (normal(1, 2, 4, 6, 1),)

    def forward(images):
        x = jax.nn.relu(hk.Conv2D(4 * width, 3, name="conv")(images))
        return hk.Linear(outputs, name="head")(hk.Flatten()(x))

    network = hk.without_apply_rng(hk.transform(forward))

    def init(key):
        return network.init(key, *inputs)

    return Model(
        network.apply, init(jax.random.key(0)), inputs, ["conv/w", "head/w"], init
    )


MODELS = [
    cnn, resnet, vit, decoder, lstm, fused_lstm, gru, vae, mixer, unet,
    grouped_queries, module_as_pytree, equinox_unet, haiku_cnn,
]  # fmt: skip
