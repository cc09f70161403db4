"""Crossbars under models that know nothing of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hic_jax
from hic_jax import accounting
from hic_jax.array_leaves import is_array, parted
from hic_jax.crossbar import CrossbarSpec
from hic_jax.packing import path_name
from tests.models_in_the_wild import models

# Arrays of few rows and columns, around which nothing is rounded.
WIDE = CrossbarSpec(
    tile_rows=5, tile_columns=3,
    dac_bits=0, adc_bits=0, error_dac_bits=0, error_adc_bits=0,
)  # fmt: skip
EIGHT_BITS = CrossbarSpec(tile_rows=5, tile_columns=3)
# Of the largest number: float32 sums in another order, through a dozen layers; codes of
# eight bits, in one layer and in a dozen of them.
ROUNDING, LEAST, MOST = 1e-5, 1e-4, 0.3


# The embedding of the decoder, which is its head, too.
pytestmark = pytest.mark.filterwarnings("ignore:digital, as tables:UserWarning")


def distance(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


@pytest.mark.parametrize("make", models.MODELS)
def test_a_model_of_others(make):
    model = make()
    wide, coarse = (
        hic_jax.on_crossbars(model.function, spec) for spec in (WIDE, EIGHT_BITS)
    )

    arrays, rebuilt = parted(model.params)

    @jax.jit
    def results(arrays, inputs):
        def loss(arrays):
            y = coarse(rebuilt(arrays), *inputs)
            return jnp.sum(jnp.sin(y)), y

        others = [f(rebuilt(arrays), *inputs) for f in (model.function, wide)]
        return *others, *jax.grad(loss, has_aux=True)(arrays)

    exact, at_any_width, slopes, y = results(arrays, model.inputs)
    assert distance(at_any_width, exact) < ROUNDING
    assert LEAST < distance(y, exact) < MOST
    leaves = jax.tree_util.tree_leaves_with_path(rebuilt(slopes))
    largest = {path_name(path): np.abs(x).max() for path, x in leaves if is_array(x)}
    assert all(0 < largest[name] < np.inf for name in model.analog)

    # What is analog, and counted so.
    found, expected = (
        accounting.products(function, model.params, *model.inputs)
        for function in (coarse, model.function)
    )
    on_arrays = dict.fromkeys(p.parameter for p in found if p.tile == (5, 3))
    assert list(on_arrays) == model.analog
    left = [p.parameter for p in found if p.parameter and p.tile is None]
    assert left == (["params/embed/embedding"] if make is models.decoder else [])
    assert [dataclasses.replace(p, tile=None) for p in found] == expected


def test_a_stack_of_layers_is_as_each_layer():
    stacked, single = models.decoder(), models.decoder(scanned=False)
    y, expected = (
        jax.jit(hic_jax.on_crossbars(model.function, EIGHT_BITS))(params, *model.inputs)
        for model, params in (
            (stacked, stacked.params), (single, models.unstacked(stacked.params))
        )
    )  # fmt: skip
    assert distance(y, expected) < ROUNDING


def axes_of(model):
    under = hic_jax.on_crossbars(model.function, EIGHT_BITS)
    return hic_jax.find_kernel_axes(under, model.params, *model.inputs)


def test_what_arrays_hold_of_a_stack_is_what_they_hold_of_each_layer():
    stacked, single = axes_of(models.decoder()), axes_of(models.decoder(scanned=False))
    for name, axes in stacked.items():
        each = single[name.replace("layers", "layer0")]
        layers = int("layers" in name)
        assert axes.stack == (0,) * layers
        assert axes.columns == tuple(axis + layers for axis in each.columns)
    heads = "params/layers/attention/query/kernel"  # Of (layers, inputs, heads, dim).
    assert stacked[heads].columns == (2, 3)


def test_gates_in_one_kernel_are_one_product():
    model = models.fused_lstm()
    under = hic_jax.on_crossbars(model.function, EIGHT_BITS)
    gates, _ = accounting.products(under, model.params, *model.inputs)
    geometry = gates.geometry
    assert (geometry.features, geometry.columns) == (2 + 4, 4 * 4)
    assert (geometry.positions, gates.repeats) == (2, 3)
    assert gates.axes == hic_jax.KernelAxes(columns=(1,))


def test_labels_of_a_module_that_is_a_pytree():
    """Its functions are leaves as its weights are."""
    model = models.module_as_pytree()
    y = hic_jax.on_crossbars(model.function, EIGHT_BITS)(model.params, *model.inputs)
    for labels in (
        hic_jax.analog_labels,
        hic_jax.analog_labels(model.params, model=model.function, inputs=model.inputs),
    ):
        under = hic_jax.on_crossbars(model.function, EIGHT_BITS, analog=labels)
        np.testing.assert_array_equal(under(model.params, *model.inputs), y)
    assert jax.tree.leaves(labels) == ["analog", "analog", "digital"]
