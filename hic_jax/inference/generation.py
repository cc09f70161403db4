"""Text that a trained network writes, character by character."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from hic_jax import checks, crossbar
from hic_jax.inference.network import Network
from hic_jax.streams import stream


def generate(
    key: jax.Array, model: nn.Module, network: Network, start: jax.Array, length: int
) -> jax.Array:
    """Characters after some others, each drawn with the network's own probability.

    Args:
      key: draws the characters, the noise of converters, and that of the one read of
        the devices that all characters come from.
      model: called with ``(characters, train=)``.
      network: what was trained.
      start: (context,) integers: what it is shown first.
      length: how many characters to draw.

    Returns:
      (length,) int32.
    """
    checks.integer("length", length, 1)
    key = stream(key, "generate")
    return _generate(
        key, model, network.variables(key), jnp.asarray(start, jnp.int32), length
    )


@functools.partial(jax.jit, static_argnames=("model", "length"))
def _generate(key, model, variables, start, length):
    def next_one(window, number):
        draw_key, noise_key = jax.random.split(jax.random.fold_in(key, number))
        logits = model.apply(
            variables, window[None], train=False, rngs=crossbar.rngs(noise_key)
        )
        drawn = jax.random.categorical(draw_key, logits[0, -1])
        return jnp.append(window[1:], drawn), drawn

    return jax.lax.scan(next_one, start, jnp.arange(length))[1]
