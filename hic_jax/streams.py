"""Streams of random numbers: one key may be given to any two functions.

Two that drew from a key as it is, or from what `jax.random.split` or a count makes of
it, could draw the same numbers: ``split(key)[i]`` and ``fold_in(key, i)`` are one key.
So each use has a stream of its own, by its name.
"""

import zlib

import jax


def stream(key: jax.Array, name: str) -> jax.Array:
    """The key of a use, apart from those of all other uses.

    Args:
      key: a random key.
      name: of the use, as nobody else calls theirs.
    """
    return jax.random.fold_in(key, zlib.crc32(name.encode()))
