"""Devices that were read with noise, followed from pulse to pulse.

An extended Kalman filter follows the conductance of a device, and, if there is such,
noise of reads that stays for a while. The noise of pulses, which stays, is told from
that of reads, which does not.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from hic_jax.fitting.data import Constants, Data, Steps

_TINY = 1e-12


class Followed(NamedTuple):
    """What the filter makes of trains.

    Attributes:
      likely: (ramps,) logarithm of the likelihood.
      mean: (ramps, pulses) what each value is foretold to be by those before it, uS.
      std: (ramps, pulses) its standard deviation, uS.
      start: (ramps, 2) conductance before the first pulse as all values tell it, and
        its standard deviation, uS.
    """

    likely: jax.Array
    mean: jax.Array
    std: jax.Array
    start: jax.Array


class _Ramp(NamedTuple):
    """One ramp of `Data`, or all; with the size of steps of its device."""

    first: jax.Array
    from_reset: jax.Array
    after: jax.Array
    counts: jax.Array
    up: jax.Array
    number: jax.Array
    factor: jax.Array


def followed(
    model: Steps,
    constants: Constants,
    data: Data,
    factor: jax.Array | float = 1.0,
) -> Followed:
    """Follows all devices.

    Args:
      model: what it says of pulses.
      constants: with ``read_offset`` where values were read with noise; ``read_slow``
        and ``read_memory`` where some of it stays.
      data: what was measured.
      factor: () or (ramps,), size of the steps over the mean.
    """
    every = _Ramp(
        data.first,
        data.from_reset,
        data.after,
        # What follows a gap counts no more than where values are exact.
        jnp.isfinite(data.after) & jnp.isfinite(data.before),
        data.up,
        data.number,
        jnp.broadcast_to(factor, data.device.shape),
    )
    return jax.vmap(lambda ramp: _ramp(model, constants, ramp))(every)


def _ramp(model: Steps, constants: Constants, ramp: _Ramp) -> Followed:
    """Follows a ramp."""
    white = constants.get("read_offset", 0.0) ** 2
    slow = constants.get("read_slow")
    stays = 0.0 if slow is None else jnp.exp(-1 / constants["read_memory"])
    # The last is the conductance at the start, which later values tell more of.
    size = 2 if slow is None else 3
    reads = jnp.ones(size).at[-1].set(0.0)  # What a read adds up.
    ends = model.ends(constants)

    def read(mean, covariance, value, there):
        """What is known after a value was read."""
        expected = reads @ mean
        towards = covariance @ reads
        total = reads @ towards + white
        error = jnp.where(there, value - expected, 0.0)
        gain = jnp.where(there, towards / total, 0.0)
        std = jnp.sqrt(total)
        likely = norm.logpdf(error, 0.0, std)
        covariance = covariance - gain[:, None] * towards
        return mean + gain * error, covariance, likely, expected, std

    def begun():
        """After the first value was read, of which only a RESET told before."""
        there = jnp.isfinite(ramp.first)
        first = jnp.where(there, ramp.first, constants["reset_mean"])
        held = jnp.ones(size) if slow is None else jnp.array([1.0, 0.0, 1.0])
        # What of a read is noise is not conductance.
        noise = jnp.zeros(size) if slow is None else jnp.array([-1.0, 1.0, -1.0]) * slow
        mean = first * held
        covariance = white * jnp.outer(held, held) + jnp.outer(noise, noise)
        if "reset_std" not in constants:
            return mean, covariance, 0.0
        known = constants["reset_mean"] * held
        before = constants["reset_std"] ** 2 * jnp.outer(held, held)
        if slow is not None:
            before = before.at[1, 1].set(slow**2)
        known, variance, likely, _, _ = read(known, before, first, there)
        chosen = ramp.from_reset
        return (
            jnp.where(chosen, known, mean),
            jnp.where(chosen, variance, covariance),
            jnp.where(chosen & there, likely, 0.0),
        )

    def pulse(state, one):
        mean, covariance = state
        value, counts, up, number = one

        def change(g):
            step, std = model.moments(constants, g, number, up)
            return ramp.factor * step, std

        (step, std), (slope, _) = jax.jvp(change, (mean[0],), (jnp.ones(()),))
        moves = jnp.ones(size).at[0].add(slope)
        if slow is not None:
            mean, moves = mean.at[1].mul(stays), moves.at[1].set(stays)
        covariance = (moves[:, None] * covariance * moves).at[0, 0].add(std**2)
        if slow is not None:
            covariance = covariance.at[1, 1].add((1 - stays**2) * slow**2)
        g, variance, inside = _clipped(mean[0] + step, covariance[0, 0], *ends)
        within = jnp.ones(size).at[0].set(inside)
        covariance = (within[:, None] * covariance * within).at[0, 0].set(variance)
        mean, covariance, likely, expected, std = read(
            mean.at[0].set(g), covariance, value, jnp.isfinite(value)
        )
        likely = jnp.where(counts, likely, 0.0)
        return (mean, covariance), (likely, expected, std)

    mean, covariance, likely = begun()
    (mean, covariance), (of_pulses, expected, std) = jax.lax.scan(
        pulse, (mean, covariance), (ramp.after, ramp.counts, ramp.up, ramp.number)
    )
    start = jnp.stack([mean[-1], jnp.sqrt(jnp.maximum(covariance[-1, -1], 0.0))])
    return Followed(likely + jnp.sum(of_pulses), expected, std, start)


def _clipped(
    mean: jax.Array, variance: jax.Array, low: jax.Array, high: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean and variance of a Gaussian that is cut off at both ends, and what is not."""
    std = jnp.sqrt(variance + _TINY)
    a, b = (low - mean) / std, (high - mean) / std
    below, above = norm.cdf(a), norm.sf(b)
    inside = 1 - below - above
    at_a, at_b = norm.pdf(a), norm.pdf(b)
    moved = std * (a * below + b * above + at_a - at_b)
    square = a**2 * below + b**2 * above + inside + a * at_a - b * at_b
    return mean + moved, jnp.maximum(variance * square - moved**2, _TINY), inside
