"""What a fitted device foretells: bands of ramps, and how often they hold."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hic_jax.fitting.likelihood import Data, filtered
from hic_jax.fitting.maximum import Fit
from hic_jax.fitting.trains import Trains
from hic_jax.pcm.device import DeviceSpec
from hic_jax.releases import enable_x64

_SIMULATED = 4000
# Standard deviations that 95 % of a Gaussian lie within.
_WIDTH = 1.959964


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

    Ramps begin as a RESET leaves the device, or, those that begin otherwise, as those
    that were measured did. Reads have the device's noise.

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
        start = None if of_reset else jnp.asarray(first, jnp.float32)
        g = np.asarray(
            _simulated(device, start, trains.up[longest, : lengths.max()]), np.float64
        )
        low, high = np.quantile(g, [0.025, 0.975], axis=1)
        found.append(Band(ramps, g.mean(axis=1), low, high))
    return found


def _simulated(device: DeviceSpec, start: Any, up: np.ndarray) -> jax.Array:
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
            # What was read holds the noise of reads already.
            which = jax.random.randint(drawn, (_SIMULATED,), 0, len(start))
            state = state.replace(g=start[which])

        def pulse(state, one):
            key, up = one
            if device.TWO_SIDED:
                state = device.pulse(state, normal(key), up)
            else:
                state = device.pulse(state, normal(key))
            return state, read(key, state)

        first = state.g if start is not None else read(keys[0], state)
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
