"""Operations: what the model's products ask of arrays, converters and devices."""

import dataclasses
import itertools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import hic_jax
from hic_jax import accounting, crossbar, models, pcm
from hic_jax.accounting import Operations
from hic_jax.crossbar import CrossbarSpec, LayerCrossbars
from hic_jax.crossbar.geometry import Geometry
from hic_jax.crossbar.products import Convolution, MatrixProduct

SPEC = hic_jax.HICSpec(multilevel=pcm.ideal(), refresh_every=0)


def on_devices(params, digital=()):
    """The devices that hold the kernels of some parameters."""
    tx = optax.partition(
        {"analog": hic_jax.hic(SPEC, 0), "digital": optax.identity()},
        lambda p: hic_jax.analog_labels(p, digital=digital),
    )
    return jax.eval_shape(lambda p: hic_jax.analog_weights(tx.init(p)), params)


def shapes(*shape):
    return jax.ShapeDtypeStruct(shape, "float32")


def resnet(crossbars):
    """ResNet-8 (16, 28, 56): its products for an image of 32x32, its devices."""
    model = models.ResNet(8, (16, 28, 56), 10, crossbars=crossbars)
    image = shapes(1, 32, 32, 3)
    variables = jax.eval_shape(
        lambda key, x: model.init(key, x, train=False), jax.random.key(0), image
    )
    rest = {
        name: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tree)
        for name, tree in variables.items()
        if name != "params"
    }
    params = variables["params"]
    found = accounting.products(
        lambda p, x: model.apply({"params": p, **rest}, x, train=False), params, image
    )
    return found, params


# Layers of ResNet-8: side of input and output, kernel's side, channels in and out.
RESNET_8 = [
    (32, 32, 3, 3, 16),
    (32, 32, 3, 16, 16),
    (32, 32, 3, 16, 16),
    (32, 16, 3, 16, 28),
    (16, 16, 3, 28, 28),
    (32, 16, 1, 16, 28),
    (16, 8, 3, 28, 56),
    (8, 8, 3, 56, 56),
    (16, 8, 1, 28, 56),
    (1, 1, 1, 56, 10),
]
RUNNING = CrossbarSpec(tile_rows=100, tile_columns=20, adc_range="running")


def counted_by_hand(rows, columns):
    """Walks over the arrays of every layer of ResNet-8, one by one.

    Conversions of each pass are those of DACs, of ADCs, and of idle ADCs.
    """
    forward, backward, macs, arrays = np.zeros(3, int), np.zeros(3, int), 0, 0
    for i, (side_in, side_out, kernel, channels_in, channels_out) in enumerate(
        RESNET_8
    ):
        taps, positions = kernel**2, side_out**2
        held = rows // taps  # Whole channels in an array.
        for start in range(0, channels_in, held):
            channels = min(held, channels_in - start)
            for first in range(0, channels_out, columns):
                width = min(columns, channels_out - first)
                arrays += 1
                forward += positions * np.array(
                    [channels * taps, width, columns - width]
                )
                if i > 0:
                    backward[0] += positions * taps * width
                    backward[2] += side_in**2 * (rows - channels)
        if i > 0:
            backward[1] += side_in**2 * channels_in * math.ceil(channels_out / columns)
        macs += positions * taps * channels_in * channels_out
    return macs, arrays, forward, backward


@pytest.mark.parametrize(
    "crossbars",
    [
        LayerCrossbars(),
        LayerCrossbars(dataclasses.replace(RUNNING, adc_range="absmax")),
        LayerCrossbars(RUNNING),
    ],
    ids=["exact products", "crossbars", "crossbars with running ranges"],
)
def test_resnet_8_is_what_a_walk_over_its_arrays_counts(crossbars):
    found, params = resnet(crossbars)
    weights = on_devices(params)
    passes = accounting.passes(found, weights, RUNNING)
    macs, arrays, forward, backward = counted_by_hand(100, 20)
    stem = 32**2 * 27 * 16
    assert macs == 10_924_592
    assert passes.forward == Operations(
        analog_macs=macs,
        dac_conversions=forward[0],
        adc_conversions=forward[1],
        idle_adc_conversions=forward[2],
        product_reads=2 * macs,
    )
    # No error is asked for at the image.
    assert passes.backward == Operations(
        analog_macs=macs - stem,
        dac_conversions=backward[0],
        adc_conversions=backward[1],
        idle_adc_conversions=backward[2],
        product_reads=2 * (macs - stem),
    )
    assert passes.gradient == Operations(gradient_macs=macs)
    assert passes.total == passes.forward + passes.backward + passes.gradient
    assert sum(accounting.array_counts(found, weights, RUNNING).values()) == arrays


