"""Flags of a few devices per weight, as the bits of one number."""

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
