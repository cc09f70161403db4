"""Weights of few bits: on a grid, near enough, and trained through the rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hic_jax.kernel_axes import KernelAxes
from hic_jax.quantisation import quantise, quantise_kernels, quantised


def _normal(*shape):
    return jax.random.normal(jax.random.key(0), shape)


def _least_error(bits):
    """Root mean square error of the best uniform symmetric grid for a unit Gaussian."""
    x = np.linspace(-6, 6, 200_001)
    density = np.exp(-(x**2) / 2)
    most = 2 ** (bits - 1) - 1

    def error(step):
        held = step * np.clip(np.round(x / step), -most, most)
        return np.sum(density * (held - x) ** 2) / np.sum(density)

    steps = np.geomspace(0.5, 8, 400) / max(most, 1)
    return float(np.sqrt(min(map(error, steps))))


@pytest.mark.parametrize("bits", [2, 3, 4, 6])
def test_a_column_lies_on_few_values_and_errs_as_little_as_they_allow(bits):
    """Ranges are tried 5 % of the largest weight apart, which costs a percent."""
    weight = _normal(2**16, 1)
    found = quantise(weight, bits)
    assert len(np.unique(np.asarray(found))) <= 2**bits - 1
    relative = float(jnp.linalg.norm(found - weight) / jnp.linalg.norm(weight))
    assert relative == pytest.approx(_least_error(bits), rel=0.03)


def test_columns_have_scales_of_their_own():
    weight = _normal(64, 4)
    scaled = weight * jnp.asarray([1e-6, 1.0, 1e6, 0.0])
    found = quantise(scaled, 4)
    for column in range(3):
        alone = quantise(scaled[:, column : column + 1], 4)[:, 0]
        np.testing.assert_allclose(found[:, column], alone, rtol=1e-6)
    np.testing.assert_array_equal(found[:, 3], 0.0)


def test_a_stack_has_scales_for_each_part():
    stack = _normal(2, 16, 3) * jnp.asarray([1.0, 100.0]).reshape(2, 1, 1)
    axes = KernelAxes(stack=(0,), columns=(2,))
    found = quantise(stack, 4, axes)
    np.testing.assert_allclose(found[0], quantise(stack[0], 4), rtol=1e-6)
    assert not np.allclose(quantise(stack, 4)[0], found[0])


def test_what_is_quantised_stays():
    once = quantise(_normal(300, 5), 4)
    np.testing.assert_allclose(quantise(once, 4), once, rtol=1e-5, atol=1e-6)


def test_biases_and_scales_are_left_alone():
    params = {"kernel": _normal(8, 3), "bias": _normal(3)}
    found = quantise_kernels(params, 4)
    np.testing.assert_array_equal(found["bias"], params["bias"])
    assert not np.array_equal(found["kernel"], params["kernel"])


def test_updates_below_a_step_add_up():
    """A hundred updates of a hundredth of a step move the weight by one step."""
    column = jnp.asarray([7.0, -7.0, 6.0, -6.0, 5.0, 4.0, 3.0])[:, None]
    params = {"w": column}  # At 4 bits the step is 1.
    tx = optax.chain(optax.sgd(1.0), quantised(4))
    state = tx.init(params)
    seen = []
    for _ in range(100):
        gradient = {"w": jnp.zeros_like(column).at[-1].set(0.01)}
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        seen.append(float(params["w"][-1, 0]))
    # The scale follows the column: by less than a tenth of a step.
    np.testing.assert_allclose(seen[:45], 3.0, atol=0.1)
    np.testing.assert_allclose(seen[55:], 2.0, atol=0.1)


@pytest.mark.parametrize("bits", [1, 17, 4.0, True])
def test_other_widths_are_refused(bits):
    for build in (quantised, lambda b: quantise(jnp.ones((2, 2)), b)):
        with pytest.raises(ValueError, match=f"bits={bits}"):
            build(bits)


def test_an_update_needs_params():
    tx = quantised(4)
    with pytest.raises(ValueError, match="params=None"):
        tx.update({"w": jnp.ones((2, 2))}, tx.init({"w": jnp.ones((2, 2))}))
