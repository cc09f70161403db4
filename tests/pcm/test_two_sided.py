"""Two-sided devices against closed forms; in `conformance` what all devices keep to."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hic_jax import pcm
from hic_jax.pcm import two_sided

MANY = 20_000
HALF = 10.0  # Of the range of 0 to 20 uS.


def soft(**constants):
    usual = {"name": "soft", "source": "test", "g_min": 0.0, "g_max": 20.0}
    usual |= {"reset_mean": 10.0, "step": 0.01, "top": 0.8, "bottom": -0.6}
    return pcm.SoftBoundsSpec(**(usual | constants))


def exponential(**constants):
    bare = pcm.reram_2018(g_max=20.0).only("nonlinearity")
    device = dataclasses.replace(bare, **({"asymmetry": 0.15} | constants))
    assert isinstance(device, pcm.ExpStepSpec)
    return device


def devices_at(spec, w, n=MANY, seed=0):
    """Devices of their own kind, that far from the middle."""
    state = spec.init(jax.random.key(seed), (n,))
    return state.replace(g=jnp.full(n, spec.in_us(w), jnp.float32))


def normals(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


# ---- equations


@pytest.mark.parametrize("w", [-0.5, 0.0, 0.3, 0.7])
def test_soft_bounds_shrink_towards_the_end_that_a_step_leads_to(w):
    spec = soft(asymmetry=0.2)
    state = devices_at(spec, w, 3)
    up = spec.pulse(state, jnp.zeros(3)).g - state.g
    down = spec.pulse(state, jnp.zeros(3), up=False).g - state.g
    # float32 at 20 uS.
    np.testing.assert_allclose(up, HALF * 0.01 * 1.2 * (1 - w / 0.8), atol=3e-6)
    np.testing.assert_allclose(down, -HALF * 0.01 * 0.8 * (1 + w / 0.6), atol=3e-6)


@pytest.mark.parametrize("w", [-0.4, 0.0, 0.3])
def test_exponential_steps_are_those_of_the_formula(w):
    spec = exponential()
    state = devices_at(spec, w, 1)
    z = -0.5 * 2 * w / (spec.top - spec.bottom) - 0.5
    size = spec.step * HALF
    for up, sign in ((True, 1), (False, -1)):
        factor = -1.18445 if up else -0.081404
        relative = 1 - factor * np.exp(sign * 5.0 * z)
        moved = spec.pulse(state, jnp.zeros(1), up=up).g - state.g
        expected = sign * size * relative * (1 + sign * spec.asymmetry)
        np.testing.assert_allclose(moved, expected, atol=3e-6)


def test_polarities_are_chosen_device_by_device():
    spec = soft()
    state, up = devices_at(spec, 0.0, 4), jnp.array([True, False, False, True])
    moved = spec.pulse(state, jnp.zeros(4), up=up).g - state.g
    np.testing.assert_allclose(moved, [0.1, -0.1, -0.1, 0.1], atol=3e-6)


def test_ideal_devices_come_back_exactly():
    spec = pcm.ideal_two_sided()
    start = spec.init(jax.random.key(0), (5,))
    state = start
    for up in [True] * 7 + [False] * 7:
        state = spec.pulse(state, jnp.ones(5), up=up)
    np.testing.assert_array_equal(state.g, start.g)
    assert spec.mean_step == 0.625
    for _ in range(20):  # Sixteen steps lead to the lower end.
        state = spec.pulse(state, jnp.zeros(5), up=False)
    np.testing.assert_array_equal(state.g, np.zeros(5))
    assert spec.is_at_end(state, up=False).all()
    assert not spec.is_at_end(state, up=True).any()


@pytest.mark.parametrize(
    "spec", [soft(), exponential()], ids=["noise of the middle", "noise of the step"]
)
def test_noise_from_pulse_to_pulse_is_that_of_the_constant(spec):
    noisy = dataclasses.replace(spec, step_noise=0.5)
    w = 0.2
    state = devices_at(noisy, w)
    for up in (True, False):
        moved = np.asarray(noisy.pulse(state, normals(1, MANY), up=up).g - state.g)
        exact = float((spec.pulse(state, jnp.zeros(MANY), up=up).g - state.g)[0])
        of = abs(exact) if noisy.NOISE_FOLLOWS_STEP else noisy.step * HALF
        assert moved.mean() == pytest.approx(exact, abs=5 * 0.5 * of / MANY**0.5 + 3e-6)
        # Five standard errors.
        assert moved.std() == pytest.approx(0.5 * of, rel=5 / (2 * MANY) ** 0.5)


# ---- from device to device


def test_devices_differ_as_the_constants_say():
    spec = soft(
        step_spread=0.3, asymmetry=0.1, asymmetry_spread=0.05,
        top=0.5, bottom=-0.4, top_spread=0.1, bottom_spread=0.05,
    )  # fmt: skip
    state = spec.init(jax.random.key(0), (MANY,))
    drawn = {
        "step": (jnp.log(state.step), np.log(0.01), 0.3),
        "asymmetry": (state.asymmetry, 0.1, 0.05),
        "top": (state.top, 0.5, 0.1),
        "bottom": (state.bottom, -0.4, 0.05),
    }
    for name, (found, mean, std) in drawn.items():
        # Five standard errors; ends are cut off five deviations away.
        assert found.mean() == pytest.approx(mean, abs=5 * std / MANY**0.5), name
        assert found.std() == pytest.approx(std, rel=5 / (2 * MANY) ** 0.5), name
    correlation = np.corrcoef([x for x, _, _ in drawn.values()]) - np.eye(4)
    assert np.abs(correlation).max() < 5 / MANY**0.5
    assert spec.without("device_spread").init(jax.random.key(0), (3,)).step is None


def test_the_mean_step_is_that_of_all_devices_in_the_middle():
    spec = pcm.reram_om()
    state = spec.init(jax.random.key(0), (MANY,))
    z = normals(1, MANY)
    up, down = (np.asarray(spec.step_of(state, up)[0]) for up in (True, False))
    mean = spec.half_range * (up + down).mean() / 2
    error = float(spec.half_range * up.std() / MANY**0.5)
    assert spec.mean_step == pytest.approx(mean, abs=5 * error)
    moved = np.asarray(spec.pulse(state, z).g - state.g)
    deviation = float(spec.expected_step(jnp.float32(25.0), state)[1])
    # A log-normal spread has heavy tails, of which ends of the range cut some off.
    assert moved.std() == pytest.approx(deviation, rel=0.1)


def test_no_device_leaves_its_own_range():
    spec = pcm.reram_hfo2()
    state = spec.init(jax.random.key(0), (MANY,))
    for up in (True, False):
        end = state
        for seed in range(30):
            end = spec.pulse(end, 3 * normals(seed, MANY), up=up)
        w = np.asarray(spec.normalised(end.g))
        assert (w <= state.top + 1e-6).all()
        assert (w >= state.bottom - 1e-6).all()
        assert spec.is_at_end(end, up).mean() > 0.2  # Noise is as large as the rest.
        assert not (spec.is_at_end(end, up) & spec.is_at_end(end, not up)).any()


def test_alternating_pulses_lead_to_where_up_and_down_are_alike():
    """w* = (up - down) / (up / top - down / bottom), from soft bounds' equations."""
    spec = soft(
        step_spread=0.3, asymmetry=0.1, asymmetry_spread=0.1,
        top_spread=0.1, bottom_spread=0.1,
    )  # fmt: skip
    state = spec.init(jax.random.key(0), (500,))
    up, down = state.step * (1 + state.asymmetry), state.step * (1 - state.asymmetry)
    expected = (up - down) / (up / state.top - down / state.bottom)
    assert jnp.std(expected) > 0.02
    both = jax.jit(
        lambda s: spec.pulse(spec.pulse(s, jnp.zeros(500)), jnp.zeros(500), up=False)
    )
    for _ in range(400):
        state = both(state)
    # After a down pulse it is half a step, or less, from there.
    np.testing.assert_allclose(spec.normalised(state.g), expected, atol=0.02)


