"""Fits: what was simulated is found again, within its standard errors."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hic_jax import pcm
from hic_jax.fitting import likelihood, maximum
from hic_jax.fitting.likelihood import Data
from hic_jax.fitting.models import Nandakumar, Table
from hic_jax.fitting.trains import Trains
from hic_jax.releases import enable_x64
from tests.fitting.measured import TABLE, measured


def off(fit, truth):
    """By how many standard errors constants differ from what they are."""
    return {
        name: (value - truth[name]) / fit.errors[name]
        for name, value in fit.constants.items()
    }


def exactly(model, trains):
    """A fit to values that were read without noise, of devices that are alike."""
    return maximum.fit_with(model, trains, reads=False, spread=False)


def at_places(fit, device):
    """The constants of a table where the fit has its places."""
    at = fit.fixed["at"]
    return {
        "up_mean": np.interp(at, device.at, device.up_mean),
        "up_std": np.interp(at, device.at, device.up_std),
        "reset_mean": device.reset_mean,
        "reset_std": device.reset_std,
    }


def test_the_constants_of_a_table_are_found_again():
    # Linear between the ends: what a table of other places holds, too.
    line = dataclasses.replace(
        TABLE, at=(1.0, 30.0), up_mean=(0.8, 0.1), up_std=(0.4, 0.2)
    )
    all_off = []
    for seed in range(5):
        found = exactly(Table(), measured(line, 40, 20, seed=seed))
        z = off(found, at_places(found, line))
        all_off.append(np.concatenate([np.ravel(x) for x in z.values()]))
    # Ten constants, five times: one in 370 of them lies beyond three by chance.
    assert np.abs(all_off).max() < 3.5
    assert 0.6 < np.std(all_off) < 1.4


def test_the_constants_of_nandakumar_are_found_again():
    device = pcm.nandakumar_2018()
    found = exactly(Nandakumar(), measured(device, 40, 40))
    z = off(found, {name: getattr(device, name) for name in found.constants})
    assert set(z) == {
        "step_slope", "step_offset", "step_memory", "noise_slope", "noise_offset",
        "noise_memory", "memory_pulses", "reset_mean", "reset_std",
    }  # fmt: skip
    assert np.abs(list(z.values())).max() < 3.5
    # Devices that a pulse would lead below stand at the lower end: that tells it.
    assert found.fixed["g_min"] == pytest.approx(device.g_min, rel=1e-6)


def test_noise_of_reads_is_told_from_noise_of_pulses():
    trains = measured(TABLE, 40, 20, read_std=0.5)
    found = maximum.fit(Table(), trains)
    assert found.reads
    assert found.constants["read_offset"] == pytest.approx(
        0.5, abs=3 * found.errors["read_offset"]
    )
    # Taken for noise of pulses it would be sqrt(2) 0.5 more in the square.
    assert found.constants["up_std"].max() < 0.5


def test_devices_with_steps_of_their_own_are_told_from_noise():
    gained = []
    for spread in (0.3, 0.0):
        device = dataclasses.replace(TABLE, step_spread=spread)
        trains = measured(device, 40, 20, devices=20)
        alike = exactly(Table(), trains)
        found = maximum.fit_with(Table(), trains, reads=False, spread=True, start=alike)
        gained.append(found.log_likelihood - alike.log_likelihood)
        if spread:
            assert found.errors["step_spread"] < 0.1
            assert found.constants["step_spread"] == pytest.approx(
                spread, abs=3 * found.errors["step_spread"]
            )
    # One constant more is worth half a unit by chance, and 4.8 once in a thousand.
    assert gained[0] > 4.8 > gained[1]


def test_the_integral_over_devices_is_that_of_many_draws():
    trains = measured(dataclasses.replace(TABLE, step_spread=0.3), 4, 6, devices=2)
    constants = {
        "at": TABLE.at, "up_mean": TABLE.up_mean, "up_std": TABLE.up_std,
        "step_spread": 0.3,
    }  # fmt: skip
    z = np.linspace(-7, 7, 141)

    @jax.jit
    def integrals(constants, data):
        def given(z):
            factor = jnp.full((4, 1), likelihood.step_factor(0.3, z))
            return likelihood._exact(Table(), constants, data, factor)

        both = {"reads": False, "spread": True}
        found = likelihood.by_device(Table(), constants, data, **both)
        return found, jax.vmap(given)(jnp.asarray(z))

    with enable_x64(True):
        constants = {k: jnp.asarray(v) for k, v in constants.items()}
        found, ramps = map(np.asarray, integrals(constants, Data.of(trains)))
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    each = ramps.reshape(len(z), 2, 2).sum(axis=2)
    dense = np.log((np.exp(each) * density[:, None]).sum(axis=0) * (z[1] - z[0]))
    # The trapezoidal rule is exact to more digits; nine nodes leave a thousandth.
    np.testing.assert_allclose(found, dense, atol=2e-3)


def test_values_pile_up_at_an_end_or_are_rounded():
    rng = np.random.default_rng(0)
    g = np.sort(rng.uniform(2, 8, (10, 30)), axis=1)
    trains = Trains(g, np.ones((10, 29), bool), np.zeros(10, int), np.ones(10, bool))

    def pile(values):
        return dataclasses.replace(trains, g=values).pile(high=True)

    assert pile(g) is None
    assert pile(np.minimum(g, 7.5)) == 7.5
    rounded = np.round(g, 1)
    assert pile(rounded) is None  # The highest value occurs often, as others do.
    assert pile(np.minimum(rounded, 6.0)) == 6.0
