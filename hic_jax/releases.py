"""What some releases of JAX and flax, such as those that Colab has, do otherwise.

An entry goes when no release that pyproject.toml allows needs it.
"""

from typing import Any

import jax
from flax import nnx
from jax.interpreters import batching

# flax 0.11.2 calls it `pure`. mypy knows one release alone.
_nnx: Any = nnx
as_pure = _nnx.as_pure if hasattr(nnx, "as_pure") else _nnx.pure

# JAX 0.7.2 has it among its experiments.
_jax: Any = jax
enable_x64 = (_jax if hasattr(jax, "enable_x64") else _jax.experimental).enable_x64


def sizes_of_scan(fields: dict[str, Any]) -> tuple[int, int]:
    """How many constants a scan has, and how many values its rounds hand on.

    Args:
      fields: parameters of its equation.
    """
    if "ft_in" in fields:  # As JAX 0.12 says it.
        constants, carried, _ = fields["ft_in"].unpack()
        return len(constants), len(carried)
    return fields["num_consts"], fields["num_carry"]


def _vmap_convolutions_in_shard_map() -> None:
    """Has JAX 0.7.2 vmap the gradient of a convolution inside of `jax.shard_map`.

    There the gradient names the sharding of the kernel, which says nothing where all
    axes of a mesh are manual, and the rule of vmap refuses any.
    """
    convolution: Any = jax.lax.conv_general_dilated_p
    rules: Any = batching.primitive_batchers
    rule = rules[convolution]

    def without_manual(arguments, axes, *, out_sharding, **options):
        if out_sharding is not None and out_sharding.mesh.are_all_axes_manual:
            out_sharding = None
        return rule(arguments, axes, out_sharding=out_sharding, **options)

    rules[convolution] = without_manual


if jax.__version_info__ < (0, 8):
    _vmap_convolutions_in_shard_map()