# ---- presets and constants


@pytest.mark.parametrize(
    ("make", "unit", "mean", "spread"),
    [
        (pcm.ecram, 0.7, 0.002, 0.1),
        (pcm.gokmen_vlasov, 0.5, 0.0016, 0.3),
        (pcm.reram_2018, 0.5, 0.00135 * (1 - 0.259359 / 2), 0.2 / (1 - 0.259359 / 2)),
    ],
)
def test_steps_have_the_published_mean_and_spread(make, unit, mean, spread):
    step = make().init(jax.random.key(0), (200_000,)).step / unit
    # Of 200,000 devices both are known to 0.5 %.
    assert jnp.mean(step) == pytest.approx(mean, rel=0.005)
    assert jnp.std(step) == pytest.approx(spread * mean, rel=0.01)


@pytest.mark.parametrize(
    ("make", "steps"),
    [
        (pcm.reram_om, 2 / 0.0949),
        (pcm.reram_hfo2, 2 / 0.4622),
        (pcm.ideal_two_sided, 32),
    ],
)
def test_presets_have_the_published_number_of_steps_in_their_range(make, steps):
    spec = make()
    assert (spec.top - spec.bottom) / spec.step == pytest.approx(steps)
    assert make(g_max=12.0).step == pytest.approx(
        spec.step * (1.0 if make is not pcm.ideal_two_sided else 20 / 12)
    )


