"""Memory of inference and of training, counted by hand."""

import jax.numpy as jnp
import optax
import pytest

import hic_jax
from hic_jax import accounting, pcm

SPEC = hic_jax.HICSpec(multilevel=pcm.ideal(), refresh_every=0)


def test_model_size_counts_nominal_bits_and_devices():
    params = {"kernel": jnp.zeros((10, 3)), "bias": jnp.zeros(3)}
    tx = optax.partition(
        {"analog": hic_jax.hic(SPEC, 0), "digital": optax.identity()},
        hic_jax.analog_labels,
    )
    hybrid = hic_jax.hybrid_weights(tx.init(params))
    assert hic_jax.model_size(hybrid, params) == {
        "analog_weights": 30,
        "digital_weights": 3,
        "inference_bits": 30 * 4 + 3 * 32,
        "training_bits": 30 * (4 + 7) + 3 * 32,
        "mixed_precision_bits": 30 * (4 + 32) + 3 * 32,
        "fp32_bits": 33 * 32,
        "multilevel_devices": 60,
        "binary_devices": 210,
    }


def test_a_digital_model_has_its_size_and_no_devices():
    size = hic_jax.model_size({}, {"w": jnp.zeros((5, 5))})
    assert size["inference_bits"] == size["fp32_bits"] == 25 * 32
    assert size["multilevel_devices"] == 0


@pytest.mark.parametrize(
    ("analog_momentum", "digital_momentum", "bits"),
    [
        (None, None, 0),
        (None, 0.9, 3 * 32),
        (0.9, None, 30 * 32),
        (0.9, 0.9, 33 * 32),
    ],
)
def test_buffers_of_the_optimizer_are_counted_beside_the_devices(
    analog_momentum, digital_momentum, bits
):
    params = {"kernel": jnp.zeros((10, 3)), "bias": jnp.zeros(3)}
    # A schedule counts steps, in an integer.
    rate = optax.constant_schedule(0.1)
    analog = optax.chain(optax.sgd(rate, analog_momentum), hic_jax.hic(SPEC, 0))
    digital = optax.sgd(rate, digital_momentum)
    tx = optax.partition({"analog": analog, "digital": digital}, hic_jax.analog_labels)
    assert accounting.optimizer_bits(tx.init(params)) == bits


def test_the_floating_point_baseline_keeps_a_buffer_per_parameter():
    params = {"kernel": jnp.zeros((10, 3)), "bias": jnp.zeros(3)}
    state = optax.sgd(0.1, momentum=0.9).init(params)
    fp32_bits = hic_jax.model_size({}, params)["fp32_bits"]
    assert accounting.optimizer_bits(state) == fp32_bits == 33 * 32
