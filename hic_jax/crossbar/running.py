"""Running ranges of converters: means over past batches, as BatchNorm's statistics are.

The state of a product's ranges is one (2, 2) float32: for DAC and ADC what was seen,
weighted by age, and the sum of those weights. Their ratio is a mean from the first
batch on.
"""

import jax
import jax.numpy as jnp

from hic_jax.crossbar.straight_through import Ranges


def start() -> jax.Array:
    """The state before the first batch."""
    return jnp.zeros((2, 2), jnp.float32)


def means(state: jax.Array) -> Ranges:
    """Ranges as converters are to assume them; 0 before the first batch."""
    total, weight = state.T
    return Ranges(*jnp.where(weight > 0, total / jnp.where(weight > 0, weight, 1), 0))


def updated(state: jax.Array, seen: Ranges, momentum: float) -> jax.Array:
    """The state after a batch.

    Args:
      state: before it.
      seen: ranges of the batch.
      momentum: share of the state that is kept.
    """
    batch = jnp.stack([jnp.asarray(seen), jnp.ones(2, jnp.float32)], axis=1)
    return momentum * state + (1 - momentum) * jax.lax.stop_gradient(batch)
