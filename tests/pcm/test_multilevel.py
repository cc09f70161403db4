"""A multi-level device against published moments and closed forms."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hic_jax import pcm
from hic_jax.pcm import drifting, fits, multilevel

DEVICE = pcm.nandakumar_2018()

# Mean and standard deviation (uS) after SET pulses from RESET, at a g_max of 20 uS.
PUBLISHED = {
    1: (2.06, 1.52),
    2: (3.43, 1.97),
    3: (4.47, 2.20),
    5: (5.92, 2.38),
    10: (7.83, 2.46),
    20: (9.39, 2.66),
}


def state_of(g, pulses=0, z=None):
    """A device as it stands."""
    return multilevel.MultilevelState(g=jnp.float32(g), pulses=jnp.uint8(pulses), z=z)


def simulate(spec, pulses, devices, key=0):
    """(pulses + 1, devices) conductances from RESET on."""
    normal = jax.random.normal(jax.random.key(key), (pulses + 1, devices))

    def fire(state, normal):
        state = spec.pulse(state, normal)
        return state, state.g

    state = spec.reset(spec.init(jax.random.key(0), (devices,)), normal[0])
    _, rest = jax.lax.scan(fire, state, normal[1:])
    return np.concatenate([state.g[None], rest])


@pytest.fixture(scope="module")
def million():
    return simulate(DEVICE, 20, 1_000_000)


@pytest.mark.parametrize("pulses", PUBLISHED)
def test_a_million_devices_have_the_published_moments(million, pulses):
    mean, std = PUBLISHED[pulses]
    # The standard error of both is below 0.3 %.
    np.testing.assert_allclose(million[pulses].mean(dtype=np.float64), mean, rtol=0.01)
    np.testing.assert_allclose(million[pulses].std(dtype=np.float64), std, rtol=0.01)


def test_the_controllers_step_is_the_mean_of_the_first_ten(million):
    means = million.mean(axis=1, dtype=np.float64)
    assert DEVICE.mean_step == pytest.approx((means[10] - means[0]) / 10, rel=0.01)


def test_the_expected_trajectory_follows_the_devices(million):
    means = million.mean(axis=1, dtype=np.float64)
    # The recursion takes the clipped distribution as Gaussian: 0.1 uS is what it errs.
    np.testing.assert_allclose(DEVICE.mean_trajectory(20), means, atol=0.1)


def test_conductance_stays_between_its_bounds():
    spec = pcm.nandakumar_2018(g_max=12.0)
    g = simulate(spec, 40, 20_000)
    assert g[1:].min() == np.float32(spec.g_min)
    assert g.max() == spec.g_max


@pytest.mark.parametrize(
    "constants",
    [
        # Its square is nothing to float64, and that of the mean over it too much.
        {"reset_std": 1e-160, "noise_offset": 0.0, "noise_slope": 0.0},
        # Beside the square of the mean the variance is lost in rounding.
        {"reset_std": 1e-5, "g_max": 1e6, "reset_mean": 9e5, "step_offset": 1e3},
    ],
)
def test_the_mean_trajectory_takes_spreads_of_any_size(constants):
    device = dataclasses.replace(DEVICE.only("write_noise"), noise_memory=0.0)
    trajectory = dataclasses.replace(device, **constants).mean_trajectory(255)
    assert np.isfinite(trajectory).all()
    assert (np.diff(trajectory) >= 0).all()


def test_reset_leaves_its_mean_and_spread():
    state = DEVICE.init(jax.random.key(0), (100_000,))
    g = DEVICE.reset(state, jax.random.normal(jax.random.key(1), (100_000,))).g
    # Standard errors: 3e-5 and 2e-5 uS.
    assert float(g.mean()) == pytest.approx(0.1, abs=1.5e-4)
    assert float(g.std()) == pytest.approx(0.01, abs=1.5e-4)
    lowest = DEVICE.reset(state_of(5.0), jnp.float32(-100.0))
    assert float(lowest.g) == np.float32(0.01)


@pytest.mark.parametrize("pulses", [0, 1, 10])
def test_programming_memory_falls_by_e_in_its_pulses(pulses):
    p = DEVICE.memory(jnp.uint8(pulses))
    assert float(p) == pytest.approx(np.exp(-pulses / 2.6), rel=1e-6)


def test_the_pulse_counter_stops_at_its_end():
    pulses = jnp.uint8(multilevel.MAX_COUNTED_PULSES)
    assert DEVICE.pulse(state_of(5.0, pulses), jnp.float32(0.0)).pulses == pulses


def test_step_has_the_models_mean_and_deviation():
    mean, std = DEVICE.expected_step(jnp.float32(4.0), state_of(4.0, 2))
    memory = np.exp(-3 / 2.6)
    assert float(mean) == pytest.approx(-0.084 * 4 + 0.880 + 1.40 * memory, rel=1e-5)
    assert float(std) == pytest.approx(0.091 * 4 + 0.260 + 2.15 * memory, rel=1e-5)


def test_drift_is_a_power_of_age_and_starts_at_t0():
    ages = jnp.array([0.0, 1.0, 38.6, 386.0, 38.6e6])
    g = DEVICE.conductance(state_of(10.0), ages)
    expected = [10.0, 10.0, 10.0, 10 * 10**-0.04, 10 * 1e6**-0.04]
    np.testing.assert_allclose(g, expected, rtol=1e-5)


def test_drift_exponents_have_the_asked_moments():
    spec = pcm.nandakumar_2018(drift_nu_std=0.008)
    devices = spec.init(jax.random.key(2), (100_000,))
    nu = spec.drift_exponents(devices.g, drifting.unpacked_draws(devices.z))
    # Standard errors: 2.5e-5 and 1.8e-5.
    assert float(nu.mean()) == pytest.approx(0.04, abs=1.3e-4)
    assert float(nu.std()) == pytest.approx(0.008, abs=1e-4)


SPREAD = pcm.nandakumar_2018(drift_nu_std=pcm.nandakumar_2019().drift_nu_std)


@pytest.mark.parametrize(
    # What the model of ICECS 2019 has at 0.2, 0.11 and 0.5 of full conductance.
    ("g", "std"),
    [(4.0, 0.01422), (2.2, 0.02169), (10.0, 0.008)],
)
def test_the_spread_of_exponents_is_that_of_the_conductance_last_written_to(g, std):
    devices = SPREAD.init(jax.random.key(2), (100_000,))
    written = devices.replace(g=jnp.full(100_000, g))
    factor = np.asarray(SPREAD.conductance(written, jnp.float32(38.6 * np.e))) / g
    nu = -np.log(factor.astype(np.float64))
    # Where the spread is half of the mean, a few are mirrored at zero.
    z = np.random.default_rng(0).normal(size=1_000_000)
    mirrored = np.abs(0.04 + std * z)
    # Four standard errors of both.
    assert nu.mean() == pytest.approx(mirrored.mean(), abs=4.2 * std / np.sqrt(1e5))
    assert nu.std() == pytest.approx(mirrored.std(), abs=4.2 * std / np.sqrt(2e5))


def test_a_device_keeps_its_draw_whatever_is_written():
    devices = SPREAD.init(jax.random.key(2), (1000,))
    normal = jax.random.normal(jax.random.key(3), (1000,))
    pulsed = SPREAD.pulse(SPREAD.reset(devices, normal), normal)
    np.testing.assert_array_equal(pulsed.z, devices.z)
    expected = np.abs(
        0.04
        + drifting.unpacked_draws(devices.z)
        * np.clip(-0.0125 * np.log(np.asarray(pulsed.g) / 20) - 0.0059, 0.008, 0.045)
    )
    ratio = SPREAD.conductance(pulsed, jnp.float32(386.0)) / pulsed.g
    np.testing.assert_allclose(-np.log10(ratio), expected, atol=1e-6)
    chip = SPREAD.on_another_chip(pulsed, normal[None])
    np.testing.assert_allclose(drifting.unpacked_draws(chip.z), normal, atol=1 / 64)
    # On chips that spread otherwise it does not count any more.
    constant = pcm.nandakumar_2018(drift_nu_std=0.008)
    for one, other in ((SPREAD, constant), (constant, SPREAD)):
        changed = other.on_another_chip(
            one.init(jax.random.key(2), (9,)), normal[None, :9]
        )
        same = other.on_another_chip(
            other.init(jax.random.key(4), (9,)), normal[None, :9]
        )
        jax.tree.map(np.testing.assert_array_equal, changed, same)
    # It takes no more memory than exponents do.
    constant = pcm.nandakumar_2018(drift_nu_std=0.008).init(jax.random.key(2), (1000,))
    assert len(jax.tree.leaves(devices)) == len(jax.tree.leaves(constant))


def test_read_noise_grows_with_conductance():
    assert float(DEVICE.read_std(jnp.float32(10.0))) == pytest.approx(0.43)


@pytest.mark.parametrize("g", [0.0, 0.1, 2.0, 3.0, 7.9, 50.0])
def test_planned_pulses_come_nearest_in_the_mean(g):
    mean = DEVICE.mean_trajectory(20)
    pulses = int(DEVICE.pulses_for(jnp.float32(g), 20))
    assert abs(mean[pulses] - g) == pytest.approx(np.abs(mean - g).min())


@pytest.mark.parametrize("name", DEVICE.NON_IDEALITIES)
def test_switching_one_off_zeroes_its_constants_and_no_other(name):
    device = dataclasses.replace(
        DEVICE, drift_nu_std=0.01, stuck_set=0.1, stuck_reset=0.1, step_spread=0.2
    )
    changed = {
        field.name
        for field in dataclasses.fields(device)
        if getattr(device, field.name) != getattr(device.without(name), field.name)
    }
    step = {"step_offset"} if name == "nonlinearity" else set()
    assert changed == set(DEVICE.NON_IDEALITIES[name]) | step


def test_without_the_nonlinearity_every_step_is_the_mean_step():
    linear = DEVICE.without("nonlinearity")
    for g, pulses in ((0.1, 0), (9.0, 30)):
        mean, _ = linear.expected_step(jnp.float32(g), state_of(g, pulses))
        assert float(mean) == pytest.approx(DEVICE.mean_step)


def test_only_one_leaves_no_other():
    noisy = DEVICE.only("read_noise")
    assert noisy.read_offset == DEVICE.read_offset
    assert noisy.drift_nu == noisy.noise_offset == noisy.step_slope == 0.0


def test_exponents_spread_about_their_mean():
    device = pcm.nandakumar_2018(drift_nu_std=0.008)
    spread = device.only("drift_spread")
    assert (spread.drift_nu, spread.drift_nu_std) == (device.drift_nu, 0.008)
    assert spread.read_offset == spread.noise_offset == 0.0
    assert SPREAD.only("drift_spread").drift_nu_std == SPREAD.drift_nu_std
    assert SPREAD.without("drift_spread") == DEVICE


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("g_max", 0.05, "greater than 0.1"),
        ("g_max", float("nan"), "finite"),
        ("memory_pulses", 0.0, "greater than 0"),
        ("drift_t0", -1.0, r"must lie in \[1e-06, 1000000.0\]"),
        ("read_offset", -0.1, r"must lie in \[0.0, 1000000.0\]"),
        ("stuck_set", 1.5, r"\[0.0, 1.0\]"),
        ("step_offset", "a", "finite number"),
        ("reset_mean", 20.0, "SET pulses must add"),
        ("step_slope", -1.5, r"must lie in \[-1.0, 1.0\]"),
        ("drift_nu_std", 0.5, r"must lie in \[0.0, 0.25\]"),
        ("drift_nu_std", "a", "finite number"),
        ("drift_nu_std", fits.Polynomial((0.3, -0.3)), "goes from 0 to 0.3"),
        ("drift_nu_std", fits.Polynomial((-0.01, 0.1)), "goes from -0.01 to 0.09"),
        ("g_max", 0.1 + 1e-12, "greater than 0.1, the g_min of the device, in float32"),
    ],
)
def test_bad_constants_are_named(field, value, allowed):
    named = re.escape(f"{field}={value!r}")
    with pytest.raises(ValueError, match=f"{named}.*: .*{allowed}"):
        dataclasses.replace(DEVICE, **{field: value})


def test_an_unknown_non_ideality_is_named():
    with pytest.raises(ValueError, match="'noise': must be one of nonlinearity"):
        DEVICE.without("noise")


@pytest.mark.parametrize(("mean", "std"), [(0.5, 1.0), (2.0, 0.7), (-1.0, 2.0)])
def test_moments_of_a_clipped_gaussian_are_those_of_its_density(mean, std):
    low = 0.3
    x = np.linspace(mean - 10 * std, mean + 10 * std, 200_001)
    weight = np.exp(-(((x - mean) / std) ** 2) / 2)
    clipped = np.maximum(x, low)
    first = np.average(clipped, weights=weight)
    second = np.average((clipped - first) ** 2, weights=weight)
    found = multilevel._clipped_moments(mean, std**2, low)
    np.testing.assert_allclose(found, (first, second), rtol=1e-6)
    assert multilevel._clipped_moments(mean, 0.0, low) == (max(mean, low), 0.0)
