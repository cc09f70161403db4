"""Flags of a few devices per weight as the bits of one number, and counters of them.

Counters of up to eight devices are bit planes: plane i is a byte for each weight, whose
bit k is bit i of the counter of device k. Counting is an addition of all of them at
once, with a carry from plane to plane.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def pack(planes: jax.Array | Sequence[jax.Array]) -> jax.Array:
    """(bits, *shape) bool to (*shape): plane k is bit k.

    Returns:
      uint8 for up to 8 planes, uint16 for up to 16.
    """
    dtype = jnp.uint8 if len(planes) <= 8 else jnp.uint16
    return sum(plane.astype(dtype) << k for k, plane in enumerate(planes))


def unpack(code: jax.Array, bits: int) -> jax.Array:
    """(*shape) to (bits, *shape) of 0 and 1, dtype kept."""
    return jnp.stack([(code >> k) & 1 for k in range(bits)])


def count(counters: jax.Array, hit: jax.Array) -> jax.Array:
    """Counts one more for some devices.

    Args:
      counters: (planes, *shape) uint8.
      hit: (*shape) uint8, whose bit k says that device k counts one.

    Returns:
      The counters; those at their largest value, 2^planes - 1, stay there.
    """
    carry = hit & ~_at_most(counters)
    # A loop, because in one expression XLA follows the carry anew for every plane.
    _, counters = jax.lax.scan(
        lambda carry, plane: (plane & carry, plane ^ carry), carry, counters
    )
    return counters


def counts(counters: jax.Array, devices: int) -> jax.Array:
    """(planes, *shape) counters of so many devices, as (devices, *shape) int32."""
    bits = [unpack(plane, devices).astype(jnp.int32) for plane in counters]
    return sum((x << i for i, x in enumerate(bits)), jnp.int32(0))


def full(counters: jax.Array) -> jax.Array:
    """Number of (planes, *shape) counters at their largest value, () float32."""
    at_most = jax.lax.population_count(_at_most(counters))
    return jnp.sum(at_most.astype(jnp.float32))


def _at_most(counters: jax.Array) -> jax.Array:
    """(*shape) uint8, whose bit k says that counter k is at its largest value."""
    return jax.lax.reduce_and(counters, (0,))
