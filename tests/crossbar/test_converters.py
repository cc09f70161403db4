"""Converters: codes, clipping, and what they do with nothing and no number."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hic_jax.crossbar import converters


@settings(deadline=None)
@given(
    values=st.lists(st.floats(-100, 100, width=32), min_size=4, max_size=4),
    bound=st.floats(2**-7, 128, width=32),
    bits=st.integers(2, 16),
)
def test_codes_are_whole_symmetric_and_nearest(values, bound, bits):
    x, bound = jnp.array(values, jnp.float32), jnp.float32(bound)
    codes = converters.to_codes(x, bound, bits)
    assert np.abs(codes).max() <= 2 ** (bits - 1) - 1
    np.testing.assert_array_equal(codes, np.round(codes))
    np.testing.assert_array_equal(-codes, converters.to_codes(-x, bound, bits))
    # Half a code; float32 has 24 bits for codes of up to 16.
    unit = float(converters.unit(bound, bits))
    error = np.abs(converters.convert(x, bound, bits) - np.clip(x, -bound, bound))
    assert error.max() <= 0.51 * unit


def test_ties_go_to_even():
    x = jnp.array([0.5, 1.5, 2.5, -0.5, -1.5, 9.0])
    codes = converters.to_codes(x, jnp.float32(7.0), 4)
    np.testing.assert_array_equal(codes, [0, 2, 2, 0, -2, 7])


@pytest.mark.parametrize("bound", [0.0, 1e-38])
def test_no_range_gives_nothing(bound):
    x = jnp.array([0.0, 1e-38])
    assert not converters.convert(x, jnp.float32(bound), 8).any()


def test_without_a_converter_numbers_pass():
    x = jnp.array([1e-3, np.pi, 1e30])
    np.testing.assert_array_equal(converters.convert(x, jnp.float32(1), 0), x)
    assert converters.unit(jnp.float32(3), 0) == 1


def test_no_number_stays_none():
    codes = converters.to_codes(jnp.array([np.nan, 1.0]), jnp.float32(1), 8)
    np.testing.assert_array_equal(codes, [np.nan, 127])
    assert np.isnan(converters.absmax(jnp.array([1.0, np.nan])))
    assert converters.absmax(jnp.zeros((0, 3))) == 0
