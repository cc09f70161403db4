"""Products between converters and their gradients, against NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from hic_jax import crossbar
from hic_jax.crossbar import CrossbarSpec, products
from hic_jax.crossbar.fresh import Fresh
from hic_jax.crossbar.products import MatrixProduct, tiles
from hic_jax.crossbar.straight_through import Ranges, multiply
from tests.crossbar import reference
from tests.crossbar.reference import absmax, whole

OFF = {
    "dac_bits": 0, "adc_bits": 0, "error_dac_bits": 0, "error_adc_bits": 0,
}  # fmt: skip
BITS = st.sampled_from([0, 2, 3, 4, 5, 6, 7, 8])
RANGES = st.sampled_from(["absmax", "fixed"])
SPEC_8 = CrossbarSpec()
MATRIX = (((1,), (0,)), ((), ()))
K, N = 12, 7


def specs(sizes):
    """Any converters and ranges, with arrays of one of some sizes."""
    return st.builds(
        CrossbarSpec,
        tile_rows=st.sampled_from(sizes),
        tile_columns=st.sampled_from(sizes),
        dac_bits=BITS,
        adc_bits=BITS,
        error_dac_bits=BITS,
        error_adc_bits=BITS,
        dac_range=RANGES,
        adc_range=RANGES,
        dac_bound=st.sampled_from([3.0, 7.0, 20.0]),  # Of inputs up to 8.
        adc_bound=st.sampled_from([0.7, 2.0, 30.0]),
    )


def check(spec, product, table, x, w, error):
    """Compares a product and its gradients with the reference.

    Bit for bit, but for the gradient of the weights: it adds up examples in units of
    their own, in another order.
    """
    y, transpose = jax.vjp(product, x, w)
    np.testing.assert_array_equal(y, reference.forward(spec, table, x, w)[0])
    x_bar, w_bar = transpose(jnp.asarray(error))
    expected, expected_w = reference.backward(spec, table, x, w, error)
    np.testing.assert_array_equal(x_bar, expected)
    atol = 2e-6 * np.abs(expected_w).max(initial=0)
    np.testing.assert_allclose(w_bar, expected_w, rtol=1e-6, atol=atol)


DOTS = {
    "dense": ((2, 3, K), (K, N), (((2,), (0,)), ((), ()))),
    "rows of two axes": ((3, 2, 4, 3), (3, 4, 2, 3), (((3, 2), (0, 1)), ((), ()))),
    "batch": ((2, 5, K), (K, 2, 3), (((2,), (0,)), ((0,), (1,)))),
    "vectors": ((K,), (K,), (((0,), (0,)), ((), ()))),
}


@settings(deadline=None, max_examples=50)
@given(
    spec=specs([0, 1, 5, 30]), case=st.sampled_from(list(DOTS)),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_dot_general(spec, case, seed):
    x_shape, w_shape, numbers = DOTS[case]
    table = reference.dot_general(x_shape, w_shape, numbers)
    product = crossbar.dot_general(spec)
    check(
        spec,
        lambda x, w: product(x, w, numbers),
        table,
        *(whole(seed + i, s) for i, s in enumerate((x_shape, w_shape, table.shape))),
    )


def test_a_stack_in_one_product_is_as_each_matrix():
    """Whatever the others hold."""
    spec = CrossbarSpec(adc_range="fixed", adc_bound=2.0, tile_rows=5)
    product = crossbar.dot_general(spec)
    x, w = whole(0, (3, 5, K)), whole(1, (3, K, N)) * np.reshape([1, 4, 16], (3, 1, 1))
    together = product(x, w, (((2,), (1,)), ((0,), (0,))))
    for mapped in (
        jax.vmap(lambda x, w: product(x, w, MATRIX))(x, w),
        [product(*matrix, MATRIX) for matrix in zip(x, w, strict=True)],
    ):
        np.testing.assert_array_equal(together, mapped)


@pytest.mark.parametrize("dac_bits", range(2, 9))
def test_converters_of_any_width(dac_bits):
    x, w, error = whole(0, (5, K)), whole(1, (K, N)), whole(2, (5, N))
    table = reference.dot_general(x.shape, w.shape, MATRIX)
    for adc_bits in range(2, 9):
        spec = CrossbarSpec(
            dac_bits=dac_bits, adc_bits=adc_bits,
            error_dac_bits=adc_bits, error_adc_bits=dac_bits,
            tile_rows=5, tile_columns=3,
        )  # fmt: skip
        product = crossbar.dot_general(spec)
        check(spec, lambda x, w, p=product: p(x, w, MATRIX), table, x, w, error)


# 2 x 3 taps of 4 features: a feature fits into 6 rows.
WINDOW = (2, 3)
CONVOLUTIONS = {
    "plain": {},
    "strides": {"strides": (2, 1), "padding": ((1, 0), (2, 1))},
    "depthwise": {"groups": 4, "padding": ((1, 1), (1, 1))},
    "dilations": {"rhs_dilation": (2, 1), "lhs_dilation": (2, 1)},
    "all": {
        "groups": 2, "strides": (1, 2), "padding": ((0, 2), (1, 0)),
        "lhs_dilation": (1, 2), "rhs_dilation": (2, 1),
    },
}  # fmt: skip


@settings(deadline=None, max_examples=30)
@given(
    spec=specs([0, 4, 6, 13]), case=st.sampled_from(list(CONVOLUTIONS)),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_convolution(spec, case, seed):
    options = {"strides": (1, 1), "padding": ((0, 0), (0, 0))} | CONVOLUTIONS[case]
    groups = options.get("groups", 1)
    x, w = whole(seed, (2, 5, 6, 4)), whole(seed + 1, (*WINDOW, 4 // groups, 4))
    table = reference.convolution(x.shape, w.shape, **options)
    check(spec, convolution(spec, **options), table, x, w, whole(seed + 2, table.shape))


def convolution(spec, strides, padding, groups=1, numbers=None, **dilations):
    hook = crossbar.conv_general_dilated(spec)
    return lambda x, w: hook(
        x, w, strides, padding, feature_group_count=groups, **dilations,
        dimension_numbers=numbers or ("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip


@pytest.mark.parametrize("rows", [0, 4, 13])
@pytest.mark.parametrize("kernel", ["OIHW", "IHOW", "WIHO"])
def test_axes_in_any_order(rows, kernel):
    spec = CrossbarSpec(tile_rows=rows, tile_columns=rows)
    x, w = whole(0, (2, 5, 6, 4)), whole(1, (*WINDOW, 4, 3))
    # Inputs as NCHW, results as NHWC.
    numbers = jax.lax.ConvDimensionNumbers(
        (0, 1, 2, 3), tuple(map(kernel.index, "OIHW")), (0, 3, 1, 2)
    )
    valid = convolution(spec, (1, 1), "VALID", numbers=numbers)

    def transposed(x, w):
        return valid(
            jnp.transpose(x, [0, 3, 1, 2]),
            jnp.transpose(w, list(map("HWIO".index, kernel))),
        )

    table = reference.convolution(x.shape, w.shape, (1, 1), ((0, 0), (0, 0)))
    check(spec, transposed, table, x, w, whole(2, table.shape))


@pytest.mark.parametrize("kind", ["matrix", "convolution"])
def test_what_an_example_gives_does_not_depend_on_its_batch(kind):
    spec = CrossbarSpec(tile_rows=13, tile_columns=3)
    if kind == "matrix":
        x, w, error = whole(0, (3, 30)), whole(1, (30, N)), whole(2, (3, N))
        hook = crossbar.dot_general(spec)
        product = functools.partial(hook, dimension_numbers=MATRIX)
    else:
        x, w = whole(0, (3, 5, 6, 4)), whole(1, (*WINDOW, 4, 4))
        product = convolution(spec, (1, 1), ((0, 0), (0, 0)))
        error = whole(2, product(x, w).shape)
    # As an image that is learnt has errors far below those of one that is not.
    factors = np.float32([1.0, 1e-3, 1e3]).reshape(-1, *[1] * (x.ndim - 1))
    x, error = factors * x, error / factors
    y, transpose = jax.vjp(product, x, w)
    x_bar, w_bar = transpose(error)
    total = 0.0
    for i in range(3):
        own, own_transpose = jax.vjp(product, x[i : i + 1], w)
        np.testing.assert_array_equal(y[i], own[0])
        own_x, own_w = own_transpose(error[i : i + 1])
        np.testing.assert_array_equal(x_bar[i], own_x[0])
        total += own_w
    atol = 2e-6 * np.abs(total).max()
    np.testing.assert_allclose(w_bar, total, rtol=1e-6, atol=atol)
    # Each to eight bits of its own: half a code of the DAC, and one of the ADC a tile.
    exact = jax.vjp(lambda x: product_without(kind)(x, w), x)[1](error)[0]
    for ours, expected in zip(x_bar, exact, strict=True):
        assert np.std(ours - expected) < 0.02 * np.std(expected)


def product_without(kind):
    """The same product without converters."""
    if kind == "matrix":
        return lambda x, w: x @ w
    return convolution(CrossbarSpec(**OFF), (1, 1), ((0, 0), (0, 0)))


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(1, 12), st.integers(0, 40))
def test_every_row_is_in_one_array(features, taps, rows):
    held = []
    for tile in tiles(features, taps, rows):
        start, stop = tile.taps or (0, taps)
        pairs = [
            (feature, tap)
            for feature in range(tile.start, tile.stop)
            for tap in range(start, stop)
        ]
        assert 0 < len(pairs) <= (rows or features * taps)
        held += pairs
    assert held == [(f, t) for f in range(features) for t in range(taps)]


def test_fixed_ranges_clip():
    spec = CrossbarSpec(
        dac_range="fixed", dac_bound=4.0, adc_range="fixed", adc_bound=1.5, tile_rows=5
    )
    x, w = whole(0, (5, K)), whole(1, (K, N))
    y = crossbar.dot_general(spec)(x, w, MATRIX)
    largest = 1.5 * 4.0 * absmax(w)
    assert np.max(np.abs(y)) <= 3 * largest * (1 + 1e-6)  # Three tiles.
    assert np.max(np.abs(y - x @ w)) > largest / 3


@pytest.mark.parametrize("tile", [0, 5, 20])
def test_without_converters_gradients_are_those_of_the_product(tile):
    spec = CrossbarSpec(**OFF, tile_rows=tile, tile_columns=tile)
    x = jax.random.normal(jax.random.key(0), (2, 5, 5, 4))
    w = jax.random.normal(jax.random.key(1), (3, 3, 2, 4))
    product = crossbar.conv_general_dilated(spec)

    def smooth(x, w):
        y = product(
            x, w, (2, 2), "SAME", feature_group_count=2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip
        return jnp.sum(jnp.tanh(y))

    # Central differences in float32: a part in a hundred.
    check_grads(smooth, (x, w), order=1, modes=["rev"], atol=0.02, rtol=0.02)


@pytest.mark.parametrize("zero", ["x", "w"])
def test_nothing_in_gives_nothing_out(zero):
    x, w = whole(0, (5, K)), whole(1, (K, N))
    x, w = (np.zeros_like(x), w) if zero == "x" else (x, np.zeros_like(w))
    product = crossbar.dot_general(CrossbarSpec())
    y, transpose = jax.vjp(lambda x, w: product(x, w, MATRIX), x, w)
    assert not y.any()
    for gradient in transpose(jnp.zeros_like(y)):
        assert not gradient.any()


@pytest.mark.parametrize("dac_range", ["absmax", "fixed"])
@pytest.mark.parametrize("bits", [0, 8])
def test_nan_is_not_hidden(dac_range, bits):
    spec = CrossbarSpec(dac_range=dac_range, dac_bits=bits, adc_bits=bits)
    x, w = whole(0, (5, K)), whole(1, (K, N))
    x[0, 0] = np.nan
    product = crossbar.dot_general(spec)
    assert jnp.isnan(product(x, w, MATRIX)[0]).all()
    error = jnp.ones((5, N)).at[0, 0].set(jnp.nan)
    x_bar, w_bar = jax.vjp(lambda x, w: product(x, w, MATRIX), x, w)[1](error)
    assert jnp.isnan(x_bar[0]).all()
    assert jnp.isnan(w_bar).any()


def test_empty_batch():
    product = crossbar.dot_general(CrossbarSpec())
    x, w = jnp.zeros((0, K)), jnp.ones((K, N))
    y, transpose = jax.vjp(lambda x, w: product(x, w, MATRIX), x, w)
    assert y.shape == (0, N)
    x_bar, w_bar = transpose(y)
    assert x_bar.shape == (0, K)
    assert not w_bar.any()


@pytest.mark.parametrize("types", [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_types_may_differ(types):
    x, w = (
        jnp.asarray(whole(i, s), t)
        for i, (s, t) in enumerate(zip(((5, K), (K, N)), types, strict=True))
    )
    product = crossbar.dot_general(CrossbarSpec())
    y, transpose = jax.vjp(lambda x, w: product(x, w, MATRIX), x, w)
    assert y.dtype == jnp.float32
    for gradient, operand in zip(transpose(y), (x, w), strict=True):
        assert gradient.dtype == operand.dtype


def test_bfloat16_stays_bfloat16():
    x, w = (
        jnp.asarray(whole(i, s), jnp.bfloat16) for i, s in ((0, (5, K)), (1, (K, N)))
    )
    y = crossbar.dot_general(CrossbarSpec())(x, w, MATRIX)
    assert y.dtype == jnp.bfloat16
    # Eight bits of converter and eight of mantissa.
    np.testing.assert_allclose(
        y.astype(np.float32), x @ w, atol=0.02 * float(jnp.abs(x @ w).max())
    )


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e-4])
def test_float16_holds_the_gradient_of_small_errors(size):
    rng = np.random.default_rng(0)
    x, w, error = (
        jnp.asarray(scale * rng.normal(size=shape), jnp.float16)
        for scale, shape in ((1, (50, K)), (1, (K, N)), (size, (50, N)))
    )
    _, transpose = jax.vjp(lambda w: crossbar.dot_general(SPEC_8)(x, w, MATRIX), w)
    (w_bar,) = transpose(error)
    assert w_bar.dtype == jnp.float16
    exact = np.asarray(x, np.float64).T @ np.asarray(error, np.float64)
    wrong = np.linalg.norm(w_bar - exact) / np.linalg.norm(exact)
    # Eight bits of input and of error; 0.7 at 1e-4 if its errors were rounded as such.
    assert wrong < 0.02


def test_float16_holds_the_gradient_of_many_examples():
    n = 5000
    x, w = jnp.full((n, 1), 0.5, jnp.float16), jnp.ones((1, 1), jnp.float16)
    product = crossbar.dot_general(SPEC_8)
    w_bar = jax.grad(lambda w: jnp.mean(product(x, w, MATRIX).astype(jnp.float32)))(w)
    assert float(w_bar[0, 0]) == pytest.approx(0.5, rel=1e-2)


def test_no_error_gives_no_gradient():
    x, w = (jnp.ones(shape, jnp.float16) for shape in ((5, K), (K, N)))
    _, transpose = jax.vjp(
        lambda x, w: crossbar.dot_general(CrossbarSpec(**OFF))(x, w, MATRIX), x, w
    )
    for gradient in transpose(jnp.zeros((5, N), jnp.float16)):
        assert not gradient.any()


def test_chips_at_once_are_chips_one_by_one():
    x, w = whole(0, (5, K)), whole(1, (3, K, N))
    product = crossbar.dot_general(CrossbarSpec(tile_rows=5))
    together = jax.vmap(lambda w: product(x, w, MATRIX))(w)
    for chip, alone in zip(together, w, strict=True):
        # The same codes; their unit may be rounded in another order.
        np.testing.assert_allclose(chip, product(x, alone, MATRIX), rtol=1e-5)


@pytest.mark.parametrize("kind", ["matrix", "convolution"])
def test_examples_at_once_are_examples_one_by_one(kind):
    spec = CrossbarSpec(tile_rows=5, tile_columns=3)
    if kind == "matrix":
        x, w = whole(0, (4, 2, K)), whole(1, (K, N))
        product = functools.partial(
            crossbar.dot_general(spec), dimension_numbers=MATRIX
        )
    else:
        x, w = whole(0, (4, 1, 5, 6, 4)), whole(1, (*WINDOW, 4, 4))
        product = convolution(spec, (1, 1), ((0, 0), (0, 0)))

    @jax.jit
    def of_example(x):
        y, transpose = jax.vjp(product, x, w)
        return y, transpose(jnp.sin(y))

    at_once = jax.vmap(of_example)(x)
    for i, example in enumerate(x):
        for many, alone in zip(
            jax.tree.leaves(at_once), jax.tree.leaves(of_example(example)), strict=True
        ):
            # The same codes; their unit may be rounded in another order.
            np.testing.assert_allclose(many[i], alone, rtol=1e-5, atol=1e-4)


# ---- one tile after the other


def _passes(spec, key, variance, x, w):
    """A noisy product of stacked matrices, the ranges seen, and its gradients."""
    fresh = Fresh(variance, jax.random.key(9))

    def product(x, w):
        ranges = Ranges()
        return multiply(MatrixProduct(), spec, x, w, ranges, key, fresh)

    y, transpose, seen = jax.vjp(product, x, w, has_aux=True)
    return y, seen, *transpose(jnp.cos(y))


def test_tiles_one_after_the_other_come_to_the_same(monkeypatch):
    spec = CrossbarSpec(tile_rows=5, tile_columns=3, adc_noise=0.01)
    x, w = (
        jax.random.normal(jax.random.key(i), (2, *shape))
        for i, shape in enumerate([(6, K), (K, N)])
    )
    passes = functools.partial(
        _passes, spec, jax.random.key(2), 0.01 * jnp.ones_like(w), x, w
    )
    at_once = passes()
    monkeypatch.setattr(products, "MOST_AT_ONCE", 0)
    for a, b in zip(jax.tree.leaves(at_once), jax.tree.leaves(passes()), strict=True):
        # But for a last bit of what is multiplied.
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    # The noise of each tile is its own: that of three equal tiles differs.
    x = jnp.tile(x[:, :, :5], 3)
    w = jnp.tile(w[:, :5], (1, 3, 1))
    one, all_three = (
        _passes(
            spec, jax.random.key(2), jnp.zeros_like(w[:, :k]), x[:, :, :k], w[:, :k]
        )
        for k in (5, 15)
    )
    assert jnp.max(jnp.abs(all_three[0] - 3 * one[0])) > 0.01


def test_tiles_one_after_the_other_take_the_memory_of_one(monkeypatch):
    spec = CrossbarSpec(tile_rows=8, tile_columns=8)
    product, (m, k, n) = crossbar.dot_general(spec), (64, 128, 512)

    def temporary():
        gradient = jax.grad(lambda x, w: product(x, w, MATRIX).sum(), (0, 1))
        shapes = (jax.ShapeDtypeStruct(s, jnp.float32) for s in ((m, k), (k, n)))
        plan = jax.jit(gradient).lower(*shapes).compile().memory_analysis()
        return plan.temp_size_in_bytes

    whole = temporary()
    monkeypatch.setattr(products, "MOST_AT_ONCE", 0)
    # Sums of 16 tiles of rows, and of 64 of columns.
    assert temporary() < whole - 4 * 15 * m * n
