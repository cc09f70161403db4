"""Arrays whose types say how they are divided over a mesh.

On a mesh whose axes are `jax.sharding.AxisType.Explicit`, JAX's default, every
operation has to know how its result is divided. What cuts, pads and joins its operands
leaves that to the compiler, and promises only how its own results are divided.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType


def divided_like(model: Callable, function: Callable, *operands: Any) -> Any:
    """``function(*operands)``, divided inside as the compiler likes.

    Args:
      model: of the operands; its results have the shapes of those of ``function``, and
        types that say how to divide them. It is not computed.
      function: what is computed.
      *operands: pytrees of arrays. Without any on an explicit mesh nothing is changed.
    """
    axes: dict[str, AxisType] = {}
    for x in jax.tree.leaves(operands):
        mesh = jax.typeof(x).sharding.mesh
        axes |= dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    explicit = tuple(name for name, kind in axes.items() if kind == AxisType.Explicit)
    if not explicit:
        return function(*operands)
    shardings = jax.tree.map(lambda x: x.sharding, jax.eval_shape(model, *operands))
    automatic = jax.sharding.auto_axes(function, axes=explicit, out_sharding=shardings)
    return automatic(*operands)
