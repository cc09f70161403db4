"""ResNets: how many weights, which shapes, which depths and widths."""

import math

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hic_jax import models


def _shapes(depth, plan="hic", width=1.0, image=(32, 32, 3), classes=10):
    """Shapes of the parameters by path, and of the logits of two images."""
    model = models.ResNet(depth, models.stage_channels(plan, width), classes)
    images = jax.ShapeDtypeStruct((2, *image), jnp.float32)

    def forward(images):
        logits, variables = model.init_with_output(
            jax.random.key(0), images, train=False
        )
        return logits, variables["params"]

    logits, params = jax.eval_shape(forward, images)
    leaves = jax.tree_util.tree_leaves_with_path(params)
    paths = {jax.tree_util.keystr(p, simple=True, separator="/"): x for p, x in leaves}
    return {path: leaf.shape for path, leaf in paths.items()}, logits


def _weights(shapes):
    """Kernels and the final bias, as papers count."""
    counted = [
        s for path, s in shapes.items() if "kernel" in path or path[:4] == "head"
    ]
    return sum(math.prod(shape) for shape in counted)


def _conv_weights(channels, blocks, classes):
    """The same number by hand: stem, blocks, projections, dense layer."""
    total, inputs = 27 * channels[0], channels[0]
    for outputs in channels:
        total += 9 * inputs * outputs + 9 * outputs**2 * (2 * blocks - 1)
        total += inputs * outputs if inputs != outputs else 0
        inputs = outputs
    return total + (inputs + 1) * classes


def test_resnet32_has_the_published_number_of_weights():
    assert _weights(_shapes(32)[0]) == 361_722


@pytest.mark.parametrize("plan", models.CHANNEL_PLANS)
@pytest.mark.parametrize(("depth", "width"), [(8, 1.0), (20, 0.5), (32, 1.7)])
def test_number_of_weights(plan, depth, width):
    channels = models.stage_channels(plan, width)
    expected = _conv_weights(channels, (depth - 2) // 6, 10)
    assert _weights(_shapes(depth, plan, width)[0]) == expected


@pytest.mark.parametrize(
    ("plan", "width", "channels"),
    [
        ("hic", 1.0, (16, 28, 56)),
        ("textbook", 1.0, (16, 32, 64)),
        ("hic", 0.25, (4, 7, 14)),
        ("hic", 1.7, (27, 48, 95)),
        ("textbook", 0.04, (1, 1, 3)),
    ],
)
def test_width_scales_channels_stage_by_stage(plan, width, channels):
    assert models.stage_channels(plan, width) == channels


@pytest.mark.parametrize("width", [0.001, 0.03])
def test_width_that_leaves_no_channel(width):
    with pytest.raises(ValueError, match=rf"width={width}: .*must be above 0\.03125"):
        models.stage_channels("hic", width)


@pytest.mark.parametrize("width", [0.0, -1.0, math.nan, math.inf])
def test_width_that_is_none(width):
    with pytest.raises(ValueError, match=r"width=.*: must be"):
        models.stage_channels("hic", width)


def test_unknown_plan():
    with pytest.raises(ValueError, match=r"channel_plan='hics': .* mean 'hic'"):
        models.stage_channels("hics", 1.0)


@pytest.mark.parametrize("depth", [2, 7, 9, 18, 34, -4, 8.0])
def test_only_depths_of_6n_plus_2(depth):
    with pytest.raises(ValueError, match=rf"depth={depth}: must be"):
        models.ResNet(depth, (4, 7, 14), 10)


@pytest.mark.parametrize("depth", [8, 14, 20, 56])
def test_depth_counts_the_layers_with_weights(depth):
    kernels = [path for path in _shapes(depth)[0] if path.endswith("kernel")]
    assert sum("projection" not in path for path in kernels) == depth


@pytest.mark.parametrize("image", [(8, 8, 1), (28, 28, 1), (32, 32, 3)])
@pytest.mark.parametrize("classes", [10, 100])
def test_logits(image, classes):
    logits = _shapes(8, image=image, classes=classes)[1]
    assert logits.shape == (2, classes)
    assert logits.dtype == jnp.float32


@pytest.mark.parametrize(
    ("plan", "width", "stages"),
    [("hic", 1.0, (2, 3)), ("textbook", 0.04, (2, 3)), ("textbook", 0.25, (2, 3))],
)
def test_projections_only_where_the_shape_changes(plan, width, stages):
    shapes = _shapes(20, plan, width)[0]
    projections = {p: s for p, s in shapes.items() if "projection" in p}
    channels = models.stage_channels(plan, width)
    assert projections == {
        f"stage{stage}_block1/projection/kernel": (
            1,
            1,
            channels[stage - 2],
            channels[stage - 1],
        )
        for stage in stages
    }


def test_batchnorm_follows_the_batch_only_in_training():
    model = models.ResNet(8, (2,), 3)
    images = jax.random.normal(jax.random.key(1), (4, 8, 8, 1))
    shapes = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False), images
    )
    variables = jax.tree.map(lambda x: jnp.full(x.shape, 0.1), shapes)

    def statistics(train):
        _, new = model.apply(variables, images, train=train, mutable=["batch_stats"])
        return new["batch_stats"]

    chex.assert_trees_all_equal(statistics(False), variables["batch_stats"])
    stem = nn.Conv(2, (3, 3), use_bias=False)
    features = stem.apply({"params": variables["params"]["stem"]}, images)
    # A tenth of the batch, nine tenths of what there was.
    expected = 0.9 * 0.1 + 0.1 * jnp.mean(features, axis=(0, 1, 2))
    new = statistics(True)["stem_norm"]["mean"]
    np.testing.assert_allclose(new, expected, rtol=1e-5)
