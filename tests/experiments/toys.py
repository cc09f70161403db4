"""A device and an algorithm as users would write them, in a file of their own."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from hic_jax import algorithms, pcm
from hic_jax.algorithms.events import total
from hic_jax.pcm import pair


class FilamentState(struct.PyTreeNode):
    """Devices, each with a size of its own."""

    g: jax.Array
    size: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class FilamentSpec(pcm.DeviceSpec):
    """A device whose steps shrink towards g_max, and which relaxes.

    Attributes:
      rate: share of what is left up to g_max that a SET pulse adds.
      size_std: spread of that from device to device.
      relax_seconds: time in which a device falls to half, s.
    """

    rate: float = 0.06
    size_std: float = 0.1
    relax_seconds: float = 1e8

    def init(self, key, shape):
        """Each device has a size of its own."""
        size = 1 + self.size_std * jax.random.normal(key, shape, jnp.float32)
        g = jnp.full(shape, self.reset_mean, jnp.float32)
        return FilamentState(g=g, size=jnp.clip(size, 0.5, 1.5))

    def pulse(self, state, normal):
        """Steps vary by a tenth from pulse to pulse."""
        step = self.rate * state.size * (self.g_max - state.g) * (1 + 0.1 * normal)
        return state.replace(g=jnp.clip(state.g + step, self.g_min, self.g_max))

    def reset(self, state, normal):
        """A RESET is exact."""
        return state.replace(g=jnp.full_like(state.g, self.reset_mean))

    def conductance(self, state, age):
        """Halves again and again."""
        return state.g * 2 ** (-age / self.relax_seconds)


def filament():
    """The device, without a source but this file."""
    return FilamentSpec(
        name="filament", source="a test", g_min=0.1, g_max=20.0, reset_mean=0.1
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ManhattanSpec(algorithms.PairSpec):
    """A pulse in the direction of the update, where that is large enough.

    Attributes:
      threshold: size of an update that fires a pulse, in steps.
    """

    threshold: float = 0.2

    def update(self, key, weight, update, count):
        """Fires, and refreshes."""
        set_key, refresh_key = jax.random.split(key)
        steps = jnp.sign(update) * (jnp.abs(update) > self.threshold)
        pairs, _ = pair.set_pulses(
            set_key,
            weight.multilevel,
            steps.astype(jnp.int32),
            weight.time,
            self.multilevel,
            count,
        )
        weight = weight.replace(multilevel=pairs)
        weight, refreshed = self.refreshed(refresh_key, weight, count)
        events = algorithms.Events.of(set_pulses=total(steps), **refreshed)
        return weight, events
