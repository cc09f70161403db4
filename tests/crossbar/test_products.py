"""Products between converters against NumPy, bit for bit, and their gradients.

Inputs and weights are whole numbers of few bits: sums of them are exact in float32,
and whatever the order, so that results can be compared bit for bit.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from hic_jax import crossbar
from hic_jax.crossbar import CrossbarSpec

OFF = {
    "dac_bits": 0, "adc_bits": 0, "error_dac_bits": 0, "error_adc_bits": 0,
}  # fmt: skip
BITS = st.sampled_from([0, 2, 3, 4, 5, 6, 7, 8])
MATRIX = (((1,), (0,)), ((), ()))
K, N = 12, 7
F32 = np.float32

# What a crossbar does, written out tile by tile.


def codes(x, bound, bits):
    """Codes of a converter, float32."""
    if not bits:
        return x
    most = F32(2 ** (bits - 1) - 1)
    per_unit = most / F32(bound) if bound > 0 else F32(0)
    return np.clip(np.round(x * per_unit), -most, most)


def unit(bound, bits):
    return F32(bound) / F32(2 ** (bits - 1) - 1) if bits else F32(1)


def convert(x, bound, bits):
    return codes(x, bound, bits) * unit(bound, bits)


def absmax(x):
    return F32(np.max(np.abs(x), initial=0))


def read(tiles, bits, bound=None):
    """Sum of the tiles, each after its converter."""
    total = F32(0)
    for tile in tiles:
        limit = absmax(tile) if bound is None else bound
        total = total + (convert(tile, limit, bits) if bits else tile)
    return total


def multiply(x, w, spec, *, dac_bound=None, adc_bound=None):
    """(m, k) times (k, n)."""
    bound = absmax(x) if dac_bound is None else F32(dac_bound)
    rows, step = spec.tile_rows or w.shape[0], unit(bound, spec.dac_bits)
    drive = codes(x, bound, spec.dac_bits)
    tiles = [
        drive[:, i : i + rows] @ w[i : i + rows] for i in range(0, w.shape[0], rows)
    ]
    limit = None if adc_bound is None else F32(adc_bound) / step
    return read(tiles, spec.adc_bits, limit) * step


def gradients(x, w, error, spec):
    """Straight-through gradients of the same, of inputs and of weights."""
    x_step = unit(absmax(x), spec.dac_bits)
    step = unit(absmax(error), spec.error_dac_bits)
    drive = codes(error, absmax(error), spec.error_dac_bits)
    columns = spec.tile_columns or w.shape[1]
    tiles = [
        drive[:, i : i + columns] @ w[:, i : i + columns].T
        for i in range(0, w.shape[1], columns)
    ]
    w_bar = codes(x, absmax(x), spec.dac_bits).T @ drive * (x_step * step)
    return read(tiles, spec.error_adc_bits) * step, w_bar


def convolution_tiles(channels, taps, rows):
    """(channel, tap) pairs of every array: whole channels where one has room."""
    pairs = list(itertools.product(range(channels), range(taps)))
    if not rows:
        return [pairs]
    if rows >= taps:
        held = rows // taps * taps
        return [pairs[i : i + held] for i in range(0, len(pairs), held)]
    return [
        pairs[c * taps + t : c * taps + min(t + rows, taps)]
        for c in range(channels)
        for t in range(0, taps, rows)
    ]


def convolve(x, w, spec, *, strides, padding, dilation, groups):
    """(b, h, w, c) with (kh, kw, c / groups, n), by loops."""
    (sh, sw), (dh, dw) = strides, dilation
    kh, kw, channels, outputs = w.shape
    bound = absmax(x)
    drive = np.pad(codes(x, bound, spec.dac_bits), ((0, 0), *padding, (0, 0)))
    height = (drive.shape[1] - (kh - 1) * dh - 1) // sh + 1
    width = (drive.shape[2] - (kw - 1) * dw - 1) // sw + 1
    tiles = []
    for held in convolution_tiles(channels, kh * kw, spec.tile_rows):
        tile = np.zeros((x.shape[0], height, width, outputs), F32)
        for (channel, tap), output in itertools.product(held, range(outputs)):
            i, j = divmod(tap, kw)
            group = output // (outputs // groups)
            seen = drive[
                :,
                i * dh : i * dh + (height - 1) * sh + 1 : sh,
                j * dw : j * dw + (width - 1) * sw + 1 : sw,
                group * channels + channel,
            ]
            tile[..., output] += seen * w[i, j, channel, output]
        tiles.append(tile)
    return read(tiles, spec.adc_bits) * unit(bound, spec.dac_bits)


def whole(seed, shape, most=8):
    """Whole numbers in [-most, most], float32."""
    return (
        np.random.default_rng(seed)
        .integers(-most, most, shape, endpoint=True)
        .astype(np.float32)
    )


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 99),
    dac_bits=BITS,
    adc_bits=BITS,
    tile_rows=st.sampled_from([0, 1, 5, 6, K, 30]),
)
def test_matrix_product(seed, dac_bits, adc_bits, tile_rows):
    spec = CrossbarSpec(dac_bits=dac_bits, adc_bits=adc_bits, tile_rows=tile_rows)
    x, w = whole(seed, (5, K)), whole(seed + 100, (K, N))
    with jax.disable_jit():
        y = crossbar.dot_general(spec)(x, w, MATRIX)
    np.testing.assert_array_equal(y, multiply(x, w, spec))


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 99),
    bits=st.tuples(BITS, BITS, BITS),
    tile_columns=st.sampled_from([0, 1, 3, N, 30]),
)
def test_gradients_go_straight_through(seed, bits, tile_columns):
    spec = CrossbarSpec(
        dac_bits=bits[0],
        error_dac_bits=bits[1],
        error_adc_bits=bits[2],
        tile_columns=tile_columns,
    )
    x, w = whole(seed, (5, K)), whole(seed + 100, (K, N))
    error = whole(seed + 200, (5, N))
    with jax.disable_jit():
        product = crossbar.dot_general(spec)
        _, transpose = jax.vjp(lambda x, w: product(x, w, MATRIX), x, w)
        x_bar, w_bar = transpose(jnp.asarray(error))
    expected = gradients(x, w, error, spec)
    np.testing.assert_array_equal(x_bar, expected[0])
    np.testing.assert_array_equal(w_bar, expected[1])


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 99),
    dac_bits=BITS,
    adc_bits=BITS,
    tile_rows=st.sampled_from([0, 1, 4, 6, 9, 12, 18, 24, 256]),
    strides=st.sampled_from([(1, 1), (2, 1), (2, 2)]),
    padding=st.sampled_from([((0, 0), (0, 0)), ((1, 1), (1, 1)), ((0, 1), (2, 0))]),
    dilation=st.sampled_from([(1, 1), (1, 2)]),
    groups=st.sampled_from([1, 2, 4]),
)
def test_convolution(
    seed, dac_bits, adc_bits, tile_rows, strides, padding, dilation, groups
):
    spec = CrossbarSpec(dac_bits=dac_bits, adc_bits=adc_bits, tile_rows=tile_rows)
    # 24 / groups rows: 4 / groups channels of 2 x 3 taps.
    x, w = whole(seed, (2, 5, 6, 4)), whole(seed + 100, (2, 3, 4 // groups, 4))
    y = crossbar.conv_general_dilated(spec)(
        x, w, strides, padding,
        rhs_dilation=dilation, feature_group_count=groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip
    expected = convolve(
        x, w, spec, strides=strides, padding=padding, dilation=dilation, groups=groups
    )
    np.testing.assert_array_equal(y, expected)


def test_fixed_ranges_clip():
    spec = CrossbarSpec(
        dac_range="fixed", dac_bound=4.0, adc_range="fixed", adc_bound=1.5, tile_rows=5
    )
    x, w = whole(0, (5, K)), whole(1, (K, N))
    y = crossbar.dot_general(spec)(x, w, MATRIX)
    largest = 1.5 * 4.0 * absmax(w)
    expected = multiply(x, w, spec, dac_bound=4.0, adc_bound=largest)
    # The bound of the sums is rounded twice on the way to codes: an LSB at ties.
    np.testing.assert_allclose(y, expected, atol=3 * largest / 127)
    assert np.max(np.abs(y)) <= 3 * largest * (1 + 1e-6)  # Three tiles.
    assert np.max(np.abs(y - x @ w)) > largest / 3


def test_several_contracted_axes_and_batches():
    spec = CrossbarSpec(tile_rows=5)
    x, w = whole(0, (3, 2, 4, 3)), whole(1, (3, 4, 2, 6))
    y = crossbar.dot_general(spec)(x, w, (((3, 2), (0, 1)), ((), ())))
    assert y.shape == (3, 2, 2, 6)
    rows = x.transpose(0, 1, 3, 2).reshape(6, 12)
    expected = multiply(rows, w.reshape(12, 12), spec)
    np.testing.assert_array_equal(y.reshape(6, 12), expected)
    # A batch axis: an array each, at the input range of all.
    off = CrossbarSpec(**OFF, tile_rows=5)
    x, w = whole(0, (4, 5, K)), whole(1, (4, K, N))
    y = crossbar.dot_general(off)(x, w, (((2,), (1,)), ((0,), (0,))))
    np.testing.assert_array_equal(y, np.einsum("bmk,bkn->bmn", x, w))


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


def test_noise_of_the_converter():
    spec = CrossbarSpec(**OFF, adc_noise=0.01, tile_rows=6)
    x = jax.random.normal(jax.random.key(0), (200, K))
    w = jax.random.normal(jax.random.key(1), (K, 100))

    def noise(x, w):
        return crossbar.dot_general(spec)(x, w, MATRIX) - x @ w

    tiles = [x[:, i : i + 6] @ w[i : i + 6] for i in (0, 6)]
    std = 0.01 * np.hypot(*(np.max(np.abs(tile)) for tile in tiles))
    first = noise(x, w)
    assert abs(np.std(first) / std - 1) < 0.03  # 20,000 draws: six standard errors.
    np.testing.assert_array_equal(first, noise(x, w))
    for other in (noise(x.at[0, 0].add(1.0), w), noise(x, w.at[0, 0].add(1e-3))):
        assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.05


@pytest.mark.parametrize("zero", ["x", "w"])
def test_nothing_in_gives_nothing_out(zero):
    x, w = whole(0, (5, K)), whole(1, (K, N))
    x, w = (np.zeros_like(x), w) if zero == "x" else (x, np.zeros_like(w))
    product = crossbar.dot_general(CrossbarSpec())
    y, transpose = jax.vjp(lambda x, w: product(x, w, MATRIX), x, w)
    assert not y.any()
    for gradient in transpose(jnp.zeros_like(y)):
        assert not gradient.any()


def test_nan_is_not_hidden():
    x, w = whole(0, (5, K)), whole(1, (K, N))
    x[0, 0] = np.nan
    assert jnp.isnan(crossbar.dot_general(CrossbarSpec())(x, w, MATRIX)).any()


def test_empty_batch():
    y = crossbar.dot_general(CrossbarSpec())(
        jnp.zeros((0, K)), jnp.ones((K, N)), MATRIX
    )
    assert y.shape == (0, N)


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


def test_chips_at_once_are_chips_one_by_one():
    x, w = whole(0, (5, K)), whole(1, (3, K, N))
    product = crossbar.dot_general(CrossbarSpec(tile_rows=5))
    together = jax.vmap(lambda w: product(x, w, MATRIX))(w)
    for chip, alone in zip(together, w, strict=True):
        # The same codes; their unit may be rounded in another order.
        np.testing.assert_allclose(chip, product(x, alone, MATRIX), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "value"),
    [("batch_group_count", 2), ("out_sharding", "rows")],
)
def test_what_a_crossbar_cannot_do(name, value):
    x, w = whole(0, (2, 5, 5, 4)), whole(1, (3, 3, 4, 4))
    with pytest.raises(ValueError, match=name):
        crossbar.conv_general_dilated(CrossbarSpec())(
            x, w, (1, 1), "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"), **{name: value},
        )  # fmt: skip
