"""Measured trains as likelihoods take them, and what a model says of pulses."""

from collections.abc import Mapping
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

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
