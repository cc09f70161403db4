import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hic_jax
from hic_jax import accounting, pcm

IDEAL = hic_jax.HICSpec(multilevel=pcm.ideal(), refresh_every=0)


def trained(spec, lsbs):
    """One weight per entry of ``lsbs``, updated by that many LSBs, step by step."""
    tx = hic_jax.hic(spec, 0)
    params = [jnp.zeros(len(lsbs[0]))]
    state = tx.init(params)
    update = jax.jit(tx.update)
    for row in lsbs:
        step = jnp.asarray(row) * spec.lsb / state.weights.scale[0]
        _, state = update([step], state, params)
    return state


def test_model_size_counts_nominal_bits_and_devices():
    params = {"kernel": jnp.zeros((10, 3)), "bias": jnp.zeros(3)}
    tx = optax.partition(
        {"analog": hic_jax.hic(IDEAL, 0), "digital": optax.identity()},
        hic_jax.analog_labels,
    )
    hybrid = hic_jax.hybrid_weights(tx.init(params))
    assert hic_jax.model_size(hybrid, params) == {
        "analog_weights": 30,
        "digital_weights": 3,
        "inference_bits": 30 * 4 + 3 * 32,
        "training_bits": 30 * (4 + 7) + 3 * 32,
        "fp32_bits": 33 * 32,
        "multilevel_devices": 60,
        "binary_devices": 210,
    }


def test_a_digital_model_has_its_size_and_no_devices():
    size = hic_jax.model_size({}, {"w": jnp.zeros((5, 5))})
    assert size["inference_bits"] == size["fp32_bits"] == 25 * 32
    assert size["multilevel_devices"] == 0


def test_cycles_are_those_that_the_devices_saw():
    # A word holds -64 to 63: +64 is a carry, -64 is not.
    state = trained(IDEAL, [[64, -64, 0], [64, 1, 0]])
    pulses = accounting.device_pulses(hic_jax.hybrid_weights(state))
    np.testing.assert_array_equal(pulses["multilevel"][0], [2, 0, 0, 0, 0, 0])
    # Programming RESETs every device once.
    np.testing.assert_array_equal(pulses["multilevel"][1], np.ones(6))
    # The word of the second weight went 0, -64, -63: bit 6, then bit 0.
    sets, resets = (x.reshape(7, 3) for x in pulses["binary"])
    assert sets.sum() == 2
    assert sets[6, 1] == sets[0, 1] == 1
    assert resets.sum() == 0


def test_endurance_summarises_them():
    wear = hic_jax.endurance(
        hic_jax.hybrid_weights(trained(IDEAL, [[64, -64, 0], [64, 1, 0]])),
        endurance_cycles=1000.0,
    )
    assert wear["multilevel"] == {
        "max": 2,
        "mean": pytest.approx(7 / 6),
        "p99": pytest.approx(1.95),
        "sets": 2,
        "resets": 6,
        "endurance_cycles": 1000.0,
        "fraction_of_endurance": 0.002,
    }
    assert wear["binary"]["fraction_of_endurance"] == 0.001


def test_wear_that_was_not_tracked_is_an_error():
    spec = hic_jax.HICSpec(multilevel=pcm.ideal(), refresh_every=0, track_wear=False)
    with pytest.raises(ValueError, match="track_wear=False"):
        hic_jax.endurance(hic_jax.hybrid_weights(trained(spec, [[1]])))


def test_bad_arguments():
    hybrid = hic_jax.hybrid_weights(trained(IDEAL, [[1]]))
    with pytest.raises(ValueError, match="endurance_cycles=0"):
        hic_jax.endurance(hybrid, endurance_cycles=0)
    with pytest.raises(ValueError, match="no analog weight"):
        hic_jax.endurance({})
