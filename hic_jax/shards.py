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

    Also on a single device: of several parts it updates one after the other, and so
    needs memory for what is made on the way of one of them.

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

    def make(self, function: Callable, key: jax.Array, *arguments: Any) -> Any:
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
        shapes = jax.tree.map(_of_one_part, arguments)
        made, _ = jax.eval_shape(function, key, *shapes)
        empty = jax.tree.map(self._empty, made)
        return self.update(
            lambda key, _, *arguments: function(key, *arguments), key, empty, *arguments
        )

    def update(
        self, function: Callable, key: jax.Array, state: Any, *arguments: Any
    ) -> Any:
        """What a function makes of every part of a state, in its place.

        A device that holds several parts takes one after the other.

        Args:
          function: of the key of a part, of its state, and of arguments like those
            given, without their axis of parts. Returns the state anew, and a tree of
            numbers of a part.
          key: each part folds in its number.
          state: tree of arrays (..., count, n), and of () that all parts share.
          *arguments: trees of such arrays.

        Returns:
          The state anew; and the numbers, summed over parts.
        """
        updated = functools.partial(_one_after_the_other, function)
        if self.mesh is not None:
            held = PartitionSpec(self.axis)
            updated = jax.shard_map(
                updated,
                mesh=self.mesh,
                in_specs=(held, self._divided(state), self._divided(arguments)),
                out_specs=(self._divided(state), held),
                # Parts have nothing to tell each other: there is nothing to check.
                check_vma=False,
            )
        keys = jax.vmap(functools.partial(jax.random.fold_in, key))(
            jnp.arange(self.count)
        )
        state, counted = updated(keys, state, arguments)
        return state, jax.tree.map(lambda x: x.sum(axis=0), counted)

    def _empty(self, x: jax.ShapeDtypeStruct) -> jax.Array:
        """The place for what is made of all parts."""
        shape = (*x.shape[:-1], self.count, x.shape[-1]) if x.ndim else ()
        return jnp.zeros(shape, x.dtype)

    def _divided(self, tree: Any) -> Any:
        """How arrays are divided: along the last axis but one, that of parts."""
        return jax.tree.map(
            lambda x: (
                PartitionSpec(*[None] * (x.ndim - 2), self.axis)
                if x.ndim
                else PartitionSpec()
            ),
            tree,
        )


def _one_after_the_other(
    function: Callable, keys: jax.Array, state: Any, arguments: Any
) -> Any:
    """The state anew, part by part, and (count,) numbers of the parts."""

    def of_part(part: jax.Array, x: jax.Array) -> jax.Array:
        return jax.lax.dynamic_index_in_dim(x, part, -2, keepdims=False)

    def step(arrays: Any, at: tuple[jax.Array, jax.Array]) -> Any:
        part, key = at
        # What all parts share is as it was, not as the part before has left it.
        one = jax.tree.map(
            lambda x, was: of_part(part, x) if x.ndim else was, arrays, state
        )
        given = jax.tree.map(lambda x: of_part(part, x) if x.ndim else x, arguments)
        new, counted = function(key, one, *given)
        arrays = jax.tree.map(
            lambda x, new: (
                jax.lax.dynamic_update_index_in_dim(x, new, part, -2) if x.ndim else new
            ),
            arrays,
            new,
        )
        return arrays, counted

    return jax.lax.scan(step, state, (jnp.arange(len(keys)), keys))


def _of_one_part(x: jax.Array) -> jax.ShapeDtypeStruct:
    shape = (*x.shape[:-2], x.shape[-1]) if x.ndim else ()
    return jax.ShapeDtypeStruct(shape, x.dtype)
