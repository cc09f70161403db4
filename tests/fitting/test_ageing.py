"""Drift and read noise, of traces and reads whose constants are known."""

import numpy as np
import pytest

from hic_jax.fitting import ageing

RNG = np.random.default_rng(0)


def test_drift_and_its_spread_are_found_again():
    nu = 0.05 + 0.01 * RNG.standard_normal(400)
    times = np.geomspace(10.0, 1e5, 12)
    noise = np.exp(0.02 * RNG.standard_normal((12, 400)))
    found = ageing.drift(times, 8.0 * (times / 10.0)[:, None] ** -nu * noise)
    for name, truth in {"drift_nu": 0.05, "drift_nu_std": 0.01}.items():
        assert found.errors[name] < 0.001
        assert found.constants[name] == pytest.approx(truth, abs=3 * found.errors[name])
    assert found.constants["drift_t0"] == 10.0


def test_one_trace_has_no_spread():
    times = np.geomspace(1.0, 1e4, 8)
    found = ageing.drift(times, 5.0 * times[:, None] ** -0.03)
    assert found.constants["drift_nu"] == pytest.approx(0.03)
    assert found.constants["drift_nu_std"] == 0.0


def test_read_noise_by_conductance_is_found_again():
    g = np.linspace(1.0, 20.0, 30)
    reads = g + (0.1 + 0.03 * g) * RNG.standard_normal((200, 30))
    found = ageing.read_noise(reads, one_size=False)
    for name, truth in {"read_offset": 0.1, "read_slope": 0.03}.items():
        assert found.constants[name] == pytest.approx(truth, abs=3 * found.errors[name])
    single = ageing.read_noise(reads[:, :1], one_size=True)
    assert single.constants["read_offset"] == pytest.approx(0.13, rel=0.2)
