"""The filter against the whole covariance of what is read, where all is Gaussian."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from hic_jax.fitting.data import Data
from hic_jax.fitting.following import followed
from hic_jax.fitting.trains import Trains
from hic_jax.older import enable_x64

PULSES, STEP, NOISE, READ = 12, 0.7, 0.4, 0.5


class Even:
    """Steps that are alike everywhere, without ends."""

    def moments(self, constants, g, number, up):
        """In the direction of the pulse."""
        return jnp.where(up, STEP, -STEP), NOISE

    def ends(self, constants):
        """Further than any pulse leads."""
        return -1e3, 1e3


def measured(from_reset):
    rng = np.random.default_rng(0)
    up = np.broadcast_to(np.array([[True], [False]]), (2, PULSES))
    g = np.where(up, 1, -1).cumsum(axis=1) * STEP
    g = np.concatenate([np.zeros((2, 1)), g], axis=1) + rng.normal(size=(2, PULSES + 1))
    return Trains(g, up, np.zeros(2, int), np.full(2, from_reset))


@pytest.mark.parametrize("from_reset", [True, False])
@pytest.mark.parametrize("slow", [0.0, 0.8])
def test_it_is_as_likely_as_by_the_covariance_of_all_reads(slow, from_reset):
    trains, memory, factor = measured(from_reset), 3.0, 1.3
    constants = {"read_offset": READ, "reset_mean": 0.1, "reset_std": 0.3}
    if slow:
        constants |= {"read_slow": slow, "read_memory": memory}
    with enable_x64(True):
        constants = {name: jnp.asarray(value) for name, value in constants.items()}
        found = followed(Even(), constants, Data.of(trains), factor)
    n = np.arange(PULSES + 1)
    stays = slow**2 * np.exp(-abs(n[:, None] - n) / memory)
    covariance = NOISE**2 * np.minimum(n[:, None], n) + stays + READ**2 * np.eye(len(n))
    mean = np.where(trains.up[:, :1], 1, -1) * n * STEP * factor
    values = trains.g - mean
    if from_reset:
        values, covariance = values - 0.1, covariance + 0.3**2
    else:  # Of what is read beside the first value alone.
        apart = np.eye(len(n))[1:] - np.eye(len(n))[0]
        values, covariance = values @ apart.T, apart @ covariance @ apart.T
    expected = stats.multivariate_normal(cov=covariance).logpdf(values)
    np.testing.assert_allclose(found.likely, expected, rtol=1e-9)
    assert np.isfinite(found.mean).all()
