"""A programmed device against published numbers and closed forms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import hic_jax
from hic_jax import pcm
from hic_jax.pcm import programmed

DEVICE = pcm.nandakumar_2019()
G = (0.02, 0.1, 0.25, 0.5, 0.75, 1.0)
TIMES = (5.0, hic_jax.DAY, hic_jax.YEAR)
DEVICES = 1_000_000


def _hermes_nu(g):
    low = np.clip(-0.0387 * np.log(g) - 0.0182, 0.0720, 0.13)
    return low if g < 0.0945 else -0.0436 * g**2 - 0.0126 * g + 0.0736


def _piecewise(split, slope, offset, low, high, *polynomial):
    """A logarithm below the split, a polynomial (highest power first) above."""

    def curve(g):
        below = np.clip(slope * np.log(g) + offset, low, high)
        return below if g < split else np.polyval(polynomial, g)

    return curve


# The models as published, in float64: g_max, t_0, t_read, and of relative conductance
# the spread of programming (uS), mean and spread of the exponent, Q_s.
MODELS = {
    "nandakumar_2019": (
        25.0,
        20.0,
        250e-9,
        lambda g: 0.26348 + 1.9650 * g - 1.1731 * g**2,
        lambda g: np.clip(-0.0155 * np.log(g) + 0.0244, 0.049, 0.1),
        lambda g: np.clip(-0.0125 * np.log(g) - 0.0059, 0.008, 0.045),
        lambda g: min(0.0088 / g**0.65, 0.2),
    ),
    "hermes_1": (
        10.35,
        200.0,
        512e-9,
        lambda g: np.polyval([0.68841818, -2.16310839, 2.32443916, 0.15781817], g),
        _hermes_nu,
        _piecewise(0.3039, -0.0120, -0.0023, 0.0124, 0.04, -0.0165, 0.0116, 0.0104),
        _piecewise(
            0.1591, -0.0078, 0.0038, 0.0179, 0.04, 0.0664, -0.1352, 0.0768, 0.0088
        ),
    ),
    "hermes_2": (
        20.7,
        300.0,
        512e-9,
        lambda g: np.polyval([4.68961419, -8.48101252, 4.71806468, 0.16603222], g),
        _hermes_nu,
        _piecewise(0.3055, -0.0117, -0.0057, 0.0091, 0.04, -0.0118, 0.0093, 0.0073),
        _piecewise(
            0.16, -0.0117, -0.0069, 0.015, 0.04, 0.0069, -0.0280, 0.0211, 0.0123
        ),
    ),
}


def rectified(mean, std):
    """Mean and standard deviation of max(X, 0) for a Gaussian X."""
    z = mean / std
    above, density = scipy.stats.norm.cdf(z), scipy.stats.norm.pdf(z)
    first = mean * above + std * density
    second = (mean**2 + std**2) * above + mean * std * density
    return first, np.sqrt(second - first**2)


def folded(mean, std):
    """Mean and standard deviation of |X| for a Gaussian X."""
    z = mean / std
    first = 2 * std * scipy.stats.norm.pdf(z) + mean * (
        1 - 2 * scipy.stats.norm.cdf(-z)
    )
    return first, np.sqrt(mean**2 + std**2 - first**2)


def moments(x):
    x = np.asarray(x, np.float64)
    return x.mean(), x.std()


@pytest.fixture(scope="module")
def normal():
    return jax.random.normal(jax.random.key(0), (DEVICES,))


@pytest.mark.parametrize("g", G)
@pytest.mark.parametrize("name", MODELS)
class TestAMillionDevices:
    """Standard errors: of a mean a thousandth of the spread, of a spread 0.07 %."""

    def test_programming(self, name, g, normal):
        g_max, _, _, std, *_ = MODELS[name]
        target = jnp.full(DEVICES, g * g_max)
        found = moments(programmed.write(target, normal, pcm.programmed_preset(name)))
        np.testing.assert_allclose(found, rectified(g * g_max, std(g)), rtol=0.01)

    def test_drift_exponents(self, name, g, normal):
        g_max, _, _, _, mean, std, _ = MODELS[name]
        target = jnp.full(DEVICES, g * g_max)
        spec = pcm.programmed_preset(name)
        found = moments(programmed.drift_exponents(target, normal, spec))
        np.testing.assert_allclose(found, folded(mean(g), std(g)), rtol=0.01)

    @pytest.mark.parametrize("seconds", TIMES)
    def test_read_noise(self, name, g, seconds, normal):
        g_max, t0, t_read, _, nu, _, q_s = MODELS[name]
        spec = pcm.programmed_preset(name)
        drifted = programmed.drifted(jnp.float32(g * g_max), seconds, nu(g), spec)
        expected = g * g_max * ((seconds + t0) / t0) ** -nu(g)
        assert float(drifted) == pytest.approx(expected, rel=1e-5)
        std = q_s(g) * np.sqrt(np.log((seconds + t0 + t_read) / (2 * t_read)))
        found = moments(
            programmed.read(jnp.float32(g * g_max), drifted, seconds, normal, spec)
        )
        np.testing.assert_allclose(
            found, rectified(expected, std * expected), rtol=0.01
        )


# Rounded as published: relative conductances, and half a unit of the last digit.
CHECKS = {
    "programming, uS": (
        "nandakumar_2019",
        lambda g, spec: programmed.write_std(g, spec),
        dict(zip(G, (0.302, 0.448, 0.681, 0.953, 1.077, 1.055), strict=True)),
        5e-4,
    ),
    "programming, % of 10.35 uS": (
        "hermes_1",
        lambda g, spec: 100 * programmed.write_std(g, spec) / spec.g_max,
        dict(zip(G[1:], (3.6, 5.9, 8.4, 9.4, 9.7), strict=True)),
        0.05,
    ),
    "programming, % of 20.7 uS": (
        "hermes_2",
        lambda g, spec: 100 * programmed.write_std(g, spec) / spec.g_max,
        dict(zip(G[1:], (2.7, 4.3, 4.8, 4.4, 5.3), strict=True)),
        0.05,
    ),
    "exponent": (
        "nandakumar_2019",
        lambda g, spec: programmed.drift_exponents(g, jnp.zeros_like(g), spec),
        dict(zip(G, (0.085, 0.060, 0.049, 0.049, 0.049, 0.049), strict=True)),
        5e-4,
    ),
    "exponent, one standard deviation up": (
        "nandakumar_2019",
        lambda g, spec: programmed.drift_exponents(g, jnp.ones_like(g), spec),
        dict(zip(G, (0.128, 0.083, 0.060, 0.057, 0.057, 0.057), strict=True)),
        1e-3,
    ),
    "exponent of HERMES": (
        "hermes_1",
        lambda g, spec: programmed.drift_exponents(g, jnp.zeros_like(g), spec),
        dict(zip(G[1:], (0.0719, 0.0677, 0.0564, 0.0396, 0.0174), strict=True)),
        5.1e-5,
    ),
    **{
        f"read noise after {seconds:.0f} s, %": (
            "nandakumar_2019",
            lambda g, spec, t=seconds: 100 * programmed.read_std(g, g, t, spec) / g,
            dict(zip((0.5, 1.0), values, strict=True)),
            0.05,
        )
        for seconds, values in zip(
            TIMES, ((5.8, 3.7), (7.0, 4.5), (7.8, 5.0)), strict=True
        )
    },
}


@pytest.mark.parametrize("name", CHECKS)
def test_published_check_values(name):
    preset, function, expected, atol = CHECKS[name]
    spec = pcm.programmed_preset(preset)
    g = jnp.array(list(expected), jnp.float32) * spec.g_max
    np.testing.assert_allclose(
        function(g, spec), list(expected.values()), atol=atol, rtol=0
    )


def test_the_fit_of_joshi_2020_agrees():
    # Of Fig. 3b, in uS: 7 % at 0.5 uS, 4 % elsewhere.
    g = np.array([0.5, 2.5, 6.25, 12.5, 18.75, 25.0])
    joshi = 0.28638599 + 0.07585724 * g - 0.00178767 * g**2
    std = programmed.write_std(jnp.asarray(g, jnp.float32), DEVICE)
    np.testing.assert_allclose(std[1:], joshi[1:], rtol=0.04)
    np.testing.assert_allclose(std[0], joshi[0], rtol=0.07)


@pytest.mark.parametrize("name", MODELS)
def test_a_device_at_zero_is_all_numbers(name):
    spec = pcm.programmed_preset(name)
    zero, one = jnp.zeros(1), jnp.ones(1)
    g = programmed.write(zero, one, spec)
    assert float(g[0]) == pytest.approx(MODELS[name][3](0.0), rel=1e-5)
    assert np.isfinite(programmed.drift_exponents(zero, one, spec)).all()
    assert programmed.write(zero, -one, spec) == 0.0
    assert programmed.read(zero, zero, 1e6, one, spec) == 0.0


def test_conductance_is_as_programmed_when_programming_ends():
    g = jnp.linspace(0, 25, 7)
    np.testing.assert_array_equal(programmed.drifted(g, 0.0, 0.05, DEVICE), g)


def test_another_range_scales_the_spread_and_nothing_else():
    half = pcm.nandakumar_2019(g_max=12.5)
    g, one = jnp.array([1.0, 6.0, 25.0]), jnp.ones(3)
    np.testing.assert_allclose(
        programmed.write_std(g / 2, half),
        programmed.write_std(g, DEVICE) / 2,
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        programmed.drift_exponents(g / 2, one, half),
        programmed.drift_exponents(g, one, DEVICE),
        rtol=1e-5,
    )


def test_stuck_devices_come_in_the_asked_share_and_do_not_drift():
    spec = dataclasses.replace(DEVICE, stuck_set=0.1, stuck_reset=0.2)
    n = 100_000
    g, nu = programmed.stick(
        jnp.full(n, 5.0),
        jnp.full(n, 0.05),
        jax.random.uniform(jax.random.key(1), (n,)),
        spec,
    )
    later = np.asarray(programmed.drifted(g, hic_jax.YEAR, nu, spec))
    # Standard errors of 0.001.
    assert np.mean(later == 25.0) == pytest.approx(0.1, abs=0.005)
    assert np.mean(later == 0.0) == pytest.approx(0.2, abs=0.005)
    working = 5 * ((hic_jax.YEAR + 20) / 20) ** -0.05
    np.testing.assert_allclose(later[(later > 0) & (later < 25)], working, rtol=1e-5)


@pytest.mark.parametrize("name", programmed.NON_IDEALITIES)
def test_switching_one_off_changes_its_constants_and_no_other(name):
    device = dataclasses.replace(DEVICE, stuck_set=0.1, stuck_reset=0.1)
    without, only = device.without(name), device.only(name)
    for field in dataclasses.fields(device):
        is_its = field.name in programmed.NON_IDEALITIES[name]
        before = getattr(device, field.name)
        assert (getattr(without, field.name) == before) != is_its
        others = set().union(*programmed.NON_IDEALITIES.values())
        # What spreads is drift.
        kept = is_its or field.name not in others
        kept |= name == "drift_spread" and field.name == "drift_nu"
        assert (getattr(only, field.name) == before) == kept


def test_the_two_regimes_name_their_non_idealities_alike():
    assert set(programmed.NON_IDEALITIES) == set(pcm.MultilevelSpec.NON_IDEALITIES) - {
        "nonlinearity",
        "device_spread",
    }


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("g_max", 0.0, "greater than 0"),
        ("drift_t0", float("nan"), "finite"),
        ("read_time", -1.0, "lie in .1e-12, 0.0001."),
        ("write_std", 0.3, "a curve of pcm.fits"),
        ("stuck_reset", 1.5, r"\[0.0, 1.0\]"),
    ],
)
def test_bad_constants_are_named(field, value, allowed):
    with pytest.raises(ValueError, match=f"{field}={value!r}: .*{allowed}"):
        dataclasses.replace(DEVICE, **{field: value})


def test_an_unknown_non_ideality_is_named():
    with pytest.raises(ValueError, match="'nonlinearity': must be one of write_noise"):
        DEVICE.without("nonlinearity")
