"""Standard errors, also of constants that lie at a bound."""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from hic_jax.fitting.standard_errors import standard_errors
from hic_jax.fitting.surface import Surface
from hic_jax.releases import enable_x64


@dataclasses.dataclass(frozen=True)
class Of(Surface):
    """The surface of a function of a vector."""

    function: Callable

    def __call__(self, vector):
        return float(self.function(vector))

    def slope(self, vector):
        return self(vector), np.asarray(jax.grad(self.function)(vector))

    def hessian(self, vector):
        return np.asarray(jax.hessian(self.function)(vector))


def errors(function, vector, low, high):
    with enable_x64(True):
        surface = Of(
            model=None, fixed={}, data=None, unravel=None,
            low=np.array(low), high=np.array(high), reads=False, spread=False,
            function=function,
        )  # fmt: skip
        return standard_errors(surface, np.array(vector))


def test_of_a_normal_likelihood_they_are_those_of_its_covariance():
    covariance = np.array([[4.0, 1.0], [1.0, 2.0]])
    inverse = jnp.asarray(np.linalg.inv(covariance))

    found = errors(lambda x: x @ inverse @ x / 2, [0.0, 0.0], [-9.0, -9.0], [9.0, 9.0])
    np.testing.assert_allclose(found, [2.0, math.sqrt(2.0)], rtol=1e-6)


# Forty values of a normal distribution whose deviation is that of reads, 1, or less: of
# noise beyond that the likeliest is none.
COUNT, SQUARES = 40, 36.0


def _of_noise(noise):
    variance = 1 + noise**2
    return COUNT / 2 * jnp.log(variance) + SQUARES / 2 / variance


def _three_errors():
    """Where it has fallen as much as a normal likelihood three errors away."""

    def above(noise):
        return float(_of_noise(noise) - _of_noise(0.0)) - 4.5

    return optimize.brentq(above, 1e-3, 5.0)


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_noise_that_is_not_seen_has_the_error_of_what_it_may_be(side):
    def function(vector):
        mean, noise = vector
        # What is not seen moves the mean, as where ends of a range cut it off.
        return 200 * (mean - 3 - noise**2) ** 2 + _of_noise(noise)

    low, high = ([-10.0, 0.0], [10.0, 5.0]) if side > 0 else ([-10, -5.0], [10, 0.0])
    mean, noise = errors(function, [3.0, 0.0], low, high)
    right = _three_errors()
    assert noise == pytest.approx(right / 3, rel=0.02)
    assert 0.5 < right < 2.0
    assert mean == pytest.approx(math.hypot(1 / 20, right**2 / 3), rel=0.04)


def test_noise_that_is_hardly_seen_has_that_error_too():
    # Lowest at 0.1, where it falls at once on both sides, and then hardly any more.
    def function(vector):
        return 2 * jnp.log1p(jnp.square(vector[0] - 0.1) / 0.02)

    (found,) = errors(function, [0.1], [0.0], [5.0])
    # 4.5 lower; by the curvature it would be 0.07.
    assert found == pytest.approx(math.sqrt(0.02 * math.expm1(2.25)) / 3, rel=0.02)
    assert found > 0.13


def test_what_may_be_anywhere_leaves_others_as_uncertain_as_it_is():
    # Whatever the second is between its bounds, the first follows it.
    def function(vector):
        return 50 * (vector[0] - vector[1]) ** 2 + 0.05 * (vector[1] - 0.5) ** 2

    found = errors(function, [0.5, 0.5], [-9.0, 0.0], [9.0, 1.0])
    np.testing.assert_allclose(found, [math.hypot(0.1, 10**0.5), 10**0.5], rtol=1e-6)


def test_what_may_be_anywhere_has_none_and_moves_no_other():
    def function(vector):
        return 50 * vector[0] ** 2 + 0.1 * vector[1]

    found = errors(function, [0.0, 0.0], [-1.0, 0.0], [1.0, 1.0])
    assert found[0] == pytest.approx(0.1)
    assert math.isnan(found[1])
    # Of what bends upwards nowhere there is none either.
    saddle = errors(lambda x: x[0] * x[1], [0.0, 0.0], [-1.0, -1.0], [1.0, 1.0])
    assert np.isnan(saddle).all()


def test_on_the_side_where_it_falls_later():
    # Normal in the logarithm of the first, which the second follows as a power.
    def function(vector):
        log = jnp.log(vector[0])
        return (log / 0.5) ** 2 / 2 + 50 * (vector[1] - log) ** 2

    found = errors(function, [1.0, 0.0], [1e-3, -9.0], [99.0, 9.0])
    # Four and a half times as much where the curvature says two and a half.
    assert found[0] == pytest.approx(math.expm1(1.5) / 3, rel=0.02)
    # It is normal itself, and not less certain than its own likelihood tells.
    assert found[1] == pytest.approx(math.hypot(0.5, 0.1), rel=0.05)
