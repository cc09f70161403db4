"""Noise of converters: how much there is, and what draws it."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from hic_jax import crossbar, models
from hic_jax.crossbar import CrossbarSpec, LayerCrossbars
from hic_jax.crossbar.hooks import convolve, multiply_general
from hic_jax.crossbar.straight_through import Ranges
from hic_jax.inference.compensations import adabs
from hic_jax.inference.network import Network, answers
from hic_jax.training import steps
from hic_jax.training.split import Split
from hic_jax.training.state import init_state
from tests.crossbar.reference import absmax
from tests.key_recorder import keys_used_once

OFF = {
    "dac_bits": 0, "adc_bits": 0, "error_dac_bits": 0, "error_adc_bits": 0,
}  # fmt: skip
MATRIX = (((1,), (0,)), ((), ()))
K, N = 12, 100
NOISY = CrossbarSpec(**OFF, adc_noise=0.01, tile_rows=6, tile_columns=50)
ONE_ARRAY = CrossbarSpec(**OFF, adc_noise=0.05)
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def operands():
    """Inputs, weights and errors: 200,000 sums forward, 24,000 backward."""
    shapes = (2000, K), (K, N), (2000, N)
    return [jax.random.normal(jax.random.key(i), s) for i, s in enumerate(shapes)]


def noise(spec, x, w, error=None, key=KEY):
    """Of the result; of the gradient of inputs where there is an error."""
    exact = dataclasses.replace(spec, adc_noise=0.0)

    def result(spec):
        def product(x):
            return multiply_general(spec, Ranges(), key, x, w, MATRIX)[0]

        return product(x) if error is None else jax.vjp(product, x)[1](error)[0]

    return np.asarray(result(spec) - result(exact))


def correlation(a, b):
    return abs(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_noise_is_a_share_of_the_range(operands):
    x, w, error = operands

    def largest(y):  # Of each example.
        return np.max(np.abs(y), axis=1, keepdims=True)

    # In units of what it should be: 24,000 draws, so that three parts in a hundred are
    # six standard errors.
    sums = [x[:, i : i + 6] @ w[i : i + 6] for i in (0, 6)]
    std = 0.01 * np.hypot(*map(largest, sums))
    assert np.std(noise(NOISY, x, w) / std) == pytest.approx(1, rel=0.03)
    sums = [error[:, i : i + 50] @ w[:, i : i + 50].T for i in (0, 50)]
    std = 0.01 * np.hypot(*map(largest, sums))
    assert np.std(noise(NOISY, x, w, error) / std) == pytest.approx(1, rel=0.03)
    fixed = dataclasses.replace(NOISY, adc_range="fixed", adc_bound=5.0)
    std = 0.01 * np.sqrt(2) * 5.0 * largest(x) * absmax(w)
    assert np.std(noise(fixed, x, w) / std) == pytest.approx(1, rel=0.03)


def test_noise_is_the_key_s_and_not_the_operands(operands):
    x, w, error = operands
    # Without the last bits of differences from sums that are not noisy.
    close = {"rtol": 1e-3, "atol": 1e-4}
    np.testing.assert_allclose(2 * noise(NOISY, x, w), noise(NOISY, 2 * x, w), **close)
    other = jax.random.key(4)
    # Seven standard errors of 200,000 draws, and of 24,000.
    assert correlation(noise(NOISY, x, w), noise(NOISY, x, w, key=other)) < 0.016
    back = noise(NOISY, x, w, error)
    assert correlation(back, noise(NOISY, x, w, error, other)) < 0.045
    # Arrays do not share it: with equal rows in both, it does not double.
    twice = jnp.concatenate([x[:, :6]] * 2, axis=1), jnp.concatenate([w[:6]] * 2)
    std = 0.01 * np.sqrt(2) * np.abs(x[:, :6] @ w[:6]).max(axis=1, keepdims=True)
    assert np.std(noise(NOISY, *twice) / std) == pytest.approx(1, rel=0.03)


def test_both_passes_draw_apart(operands):
    x, w = operands[0], operands[1][:, :K]
    forward, back = (noise(ONE_ARRAY, x, w, error) for error in (None, x))
    assert forward.shape == back.shape
    # Seven standard errors of 24,000 draws.
    assert correlation(forward, back) < 0.045


def test_the_mean_of_many_inferences_is_exact():
    layer = nn.Dense(10, dot_general=crossbar.LinenDotGeneral(ONE_ARRAY))
    x = jax.random.normal(KEY, (32, 64))
    variables = layer.init(jax.random.key(0), x)
    runs = np.stack([
        layer.apply(variables, x, rngs=crossbar.rngs(jax.random.key(i)))
        for i in range(20)
    ])  # fmt: skip
    error = np.asarray(runs - nn.Dense(10).apply(variables, x))
    # 320 draws of a mean: 13 parts in a hundred are three standard errors.
    expected = np.std(error) / np.sqrt(20)
    assert np.std(error.mean(axis=0)) == pytest.approx(expected, rel=0.13)


class TwoLayers(nn.Module):
    """Layers of one shape with one hook, side by side."""

    @nn.compact
    def __call__(self, x):
        hook = crossbar.LinenConvGeneralDilated(ONE_ARRAY)
        # Of equal kernels.
        init = {"kernel_init": nn.initializers.ones, "conv_general_dilated": hook}
        return nn.Conv(8, (3, 3), **init)(x), nn.Conv(8, (3, 3), **init)(x)


def test_linen_layers_draw_apart_and_anew():
    x = jax.random.normal(KEY, (8, 10, 10, 2))
    variables = TwoLayers().init(jax.random.key(0), x)
    first, second = TwoLayers().apply(variables, x, rngs=crossbar.rngs(KEY))
    digital = nn.Conv(8, (3, 3))
    exact = digital.apply({"params": variables["params"]["Conv_0"]}, x)
    # Seven standard errors of 6,400 draws.
    assert correlation(first - exact, second - exact) < 0.09
    again, _ = TwoLayers().apply(variables, x, rngs=crossbar.rngs(KEY))
    np.testing.assert_array_equal(first, again)
    later, _ = TwoLayers().apply(
        variables, x, rngs=crossbar.rngs(jax.random.fold_in(KEY, 1))
    )
    assert correlation(first - exact, later - exact) < 0.09


def test_nnx_hooks_draw_apart_and_anew():
    rngs = nnx.Rngs(0, crossbar=1)
    x, w = jax.random.normal(KEY, (500, K)), jnp.ones((K, 10))
    one, other = (crossbar.NnxDotGeneral(ONE_ARRAY, rngs=rngs) for _ in range(2))
    read = nnx.jit(lambda dot: dot(x, w, MATRIX))
    runs = [read(dot) - x @ w for dot in (one, one, other)]
    for i in range(3):
        # Seven standard errors of 5,000 draws.
        assert correlation(runs[i], runs[i - 1]) < 0.1
        assert np.std(runs[i]) > 0.1


def test_chips_at_once_draw_what_they_draw_alone():
    x, w = jax.random.normal(KEY, (2, 5, 5, 3)), jnp.ones((3, 3, 3, 4))
    keys = jax.random.split(KEY, 3)

    def read(key):
        images = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
        return convolve(ONE_ARRAY, Ranges(), key, x, w, (1, 1), "SAME", **images)[0]

    together = jax.vmap(read)(keys)
    for chip, key in zip(together, keys, strict=True):
        np.testing.assert_allclose(chip, read(key), rtol=1e-5, atol=1e-5)


def test_without_a_key_there_is_an_error():
    for hook in (crossbar.dot_general, crossbar.conv_general_dilated):
        with pytest.raises(ValueError, match=r"adc_noise=0.05.*use LinenDotGeneral"):
            hook(ONE_ARRAY)
    with pytest.raises(ValueError, match=r"adc_noise=0.05.*rngs=nnx.Rngs\(crossbar"):
        crossbar.NnxConvGeneralDilated(ONE_ARRAY)
    layer = nn.Dense(2, dot_general=crossbar.LinenDotGeneral(ONE_ARRAY))
    x = jnp.ones((3, 4))
    variables = layer.init(jax.random.key(0), x)
    with pytest.raises(ValueError, match=r"adc_noise=0.05.*rngs=crossbar.rngs\(key\)"):
        layer.apply(variables, x)


def images(count):
    pixels = np.random.default_rng(0).integers(0, 256, (count, 6, 6, 2))
    labels = jnp.zeros(count, jnp.int32)
    return Split(
        images=jnp.asarray(pixels, jnp.uint8),
        labels=labels,
        mean=jnp.full(2, 0.5),
        std=jnp.full(2, 0.25),
    )


def test_every_step_draws_anew_and_a_resumed_one_the_same():
    model = models.ResNet(8, (2,), 3, crossbars=LayerCrossbars(ONE_ARRAY))
    state = init_state(jax.random.key(0), model, optax.sgd(0.1), (6, 6, 2))
    step = jax.jit(steps.make_step(
        model, optax.sgd(0.1), augmentation="none", label_smoothing=0.0
    ))  # fmt: skip
    losses = []
    for number in (0, 1, 0):
        begun = state.replace(step=jnp.int32(number))
        losses.append(float(step(begun, images(8), jnp.arange(8), KEY)[1]["loss"]))
    assert losses[0] == losses[2]
    assert abs(losses[0] - losses[1]) > 1e-4


class Guess(nn.Module):
    """Answers one class of three for a whole batch, by the key of its noise."""

    @nn.compact
    def __call__(self, images, *, train):
        guess = jax.random.randint(self.make_rng(crossbar.STREAM), (), 0, 3)
        return jnp.tile(jax.nn.one_hot(guess, 3), (len(images), 1))


def test_every_batch_of_an_evaluation_draws_anew():
    network = Network(params={}, batch_stats={}, ranges={}, weights=None)
    # 30 batches: all guesses are right, or none is, by a chance of (2/3)^30 or less.
    correct = int(answers(KEY, Guess(), network, images(60), batch_size=2).correct)
    assert 0 < correct < 60
    assert correct == int(
        answers(KEY, Guess(), network, images(60), batch_size=2).correct
    )


def test_every_product_array_and_pass_has_a_key_of_its_own():
    tiled = dataclasses.replace(ONE_ARRAY, tile_rows=6, tile_columns=4)
    layer = nn.Dense(8, dot_general=crossbar.LinenDotGeneral(tiled))
    x = jax.random.normal(KEY, (2, 5, K))
    variables = layer.init(jax.random.key(0), x)

    def loss(variables, key):
        y = layer.apply(variables, x, rngs=crossbar.rngs(key))
        return jnp.sum(y**2)

    with keys_used_once() as record:
        for step in range(2):
            jax.grad(loss)(variables, jax.random.fold_in(KEY, step))
    # Two arrays of 6 rows forward, two of 4 columns backward, in each step.
    assert len(record.draws) == 2 * 4


def test_recalibration_draws_noise_too():
    model = models.ResNet(8, (2,), 3, crossbars=LayerCrossbars(ONE_ARRAY))
    state = init_state(jax.random.key(0), model, optax.sgd(0.1), (6, 6, 2))
    network, noiseless = Network.of(state), models.ResNet(8, (2,), 3)

    def statistics(model, seed):
        key = jax.random.key(seed)
        # Of all images, so that the noise alone differs.
        new = adabs(key, model, network, images(8), batches=1)
        return np.concatenate(jax.tree.leaves(new.batch_stats))

    first, exact = statistics(model, 0), statistics(noiseless, 0)
    np.testing.assert_array_equal(first, statistics(model, 0))
    for other in (statistics(model, 1), exact):
        assert np.abs(first - other).max() > 1e-4
    # Noise of a twentieth of the range moves means and variances by hundredths; another
    # noise of the second call, which tells the momentum, would move them tenfold.
    np.testing.assert_allclose(first, exact, atol=0.2)
