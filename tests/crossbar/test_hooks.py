"""Hooks as the functions of jax.lax that they stand for: arguments, types, programs."""

import inspect

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax

from hic_jax import accounting, convolution, crossbar
from hic_jax.crossbar import CrossbarSpec
from tests import virtual_devices
from tests.crossbar.reference import whole

SPEC = CrossbarSpec(tile_rows=5, tile_columns=3)
RUNNING = CrossbarSpec(dac_range="running", adc_range="running")
MATRIX = (((1,), (0,)), ((), ()))
PADDING = ((0, 0), (1, 0))
IMAGES = ("NHWC", "HWIO", "NHWC")


def dense(x, w, spec=SPEC):
    return crossbar.dot_general(spec)(x, w, MATRIX)


def conv(x, w, spec=SPEC):
    hook = crossbar.conv_general_dilated(spec)
    return hook(x, w, (2, 1), "SAME", dimension_numbers=IMAGES)


PRODUCTS = {
    "matrix": (dense, (8, 12), (12, 7)),
    "convolution": (conv, (8, 6, 5, 3), (3, 2, 3, 4)),
}


@pytest.fixture(params=PRODUCTS)
def case(request):
    """A product, its inputs and its weights."""
    product, x_shape, w_shape = PRODUCTS[request.param]
    return product, jnp.asarray(whole(0, x_shape)), jnp.asarray(whole(1, w_shape))


@pytest.mark.parametrize(
    ("hooks", "function"),
    [
        ((crossbar.dot_general, crossbar.LinenDotGeneral, crossbar.NnxDotGeneral),
         lax.dot_general),
        ((crossbar.conv_general_dilated, crossbar.LinenConvGeneralDilated,
          crossbar.NnxConvGeneralDilated), lax.conv_general_dilated),
    ],
)  # fmt: skip
def test_arguments_are_those_of_jax(hooks, function):
    expected = inspect.signature(function).parameters
    for hook in hooks:
        assert list(inspect.signature(hook(SPEC)).parameters.items()) == list(
            expected.items()
        )


def test_arguments_are_taken_by_position():
    x, w = whole(0, (2, 5, 5, 4)), whole(1, (3, 3, 2, 4))
    hook = crossbar.conv_general_dilated(SPEC)
    named = hook(
        x, w, window_strides=(2, 1), padding=PADDING, feature_group_count=2,
        dimension_numbers=IMAGES, precision="highest", lhs_dilation=(1, 2),
    )  # fmt: skip
    arguments = (2, 1), PADDING, (1, 2), None, IMAGES, 2, 1, "highest", jnp.float32
    np.testing.assert_array_equal(hook(x, w, *arguments), named)
    with pytest.raises(ValueError, match="batch_group_count=2: a crossbar has no use"):
        hook(x, w, *arguments[:6], 2)
    x, w = whole(0, (4, 6)), whole(1, (6, 3))
    short = crossbar.dot_general(SPEC)(x, w, MATRIX, None, jnp.bfloat16)
    assert short.dtype == jnp.bfloat16
    np.testing.assert_array_equal(short, dense(x, w).astype(jnp.bfloat16))


@pytest.mark.parametrize(
    ("subscripts", "shapes"),
    [("bd,dh->bh", ((4, 6), (6, 3))), ("bqd,dhk->bqhk", ((2, 4, 6), (6, 3, 5)))],
)
def test_einsum(subscripts, shapes):
    x, w = map(whole, range(2), shapes)
    hook = crossbar.dot_general(SPEC)
    rows = (((x.ndim - 1,), (0,)), ((), ()))
    np.testing.assert_array_equal(
        jnp.einsum(subscripts, x, w, _dot_general=hook), hook(x, w, rows)
    )


@pytest.mark.parametrize(
    ("dtype", "weights"), [(bool, jnp.float32), (jnp.int32, jnp.bfloat16)]
)
def test_inputs_that_count_are_numbers(case, dtype, weights):
    product, x, w = case
    x, w = abs(x).astype(dtype), w.astype(weights)
    y = product(x, w)
    assert y.dtype == weights
    np.testing.assert_array_equal(y, product(x.astype(weights), w))
    assert jax.grad(lambda w: product(x, w).sum())(w).any()


def test_what_is_not_real_is_refused(case):
    product, x, w = case
    with pytest.raises(ValueError, match=r"lhs.dtype=complex64, rhs.dtype=float32: a "):
        product(x * 1j, w)
    with pytest.raises(ValueError, match=r"lhs.dtype=float32, rhs.dtype=complex64: a "):
        product(x, w * 1j)
    with pytest.raises(ValueError, match=r"lhs.dtype=int32, rhs.dtype=int8: a crossb"):
        product(x.astype(jnp.int32), w.astype(jnp.int8))
    with pytest.raises(ValueError, match="preferred_element_type=int32: a crossbar"):
        crossbar.dot_general(SPEC)(
            x[0], x[0], (((0,), (0,)), ((), ())), None, jnp.int32
        )


