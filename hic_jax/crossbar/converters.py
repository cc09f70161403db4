"""Converters: real numbers to codes of b bits and back."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

# A bound below this counts as nothing at all: its inverse would overflow float32.
TINY = 1e-30


def largest_code(bits: int) -> int:
    """2^(bits - 1) - 1; 1 without a converter, whose codes are the numbers."""
    return 2 ** (bits - 1) - 1 if bits else 1


def absmax(x: jax.Array, *, kept: Sequence[int] = ()) -> jax.Array:
    """Largest absolute value, float32; 0 of nothing.

    Args:
      x: any real array.
      kept: axes along which there is one each; the others have size 1 in the result.
        Without any the result is ().
    """
    others = tuple(axis for axis in range(x.ndim) if axis not in kept)
    largest = jnp.max(jnp.abs(x), axis=others, keepdims=bool(kept), initial=0.0)
    return largest.astype(jnp.float32)


def to_codes(x: jax.Array, bound: jax.Array, bits: int) -> jax.Array:
    """Rounds to the nearest code (ties to even); what is beyond ``bound`` is clipped.

    Args:
      x: any real array.
      bound: what the largest code stands for, broadcastable to ``x``; at zero all codes
        are 0.
      bits: width of the converter; 0 gives ``x`` back.

    Returns:
      Whole numbers in the dtype of ``x``.
    """
    if not bits:
        return x
    most = largest_code(bits)
    per_unit = jnp.where(bound < TINY, 0.0, most / bound)
    codes = jnp.round(x.astype(jnp.float32) * per_unit)
    return jnp.clip(codes, -most, most).astype(x.dtype)


def unit(bound: jax.Array, bits: int) -> jax.Array:
    """What a code of 1 stands for, as ``bound``; () 1 without a converter."""
    # XLA divides an array by a constant like this anyway, but not a scalar.
    return bound * jnp.float32(1 / largest_code(bits)) if bits else jnp.float32(1.0)


def convert(x: jax.Array, bound: jax.Array, bits: int) -> jax.Array:
    """What a converter of ``bits`` makes of ``x``."""
    if not bits:
        return x
    return to_codes(x, bound, bits) * unit(bound, bits).astype(x.dtype)
