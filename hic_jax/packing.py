"""Many tensors as one flat array: the device update runs once, not once per tensor."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import serialization


def path_name(path: tuple) -> str:
    """The name of a leaf, as ``stage1_block1/conv1/kernel``."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


@jax.tree_util.register_static
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
    def tree(self) -> Any:
        """The pytree, of shapes written as text."""
        return self.treedef.unflatten([str(list(shape)) for shape in self.shapes])

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


# It has no arrays to store.
serialization.register_serialization_state(
    Layout, lambda layout: {}, lambda layout, state: layout
)


def normals(key: jax.Array, shapes: Sequence[tuple[int, ...]]) -> list[jax.Array]:
    """Independent standard normal float32 draws of several shapes.

    Drawn as one array: a generator compiled for every tensor takes minutes where there
    are many.
    """
    layout = Layout(None, tuple(shapes))
    flat = jax.random.normal(key, (sum(layout.sizes),), jnp.float32)
    return layout.unpack(flat)