def test_no_column_is_idle_in_arrays_of_the_size_of_a_layer():
    found, params = resnet(LayerCrossbars())
    fitting = CrossbarSpec(tile_rows=0, tile_columns=0)
    passes = accounting.passes(found, on_devices(params), fitting)
    assert passes.total.adc_conversions > 0
    assert passes.total.idle_adc_conversions == 0


def test_what_is_digital_needs_no_arrays():
    found, params = resnet(LayerCrossbars())
    macs, stem, head = 10_924_592, 32**2 * 27 * 16, 560
    fp32 = accounting.passes(found, {}, CrossbarSpec())
    assert fp32.forward == Operations(digital_macs=macs)
    assert fp32.total == Operations(digital_macs=3 * macs - stem)

    weights = on_devices(params, digital=("stem", "head"))
    mixed = accounting.passes(found, weights, CrossbarSpec())
    assert mixed.forward.digital_macs == stem + head
    assert mixed.forward.analog_macs == macs - stem - head
    assert mixed.total.digital_macs == 2 * stem + 3 * head
    assert not {"stem/kernel", "head/kernel"} & set(
        accounting.array_counts(found, weights, CrossbarSpec())
    )


@pytest.mark.parametrize("hooked", [False, True])
def test_a_grouped_and_strided_convolution(hooked):
    # 12 channels in 3 groups, 4 x 9 = 36 rows each; 6 outputs, 2 columns each.
    spec = CrossbarSpec(tile_rows=20, tile_columns=256)
    hook = crossbar.conv_general_dilated(spec) if hooked else None
    layer = nn.Conv(
        6, (3, 3), strides=2, padding="VALID", feature_group_count=3,
        use_bias=False, conv_general_dilated=hook,
    )  # fmt: skip
    x = shapes(5, 9, 9, 12)
    params = jax.eval_shape(layer.init, jax.random.key(0), x)
    (found,) = accounting.products(layer.apply, params, x)
    geometry = Geometry(
        groups=3, features=4, taps=9, columns=2, positions=5 * 16, pixels=5 * 81
    )
    assert found.geometry == geometry
    assert found.backward_products == 0
    # An array has room for two channels: two arrays a group.
    assert geometry.array_count(spec) == 6
    assert geometry.forward_conversions(spec) == (3 * 80 * 36, 3 * 80 * 2 * 2)
    assert geometry.backward_conversions(spec) == (3 * 80 * 2 * 9 * 2, 5 * 81 * 12)
    assert geometry.macs == 80 * 9 * 4 * 6


def test_taps_that_are_cut_over_arrays():
    # One feature of 9 taps on arrays of 4 rows: 4 + 4 + 1.
    spec = CrossbarSpec(tile_rows=4, tile_columns=0)
    geometry = Geometry(
        groups=2, features=1, taps=9, columns=1, positions=10, pixels=10
    )
    assert geometry.array_count(spec) == 6
    assert geometry.forward_conversions(spec) == (2 * 10 * 9, 2 * 10 * 3)
    assert geometry.backward_conversions(spec) == (2 * 10 * 9, 2 * 10)


def _conversions(product, x, w, error, rows, columns):
    """Numbers that a simulated product reads of its arrays, forward and backward."""
    sizes = []

    def read(_, sums):
        sizes[-1] += sums.size
        return sums, jnp.zeros(())

    for add_up in (
        lambda x, w, _: product.add_up(read, rows, (x, w)),
        lambda x, w, error: product.add_up_transposed(read, columns, error, w, x),
    ):
        sizes.append(0)
        jax.eval_shape(add_up, x, w, error)
    return sizes


