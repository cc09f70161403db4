"""What hooks compute, to compare crossbars under a function with."""

import jax
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree

from hic_jax import crossbar
from hic_jax.crossbar import CrossbarSpec

SPEC = CrossbarSpec(tile_rows=5, tile_columns=3)
DIGITAL = lax.dot_general, lax.conv_general_dilated
HOOKS = crossbar.dot_general(SPEC), crossbar.conv_general_dilated(SPEC)
ROWS = (((1,), (0,)), ((), ()))


def assert_same(a, b):
    """Bit for bit."""
    jax.tree.map(np.testing.assert_array_equal, a, b)


def flat(tree):
    """All numbers of a pytree."""
    return ravel_pytree(tree)[0]


def differ(a, b):
    """Whether two pytrees of a structure hold other numbers."""
    return not np.array_equal(flat(a), flat(b))


def tied(dot):
    """A product with each of two weights, the second one transposed."""
    return lambda w, x: dot(dot(x, w["a"], ROWS), w["b"].T, ROWS)