@pytest.mark.parametrize("hook", [
    crossbar.dot_general(SPEC), crossbar.LinenDotGeneral(SPEC),
    crossbar.NnxDotGeneral(SPEC),
])  # fmt: skip
def test_what_a_crossbar_has_no_use_for_is_refused(hook):
    x, w = whole(0, (4, 6)), whole(1, (6, 3))
    spec = jax.sharding.PartitionSpec()
    with pytest.raises(ValueError, match=r"out_sharding=P.*: a crossbar has no use"):
        hook(x, w, MATRIX, out_sharding=spec)


@pytest.mark.parametrize("hook", [
    crossbar.conv_general_dilated(SPEC), crossbar.LinenConvGeneralDilated(RUNNING),
])  # fmt: skip
def test_a_layer_that_computes_without_its_hook_is_refused(hook):
    layer = nn.ConvLocal(4, (3, 3), conv_general_dilated=hook)
    with pytest.raises(ValueError, match="ConvLocal asks it for a shape"):
        layer.init(jax.random.key(0), jnp.ones((2, 6, 6, 3)))


@pytest.mark.parametrize("zero", ["x", "w"])
@pytest.mark.parametrize("ranges", ["absmax", "fixed"])
def test_nothing_makes_no_nan_inside(case, zero, ranges):
    product, x, w = case
    spec = CrossbarSpec(dac_range="absmax", adc_range=ranges, tile_rows=5)
    x, w = (0 * x, w) if zero == "x" else (x, 0 * w)

    def all_of_it(x, w):
        y, transpose = jax.vjp(lambda x, w: product(x, w, spec), x, w)
        return y, transpose(0 * y)

    with jax.debug_nans(True), jax.debug_infs(True):
        results = all_of_it(x, w)  # Operation by operation.
    assert not any(result.any() for result in jax.tree.leaves(results))


def test_a_program_for_any_batch(case):
    product, x, w = case
    (batch,) = export.symbolic_shape("batch")

    @jax.jit
    def with_gradient(x, w):
        return product(x, w), jax.grad(lambda w: jnp.sum(product(x, w) ** 2))(w)

    shape = jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype)
    program = export.export(with_gradient)(shape, w)
    for size in (1, 8):
        y, w_bar = program.call(x[:size], w)
        expected, expected_w = with_gradient(x[:size], w)
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_allclose(w_bar, expected_w, rtol=1e-5, atol=1e-2)


def test_what_has_no_size_yet_is_not_counted():
    (batch,) = export.symbolic_shape("batch")
    shapes = (jax.ShapeDtypeStruct(s, "float32") for s in ((12, 7), (batch, 12)))
    with pytest.raises(ValueError, match="positions=batch: must be a number"):
        accounting.products(lambda w, x: dense(x, w), *shapes)


def on_explicit_meshes():
    """Results on explicit meshes: shardings, distance from one device's."""
    # What `jax.make_mesh` makes unasked, but for JAX 0.7.2.
    mesh = jax.make_mesh((4,), ("data",), (jax.sharding.AxisType.Explicit,))
    spec = jax.sharding.PartitionSpec
    found = []
    for kind, (product, x_shape, w_shape) in PRODUCTS.items():

        def all_of_it(x, w, product=product):
            y, transpose = jax.vjp(product, x, w)
            # As a digital layer of this project computes it, too.
            return convolution.materialised(y), *transpose(jnp.sign(y))

        x, w = whole(0, x_shape), whole(1, w_shape)
        expected = jax.jit(all_of_it)(x, w)
        x = jax.device_put(x, jax.NamedSharding(mesh, spec("data")))
        w = jax.device_put(w, jax.NamedSharding(mesh, spec()))
        # A mesh for all arrays, and one that only the operands know.
        with jax.set_mesh(mesh):
            np.testing.assert_array_equal(product(x, w), expected[0])  # Not compiled.
            in_context = jax.jit(all_of_it)(x, w)
        for result in (in_context, jax.jit(all_of_it)(x, w)):
            shardings = [str(jax.typeof(a).sharding.spec[0]) for a in result]
            distances = [
                float(np.abs(np.asarray(a) - b).max() / np.abs(b).max())
                for a, b in zip(result, map(np.asarray, expected), strict=True)
            ]
            found.append((kind, shardings, distances))
    return found


def test_an_explicit_mesh():
    found = virtual_devices.call(__file__, "on_explicit_meshes", devices=4)
    assert len(found) == 2 * len(PRODUCTS)
    for kind, shardings, distances in found:
        assert shardings == ["data", "data", "None"], kind
        # Sums of whole numbers, but for the units of weights' gradients.
        assert distances == pytest.approx([0, 0, 0], abs=1e-6), kind
