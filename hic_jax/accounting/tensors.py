"""The tensors of a pytree of weights, by name."""

from typing import Any

import jax
import optax

from hic_jax.packing import path_name
from hic_jax.weights import AnalogWeight, is_analog


def analog_tensors(weights: Any) -> dict[str, AnalogWeight]:
    """The `AnalogWeight`s of a tree by their paths.

    Args:
      weights: pytree of weights on devices, with `optax.MaskedNode` for digital leaves.

    Raises:
      ValueError: if a leaf is something else.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(
        weights, is_leaf=lambda x: is_analog(x) or isinstance(x, optax.MaskedNode)
    )
    tensors = {}
    for path, leaf in leaves:
        if is_analog(leaf):
            tensors[path_name(path)] = leaf
        elif not isinstance(leaf, optax.MaskedNode):
            raise ValueError(
                f"weights: {path_name(path) or 'the whole'} is {type(leaf).__name__}; "
                "must be as hic_jax.analog_weights(opt_state) returns it"
            )
    return tensors
