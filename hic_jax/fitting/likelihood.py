"""How likely measured trains are, given the constants of a device.

Where values are exact, the change that each pulse made is a draw of its own: Gaussian,
and cut off where the device stands at an end of its range. Where values were read with
noise, the conductance behind them is followed from pulse to pulse by an extended Kalman
filter, which tells the noise of pulses, which stays, from that of reads, which does
not. A share of the latter may linger from read to read, as flicker noise does: an
autoregressive process that the filter follows beside the conductance. What devices have
of their own, the size of their steps, is integrated out by Gauss-Hermite quadrature
around its likeliest value.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.scipy.stats import norm

from hic_jax.fitting.trains import Trains

Constants = Mapping[str, jax.Array]


class Steps(Protocol):
    """What a model says of the pulses of a device."""

    def moments(
        self, constants: Constants, g: jax.Array, number: jax.Array, up: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Mean and standard deviation of the change that a pulse makes, uS.

        Args:
          constants: free ones and fixed ones.
          g: conductance before the pulse, uS.
          number: pulses that the ramp had before.
          up: whether it is a SET.
        """

    def ends(self, constants: Constants) -> tuple[jax.Array, jax.Array]:
        """Lowest and highest conductance of the device, uS."""


# Quadrature nodes, and steps to the place they stand around.
_NODES, _STEPS = 9, 8
_TINY = 1e-12


class Data(struct.PyTreeNode):
    """Trains as the likelihood takes them; arrays of (ramps, pulses) but for two.

    Attributes:
      first: (ramps,) conductance before the first pulse, uS; NaN if there is none.
      before: conductance before each pulse, uS, NaN where there is no pulse.
      after: conductance after it, uS.
      up: whether the pulse is a SET.
      number: pulses of the ramp before this one.
      at_min: whether the device then stands at the lower end.
      at_max: whether it stands at the upper one.
      first_at_min: (ramps,) whether the first value is as low as a RESET goes.
      from_reset: (ramps,) whether the ramp begins as a RESET leaves the device.
      device: (ramps,) number of the device.
      devices: how many there are, static.
    """

    first: jax.Array
    before: jax.Array
    after: jax.Array
    up: jax.Array
    number: jax.Array
    at_min: jax.Array
    at_max: jax.Array
    first_at_min: jax.Array
    from_reset: jax.Array
    device: jax.Array
    devices: int = struct.field(pytree_node=False)

    @classmethod
    def of(cls, trains: Trains) -> "Data":
        """What is in trains; to be called, and used, with 64-bit numbers in JAX."""
        there = trains.there
        at_min, at_max, at_reset = (
            trains.are_at(end)
            for end in (
                trains.pile(high=False),
                trains.pile(high=True),
                trains.pile(high=False, at_reset=True),
            )
        )
        devices, device = np.unique(trains.device, return_inverse=True)
        return cls(
            first=jnp.asarray(trains.g[:, 0]),
            before=jnp.asarray(np.where(there, trains.g[:, :-1], np.nan)),
            after=jnp.asarray(trains.g[:, 1:]),
            up=jnp.asarray(trains.up),
            number=jnp.broadcast_to(jnp.arange(there.shape[1]), there.shape),
            at_min=jnp.asarray(at_min[:, 1:]),
            at_max=jnp.asarray(at_max[:, 1:]),
            first_at_min=jnp.asarray(at_reset[:, 0]),
            from_reset=jnp.asarray(trains.from_reset),
            device=jnp.asarray(device),
            devices=len(devices),
        )


def by_device(
    model: Steps, constants: Constants, data: Data, *, reads: bool, spread: bool
) -> jax.Array:
    """Logarithm of the likelihood, (devices,).

    Args:
      model: what it says of pulses.
      constants: those of the model, and ``reset_mean``, ``reset_std``; with ``reads``
        ``read_offset``, and perhaps ``read_lingering`` and ``read_correlation``; with
        ``spread`` ``step_spread``.
      data: what was measured.
      reads: whether values were read with noise.
      spread: whether devices have steps of their own size.
    """
    of_ramps = _filtered if reads else _exact

    def given(constants: Constants, z: jax.Array | None) -> jax.Array:
        factor = jnp.ones(data.devices)
        if z is not None:
            factor = step_factor(constants["step_spread"], z)
        ramps = of_ramps(model, constants, data, factor[data.device][:, None])
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


def _filtered(
    model: Steps, constants: Constants, data: Data, factor: jax.Array
) -> jax.Array:
    """Of values that were read with noise, (ramps,)."""
    likely, _, _ = filtered(model, constants, data, factor)
    return likely


