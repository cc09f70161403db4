"""Reading and ageing: pure functions of the devices."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hic_jax
from hic_jax import pcm
from hic_jax.algorithms import scaling
from hic_jax.kernel_axes import KernelAxes
from hic_jax.pcm.drifting import unpacked_draws

SPEC = hic_jax.HICSpec(multilevel=pcm.nandakumar_2018(drift_nu_std=0.008))


@pytest.fixture(scope="module")
def devices():
    params = {
        "a": jax.random.normal(jax.random.key(0), (40, 50)),
        "b": {"c": 0.1 * jax.random.normal(jax.random.key(1), (7,))},
    }
    state = hic_jax.hic(SPEC, jax.random.key(2)).init(params)
    return params, hic_jax.analog_weights(state)


def test_initial_weights_are_programmed_where_they_belong(devices):
    params, hybrid = devices
    held = hic_jax.read(hybrid)
    assert jax.tree.structure(held) == jax.tree.structure(params)
    correlation = np.corrcoef(held["a"].ravel(), params["a"].ravel())[0, 1]
    # Programming errs by about 1 uS where the weights spread by 4 uS.
    assert correlation > 0.95


def test_scale_maps_w_max_to_full_scale(devices):
    params, hybrid = devices
    for w, p in ((hybrid["a"], params["a"]), (hybrid["b"]["c"], params["b"]["c"])):
        w_max = SPEC.w_max_sigmas * float(jnp.sqrt(jnp.mean(p**2)))
        assert float(w.scale) * w_max == pytest.approx(SPEC.full_scale, rel=1e-5)


@pytest.mark.parametrize(
    ("shape", "fan_in"),
    [((), 1), ((0,), 1), ((3, 0), 3), ((16, 4), 16), ((300, 7), 300), ((64,), 1)],
)
def test_weights_of_zero_have_the_scale_of_an_untrained_layer(shape, fan_in):
    scale = float(scaling.weight_scale(jnp.zeros(shape), SPEC))
    w_max = SPEC.w_max_sigmas * fan_in**-0.5
    assert scale == pytest.approx(SPEC.full_scale / w_max, rel=1e-6)


NOISE = jax.random.normal(jax.random.key(0), (64, 64))
EXACT = hic_jax.HICSpec(multilevel=pcm.ideal())


def _programmed(weight, spec=EXACT, **options):
    state = hic_jax.hic(spec, 0, **options).init({"w": weight})
    held = hic_jax.analog_weights(state)["w"]
    return held, np.asarray(hic_jax.read(held)), state.events


@pytest.mark.parametrize("bits", [4, 6, 8])
@pytest.mark.parametrize(
    "weight",
    [
        NOISE,
        1e-20 * NOISE,
        1e25 * NOISE,
        NOISE - 30,
        jnp.eye(64),
        jnp.eye(300),  # The diagonal is a third of a per cent of the weights.
        jnp.where(jax.random.uniform(jax.random.key(1), (64, 64)) < 0.02, NOISE, 0),
        jnp.full((16, 4), -0.3),
        1 + 0.01 * NOISE,
    ],
)
def test_the_scale_suits_whatever_a_tensor_holds(weight, bits):
    spec = dataclasses.replace(EXACT, multilevel_bits=bits)
    _, read, events = _programmed(weight, spec)
    # A step of 0.625 uS is rounded to, 0.18 uS rms, where weights are 4 uS rms; and of
    # a Gaussian the few beyond 2.5 sigma are cut off.
    largest = float(jnp.max(jnp.abs(weight)))
    read, weight = read / largest, np.asarray(weight) / largest
    assert np.linalg.norm(read - weight) < 0.1 * np.linalg.norm(weight)
    assert 0.6 < np.abs(read).max() < 1.1
    assert events.undefined_weights == 0


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_single_weight_has_a_scale_of_its_own_size(shape):
    scale = scaling.weight_scale(jnp.full(shape, -0.5), SPEC)
    assert float(scale) == pytest.approx(SPEC.full_scale / (1.5 * 0.5), rel=1e-6)


def test_outliers_that_are_cut_off_are_counted():
    # One per cent of them at ten sigma: to hold them, the others would have to lie
    # below the smallest step of the real device.
    outliers = jnp.where(jnp.arange(4096).reshape(64, 64) % 100 == 0, 10.0, NOISE)
    _, read, events = _programmed(outliers, SPEC)
    assert events.saturated_weights == 41
    assert 4 < read[0, 0] < 8
    bulk = np.asarray(outliers) != 10
    assert np.std((read - outliers)[bulk]) < 0.75  # 1 if nothing is left of them.


def test_saturated_weights_are_those_that_lack_a_step_and_more():
    held, _, events = _programmed(NOISE, SPEC)
    most = (SPEC.reach + SPEC.multilevel.mean_step) / float(held.scale)
    assert events.saturated_weights == np.sum(np.abs(NOISE) > most)
    assert events.saturated_weights == pytest.approx(57, abs=24)  # 2.46 sigma; 3 errors


def test_the_scale_has_the_least_squared_error_of_its_grid():
    spec = dataclasses.replace(SPEC, multilevel_bits=8)
    weight = np.asarray(NOISE).ravel()

    def error(scale):
        size = np.abs(weight)
        cut_off = np.maximum(size - spec.reach / scale, 0)
        return np.sum(cut_off**2 + np.minimum(size, spec.write_error / scale) ** 2)

    chosen = float(scaling.weight_scale(weight, spec))
    first = spec.full_scale / (1.5 * np.sqrt(np.mean(weight**2)))
    grid = first / 2 ** (np.arange(41) / 4)
    assert chosen == pytest.approx(min(grid, key=error), rel=1e-5)
    assert chosen < 0.99 * first


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_weights_that_are_no_numbers_are_refused_or_counted(bad):
    weight = NOISE.at[3, 4].set(bad)
    with pytest.raises(ValueError, match=r"params\['w'\]: 1 of 4096 are not finite"):
        _programmed(weight)
    state = jax.jit(hic_jax.hic(EXACT, 0).init)({"w": weight})
    held = hic_jax.read(hic_jax.analog_weights(state))["w"]
    assert state.events.undefined_weights == 1
    assert held[3, 4] == 0
    np.testing.assert_allclose(held, _programmed(NOISE.at[3, 4].set(0))[1], atol=1e-6)


SIZES = jnp.array([0.02, 0.1, 0.5, 2.0])


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("shape", [(4, 32, 24), (4, 3, 3, 8, 16)])
def test_parts_of_a_stack_have_scales_of_their_own(shape, known):
    stack = jax.random.normal(jax.random.key(0), shape)
    stack = stack * SIZES.reshape(4, *[1] * (len(shape) - 1))
    axes = KernelAxes(stack=(0,), columns=(len(shape) - 1,))
    held, read, _ = _programmed(stack, **({"axes": {"w": axes}} if known else {}))
    chip = hic_jax.deploy({"w": held}, pcm.nandakumar_2019(), jax.random.key(1))["w"]
    for part in range(4):
        alone = scaling.weight_scale(stack[part].reshape(-1, shape[-1]), EXACT)
        assert held.scale[part].item() == pytest.approx(float(alone), rel=1e-5)
        for found, most in ((read, 0.1), (hic_jax.read(chip), 0.4)):
            error = np.linalg.norm(found[part] - stack[part])
            assert error < most * np.linalg.norm(stack[part])


def test_parts_of_about_one_size_share_a_scale_unless_they_are_known_to_be_a_stack():
    kernel = jax.random.normal(jax.random.key(0), (3, 16, 16))
    kernel = kernel * jnp.array([1.0, 0.5, 2.0])[:, None, None]
    held, _, _ = _programmed(kernel)
    assert np.ptp(held.scale) == 0
    chip = hic_jax.deploy(held, pcm.nandakumar_2019(), jax.random.key(1))
    assert np.ptp(chip.scale) == 0
    stack = {"w": KernelAxes(stack=(0,), columns=(2,))}
    held, _, _ = _programmed(kernel, axes=stack)
    ratios = held.scale.ravel() / held.scale.ravel()[0]
    np.testing.assert_allclose(ratios, [1, 2, 0.5], rtol=0.15)  # 256 weights each.


@pytest.mark.parametrize("shape", [(0, 0, 0), (0, 3, 2), (4, 0, 2), (4, 3, 0)])
def test_a_stack_of_nothing_is_held(shape):
    held, read, _ = _programmed(jnp.zeros(shape))
    assert read.shape == shape
    assert held.scale.shape == (shape[0], 1, 1)
    chip = hic_jax.deploy(held, pcm.nandakumar_2019(), jax.random.key(1))
    assert hic_jax.read(chip).shape == shape


def test_fan_in_is_that_of_the_known_rows():
    axes = KernelAxes(stack=(1,), columns=(0,))
    scale = scaling.weight_scale(jnp.zeros((5, 2, 9)), SPEC, axes)
    np.testing.assert_allclose(scale, np.full((1, 2, 1), SPEC.full_scale / 0.5))


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"v": KernelAxes()}, r"axes\['v'\]: there is no such parameter"),
        ({"w": KernelAxes(stack=(2,))}, r"axes\['w'\]=.*the parameter is \[64, 64\]"),
    ],
)
def test_axes_that_do_not_fit_are_refused(axes, message):
    with pytest.raises(ValueError, match=message):
        _programmed(NOISE, axes=axes)


def test_a_read_without_a_key_is_exact_and_with_one_noisy(devices):
    hybrid = devices[1]["a"]
    exact, noisy = hic_jax.read(hybrid), hic_jax.read(hybrid, key=jax.random.key(3))
    g = np.asarray(hybrid.multilevel.g)
    np.testing.assert_array_equal(exact, (g[0] - g[1]) / hybrid.scale)
    noise = np.asarray(noisy - exact) * float(hybrid.scale)
    std = np.sqrt(((0.03 * g + 0.13) ** 2).sum(0).mean())
    assert noise.std() == pytest.approx(std, rel=0.08)  # Five standard errors.
    np.testing.assert_array_equal(noisy, hic_jax.read(hybrid, key=jax.random.key(3)))


def test_tensors_get_read_noise_of_their_own(devices):
    hybrid = devices[1]
    twins = [hybrid["a"], hybrid["a"]]
    one, two = hic_jax.read(twins, key=jax.random.key(0))
    assert not np.array_equal(one, two)


def test_drift_leaves_its_argument_and_adds_up(devices):
    hybrid = devices[1]
    before = jax.tree.map(np.asarray, hybrid)
    twice = hic_jax.drift(hic_jax.drift(hybrid, 1e3), 1e5)
    once = hic_jax.drift(hybrid, 1e3 + 1e5)
    jax.tree.map(np.testing.assert_array_equal, twice, once)
    jax.tree.map(np.testing.assert_array_equal, before, hybrid)


def test_no_tensor_escapes_a_year(devices):
    hybrid = devices[1]
    young, old = hic_jax.read(hybrid), hic_jax.read(hic_jax.drift(hybrid, hic_jax.YEAR))
    for a, b in zip(jax.tree.leaves(young), jax.tree.leaves(old), strict=True):
        moved = np.abs(a) > 1e-3
        assert (np.asarray(a) != np.asarray(b))[moved].all()
    a, b = np.asarray(young["a"]), np.asarray(old["a"])
    # A mean exponent of 0.04; the spread of 0.008 adds half its squared logarithm.
    log_ratio = np.log(hic_jax.YEAR / 38.6)
    expected = np.exp(-0.04 * log_ratio + (0.008 * log_ratio) ** 2 / 2)
    assert (a * b).sum() / (a * a).sum() == pytest.approx(expected, abs=0.02)


def test_a_chip_keeps_its_exponents_and_another_has_its_own(devices):
    hybrid = devices[1]

    def exponents(seconds, seed):
        chip = hic_jax.drift(hybrid, seconds, jax.random.key(seed))["a"]
        z = unpacked_draws(chip.multilevel.devices.z)
        return chip.spec.multilevel.drift_exponents(chip.multilevel.g, z)

    np.testing.assert_array_equal(exponents(25.0, 1), exponents(1e7, 1))
    one, two = np.asarray(exponents(25.0, 1)), np.asarray(exponents(25.0, 2))
    # 4,000 devices: standard errors 1.3e-4 and 0.016.
    assert one.std() == pytest.approx(0.008, abs=6e-4)
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.08


def test_drift_maps_over_times_and_chips_under_jit(devices):
    hybrid = devices[1]
    times = jnp.array([25.0, 1e4, 1e7])
    keys = jax.random.split(jax.random.key(0), 2)

    @jax.jit
    def table(times, keys):
        def one(seconds, key):
            return hic_jax.read(hic_jax.drift(hybrid, seconds, key))["a"]

        return jax.vmap(lambda t: jax.vmap(lambda k: one(t, k))(keys))(times)

    aged = table(times, keys)
    assert aged.shape == (3, 2, 40, 50)
    alone = hic_jax.read(hic_jax.drift(hybrid, 1e4, keys[1]))["a"]
    np.testing.assert_allclose(aged[1, 1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_time_does_not_run_backwards(devices, seconds):
    with pytest.raises(ValueError, match="seconds="):
        hic_jax.drift(devices[1], seconds)


def test_one_time_at_a_time(devices):
    # Four times would broadcast to the four columns of a kernel.
    with pytest.raises(ValueError, match=r"seconds=.*: must be one number; jax\.vmap"):
        hic_jax.drift(devices[1], jnp.array([1.0, 2.0]))


def test_only_devices_can_be_read_and_aged(devices):
    params, _ = devices
    state = hic_jax.hic(SPEC, 0).init(params)
    for function in (hic_jax.read, lambda w: hic_jax.drift(w, 1.0)):
        for other in (params, state):
            with pytest.raises(ValueError, match=r"weights: holds .*must hold weights"):
                function(other)


def test_read_params_replaces_analog_leaves_and_keeps_digital_ones():
    params = {"kernel": jnp.ones((4, 3), jnp.bfloat16), "bias": jnp.arange(3.0)}
    tx = optax.partition(
        {"analog": hic_jax.hic(SPEC, 0), "digital": optax.identity()},
        hic_jax.analog_labels,
    )
    hybrid = hic_jax.analog_weights(tx.init(params))
    read = hic_jax.read_params(params, hybrid)
    np.testing.assert_array_equal(read["bias"], params["bias"])
    assert read["kernel"].dtype == jnp.bfloat16
    exact = hic_jax.read(hybrid)["kernel"].astype(jnp.bfloat16)
    np.testing.assert_array_equal(read["kernel"], exact)


def test_spans_of_time_are_in_seconds():
    assert (hic_jax.MINUTE, hic_jax.HOUR, hic_jax.DAY) == (60, 3600, 86_400)
    assert (hic_jax.MONTH, hic_jax.YEAR) == (2_592_000, 31_536_000)
