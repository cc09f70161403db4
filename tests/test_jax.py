"""What we need of JAX itself."""

import os
import subprocess
import sys

from tests.conftest import SETTINGS

# jax-ml/jax#39103: JAX 0.10.2 gets the last of 32,769 rows wrong on the CPU.
LAST_ROW = """
import jax
import jax.numpy as jnp
import numpy as np

matrix = jax.random.normal(jax.random.key(0), (3, 3))
rows = jnp.arange(32_769 * 3, dtype=jnp.float32).reshape(-1, 3)
squares = jax.jit(jax.vmap(lambda x: jnp.sum((matrix @ x) ** 2)))(rows)
expected = ((np.asarray(rows, float) @ np.asarray(matrix, float).T) ** 2).sum(1)
np.testing.assert_allclose(squares[1:], expected[1:], rtol=1e-4)
"""


def test_row_wise_reductions_are_right_on_the_last_row():
    """As users compile it, and not in the quick way of the other tests."""
    quick = {*SETTINGS, "JAX_COMPILATION_CACHE_DIR"}
    usual = {k: value for k, value in os.environ.items() if k not in quick}
    subprocess.run([sys.executable, "-c", LAST_ROW], env=usual, check=True)
