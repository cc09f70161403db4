"""`Events`: what happened to all devices in an update, counted."""

import dataclasses
from typing import Self

import jax
import jax.numpy as jnp
from flax import struct


class Events(struct.PyTreeNode):
    """What happened to all devices in the last update, or at first; () float32 each.

    Nothing is dropped on the way to the devices without a count here. An algorithm of
    which there is more to say adds to it.

    Attributes:
      undefined_weights: initial weights that were no finite numbers, written as zero.
      saturated_weights: initial weights that lie a SET step or more beyond what pulses
        reach, and are written as less.
      parted_tensors: tensors of parameters that were not what the devices had answered
        with: something after or around the transformation had changed them.
      undefined_updates: updates that were no finite numbers, and did nothing.
      set_pulses: SET pulses that training fired; up and down ones of two-sided devices.
      futile_pulses: (2,) those of them, to raise weights and to lower them, that met a
        device already at the end they led to (of G+ and G-: ``g_max``), or a stuck one.
      refreshed_pairs: pairs that were RESET and rewritten.
      refresh_error: summed absolute change of their differences, uS: what noisy
        rewriting made of them.
      residue: summed absolute difference between what pairs were to be written to and
        what was read of them then, with read noise, uS. The ``rewrite_residue`` of the
        specification says what becomes of it.
      full_counters: counters of pulses that reached their largest number, and count
        no more from then on: the wear of these devices is at least what they tell.
    """

    undefined_weights: jax.Array
    saturated_weights: jax.Array
    parted_tensors: jax.Array
    undefined_updates: jax.Array
    set_pulses: jax.Array
    futile_pulses: jax.Array
    refreshed_pairs: jax.Array
    refresh_error: jax.Array
    residue: jax.Array
    full_counters: jax.Array

    @classmethod
    def of(cls, **counts: jax.Array) -> Self:
        """These counts, and zero for all others."""
        zeros = {f.name: jnp.zeros(()) for f in dataclasses.fields(cls)}
        zeros["futile_pulses"] = jnp.zeros((2,))
        return cls(
            **{k: jnp.asarray(v, jnp.float32) for k, v in (zeros | counts).items()}
        )

    def plus(self, **counts: jax.Array) -> Self:
        """These counts more."""
        return self.replace(**{k: getattr(self, k) + v for k, v in counts.items()})


def total(x: jax.Array) -> jax.Array:
    """Sum of absolute values, () float32."""
    return jnp.sum(jnp.abs(x.astype(jnp.float32)))