def filtered(
    model: Steps, constants: Constants, data: Data, factor: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """An extended Kalman filter over the pulses of every ramp.

    Its state is the conductance and what lingers of the noise of the last read.

    Args:
      model: what it says of pulses.
      constants: with ``read_offset``, the standard deviation of reads, uS, and perhaps
        ``read_lingering``, the share of their variance that lingers, and
        ``read_correlation``, that of what lingers with itself a read later.
      data: what was measured.
      factor: (ramps, 1), size of the steps over the mean.

    Returns:
      (ramps,) logarithm of the likelihood, and (ramps, pulses) mean and standard
      deviation of each value, uS, as those before it foretell it.
    """
    noise = constants["read_offset"] ** 2
    slow = constants.get("read_lingering", 0.0) * noise
    kept = constants.get("read_correlation", 0.0)
    low, high = model.ends(constants)
    factor = factor[:, 0]
    there = jnp.isfinite(data.first)
    first = jnp.where(there, data.first, constants["reset_mean"])
    # Seen with the noise of a read, after a RESET around what it leaves.
    mean, gain, known = first, jnp.ones(first.shape), jnp.full(first.shape, noise)
    lingers, likely = jnp.zeros(first.shape), jnp.zeros(first.shape)
    if "reset_std" in constants:
        made, total = constants["reset_std"] ** 2, constants["reset_std"] ** 2 + noise
        of_reset, seen = data.from_reset, there & data.from_reset
        mean = jnp.where(of_reset, constants["reset_mean"], first)
        gain = jnp.where(of_reset, there * made / total, 1.0)
        known = jnp.where(of_reset, (1 - gain) * made, noise)
        lingers = jnp.where(seen, slow / total, 0.0)
        likely = jnp.where(seen, norm.logpdf(first, mean, jnp.sqrt(total)), 0.0)
    off = first - mean
    # Means of both, and variance, covariance, variance.
    state = (
        mean + gain * off, lingers * off,
        known, -gain * slow, (1 - lingers) * slow,
    )  # fmt: skip

    def change(g, number, up):
        step, std = model.moments(constants, g, number, up)
        return factor * step, std

    def pulse(state, one):
        g, rest, gg, gr, rr = state
        after, counts, up, number = one
        (step, std), (slope, _) = jax.jvp(
            lambda g: change(g, number, up), (g,), (jnp.ones_like(g),)
        )
        gg, gr = (1 + slope) ** 2 * gg + std**2, (1 + slope) * kept * gr
        rest, rr = kept * rest, kept**2 * rr + (1 - kept**2) * slow
        g, gg, inside = _clipped(g + step, gg, low, high)
        gr = gr * inside
        expected, of_g, of_rest = g + rest, gg + gr, gr + rr
        total = of_g + of_rest + noise - slow
        measured = jnp.isfinite(after)
        error = jnp.where(measured, after - expected, 0.0)
        gain = jnp.where(measured, of_g / total, 0.0)
        lingers = jnp.where(measured, of_rest / total, 0.0)
        likely = jnp.where(counts, norm.logpdf(error, 0.0, jnp.sqrt(total)), 0.0)
        state = (
            g + gain * error, rest + lingers * error,
            gg - gain * of_g, gr - gain * of_rest, rr - lingers * of_rest,
        )  # fmt: skip
        return state, (likely, expected, jnp.sqrt(total))

    # What follows a gap counts no more than where values are exact.
    counts = jnp.isfinite(data.after) & jnp.isfinite(data.before)
    _, (of_pulses, expected, std) = jax.lax.scan(
        pulse, state, (data.after.T, counts.T, data.up.T, data.number.T)
    )
    return likely + jnp.sum(of_pulses, axis=0), expected.T, std.T


def _clipped(
    mean: jax.Array, variance: jax.Array, low: jax.Array, high: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean and variance of a Gaussian cut off at both ends, and what was inside."""
    std = jnp.sqrt(variance + _TINY)
    a, b = (low - mean) / std, (high - mean) / std
    below, above = norm.cdf(a), norm.sf(b)
    inside = 1 - below - above
    at_a, at_b = norm.pdf(a), norm.pdf(b)
    moved = std * (a * below + b * above + at_a - at_b)
    square = a**2 * below + b**2 * above + inside + a * at_a - b * at_b
    cut = jnp.maximum(variance * square - moved**2, _TINY)
    return mean + moved, cut, inside


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
