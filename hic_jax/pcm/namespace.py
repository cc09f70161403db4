"""NumPy for constants, JAX for what devices hold.

Specifications are checked where they are made, which may be before JAX knows how many
processes there are: no check may start a backend.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def numpy_of(*arrays: Any) -> Any:
    """`jax.numpy` if any of them is of JAX, or traced; else `numpy`."""
    return jnp if any(isinstance(x, jax.Array) for x in arrays) else np
