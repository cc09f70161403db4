"""The tensors of a pytree of weights, by name."""

from typing import Any

import jax
import optax

from hic_jax.packing import path_name
from hic_jax.weights import HybridWeight, is_analog, is_hybrid


def hybrid_tensors(weights: Any) -> dict[str, HybridWeight]:
    """The `HybridWeight`s of a tree by their paths, digital leaves left out.

    Raises:
      ValueError: if weights are deployed.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(
        weights, is_leaf=lambda x: is_analog(x) or isinstance(x, optax.MaskedNode)
    )
    if any(is_analog(leaf) and not is_hybrid(leaf) for _, leaf in leaves):
        raise ValueError(
            "weights are deployed: size and wear are counted of the hybrid weights "
            "that were trained"
        )
    return {path_name(path): leaf for path, leaf in leaves if is_hybrid(leaf)}
