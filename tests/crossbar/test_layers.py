"""Crossbars in flax layers: what they leave alone, what they change, what they keep."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.core import FrozenDict

from hic_jax import convolution, crossbar, models
from hic_jax.crossbar import CrossbarSpec, LayerCrossbars

OFF = CrossbarSpec(
    dac_bits=0, adc_bits=0, error_dac_bits=0, error_adc_bits=0,
    tile_rows=7, tile_columns=5,
)  # fmt: skip
RUNNING = CrossbarSpec(dac_range="running", adc_range="running", range_momentum=0.75)
IMAGES = jax.random.normal(jax.random.key(0), (3, 7, 7, 6))
TOKENS = jax.random.normal(jax.random.key(1), (3, 5, 8))


def linen(layer, hooks, x):
    """Output, and gradients of parameters and inputs, of a Linen layer."""
    plain = layer()
    variables = plain.init(jax.random.key(2), x)
    apply = layer(**hooks).apply
    y = apply(variables, x)
    gradients = jax.grad(lambda v, x: jnp.sum(jnp.tanh(apply(v, x))), (0, 1))
    return y, gradients(variables, x)


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (lambda **h: nn.Dense(11, **h), TOKENS),
        (lambda **h: nn.DenseGeneral((3, 4), axis=(-2, -1), **h), TOKENS),
        (lambda **h: nn.Conv(8, (3, 3), **h), IMAGES),
        (lambda **h: nn.Conv(8, (3, 2), strides=2, padding="VALID", **h), IMAGES),
        (lambda **h: nn.Conv(8, (3, 3), feature_group_count=2, **h), IMAGES),
        (lambda **h: nn.Conv(8, (3, 3), kernel_dilation=2, padding="CIRCULAR", **h),
         IMAGES),
        (lambda **h: nn.Conv(8, 3, padding="CAUSAL", **h), TOKENS),
    ],
)  # fmt: skip
def test_without_converters_a_linen_layer_is_itself(layer, x):
    name, function = "dot_general", crossbar.dot_general(OFF)
    if isinstance(layer(), nn.Conv):
        name, function = "conv_general_dilated", crossbar.conv_general_dilated(OFF)
    for a, b in zip(
        jax.tree.leaves(linen(layer, {}, x)),
        jax.tree.leaves(linen(layer, {name: function}, x)),
        strict=True,
    ):
        # Sums of tiles, in another order.
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_without_converters_attention_is_itself():
    dot = crossbar.dot_general(OFF)

    def layer(**hooks):
        return nn.MultiHeadDotProductAttention(2, **hooks)

    hooks = {"qkv_dot_general": dot, "out_dot_general": dot}
    for a, b in zip(
        jax.tree.leaves(linen(layer, {}, TOKENS)),
        jax.tree.leaves(linen(layer, hooks, TOKENS)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_without_converters_nnx_layers_are_themselves():
    def layers(**hooks):
        rngs = nnx.Rngs(0)
        conv, dot = hooks.get("conv"), hooks.get("dot")
        return (
            nnx.Conv(6, 8, (3, 3), rngs=rngs, **({"conv_general_dilated": conv} if conv
                                                 else {})),
            nnx.Linear(8, 4, rngs=rngs, **({"dot_general": dot} if dot else {})),
        )  # fmt: skip

    def loss(layers, x):
        conv, dense = layers
        return jnp.sum(jnp.tanh(dense(conv(x))))

    plain = nnx.value_and_grad(loss)(layers(), IMAGES)
    hooks = {
        "conv": crossbar.conv_general_dilated(OFF),
        "dot": crossbar.dot_general(OFF),
    }
    tiled = nnx.value_and_grad(loss)(layers(**hooks), IMAGES)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(tiled), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_tiles_have_converters_of_their_own():
    outputs = [
        nn.Dense(4, dot_general=crossbar.dot_general(CrossbarSpec(tile_rows=rows)))
        .init_with_output(jax.random.key(0), TOKENS)[0]
        for rows in (0, 4)
    ]  # fmt: skip
    assert not np.array_equal(*outputs)


def test_without_training_ranges_stay():
    layer = nnx.Linear(
        8, 4, dot_general=crossbar.NnxDotGeneral(RUNNING), rngs=nnx.Rngs(0)
    )
    layer(TOKENS)
    ranges = np.asarray(layer.dot_general.ranges[...])
    assert ranges[0, 1] == 0.25  # One batch, at 1 - momentum.
    layer.eval()
    layer(2 * TOKENS)
    np.testing.assert_array_equal(ranges, layer.dot_general.ranges[...])
    layer.train()
    layer(2 * TOKENS)
    assert layer.dot_general.ranges[...][0, 0] > ranges[0, 0]


def test_state_is_kept_only_where_it_is_needed():
    layer = nn.Dense(4, dot_general=crossbar.LinenDotGeneral(CrossbarSpec()))
    assert set(layer.init(jax.random.key(0), TOKENS)) == {"params"}
    assert not jax.tree.leaves(nnx.state(crossbar.NnxDotGeneral(CrossbarSpec())))
    for hook in (crossbar.dot_general, crossbar.conv_general_dilated):
        with pytest.raises(ValueError, match="a running range needs state"):
            hook(RUNNING)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("dac_bits", 1, r"dac_bits=1: must be 0 \(none\) or in \[2, 16\]"),
        ("adc_bits", 17, r"adc_bits=17: must be in \[0, 16\]"),
        ("error_dac_bits", -1, "error_dac_bits=-1"),
        ("error_adc_bits", 2.5, "error_adc_bits=2.5: must be an integer"),
        ("tile_rows", -1, "tile_rows=-1: must be at least 0"),
        ("tile_columns", 1.0, "tile_columns=1.0: must be an integer"),
        ("dac_range", "max", "dac_range='max': must be one of absmax, fixed, running"),
        ("adc_range", "fix", "did you mean 'fixed'"),
        ("dac_bound", 0.0, "dac_bound=0.0: must be greater than 0"),
        ("adc_bound", float("nan"), "adc_bound=nan: must be a finite number"),
        ("adc_noise", -0.1, "adc_noise=-0.1: must be at least 0"),
        ("range_momentum", 1.5, "range_momentum=1.5: must be less than 1"),
    ],
)
def test_bad_fields(field, value, message):
    with pytest.raises(ValueError, match=message):
        CrossbarSpec(**{field: value})


def test_a_spec_for_each_layer():
    one, other = CrossbarSpec(), CrossbarSpec(adc_bits=4)
    layers = FrozenDict({"stem": None, "stage1_block1/conv2": other})
    crossbars = LayerCrossbars(one, layers)
    assert crossbars.of(("stem",)) is None
    assert crossbars.of(("stage1_block1", "conv1")) == one
    assert crossbars.of(("stage1_block1", "conv2")) == other
    digital = crossbars.conv_general_dilated(("stem",))
    assert digital is convolution.conv_general_dilated
    assert LayerCrossbars().dot_general(("head",)) is None


def test_layers_may_be_a_dict():
    crossbars = LayerCrossbars(CrossbarSpec(), {"stem": None})
    same = LayerCrossbars(CrossbarSpec(), FrozenDict({"stem": None}))
    assert crossbars == same
    # As a model that jit is to tell from others.
    one, other = (models.ResNet(8, (4,), 10, crossbars=c) for c in (crossbars, same))
    assert hash(one) == hash(other)


def test_layers_of_a_resnet():
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))

    def logits(crossbars, variables=None):
        model = models.ResNet(8, (4, 4, 4), 10, crossbars=crossbars)
        variables = variables or model.init(jax.random.key(1), images, train=False)
        return model.apply(variables, images, train=False), variables

    exact, variables = logits(LayerCrossbars())
    paths = ["stem", "head", "stage1_block1/conv1", "stage2_block1/projection"]
    for path in paths:  # Each alone changes the result.
        only = LayerCrossbars(None, FrozenDict({path: CrossbarSpec(dac_bits=3)}))
        assert not np.array_equal(logits(only, variables)[0], exact)
    every = [
        "stem", "head", "stage2_block1/projection", "stage3_block1/projection",
        *(f"stage{i}_block1/conv{j}" for i in (1, 2, 3) for j in (1, 2)),
    ]  # fmt: skip
    none = LayerCrossbars(CrossbarSpec(), FrozenDict(dict.fromkeys(every)))
    np.testing.assert_array_equal(logits(none, variables)[0], exact)
