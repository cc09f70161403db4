"""Memory of inference and of training, counted by hand."""

import jax.numpy as jnp
import optax
import pytest
from flax import nnx

import hic_jax
from hic_jax import accounting, pcm
from hic_jax.quantisation import quantised

SPEC = hic_jax.HICSpec(multilevel=pcm.ideal(), refresh_every=0)


PARAMS = {"kernel": jnp.zeros((10, 3)), "bias": jnp.zeros(3)}
TX = optax.partition(
    {"analog": hic_jax.hic(SPEC, 0), "digital": optax.identity()},
    hic_jax.analog_labels,
)


def _hybrid(params):
    return hic_jax.analog_weights(TX.init(params))


def test_model_size_counts_nominal_bits_and_devices():
    params = PARAMS
    hybrid = _hybrid(params)
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


def test_a_model_of_nnx_has_the_size_of_its_arrays():
    model = nnx.Linear(10, 3, rngs=nnx.Rngs(0))
    weights = hic_jax.analog_weights(nnx.Optimizer(model, TX, wrt=nnx.Param).opt_state)
    expected = hic_jax.model_size(_hybrid(PARAMS), PARAMS)
    for params in (nnx.state(model, nnx.Param), nnx.to_pure_dict(nnx.state(model))):
        assert hic_jax.model_size(weights, params) == expected


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "kernel holds 30 weights, but is not in params"),
        ({"bias": jnp.zeros(3)}, "kernel holds 30 weights, but is not in params"),
        ({"other": PARAMS}, "kernel holds 30 weights, but is not in params"),
        ({"kernel": jnp.zeros((10, 4))}, "kernel holds 30 weights, but has 40 in par"),
    ],
    ids=["none", "without it", "deeper", "another size"],
)
def test_weights_of_another_model_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        hic_jax.model_size(_hybrid(PARAMS), params)


def test_what_holds_no_devices_is_refused_for_weights():
    """By all that counts devices: of none it would say that they are not worn."""
    for count in (
        lambda weights: hic_jax.model_size(weights, PARAMS),
        hic_jax.endurance,
        lambda weights: accounting.writes(weights, steps=1, carried_pulses=0),
    ):
        with pytest.raises(
            ValueError, match=r"weights: bias is .*Array.*; must be as "
        ):
            count(PARAMS)
        with pytest.raises(ValueError, match=r"weights: the whole is .*Array"):
            count(jnp.zeros(3))
        with pytest.raises(ValueError, match=r"weights: bias is .*Array"):
            count(_hybrid(PARAMS) | {"bias": jnp.zeros(3)})


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


def test_digital_kernels_of_few_bits_have_scales_beside_them():
    params = {"a": {"kernel": jnp.zeros((3, 3, 4, 8)), "bias": jnp.zeros(8)}}
    size = hic_jax.model_size({}, params, kernel_bits=4)
    assert size["inference_bits"] == 288 * 4 + 8 * 32 + 8 * 32
    assert size["training_bits"] == size["fp32_bits"] == (288 + 8) * 32
    hybrid = hic_jax.model_size(_hybrid(PARAMS), PARAMS, kernel_bits=4)
    assert hybrid == hic_jax.model_size(_hybrid(PARAMS), PARAMS)  # All kernels analog.


def test_exact_weights_below_quantised_ones_are_no_buffer():
    params = {"kernel": jnp.zeros((10, 3))}
    momentum = optax.sgd(0.1, momentum=0.9)
    plain = accounting.optimizer_bits(momentum.init(params))
    aware = optax.chain(momentum, quantised(4))
    assert accounting.optimizer_bits(aware.init(params)) == plain == 30 * 32
