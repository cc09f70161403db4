"""What older releases of JAX and flax, which Colab has, name otherwise.

An entry goes when the oldest release in pyproject.toml has it.
"""

from typing import Any

from flax import nnx

# flax 0.11.2 calls it `pure`. mypy knows one release alone.
_nnx: Any = nnx
as_pure = _nnx.as_pure if hasattr(nnx, "as_pure") else _nnx.pure
