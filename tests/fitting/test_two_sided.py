"""Two-sided devices: constants found again, and errors by fields of the device."""

import numpy as np
import pytest

from hic_jax import pcm
from hic_jax.fitting import maximum
from hic_jax.fitting.two_sided import LinearStep, SoftBounds
from tests.fitting.round_trip import both_ways, off


def test_steps_that_lose_a_part_of_their_size_are_found_again():
    # Half of what is fitted lies below 0.7 errors, and one in 370 above three.
    z = off("ecram", 400, seed=1)
    assert set(z) == {
        "asymmetry", "softness_down", "softness_up", "step", "step_noise",
    }  # fmt: skip
    assert 0.1 < np.sqrt(np.mean(np.square(list(z.values())))) < 2
    assert max(map(abs, z.values())) < 3.5


def test_they_are_likelier_than_steps_that_vanish():
    device = pcm.preset("ecram").without("device_spread")
    trains = both_ways(device, 400, seed=0)
    linear, bounds = (
        maximum.fit_with(model, trains, reads=False, spread=False).log_likelihood
        for model in (LinearStep(), SoftBounds())
    )
    assert linear > bounds + 50


def test_errors_are_those_of_the_fields_of_the_device():
    model = SoftBounds()
    constants = {"g_min": 0.0, "g_max": 40.0, "step": 0.1, "step_spread": 0.5}
    errors = {"read_offset": 0.2, "step": 0.01, "step_spread": 0.001}
    found = model.field_errors(errors, constants)
    assert found["read_noise"] == pytest.approx(0.2 / 20)

    def fields(spread):
        given = constants | {"step_spread": spread, "read_offset": 1.0}
        given |= {"bottom": -0.5, "top": 0.5, "asymmetry": 0.0, "reset_mean": 20.0}
        return model.device("a", "", given)

    # As far as the fields move when the constant moves by its error.
    moved = fields(0.501).step_spread - fields(0.5).step_spread
    assert found["step_spread"] == pytest.approx(moved, rel=0.01)
    assert found["step"] == pytest.approx(0.01 * fields(0.5).step / 0.1)
    assert set(found) == {"read_noise", "step", "step_spread"}
