"""Convolutions whose gradient XLA's CPU compiler computes without detours.

The gradient of a kernel begins with a transposition of the input and of the error. On
the CPU, XLA fuses into it whatever made them (normalisation, ReLU, the rounding of a
converter), so that all of this is computed a second time, and against the grain of
memory: in a ResNet-32 these transpositions took 330 ms of a step of 730 ms, for
contents that were in memory already. Values that are kept apart by `materialised` take
30 ms instead (two cores, JAX 0.10.1).
"""

from typing import Any

import jax
from jax import lax


def conv_general_dilated(
    lhs: jax.Array, rhs: jax.Array, *arguments: Any, **options: Any
) -> jax.Array:
    """`jax.lax.conv_general_dilated`, its gradient quick on the CPU, too."""
    y = lax.conv_general_dilated(materialised(lhs), rhs, *arguments, **options)
    return materialised(y)  # So is the error that comes back.


def materialised(x: jax.Array) -> jax.Array:
    """``x``, and what it is made of is not fused into what is made of it, on the CPU.

    `jax.lax.optimization_barrier` is gone there before fusion begins. What stays is a
    condition that XLA cannot decide; here, whether the first number is a NaN, when it
    makes no difference any more.
    """
    if not x.size:
        return x
    return lax.platform_dependent(x, cpu=_materialised, default=lambda x: x)


def _materialised(x):
    first = x[(0,) * x.ndim]
    return lax.cond(first != first, lambda x: 2 * x, lambda x: x, x)
