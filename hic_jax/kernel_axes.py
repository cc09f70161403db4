"""`KernelAxes`: which axes of a weight tensor are rows of an array, and which columns.

"A tensor is a layer and its last axis the columns" holds for plain kernels, but not for
a stack of layers (`flax.linen.scan`, experts), nor for attention kernels of several
axes, nor for kernels with their outputs first. Scales, gains, fan-in and columns belong
to what an array holds.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from hic_jax import checks
from hic_jax.packing import path_name


@dataclasses.dataclass(frozen=True, kw_only=True)
class KernelAxes:
    """The axes of one weight tensor.

    Attributes:
      stack: axes along which there are matrices of their own, each on arrays of its
        own: the layers of a scan, the experts of a mixture, the batch of a product.
      columns: axes of the outputs; all that is left are rows, over which an array sums.
    """

    stack: tuple[int, ...] = ()
    columns: tuple[int, ...] = ()

    def __post_init__(self):
        both = (*self.stack, *self.columns)
        for axis in both:
            checks.integer("axis", axis, 0)
        if len(set(both)) < len(both):
            raise ValueError(
                f"stack={self.stack}, columns={self.columns}: no axis may be both"
            )

    @classmethod
    def plain(cls, ndim: int) -> "KernelAxes":
        """Axes of a kernel with its outputs last, as flax has them."""
        return cls(columns=(ndim - 1,) if ndim else ())

    def rows(self, ndim: int) -> tuple[int, ...]:
        """Axes that an array sums over."""
        return tuple(a for a in range(ndim) if a not in (*self.stack, *self.columns))


def axes_of_leaves(
    params: Any, axes: Mapping[str, KernelAxes]
) -> list[KernelAxes | None]:
    """The axes of every leaf, None where they are not known."""
    leaves = jax.tree_util.tree_leaves_with_path(
        params, is_leaf=lambda x: isinstance(x, optax.MaskedNode)
    )
    shapes = {path_name(path): jnp.shape(x) for path, x in leaves if _is_array(x)}
    unknown = axes.keys() - {path_name(path) for path, _ in leaves}
    if unknown:
        raise ValueError(
            f"axes[{min(unknown)!r}]: there is no such parameter; must be among "
            f"{', '.join(shapes)}"
        )
    for name in axes.keys() & shapes.keys():
        highest = max((*axes[name].stack, *axes[name].columns), default=-1)
        if highest >= len(shapes[name]):
            raise ValueError(
                f"axes[{name!r}]={axes[name]}: the parameter is {list(shapes[name])}"
            )
    return [axes.get(name) for name in shapes]


def _is_array(x: Any) -> bool:
    return not isinstance(x, optax.MaskedNode)
