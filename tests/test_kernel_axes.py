"""Rows, columns and stacks of kernels, and what follows for gains."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hic_jax
from hic_jax import compensation, pcm
from hic_jax.kernel_axes import KernelAxes

# What a chip drifts by is no common factor here: one device differs from the next.
SPEC = hic_jax.HICSpec(multilevel=pcm.nandakumar_2018(drift_nu_std=0.008))
KERNELS = {
    "scanned dense": ((4, 6, 5), KernelAxes(stack=(0,), columns=(2,)), (1,)),
    "query": ((6, 4, 16), KernelAxes(columns=(1, 2)), (0,)),
    "out": ((4, 16, 6), KernelAxes(columns=(2,)), (0, 1)),
    "outputs first": ((7, 6), KernelAxes(columns=(0,)), (1,)),
    "stacked query": ((3, 6, 4, 8), KernelAxes(stack=(0,), columns=(2, 3)), (1,)),
    "plain": ((3, 3, 6, 5), None, (0, 1, 2)),
}


@pytest.fixture(scope="module", params=KERNELS)
def kernel(request):
    shape, axes, rows = KERNELS[request.param]
    params = {"w": jax.random.normal(jax.random.key(0), shape)}
    tx = hic_jax.hic(SPEC, 0, axes={"w": axes} if axes else None)
    weights = hic_jax.analog_weights(tx.init(params))
    stack = axes.stack if axes else ()
    return weights, rows, stack


def test_there_is_a_gain_for_each_column(kernel):
    weights, rows, _ = kernel
    aged = hic_jax.drift(weights, hic_jax.YEAR)
    gains = compensation.gains(
        aged, compensation.column_currents(weights), per="column"
    )["w"]
    new, old = (np.abs(hic_jax.read(w)["w"]) for w in (weights, aged))
    expected = new.sum(rows, keepdims=True) / old.sum(rows, keepdims=True)
    np.testing.assert_allclose(gains, expected, rtol=1e-5)
    assert len(np.unique(gains)) == gains.size  # None is shared.


def test_there_is_a_gain_for_each_layer_of_a_stack(kernel):
    weights, _, stack = kernel
    aged = hic_jax.drift(weights, hic_jax.YEAR)
    gains = compensation.gains(aged, compensation.column_currents(weights))["w"]
    new, old = (np.abs(hic_jax.read(w)["w"]) for w in (weights, aged))
    others = tuple(a for a in range(new.ndim) if a not in stack)
    expected = new.sum(others, keepdims=True) / old.sum(others, keepdims=True)
    np.testing.assert_allclose(gains, expected, rtol=1e-5)


def test_a_fresh_chip_knows_the_axes_too(kernel):
    weights, rows, _ = kernel
    chip = hic_jax.deploy(weights, pcm.nandakumar_2019(), jax.random.key(1))
    currents = compensation.column_currents(chip)["w"]
    held = np.abs(hic_jax.read(chip)["w"])
    np.testing.assert_allclose(currents, held.sum(rows, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"stack": (0,), "columns": (0,)}, "no axis may be both"),
        ({"columns": (-1,)}, "axis=-1: must be at least 0"),
        ({"stack": (1.0,)}, "axis=1.0: must be an integer"),
    ],
)
def test_axes_that_cannot_be_are_refused(axes, message):
    with pytest.raises(ValueError, match=message):
        KernelAxes(**axes)


def test_what_is_no_column_and_no_stack_is_a_row():
    assert KernelAxes(stack=(0,), columns=(2,)).rows(4) == (1, 3)
    assert KernelAxes.plain(4).rows(4) == (0, 1, 2)
    assert KernelAxes.plain(0).rows(0) == ()


def test_gains_act_on_the_products_of_the_model():
    params = {"w": jax.random.normal(jax.random.key(0), (6, 4, 16))}
    axes = {"w": KernelAxes(columns=(1, 2))}
    weights = hic_jax.analog_weights(hic_jax.hic(SPEC, 0, axes=axes).init(params))
    gains = {"w": 1 + jnp.arange(64.0).reshape(1, 4, 16)}
    x = jax.random.normal(jax.random.key(1), (3, 6))
    held = hic_jax.read_params(params, weights)
    with_gains = compensation.with_gains(held, gains)
    one, other = (jnp.einsum("bi,ihd->bhd", x, p["w"]) for p in (held, with_gains))
    np.testing.assert_allclose(other, one * gains["w"], rtol=1e-4, atol=1e-5)
