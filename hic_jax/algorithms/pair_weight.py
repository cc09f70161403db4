"""`PairWeight`: weights that pairs of multi-level devices hold."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from hic_jax.pcm import pair
from hic_jax.weights import AnalogWeight, Pulses


class PairWeight(AnalogWeight):
    """Weights on pairs of multi-level devices, which alone are the weight.

    The following holds, for a weight tensor of shape S:
      * weight = (G+ - G-) / scale, with G drifted to ``time``
      * the device arrays are authoritative: float weights are a view of them
      * devices were made at time 0

    Packed weights (`AnalogState.weights`) hold tuples as ``scale`` and ``axes``, with
    an entry for each tensor.

    Attributes:
      multilevel: pairs of multi-level devices, shape S.
    """

    multilevel: pair.PairState

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight tensor."""
        return self.multilevel.all_devices[1:]

    @property
    def read_shape(self) -> tuple[int, ...]:
        """A draw for each pair: Gaussian read errors of its devices are one."""
        return self.shape

    @property
    def chip_shape(self) -> tuple[int, ...]:
        """As many draws for each device as differ between chips."""
        return (self.spec.multilevel.chip_draws, *self.multilevel.all_devices)

    def conductance(self, normal: jax.Array | None, *, fresh: bool = True) -> jax.Array:
        """G+ - G- at ``time``, uS."""
        device = self.spec.multilevel
        return pair.read(normal, self.multilevel, self.time, device, fresh=fresh)

    def fresh_variance(self) -> jax.Array | None:
        """Variance of the weights that is new in every product; None without any."""
        device = self.spec.multilevel
        variance = pair.fresh_variance(self.multilevel, self.time, device)
        return None if variance is None else (jnp.sqrt(variance) / self.scale) ** 2

    def on_another_chip(self, normal: jax.Array) -> Self:
        """The same conductances on devices that age otherwise."""
        device = self.spec.multilevel
        devices = device.on_another_chip(self.multilevel.devices, normal)
        return self.replace(multilevel=self.multilevel.replace(devices=devices))

    def without(self, *names: str) -> Self:
        """The same devices, as if they had never had some of their non-idealities.

        What these have done to the conductances in training stays.
        """
        device = self.spec.multilevel.without(*names)
        return self.replace(spec=dataclasses.replace(self.spec, multilevel=device))

    def set_back(self, seconds: jax.Array | float) -> Self:
        """The devices ``seconds`` older at the same time: writes lie further back."""
        return self.with_arrays([x.set_back(seconds) for x in self.arrays])

    @property
    def arrays(self) -> tuple[pair.PairState, ...]:
        """All arrays of devices."""
        return (self.multilevel,)

    def with_arrays(self, arrays: Sequence[pair.PairState]) -> Self:
        """The weight on these arrays."""
        (one,) = arrays
        return self.replace(multilevel=one)

    def following(self) -> Self:
        """The same weight, whose stamps of writes count from now if they are old."""
        return self.with_arrays([x.following(self.time) for x in self.arrays])

    def full_counters(self) -> jax.Array:
        """Number of counters of pulses that have stopped, () float32."""
        return sum((x.full_counters() for x in self.arrays), jnp.float32(0.0))

    def bits(self) -> dict[str, int]:
        """Nominal bits, ``multilevel_bits`` for each device on a side."""
        spec = self.spec
        bits = self.size * spec.multilevel_bits * spec.devices_per_sign
        return {"inference": bits, "training": bits}

    def devices(self) -> dict[str, int]:
        """Number of multi-level devices; references that each weight has are some."""
        return {"multilevel": self.size * self.devices_in_products}

    @property
    def devices_in_products(self) -> int:
        """All devices of a weight, and a reference of its own."""
        return self.spec.held_by + self.spec.own_references

    def pulses(self) -> dict[str, Pulses]:
        """SETs and RESETs of every multi-level device, (d, n) each."""
        sets, resets = self.multilevel.set_pulses, self.multilevel.resets
        if sets is None or resets is None:
            raise ValueError("track_wear=False: pulses of the devices are not known")
        return {"multilevel": flat_pulses(sets, jnp.broadcast_to(resets, sets.shape))}

    def reads(self, steps: int) -> dict[str, int]:
        """Every device is read at every look for pairs to refresh."""
        every = self.spec.looks_every
        looks = steps // every if every else 0
        return {"multilevel": looks * math.prod(self.multilevel.all_devices)}


def flat_pulses(sets: jax.Array, resets: jax.Array) -> Pulses:
    """Pulses of shape (d, *shape) as NumPy arrays (d, n)."""
    return _flat_rows(sets), _flat_rows(resets)


def _flat_rows(x: jax.Array) -> np.ndarray:
    return np.asarray(x).reshape(len(x), -1)
