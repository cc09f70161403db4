"""What we need of JAX itself."""

import jax
import jax.numpy as jnp
import numpy as np


def test_row_wise_reductions_are_right_on_the_last_row():
    # jax-ml/jax#39103: JAX 0.10.2 gets the last of 32,769 rows wrong on the CPU.
    matrix = jax.random.normal(jax.random.key(0), (3, 3))
    rows = jnp.arange(32_769 * 3, dtype=jnp.float32).reshape(-1, 3)
    squares = jax.jit(jax.vmap(lambda x: jnp.sum((matrix @ x) ** 2)))(rows)
    expected = ((np.asarray(rows, float) @ np.asarray(matrix, float).T) ** 2).sum(1)
    np.testing.assert_allclose(squares[1:], expected[1:], rtol=1e-4)
