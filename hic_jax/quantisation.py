r"""Digital weights of few bits: the rivals of devices, after training and in training.

A kernel is held as whole numbers, symmetric around zero, and one float32 scale for each
column. The scale is the one, of those tried, that leaves the smallest squared error: at
four bits it pays to clip a column's largest weights.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hic_jax import checks
from hic_jax.kernel_axes import KernelAxes

SCALE_BITS = 32

# Largest weights that are not clipped, over the largest of the column.
_RANGES = np.linspace(0.3, 1.0, 15)


def quantise(weight: jax.Array, bits: int, axes: KernelAxes | None = None) -> jax.Array:
    r"""The nearest weights that ``bits`` hold: :math:`s \cdot \mathrm{round}(W / s)`.

    Args:
      weight: a kernel.
      bits: of each weight, 2 to 16: whole numbers up to 2^(bits - 1) - 1, either sign.
      axes: which axes are rows, that share a scale; all but the last by default.

    Returns:
      The same shape and dtype.
    """
    checks.integer("bits", bits, 2, 16)
    rows = (axes or KernelAxes.plain(weight.ndim)).rows(weight.ndim)
    exact = weight.astype(jnp.float32)
    most = 2 ** (bits - 1) - 1
    peak = jnp.max(jnp.abs(exact), axis=rows, keepdims=True)

    peak = jnp.where(peak > 0, peak, 1.0)

    def rounded(share):
        scale = peak * share / most
        return scale * jnp.clip(jnp.round(exact / scale), -most, most)

    errors = [
        jnp.sum((rounded(share) - exact) ** 2, axis=rows, keepdims=True)
        for share in _RANGES
    ]
    best = jnp.argmin(jnp.stack(errors), axis=0)
    return rounded(jnp.asarray(_RANGES, jnp.float32)[best]).astype(weight.dtype)


def is_kernel(leaf: Any) -> bool:
    """Whether a digital parameter is quantised: one with rows and columns."""
    return jnp.ndim(leaf) >= 2


def quantise_kernels(params: Any, bits: int) -> Any:
    """`quantise` of every leaf of two or more dimensions, by its last axis as columns.

    Args:
      params: a model's parameters.
      bits: of each weight.
    """
    return jax.tree.map(lambda x: quantise(x, bits) if is_kernel(x) else x, params)


class QuantisedState(NamedTuple):
    """State of `quantised`.

    Attributes:
      exact: the weights that updates add up in, float32, a tree like the parameters.
    """

    exact: Any


def quantised(bits: int) -> optax.GradientTransformation:
    """Quantisation-aware training: parameters are of few bits, their updates are not.

    Gradients are those of the quantised weights, passed straight through the rounding.
    Put it last in a chain: it adds updates up in float32 and answers with the
    difference between the nearest quantised weights and ``params``.

    Args:
      bits: of each weight, 2 to 16.

    Returns:
      An optax transformation, whose ``update`` needs ``params``.

    References:
      Jacob et al., Quantization and training of neural networks for efficient
      integer-arithmetic-only inference, CVPR (2018).

    Examples:
      >>> import jax, jax.numpy as jnp, optax
      >>> tx = optax.chain(optax.sgd(0.1), quantised(4))
      >>> params = {"kernel": jax.random.normal(jax.random.key(0), (64, 1))}
      >>> updates, state = tx.update(params, tx.init(params), params)
      >>> kernel = optax.apply_updates(params, updates)["kernel"]
      >>> print(len(jnp.unique(jnp.round(kernel, 5))) <= 15)
      True
    """
    checks.integer("bits", bits, 2, 16)

    def init_fn(params):
        return QuantisedState(
            jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
        )

    def update_fn(updates, state, params=None):
        if params is None:
            raise ValueError("params=None: must be given, as their change is answered")
        exact = jax.tree.map(jnp.add, state.exact, updates)
        change = jax.tree.map(
            lambda x, p: (quantise(x, bits) - p).astype(p.dtype), exact, params
        )
        return change, QuantisedState(exact)

    return optax.GradientTransformation(init_fn, update_fn)
