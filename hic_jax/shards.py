"""`Shards`: the state of devices in equal parts, which the devices of a mesh share.

Every part holds a slice of each tensor, along one of its axes, and is updated by
itself, with draws of its own: nothing of it ever leaves the device of the mesh that has
it, and what is drawn depends on the number of parts, but not on who holds them. So a
state may move to any mesh that divides the parts, to a single device, too.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, PartitionSpec

from hic_jax import checks


@dataclasses.dataclass(frozen=True)
class Shards:
    """Equal parts of the state of devices.

    Attributes:
      count: number of parts. A tensor is divided along the longest axis that is a
        multiple of it.
      mesh: mesh whose devices hold them, equally many each; None leaves all parts to
        one device.
      axis: name of the axis of the mesh that they are spread over.

    Raises:
      ValueError: for a mesh that cannot: without such an axis, whose size does not
        divide the parts, or whose axes are not all automatic.
    """

    count: int
    mesh: Mesh | None = None
    axis: str = "data"

    def __post_init__(self):
        checks.integer("count", self.count, 1)
        if self.mesh is None:
            return
        checks.one_of("axis", self.axis, self.mesh.axis_names)
        kinds = set(self.mesh.axis_types)
        if kinds != {AxisType.Auto}:
            raise ValueError(
                f"mesh={self.mesh}: must have axes that are AxisType.Auto alone, for "
                "the compiler to divide what is between the parts"
            )
        devices = self.mesh.shape[self.axis]
        if self.count % devices:
            raise ValueError(
                f"count={self.count}: must be a multiple of {devices}, the devices "
                f"along {self.axis!r}"
            )

    def each(self, function: Callable, key: jax.Array, *arguments: Any) -> Any:
        """What a function makes of every part.

        Args:
          function: of the key of a part, and of arguments like those given, without
            their axis of parts. Returns two trees: of arrays (..., n) and of such that
            all parts share; and of numbers of a part.
          key: each part folds in its number.
          *arguments: trees of arrays (..., count, n), and of () that all parts share.

        Returns:
          Both trees: of arrays (..., count, n); and of numbers, summed over parts.
        """
        keys = jax.vmap(functools.partial(jax.random.fold_in, key))(
            jnp.arange(self.count)
        )
        one = jax.tree.map(_of_one_part, arguments)
        made, counted = jax.eval_shape(function, keys[0], *one)
        # In an array of one part the axis of parts will be the last but one.
        axes, made_axes = _axes(arguments, -2), _axes(made, -1)
        of_parts = jax.vmap(
            lambda key, arguments: function(key, *arguments),
            in_axes=(0, axes),
            out_axes=(made_axes, jax.tree.map(lambda _: 0, counted)),
        )
        if self.mesh is not None:
            held = PartitionSpec(self.axis)
            of_parts = jax.shard_map(
                of_parts,
                mesh=self.mesh,
                in_specs=(held, self._divided(arguments, -2)),
                out_specs=(
                    self._divided(made, -1),
                    jax.tree.map(lambda _: held, counted),
                ),
                # Parts have nothing to tell each other: there is nothing to check.
                check_vma=False,
            )
        parts, counts = of_parts(keys, arguments)
        return parts, jax.tree.map(lambda x: x.sum(axis=0), counts)

    def _divided(self, tree: Any, after_last: int) -> Any:
        """How arrays are divided, by where their axes of parts are (see `_axes`)."""
        return jax.tree.map(
            lambda x: (
                PartitionSpec(*[None] * (x.ndim + after_last), self.axis)
                if x.ndim
                else PartitionSpec()
            ),
            tree,
        )


def _axes(tree: Any, after_last: int) -> Any:
    """Axes of parts, counted from behind the last one; None of what all share."""
    return jax.tree.map(lambda x: x.ndim + after_last if x.ndim else None, tree)


def _of_one_part(x: jax.Array) -> jax.ShapeDtypeStruct:
    shape = (*x.shape[:-2], x.shape[-1]) if x.ndim else ()
    return jax.ShapeDtypeStruct(shape, x.dtype)
