"""How likely measured trains are, given the constants of a device.

Where values are exact, the change that each pulse made is a draw of its own: Gaussian,
and cut off where the device stands at an end of its range. Where values were read with
noise, a filter follows the device (`hic_jax.fitting.following`). What devices have of
their own, the size of their steps, is integrated out by Gauss-Hermite quadrature around
its likeliest value.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

from hic_jax.fitting.data import Constants, Data, Steps
from hic_jax.fitting.following import followed

# Quadrature nodes, and steps to the place they stand around.
_NODES, _STEPS = 9, 8
_TINY = 1e-12


def by_device(
    model: Steps, constants: Constants, data: Data, *, reads: bool, spread: bool
) -> jax.Array:
    """Logarithm of the likelihood, (devices,).

    Args:
      model: what it says of pulses.
      constants: those of the model, and ``reset_mean``, ``reset_std``; with ``reads``
        ``read_offset``, and with ``spread`` ``step_spread``.
      data: what was measured.
      reads: whether values were read with noise.
      spread: whether devices have steps of their own size.
    """

    def given(constants: Constants, z: jax.Array | None) -> jax.Array:
        factor = jnp.ones(data.devices)
        if z is not None:
            factor = step_factor(constants["step_spread"], z)
        factor = factor[data.device]
        if reads:
            ramps = followed(model, constants, data, factor).likely
        else:
            ramps = _exact(model, constants, data, factor[:, None])
        return jax.ops.segment_sum(ramps, data.device, data.devices)

    if not spread:
        return given(constants, None)
    return _integrated(given, constants, data.devices)


def step_factor(spread: jax.Array | float, z: jax.Array) -> jax.Array:
    """Size of a device's steps over the mean: log-normal, of a standard normal draw.

    Args:
      spread: standard deviation of the factor, whose mean is 1.
      z: the draws.
    """
    variance = jnp.log1p(jnp.square(spread))
    return jnp.exp(jnp.sqrt(variance) * z - variance / 2)


def _exact(
    model: Steps, constants: Constants, data: Data, factor: jax.Array
) -> jax.Array:
    """Of values without read noise, (ramps,)."""
    there = jnp.isfinite(data.after) & jnp.isfinite(data.before)
    before = jnp.where(there, data.before, 1.0)
    after = jnp.where(there, data.after, 1.0)
    mean, std = model.moments(constants, before, data.number, data.up)
    std = jnp.maximum(std, _TINY)
    expected = before + factor * mean
    likely = jnp.where(
        data.at_max,
        norm.logsf(after, expected, std),
        jnp.where(
            data.at_min,
            norm.logcdf(after, expected, std),
            norm.logpdf(after, expected, std),
        ),
    )
    return jnp.sum(jnp.where(there, likely, 0.0), axis=1) + _first(constants, data)


def _first(constants: Constants, data: Data) -> jax.Array:
    """Of the values that a RESET left, (ramps,)."""
    there = jnp.isfinite(data.first) & data.from_reset
    if "reset_std" not in constants:
        return jnp.zeros(data.first.shape)
    first = jnp.where(there, data.first, constants["reset_mean"])
    arguments = first, constants["reset_mean"], constants["reset_std"]
    likely = jnp.where(
        data.first_at_min, norm.logcdf(*arguments), norm.logpdf(*arguments)
    )
    return jnp.where(there, likely, 0.0)


def _integrated(
    given: Callable[[Constants, Any], jax.Array], constants: Constants, devices: int
) -> jax.Array:
    """Likelihood over a standard normal draw of each device: its logarithm, (devices,).

    Args:
      given: the logarithm for constants and draws (devices,).
      constants: of the model.
      devices: how many.
    """

    def joint(constants, z):
        return given(constants, z) - jnp.square(z) / 2

    # Where the nodes stand changes the integral by its error alone.
    fixed = jax.lax.stop_gradient(constants)
    slope = jax.grad(lambda z: jnp.sum(joint(fixed, z)))

    def bend(z):
        value, curvature = jax.jvp(slope, (z,), (jnp.ones_like(z),))
        return value, jnp.minimum(curvature, -1.0)  # That of the draw alone.

    def nearer(_, z):
        value, curvature = bend(z)
        return z + jnp.clip(-value / curvature, -1.0, 1.0)

    z = jax.lax.fori_loop(0, _STEPS, nearer, jnp.zeros(devices))
    width = jnp.sqrt(-1 / bend(z)[1])
    nodes, weights = np.polynomial.hermite.hermgauss(_NODES)
    at = z + np.sqrt(2) * width * nodes[:, None]
    terms = jax.vmap(lambda z: joint(constants, z))(at)
    terms += (nodes**2 + np.log(weights))[:, None]
    total = jax.scipy.special.logsumexp(terms, axis=0)
    return total + jnp.log(width) - jnp.log(jnp.pi) / 2