@pytest.mark.parametrize(
    ("constants", "message"),
    [
        ({"step": 0.0}, r"step=0.0: must lie in"),
        ({"top": 1.5}, r"top=1.5: must lie in \[0.01, 1.0\]"),
        ({"bottom": 0.2}, r"bottom=0.2: must lie in \[-1.0, -0.01\]"),
        ({"softness_up": 1.2}, r"softness_up=1.2"),
        ({"reset_mean": 19.0}, r"reset_mean=19.0: must lie between .* \[4, 18\]"),
        ({"step": 1e-7, "g_max": 10.5, "g_min": 9.5}, r"step=1e-07: pulses there must"),
    ],
)
def test_constants_of_no_device_are_refused(constants, message):
    with pytest.raises(ValueError, match=message):
        soft(**constants)


def test_one_sided_devices_refuse_to_be_lowered():
    spec = pcm.ideal()
    assert not spec.TWO_SIDED
    assert two_sided.TwoSidedSpec.TWO_SIDED
    with pytest.raises(ValueError, match="up=False: must be True, because ideal"):
        spec.pulse(spec.init(jax.random.key(0), (2,)), jnp.zeros(2), up=False)


def test_a_device_that_knows_no_formula_is_expected_to_do_what_it_does():
    """The steps of all devices are simulated, up and down from where they begin."""

    class Unknown(pcm.SoftBoundsSpec):
        expected_step = pcm.DeviceSpec.expected_step
        mean_step = pcm.DeviceSpec.mean_step
        is_at_end = pcm.DeviceSpec.is_at_end

    spec = Unknown(**vars(soft(step=0.05, asymmetry=0.2)))
    known = soft(step=0.05, asymmetry=0.2)
    for up, g in ((True, [10.0, 13.0, 16.0]), (False, [10.0, 8.0, 6.0])):
        found = spec.expected_step(jnp.array(g), None, up)[0]
        # Between two points of a line.
        np.testing.assert_allclose(
            found, known.expected_step(jnp.array(g), None, up)[0], rtol=1e-3
        )
    ends = spec.init(jax.random.key(0), (2,)).replace(g=jnp.array([0.0, 20.0]))
    np.testing.assert_array_equal(spec.is_at_end(ends, up=False), [True, False])
    np.testing.assert_array_equal(spec.is_at_end(ends, up=True), [False, True])
