"""The tensors of a pytree of weights, by name."""

from typing import Any

import jax
import optax

from hic_jax.packing import path_name
from hic_jax.weights import HybridWeight, is_analog, is_hybrid


def hybrid_tensors(weights: Any) -> dict[str, HybridWeight]:
    """The `HybridWeight`s of a tree by their paths.

    Args:
      weights: pytree of `HybridWeight`, with `optax.MaskedNode` for digital leaves.

    Raises:
      ValueError: if weights are deployed, or a leaf is something else.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(
        weights, is_leaf=lambda x: is_analog(x) or isinstance(x, optax.MaskedNode)
    )
    if any(is_analog(leaf) and not is_hybrid(leaf) for _, leaf in leaves):
        raise ValueError(
            "weights are deployed: size and wear are counted of the hybrid weights "
            "that were trained"
        )
    tensors = {}
    for path, leaf in leaves:
        if is_hybrid(leaf):
            tensors[path_name(path)] = leaf
        elif not isinstance(leaf, optax.MaskedNode):
            raise ValueError(
                f"weights: {path_name(path) or 'the whole'} is {type(leaf).__name__}; "
                "must be as hic_jax.hybrid_weights(opt_state) returns it"
            )
    return tensors
