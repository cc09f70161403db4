"""Bands of ramps that were read with noise."""

import numpy as np
import pytest

from hic_jax import pcm
from hic_jax.fitting import foretold
from hic_jax.fitting.maximum import Fit
from hic_jax.fitting.trains import Trains
from hic_jax.fitting.two_sided import SoftBounds

PULSES, READ = 60, 1.0
DEVICE = pcm.SoftBoundsSpec(
    name="quiet", source="this test", g_min=0.0, g_max=20.0, reset_mean=10.0,
    step=1e-3, read_noise=0.1,
)  # fmt: skip


def test_a_ramp_begins_where_all_of_its_values_tell_and_not_at_its_first_read():
    """Steps of 0.01 uS, and reads with 1 uS of noise."""
    rng = np.random.default_rng(0)
    up = np.ones((1, PULSES), bool)
    g = 8.0 + 0.01 * np.arange(PULSES + 1) + READ * rng.normal(size=(1, PULSES + 1))
    g[0, 0] = 11.0
    trains = Trains(g, up, np.zeros(1, int), np.zeros(1, bool))
    constants = {"step": 1e-3, "asymmetry": 0.0, "top": 1.0, "bottom": -1.0}
    constants |= {"step_noise": 1e-3, "read_offset": READ}
    fixed = {"g_min": 0.0, "g_max": 20.0, "reset_mean": 10.0}
    fit = Fit(SoftBounds(), constants, {}, fixed, 0.0, reads=True, spread=False)
    (band,) = foretold.bands(DEVICE, fit, trains, trains)
    # 61 reads tell it to 0.13 uS; the first alone lies 3 uS above.
    assert band.mean[0] == pytest.approx(8.0 + 3 / 61, abs=3 * READ / np.sqrt(61))
    np.testing.assert_allclose(band.high - band.low, 2 * 1.96 * READ, rtol=0.12)
    # Of 61 reads 95 % lie within, but for two standard errors; and the first.
    assert band.holds(g)[:, 1:].mean() > 0.95 - 2 * np.sqrt(0.05 * 0.95 / 60)
    assert not band.holds(g)[0, 0]


def test_noise_of_reads_that_stays_is_noise_of_each_read_in_training():
    fixed = {"g_min": 0.0, "g_max": 20.0, "reset_mean": 10.0}
    constants = {"step": 1e-3, "read_offset": 0.3, "read_slow": 0.4, "read_memory": 9.0}
    device = SoftBounds().device("mine", "this test", fixed | constants)
    assert device.read_noise * device.half_range == pytest.approx(0.5)
