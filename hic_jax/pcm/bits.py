"""Flags of a few devices per weight, as the bits of one byte."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def pack(planes: jax.Array | Sequence[jax.Array]) -> jax.Array:
    """(bits, *shape) bool, at most 8 planes, to (*shape) uint8: plane k is bit k."""
    return sum(plane.astype(jnp.uint8) << k for k, plane in enumerate(planes))


def unpack(code: jax.Array, bits: int) -> jax.Array:
    """(*shape) uint8 to (bits, *shape) uint8 of 0 and 1."""
    return jnp.stack([(code >> k) & 1 for k in range(bits)])
