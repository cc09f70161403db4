"""Shares of read noise by how long it stays."""

import jax.numpy as jnp
import numpy as np
import pytest

from hic_jax.pcm import flicker
from hic_jax.weights import DAY, YEAR

AGES = jnp.array([0.0, 1e-3, 1.0, 3600.0, DAY, YEAR, 1e10])


def test_of_a_year_a_quarter_is_slow_and_a_quarter_is_fresh():
    """Published: noise grows with the logarithm of age over a read of 250 ns."""
    slow, read, fresh = flicker.shares("flicker", jnp.float32(YEAR), 250e-9)
    every = np.log(YEAR / 250e-9)
    assert float(slow) == pytest.approx(np.log(YEAR / 3600) / every, rel=1e-4)
    assert float(fresh) == pytest.approx(np.log(1e-3 / 250e-9) / every, rel=1e-4)
    assert [round(float(x), 2) for x in (slow, read, fresh)] == [0.28, 0.46, 0.26]


@pytest.mark.parametrize("read_time", [1e-12, 250e-9, 1e-4])
def test_shares_add_up_and_nothing_is_older_than_the_device(read_time):
    parts = flicker.shares("flicker", AGES, read_time)
    np.testing.assert_allclose(sum(parts), np.ones(AGES.shape), rtol=1e-6)
    assert all(np.min(part) >= 0 for part in parts)
    np.testing.assert_array_equal(parts.slow[AGES <= 3600], 0)
    assert (np.diff(parts.slow[AGES >= 3600]) > 0).all()
    np.testing.assert_allclose(parts.fresh[:2], 1, rtol=1e-6)  # Too young for the rest.


def test_the_other_spectra_have_one_part():
    assert flicker.shares("per_read", AGES, 1e-6) == (0, 1, 0)
    assert flicker.shares("white", AGES, 1e-6) == (0, 0, 1)
