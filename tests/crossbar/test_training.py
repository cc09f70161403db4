"""A training step of a ResNet on crossbars: no converter and no array is by-passed."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hic_jax import crossbar, models
from hic_jax.crossbar import CrossbarSpec, LayerCrossbars
from hic_jax.inference.network import Network
from hic_jax.training import steps
from hic_jax.training.split import Split
from hic_jax.training.state import init_state

OFF = CrossbarSpec(
    dac_bits=0, adc_bits=0, error_dac_bits=0, error_adc_bits=0,
    tile_rows=0, tile_columns=0,
)  # fmt: skip
TX = optax.sgd(0.1)


def model_on(crossbars):
    return models.ResNet(8, (2,), 3, crossbars=crossbars)


@functools.cache
def start(crossbars=LayerCrossbars()):  # noqa: B008
    """Parameters alike for all crossbars, and images."""
    images = np.random.default_rng(0).integers(0, 256, (8, 6, 6, 2)).astype(np.uint8)
    split = Split(
        images=jnp.asarray(images),
        labels=jnp.arange(8) % 3,
        mean=jnp.full(2, 0.5),
        std=jnp.full(2, 0.25),
    )
    state = init_state(jax.random.key(0), model_on(crossbars), TX, (6, 6, 2))
    return state, split


@functools.cache
def trained(crossbars):
    """Loss and kernels after a step."""
    state, split = start()
    step = steps.make_step(
        model_on(crossbars), TX, augmentation="none", label_smoothing=0.0
    )
    state, metrics = step(state, split, jnp.arange(8), jax.random.key(0))
    return float(metrics["loss"]), state.params


@pytest.mark.parametrize(
    ("base", "change"),
    [
        (OFF, {"dac_bits": 3}),
        (OFF, {"adc_bits": 3}),
        (OFF, {"error_dac_bits": 3}),
        (OFF, {"error_adc_bits": 3}),
        (OFF, {"adc_noise": 0.05}),
        # Arrays of their own count where every array has a converter.
        (dataclasses.replace(OFF, adc_bits=3), {"tile_rows": 9}),
        (dataclasses.replace(OFF, error_adc_bits=3), {"tile_columns": 1}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_no_part_is_by_passed(base, change):
    loss, before = trained(LayerCrossbars(base))
    loss_with, after = trained(LayerCrossbars(dataclasses.replace(base, **change)))
    backward = next(iter(change)) in (
        "error_dac_bits",
        "error_adc_bits",
        "tile_columns",
    )
    assert (loss == loss_with) == backward
    stem, stem_with = before["stem"]["kernel"], after["stem"]["kernel"]
    assert np.abs(stem - stem_with).max() > 1e-4


def test_arrays_without_converters_change_nothing():
    loss, params = trained(LayerCrossbars())
    tiled = dataclasses.replace(OFF, tile_rows=5, tile_columns=5)
    loss_tiled, params_tiled = trained(LayerCrossbars(tiled))
    assert loss_tiled == pytest.approx(loss, rel=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        params, params_tiled,
    )  # fmt: skip


def test_running_ranges_train_with_the_network_and_stay_in_evaluation():
    spec = CrossbarSpec(dac_range="running", adc_range="running")
    crossbars = LayerCrossbars(spec, {"head": None})
    model = model_on(crossbars)
    state, split = start(crossbars)
    assert set(state.ranges) == {"stem", "stage1_block1"}
    step = steps.make_step(model, TX, augmentation="none", label_smoothing=0.0)
    state, _ = step(state, split, jnp.arange(8), jax.random.key(0))
    weights = [ranges[:, 1] for ranges in jax.tree.leaves(state.ranges)]
    np.testing.assert_allclose(weights, np.float32(0.01), rtol=1e-5)  # One batch.
    # The stem sees the images themselves.
    images = (split.images / 255 - 0.5) / 0.25
    total, weight = state.ranges["stem"]["ConvGeneralDilated_0"]["ranges"][0]
    np.testing.assert_allclose(total / weight, np.abs(images).max(), rtol=1e-5)
    variables = Network.of(state).variables(jax.random.key(0))
    shift = jax.tree.map(lambda r: r.at[:, 0].mul(0.2), state.ranges)
    logits, clipped = (
        model.apply({**variables, crossbar.COLLECTION: ranges}, images, train=False)
        for ranges in (state.ranges, shift)
    )
    assert not np.allclose(logits, clipped)


def test_digital_layers_are_computed_digitally_and_others_are_not():
    spec = CrossbarSpec(dac_bits=3, adc_bits=3)
    model = model_on(LayerCrossbars(spec, {"stem": None, "head": None}))
    state, split = start()
    images = split.images / 255 - 0.5
    logits, seen = model.apply(
        {"params": state.params, "batch_stats": state.batch_stats},
        images, train=False, capture_intermediates=True, mutable=["intermediates"],
    )  # fmt: skip

    def output(*path):
        tree = seen["intermediates"]
        for name in path:
            tree = tree[name]
        return tree["__call__"][0]

    def digital(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    params = state.params
    np.testing.assert_array_equal(
        output("stem"), digital(images, params["stem"]["kernel"])
    )
    block, head = output("stage1_block1"), params["head"]
    expected = block.mean(axis=(1, 2)) @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
    x = nn.relu(output("stem_norm"))
    exact = digital(x, params["stage1_block1"]["conv1"]["kernel"])
    assert not np.allclose(output("stage1_block1", "conv1"), exact, rtol=0.01)
