"""Stamps of writes against the times that they stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hic_jax.pcm.stamps import Stamps

YEAR = 365 * 86400.0


@pytest.mark.parametrize(
    ("seconds", "unit"), [(38.6, 64.0), (1.0, 1.0), (0.3, 0.5), (jnp.inf, 64.0)]
)
def test_a_unit_is_a_power_of_two_and_no_longer_than_is_told(seconds, unit):
    assert Stamps.at_zero((3,), seconds).unit == unit


def test_ages_are_exact_to_a_part_in_a_thousand_however_long_it_goes_on():
    # Steps of 7 s, and a device that is written every 3^k steps: ages up to 2e5 s.
    stamps, step = Stamps.at_zero((12,), 38.6), 7.0
    every = jnp.asarray(3 ** np.arange(12))

    def update(carry, count):
        stamps, exact = carry
        time = step * count
        stamps = stamps.following(time)
        hit = count % every == 0
        stamps, exact = stamps.written(time, hit), jnp.where(hit, time, exact)
        return (stamps, exact), (stamps.ages(time), time - exact)

    counts = jnp.arange(1.0, 30_000.0)
    _, (ages, exact) = jax.lax.scan(update, (stamps, jnp.zeros(12)), counts)
    # Half a step of a stamp, 1/512 unit.
    np.testing.assert_allclose(ages, exact, rtol=2**-10, atol=64 / 512)
    assert np.max(exact) > 1e5


def test_after_a_year_old_writes_are_old_and_new_ones_young():
    stamps = Stamps.at_zero((2,), 38.6).written(jnp.float32(10.0)).set_back(YEAR)
    now = jnp.float32(20.0)
    np.testing.assert_allclose(stamps.ages(now), YEAR + 10, rtol=1e-6)
    stamps = stamps.following(now).written(now, jnp.array([True, False]))
    np.testing.assert_allclose(stamps.ages(now + 50), [50, YEAR + 60], rtol=2**-11)
    # Nor is a century too much of the units of a device that drifts from 38.6 s on.
    ages = stamps.set_back(100 * YEAR).following(now).ages(now)
    np.testing.assert_allclose(ages, [100 * YEAR, 101 * YEAR], rtol=2**-11)
