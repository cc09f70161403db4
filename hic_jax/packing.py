"""Many tensors as one flat array: the device update runs once, not once per tensor.

Or as one flat array for each of several equal parts (`hic_jax.shards`), which takes a
slice of every tensor: where the tensors are divided over a mesh along the same axes,
packing then moves nothing from one device to another.
"""

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
      parts: number of equal parts; None for a single flat array.
    """

    treedef: Any
    shapes: tuple[tuple[int, ...], ...]
    parts: int | None = None

    @classmethod
    def of(cls, tree: Any, parts: int | None = None) -> "Layout":
        """The layout of a pytree of arrays.

        Raises:
          ValueError: if a leaf cannot be divided into so many parts.
        """
        leaves, treedef = jax.tree.flatten(tree)
        layout = cls(treedef, tuple(jnp.shape(leaf) for leaf in leaves), parts)
        if parts is not None:
            paths = jax.tree_util.tree_leaves_with_path(layout.tree)
            for (path, _), shape in zip(paths, layout.shapes, strict=True):
                if cut_axis(shape, parts) is None:
                    raise ValueError(
                        f"params {path_name(path)}{list(shape)}: must have an axis "
                        f"that is a multiple of {parts}, the number of shards"
                    )
        return layout

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
        """Leaves, in tree order, as one (n,) or (parts, n / parts) float32 array."""
        rows = () if self.parts is None else (self.parts,)
        if not leaves:
            return jnp.zeros((*rows, 0), jnp.float32)
        ordered = [x.astype(jnp.float32) for x in leaves]
        if self.parts is not None:
            ordered = [jnp.moveaxis(x, self._cut(x.shape), 0) for x in ordered]
        return jnp.concatenate([x.reshape(*rows, -1) for x in ordered], axis=-1)

    def unpack(self, flat: jax.Array) -> list[jax.Array]:
        """(..., n), or (..., parts, n / parts), to leaves (..., *shape)."""
        parts = self.parts or 1
        return [
            self._shaped(
                jax.lax.slice_in_dim(
                    flat, start // parts, (start + size) // parts, axis=flat.ndim - 1
                ),
                shape,
            )
            for start, size, shape in zip(
                self.offsets, self.sizes, self.shapes, strict=True
            )
        ]

    def _shaped(self, piece: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """What a leaf has in the packed array, in its own shape."""
        if self.parts is None:
            return piece.reshape(*piece.shape[:-1], *shape)
        before, cut = piece.shape[:-2], self._cut(shape)
        others = shape[:cut] + shape[cut + 1 :]
        whole = piece.reshape(*before, shape[cut], *others)
        return jnp.moveaxis(whole, len(before), len(before) + cut)

    def _cut(self, shape: tuple[int, ...]) -> int:
        """The axis that is cut of a leaf of this layout, which has parts."""
        axis = cut_axis(shape, self.parts or 1)
        assert axis is not None  # As `of` has checked.
        return axis


def cut_axis(shape: tuple[int, ...], parts: int) -> int | None:
    """The axis along which a tensor is divided into equal parts; None if it cannot.

    The longest that is a multiple of them, and of several the last.
    """
    able = [axis for axis, size in enumerate(shape) if size and size % parts == 0]
    return max(able, key=lambda axis: (shape[axis], axis), default=None)


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