@settings(deadline=None, max_examples=15)
@given(
    st.integers(1, 3), st.integers(1, 5), st.integers(1, 9), st.integers(1, 9),
    st.integers(1, 10), st.integers(1, 10),
)  # fmt: skip
def test_conversions_of_matrices_are_what_the_simulation_converts(
    groups, positions, rows, columns, tile_rows, tile_columns
):
    x, w = shapes(groups, positions, rows), shapes(groups, rows, columns)
    error = shapes(groups, positions, columns)
    product = MatrixProduct()
    spec = CrossbarSpec(tile_rows=tile_rows, tile_columns=0)
    geometry = Geometry.of_matrices(x.shape, w.shape, (((2,), (1,)), ((0,), (0,))))
    forward, backward = _conversions(product, x, w, error, tile_rows, tile_columns)
    assert geometry.forward_conversions(spec)[1] == forward
    spec = dataclasses.replace(spec, tile_columns=tile_columns)
    assert geometry.backward_conversions(spec)[1] == backward


@settings(deadline=None, max_examples=15)
@given(
    st.integers(1, 2), st.integers(1, 3), st.integers(1, 3), st.integers(1, 2),
    st.integers(1, 12), st.integers(1, 4),
)  # fmt: skip
def test_conversions_of_convolutions_are_what_the_simulation_converts(
    groups, features, columns, stride, tile_rows, tile_columns
):
    x, w = shapes(2, 5, 5, groups * features), shapes(3, 2, features, groups * columns)
    numbers = lax.conv_dimension_numbers(x.shape, w.shape, ("NHWC", "HWIO", "NHWC"))
    product = Convolution((stride, 1), "SAME", None, None, numbers, groups)
    y = jax.eval_shape(product, x, w)
    geometry = Geometry.of_convolution(x.shape, w.shape, y.shape, numbers, groups)
    spec = CrossbarSpec(tile_rows=tile_rows, tile_columns=0)
    forward, backward = _conversions(product, x, w, y, tile_rows, tile_columns)
    assert geometry.forward_conversions(spec)[1] == forward
    spec = dataclasses.replace(spec, tile_columns=tile_columns)
    assert geometry.backward_conversions(spec)[1] == backward


def test_the_note_that_a_crossbar_leaves_compiles_to_nothing(monkeypatch):
    def program():
        layer = nn.Dense(3, dot_general=crossbar.dot_general(CrossbarSpec()))
        params = jax.eval_shape(layer.init, jax.random.key(0), shapes(4, 8))
        gradient = jax.grad(lambda p, x: layer.apply(p, x).sum())
        return jax.jit(gradient).lower(params, shapes(4, 8)).as_text()

    with_notes = program()
    monkeypatch.setattr(crossbar.hooks, "tagged", lambda y, *note: y)
    assert program() == with_notes


def test_a_model_of_nnx_with_crossbars_of_its_own():
    dot = crossbar.dot_general(CrossbarSpec(tile_rows=3))
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(
        nnx.Linear(8, 4, dot_general=dot, rngs=rngs), nnx.relu,
        nnx.Linear(4, 2, rngs=rngs),
    )  # fmt: skip
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    found = accounting.products(
        lambda p, x: nnx.merge(graph, p, rest)(x), params, shapes(5, 8)
    )
    weights = on_devices(params)
    spec = CrossbarSpec(tile_rows=2)  # Of the layer that has none.
    assert list(accounting.array_counts(found, weights, spec).values()) == [3, 2]
    passes = accounting.passes(found, weights, spec)
    assert passes.forward.adc_conversions == 5 * (3 * 4 + 2 * 2)
    assert passes.total.analog_macs == 5 * (8 * 4 + 2 * 4 * 2)


def test_arrays_of_a_weight_are_those_of_all_its_parts():
    spec = CrossbarSpec(tile_rows=4, tile_columns=256)

    def model(params, x):
        x, _ = lax.scan(lambda x, w: (x @ w, None), x, params["stack"])
        return x @ params["cut"][:6], x[:2] @ params["cut"][6:]

    params = {"stack": jnp.ones((7, 6, 6)), "cut": jnp.ones((8, 2))}
    found = accounting.products(model, params, shapes(6))
    # Seven layers of two tiles; six of eight rows take two tiles, and there are more.
    assert accounting.array_counts(found, on_devices(params), spec) == {
        "stack": 14,
        "cut": 4,
    }


