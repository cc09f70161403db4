"""The low-precision accumulator: integer LSBs in, carries out, nothing lost.

Pure integer arithmetic on arrays; what holds the word is `hic_jax.pcm.binary`.
"""

import jax
import jax.numpy as jnp


def quantise(
    lsbs: jax.Array, uniform: jax.Array | None, update_bits: int
) -> tuple[jax.Array, jax.Array]:
    """Rounds updates to whole LSBs and clips them to the update bus.

    Args:
      lsbs: float32 updates in LSBs.
      uniform: draws from [0, 1) for stochastic rounding; None rounds to nearest even.
      update_bits: width of the bus, two's complement.

    Returns:
      int32 LSBs that pass, and int32 LSBs that the bus cut off: at most 2^30, and as
      many of a NaN, of which nothing passes.
    """
    half = 2 ** (update_bits - 1)
    # Of what the bus cuts off, at most 2^30 LSBs are counted: far beyond any carry.
    undefined = jnp.isnan(lsbs)
    lsbs = jnp.clip(jnp.nan_to_num(lsbs, nan=2.0**30), -(2.0**30), 2.0**30)
    rounded = jnp.round(lsbs) if uniform is None else jnp.floor(lsbs + uniform)
    wanted = rounded.astype(jnp.int32)
    passed = jnp.where(undefined, 0, jnp.clip(wanted, -half, half - 1))
    return passed, wanted - passed


def accumulate(
    word: jax.Array, lsbs: jax.Array, bits: int, steps: int = 1
) -> tuple[jax.Array, jax.Array]:
    """Adds LSBs to the word; what leaves its range is carried in whole steps.

    ``new_word + carry * 2^(bits-1) / steps == word + lsbs``, always.

    Args:
      word: int8 in [-2^(bits-1), 2^(bits-1) - 1].
      lsbs: int32.
      bits: width of the word.
      steps: SET steps that half the range stands for, a power of two: each is that
        many times fewer LSBs.

    Returns:
      The new word (int8) and the carry (int32): as few steps as bring the sum into
      range, none while it stays there.
    """
    half = 2 ** (bits - 1)
    step = half // steps
    total = word.astype(jnp.int32) + lsbs
    # The range has one word more below zero than above.
    above = jnp.maximum(total - (half - 1), 0)
    below = jnp.maximum(-half - total, 0)
    carry = (above + step - 1) // step - (below + step - 1) // step
    return (total - carry * step).astype(jnp.int8), carry
