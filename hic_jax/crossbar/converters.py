"""Converters: real numbers to codes of b bits and back.

Derivatives, of whatever order, pass straight through: those of a converter without
rounding and clipping, at a range that is taken as it is.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

# A bound below this counts as nothing at all: its inverse would overflow float32.
TINY = 1e-30


def largest_code(bits: int) -> int:
    """2^(bits - 1) - 1; 1 without a converter, whose codes are the numbers."""
    return 2 ** (bits - 1) - 1 if bits else 1


def absmax(x: jax.Array, *, kept: Sequence[int] = ()) -> jax.Array:
    """Largest absolute value, float32; 0 of nothing. Derivatives see a constant.

    Args:
      x: any real array.
      kept: axes along which there is one each; the others have size 1 in the result.
        Without any the result is ().
    """
    others = tuple(axis for axis in range(x.ndim) if axis not in kept)
    x = jax.lax.stop_gradient(x)
    largest = jnp.max(jnp.abs(x), axis=others, keepdims=bool(kept), initial=0.0)
    return largest.astype(jnp.float32)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
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
    codes = jnp.round(_in_codes(x, bound, bits))
    return jnp.clip(codes, -most, most).astype(x.dtype)


@to_codes.defjvp
def _straight_through(bits, operands, tangents):
    x, bound = operands
    tangent, _ = tangents
    if bits:
        tangent = _in_codes(tangent, bound, bits).astype(x.dtype)
    return to_codes(x, bound, bits), tangent


def _in_codes(x: jax.Array, bound: jax.Array, bits: int) -> jax.Array:
    """In units of a code, not rounded, float32."""
    most = largest_code(bits)
    return x.astype(jnp.float32) * (most / _some(bound, bits))


def _some(bound: jax.Array, bits: int) -> jax.Array:
    """The bound; where that is nothing, one at which a code stands for 1.

    Codes of nothing are 0 at any bound, and derivatives want one to pass through.
    """
    return jnp.where(bound < TINY, largest_code(bits), bound)


def unit(bound: jax.Array, bits: int) -> jax.Array:
    """What a code of 1 stands for, as ``bound``; () 1 without a converter."""
    if not bits:
        return jnp.float32(1.0)
    # XLA divides an array by a constant like this anyway, but not a scalar.
    return _some(bound, bits) * jnp.float32(1 / largest_code(bits))


def convert(x: jax.Array, bound: jax.Array, bits: int) -> jax.Array:
    """What a converter of ``bits`` makes of ``x``."""
    if not bits:
        return x
    return to_codes(x, bound, bits) * unit(bound, bits).astype(x.dtype)
