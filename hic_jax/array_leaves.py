"""The arrays of a pytree, apart from leaves that are none: flags, names, functions."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np


def is_array(x: Any) -> bool:
    """Whether a leaf is an array, traced or not, or stands for one."""
    return isinstance(x, jax.Array | jax.ShapeDtypeStruct | np.ndarray | np.generic)


def parted(tree: Any) -> tuple[list[Any], Callable[[Iterable[Any]], Any]]:
    """The arrays of a pytree, and a function that puts others in their places.

    Examples:
      >>> import jax.numpy as jnp
      >>> arrays, rebuilt = parted({"x": jnp.ones(3), "train": True})
      >>> rebuilt([x.shape for x in arrays])
      {'train': True, 'x': (3,)}
    """
    leaves, structure = jax.tree.flatten(tree)
    arrays = [x for x in leaves if is_array(x)]
    others = [_ARRAY if is_array(x) else x for x in leaves]

    def rebuilt(arrays):
        given = iter(arrays)
        return jax.tree.unflatten(
            structure, [next(given) if x is _ARRAY else x for x in others]
        )

    return arrays, rebuilt


_ARRAY = object()
