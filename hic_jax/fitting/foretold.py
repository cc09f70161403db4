"""What a fitted device foretells: bands of ramps, and how often they hold."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jax.scipy.stats import norm

from hic_jax.fitting.likelihood import Data, filtered, step_factor
from hic_jax.fitting.maximum import Fit
from hic_jax.fitting.trains import Trains
from hic_jax.pcm.device import DeviceSpec
from hic_jax.releases import enable_x64

_SIMULATED = 4000
# Standard deviations that 95 % of a Gaussian lie within.
_WIDTH = 1.959964
# Quadrature nodes over sizes of steps.
_NODES = 9


@dataclasses.dataclass(frozen=True)
class Band:
    """Ramps as a device makes them, and those that were measured.

    Attributes:
      ramps: (ramps,) which of the trains it is about.
      mean: (pulses + 1,) mean conductance of all devices, uS.
      low: 2.5 % of the devices lie below.
      high: 2.5 % lie above.
    """

    ramps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def holds(self, g: np.ndarray) -> np.ndarray:
        """Which of conductances (ramps, pulses + 1) lie in it, as far as it goes."""
        g = g[:, : len(self.mean)]
        return (g >= self.low) & (g <= self.high)


def bands(device: DeviceSpec, trains: Trains, started: Trains) -> list[Band]:
    """Bands of ramps up and of ramps down, by simulation; 95 % of devices lie within.

    Ramps begin as a RESET leaves the device, or, those that begin otherwise, where
    those that were measured did, as far as what was read there tells it. Reads have
    the device's noise.

    Args:
      device: as it was fitted.
      trains: what the bands are compared with.
      started: trains whose beginnings ramps have that begin with no RESET.
    """
    found = []
    for up in (True, False):
        ramps = np.flatnonzero(trains.up[:, 0] == up)
        if not len(ramps):
            continue
        lengths = np.isfinite(trains.g[ramps]).cumsum(axis=1).argmax(axis=1)
        longest = ramps[lengths.argmax()]
        first = started.g[(started.up[:, 0] == up) & np.isfinite(started.g[:, 0]), 0]
        of_reset = bool(trains.from_reset[longest])
        start = None if of_reset else _began(device, first, few=started.few)
        g = np.asarray(
            _simulated(device, start, trains.up[longest, : lengths.max()]), np.float64
        )
        low, high = np.quantile(g, [0.025, 0.975], axis=1)
        found.append(Band(ramps, g.mean(axis=1), low, high))
    return found


def _began(device: DeviceSpec, first: np.ndarray, *, few: bool) -> jax.Array:
    """Conductances that ramps may begin with, uS, whose first values were read so.

    Of few ramps each has begun somewhere around its first value, by the noise of reads.
    Of many, what was read is spread by that noise more than what it was read of.
    """
    rng = np.random.default_rng(0)
    g = rng.choice(first, _SIMULATED)
    noise = np.asarray(device.read_std(jnp.asarray(g, jnp.float32)))
    if few:
        g = g + noise * rng.standard_normal(_SIMULATED)
    elif np.var(first) > 0:
        own = max(0.0, 1 - float(np.mean(noise**2) / np.var(first)))
        g = first.mean() + math.sqrt(own) * (g - first.mean())
    return jnp.asarray(g, jnp.float32)


def _simulated(
    device: DeviceSpec, start: jax.Array | None, up: np.ndarray
) -> jax.Array:
    """Conductances as they are read before the first pulse and after each one."""
    keys = jax.random.split(jax.random.key(0), len(up) + 1)

    def normal(key):
        return jax.random.normal(key, (_SIMULATED,), jnp.float32)

    def read(key, state):
        noise = normal(jax.random.fold_in(key, 1))
        return state.g + device.read_std(state.g) * noise

    @jax.jit
    def all_of(start):
        made, drawn = jax.random.split(keys[0])
        state = device.reset(device.init(made, (_SIMULATED,)), normal(drawn))
        if start is not None:
            state = state.replace(g=start)

        def pulse(state, one):
            key, up = one
            if device.TWO_SIDED:
                state = device.pulse(state, normal(key), up)
            else:
                state = device.pulse(state, normal(key))
            return state, read(key, state)

        first = read(keys[0], state)
        _, rest = jax.lax.scan(pulse, state, (keys[1:], jnp.asarray(up)))
        return jnp.concatenate([first[None], rest])

    return all_of(start)


def next_ones(fit: Fit, trains: Trains) -> tuple[np.ndarray, np.ndarray]:
    """What each value is foretold to be by those before it: mean and deviation, uS.

    Returns:
      (ramps, pulses) each, NaN where nothing was measured.
    """
    with enable_x64(True):
        constants = {k: jnp.asarray(v) for k, v in fit.all_constants.items()}
        data = Data.of(trains)
        spread = constants.get("step_spread", jnp.zeros(()))
        if fit.reads:
            factor = jnp.ones((len(trains.device), 1))
            _, mean, std = filtered(fit.model, constants, data, factor)
        else:
            step, std = fit.model.moments(constants, data.before, data.number, data.up)
            mean, std = data.before + step, jnp.sqrt(std**2 + (spread * step) ** 2)
        there = trains.there
        return (
            np.where(there, np.asarray(mean), np.nan),
            np.where(there, np.asarray(std), np.nan),
        )


def densities(fit: Fit, trains: Trains) -> np.ndarray:
    """Logarithm of the density that the band of a ramp has where each value lies.

    By the filter, which is told nothing but where ramps began that begin with no RESET:
    what noise does to the mean is left out. Devices have steps of their own size where
    the fit has a spread.

    Args:
      fit: with noise of reads.
      trains: of any devices.

    Returns:
      (ramps, pulses), NaN where nothing was measured.
    """
    with enable_x64(True):
        constants = {k: jnp.asarray(v) for k, v in fit.all_constants.items()}
        data = Data.of(trains)
        blind = data.replace(
            first=jnp.where(data.from_reset, jnp.nan, data.first),
            after=jnp.full_like(data.after, jnp.nan),
        )
        spread = constants.get("step_spread", 0.0)
        nodes, weights = np.polynomial.hermite.hermgauss(_NODES if fit.spread else 1)

        def of_factor(node):
            factor = jnp.full((len(trains.device), 1), step_factor(spread, node))
            _, mean, std = filtered(fit.model, constants, blind, factor)
            return norm.logpdf(data.after, mean, std)

        found = jax.vmap(of_factor)(jnp.asarray(np.sqrt(2) * nodes))
        shares = jnp.asarray(weights / np.sqrt(np.pi))[:, None, None]
        return np.asarray(logsumexp(found, axis=0, b=shares))


def next_ones_hold(fit: Fit, trains: Trains) -> np.ndarray:
    """Which values lie in the 95 % that those before them foretell, (ramps, pulses)."""
    mean, std = next_ones(fit, trains)
    low, high = mean - _WIDTH * std, mean + _WIDTH * std
    ends = fit.fixed
    low, high = np.clip(low, ends["g_min"], None), np.clip(high, None, ends["g_max"])
    after = trains.g[:, 1:]
    slack = 1e-6 * (ends["g_max"] - ends["g_min"])
    if fit.reads:
        low, high = mean - _WIDTH * std, mean + _WIDTH * std
    return (after >= low - slack) & (after <= high + slack)
