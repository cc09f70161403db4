"""Many tensors as one flat array: the device update runs once, not once per tensor."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from hic_jax.weights import HybridWeight


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where each tensor of a pytree lies in the flat array; static and hashable.

    Attributes:
      treedef: structure of the pytree.
      shapes: shape of each leaf.
    """

    treedef: Any
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, tree: Any) -> "Layout":
        """The layout of a pytree of arrays."""
        leaves, treedef = jax.tree.flatten(tree)
        return cls(treedef, tuple(jnp.shape(leaf) for leaf in leaves))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of weights of each leaf."""
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each leaf starts in the flat array."""
        return tuple(sum(self.sizes[:i]) for i in range(len(self.sizes)))

    def pack(self, leaves: list[jax.Array]) -> jax.Array:
        """Leaves, in tree order, as one (n,) float32 array."""
        if not leaves:
            return jnp.zeros((0,), jnp.float32)
        return jnp.concatenate([x.reshape(-1).astype(jnp.float32) for x in leaves])

    def unpack(self, flat: jax.Array) -> list[jax.Array]:
        """(..., n) to leaves of shape (..., *shape), in tree order."""
        return [
            jax.lax.slice_in_dim(flat, start, start + size, axis=flat.ndim - 1).reshape(
                *flat.shape[:-1], *shape
            )
            for start, size, shape in zip(
                self.offsets, self.sizes, self.shapes, strict=True
            )
        ]


def unpack_weights(packed: HybridWeight, layout: Layout) -> Any:
    """One `HybridWeight` of flat arrays as a pytree of one per tensor."""
    parts = (packed.multilevel, packed.binary, packed.accumulator)
    leaves, treedef = jax.tree.flatten(parts)
    split = [layout.unpack(leaf) for leaf in leaves]
    tensors = []
    for i in range(len(layout.shapes)):
        multilevel, binary, word = treedef.unflatten([leaf[i] for leaf in split])
        tensors.append(
            packed.replace(
                multilevel=multilevel,
                binary=binary,
                accumulator=word,
                scale=packed.scale[i],
            )
        )
    return layout.treedef.unflatten(tensors)