def test_analog_weights_without_a_product():
    def model(params, x):
        return x @ params["used"]

    params = {"used": shapes(3, 4), "head": shapes(4, 2), "aux": shapes(4, 2)}
    found = accounting.products(model, params, shapes(5, 3))
    weights = on_devices(params)
    with pytest.warns(UserWarning, match=r"no product that was traced: aux, head$"):
        passes = accounting.passes(found, weights, CrossbarSpec())
    assert passes.forward.analog_macs == 5 * 3 * 4
    assert accounting.array_counts(found, weights, CrossbarSpec()) == {"used": 1}

    # Those of another tree are not weights that this call leaves out.
    with pytest.raises(ValueError, match="weights: none, as 'params/aux', takes part"):
        accounting.passes(found, {"params": weights}, CrossbarSpec())
    with pytest.raises(ValueError, match="weights: none, as 'aux', takes part"):
        accounting.passes([], weights, CrossbarSpec())
    assert accounting.passes(found, {}, CrossbarSpec()).forward == Operations(
        digital_macs=60
    )


def test_gates_in_one_product_cost_what_they_cost_one_by_one():
    x = shapes(4, 6, 5)
    costs = []
    for cell in (nn.LSTMCell, nn.OptimizedLSTMCell):  # The second concatenates kernels.
        model = nn.RNN(cell(8))
        params = jax.eval_shape(model.init, jax.random.key(0), x)
        found = accounting.products(model.apply, params, x)
        weights = on_devices(params)
        spec = CrossbarSpec(tile_rows=3, tile_columns=5)
        costs.append(
            (
                accounting.passes(found, weights, spec),
                accounting.array_counts(found, weights, spec),
            )
        )
    plain, fused = costs
    assert fused == plain
    # Four images, six steps, four gates with an input and a state each.
    assert plain[0].forward.analog_macs == 4 * 6 * 4 * (5 * 8 + 8 * 8)


def test_pulses_and_reads_of_writes():
    # Initial weights are written by a RESET of both devices and verified pulses.
    spec = hic_jax.HICSpec(
        multilevel=pcm.ideal(), initial_words="zero", refresh_every=2
    )
    state = hic_jax.hic(spec, 0).init([jnp.asarray([1.0, -1.0, 0.5])])
    (weight,) = hic_jax.analog_weights(state)
    initial = accounting.writes([weight], steps=0)
    pulses = int(weight.multilevel.set_pulses.sum())
    # The weights are worth 6.2, -6.2 and 3.1 steps of an ideal device.
    assert pulses == 6 + 6 + 3
    assert initial == Operations(multilevel_sets=pulses, multilevel_resets=6)

    # Then a carry of two pulses for each weight, and a refresh of one that took four.
    multilevel, cells = weight.multilevel, weight.binary
    weight = weight.replace(
        multilevel=multilevel.replace(
            set_pulses=multilevel.set_pulses.at[0].add(2).at[1, 0].add(4),
            resets=multilevel.resets.at[0].add(1),
        ),
        # The cells of bit 6 went to 1, and back, and to 1.
        binary=cells.replace(cycles=cells.cycles.at[0].add(1 << 6)),
        accumulator=jnp.full_like(weight.accumulator, -64),
    )
    blind = accounting.writes([weight], steps=5)
    assert blind == Operations(
        # Two looks at six devices.
        multilevel_reads=2 * 6,
        multilevel_sets=pulses + 6 + 4,
        multilevel_resets=6 + 2,
        # Seven cells of three words at every step; one cell of each was written.
        binary_reads=5 * 7 * 3,
        binary_sets=3 * 2,
        binary_resets=3 * 1,
    )
    # A read before each pulse but for carries, and one at the end of the four writes.
    verified = accounting.writes([weight], steps=5, carried_pulses=6.0)
    reads = 2 * 6 + pulses + 4 + 4
    assert verified == dataclasses.replace(blind, multilevel_reads=reads)
    # A read of both devices after each of four writes.
    spec = dataclasses.replace(weight.spec, rewrite_residue="kept")
    kept = [weight.replace(spec=spec)]
    kept = accounting.writes(kept, steps=5, carried_pulses=6.0)
    assert kept == dataclasses.replace(blind, multilevel_reads=reads + 4 * 2)
    with pytest.raises(ValueError, match="steps=-1: must be at least 0"):
        accounting.writes([weight], steps=-1)


def test_operations_add_up_and_repeat():
    counts = itertools.count(1)
    one = Operations(**{f.name: next(counts) for f in dataclasses.fields(Operations)})
    assert one + one + one == one * 3
    assert (one * 2).binary_resets == 2 * len(dataclasses.fields(Operations))
