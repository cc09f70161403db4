"""Whether parameters are still those that devices answered with.

What stands after or around `hic_jax.hic` in an optax chain (a freeze, a clip, a
lookahead) changes the parameters without the devices. To see it at the next update, the
state keeps two sums over every tensor of parameters; a copy of them would double the
memory of the weights.
"""

import jax
import jax.numpy as jnp

# Sums of float32 in another order differ by 1e-6 of what they would be without signs.
TOLERANCE = 1e-5


def of(leaves: list[jax.Array]) -> jax.Array:
    """Sum and sum of squares of every tensor, (tensors, 2) float32."""
    wide = [leaf.astype(jnp.float32) for leaf in leaves]
    sums = [jnp.stack([jnp.sum(x), jnp.sum(jnp.square(x))]) for x in wide]
    return jnp.stack(sums) if sums else jnp.zeros((0, 2), jnp.float32)


def unknown(tensors: int) -> jax.Array:
    """What `parted` takes for any parameters."""
    return jnp.full((tensors, 2), jnp.nan, jnp.float32)


def parted(expected: jax.Array, leaves: list[jax.Array]) -> jax.Array:
    """Which tensors are not those of the fingerprint, (tensors,) bool."""
    now = of(leaves)
    size = jnp.asarray([leaf.size for leaf in leaves], jnp.float32)
    # No sum of n numbers is above sqrt(n times the sum of their squares).
    most = jnp.stack([jnp.sqrt(size * expected[:, 1]), expected[:, 1]], axis=1)
    return jnp.any(jnp.abs(now - expected) > TOLERANCE * most, axis=1)
