"""Reading and ageing: pure functions of the devices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hic_jax
from hic_jax import pcm, weights

SPEC = hic_jax.HICSpec(multilevel=pcm.nandakumar_2018(drift_nu_std=0.008))


@pytest.fixture(scope="module")
def devices():
    params = {
        "a": jax.random.normal(jax.random.key(0), (40, 50)),
        "b": {"c": 0.1 * jax.random.normal(jax.random.key(1), (7,))},
    }
    state = hic_jax.hic(SPEC, jax.random.key(2)).init(params)
    return params, hic_jax.hybrid_weights(state)


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
        w_max = SPEC.w_max_sigmas * float(jnp.std(p))
        assert float(w.scale) * w_max == pytest.approx(SPEC.full_scale, rel=1e-5)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -0.3])
@pytest.mark.parametrize(
    ("shape", "fan_in"),
    [((), 1), ((0,), 1), ((3, 0), 1), ((16, 4), 16), ((300, 7), 300), ((64,), 1)],
)
def test_weights_that_do_not_vary_have_the_scale_of_an_untrained_layer(
    value, shape, fan_in
):
    # float32 finds 0.1 and the mean of many 0.1 to differ.
    scale = float(weights.weight_scale(jnp.full(shape, value), SPEC))
    w_max = SPEC.w_max_sigmas * fan_in**-0.5
    assert scale == pytest.approx(SPEC.full_scale / w_max, rel=1e-6)


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
        return hic_jax.drift(hybrid, seconds, jax.random.key(seed))["a"].multilevel.nu

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
    hybrid = hic_jax.hybrid_weights(tx.init(params))
    read = hic_jax.read_params(params, hybrid)
    np.testing.assert_array_equal(read["bias"], params["bias"])
    assert read["kernel"].dtype == jnp.bfloat16
    exact = hic_jax.read(hybrid)["kernel"].astype(jnp.bfloat16)
    np.testing.assert_array_equal(read["kernel"], exact)
