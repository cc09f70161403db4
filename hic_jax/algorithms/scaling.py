"""How large weights become on devices: uS per unit of weight, tensor by tensor."""

import functools
import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from hic_jax.kernel_axes import KernelAxes

if TYPE_CHECKING:
    from hic_jax.algorithms.pairs import PairSpec

# Parts of a tensor that differ more than this in size cannot share a scale: the smaller
# ones would lie below a SET step.
LARGEST_SPREAD = 4.0
TINY = 1e-30  # Weights below count as zero: their scale would overflow float32.


@functools.partial(jax.jit, static_argnames=("spec", "axes"))
def weight_scale(
    weight: jax.Array, spec: "PairSpec", axes: KernelAxes | None = None
) -> jax.Array:
    r"""Conductance per unit of weight for a tensor, from its initial values.

    ``w_max`` is alpha times the root mean square, which suits weights without large
    outliers. Larger weights than pulses reach would be cut off there: the scale is
    lowered, in steps of 2^(1/4), as long as the squared error of all weights falls,
    which is what is cut off of the large ones and what writing leaves of the others.

    Each part of a stack has a scale of its own, which costs one digital factor: where
    the axes are known, along ``axes.stack``; where they are not, along the first axis
    of three and more, if its parts differ more than `LARGEST_SPREAD` in scale.

    Args:
      weight: initial weights. Where all are zero, the standard deviation of an
        untrained layer, 1/sqrt(fan-in), stands in for the root mean square. What is
        not finite is taken for zero.
      spec: the hardware.
      axes: of the tensor, if they are known.

    Returns:
      Float32, uS per unit of weight, broadcastable to ``weight``: () for a matrix.
    """
    weight = jnp.where(jnp.isfinite(weight), weight, 0).astype(jnp.float32)
    known = axes or KernelAxes.plain(weight.ndim)
    stack = axes.stack if axes else (0,) if weight.ndim > 2 else ()
    rows = [a for a in known.rows(weight.ndim) if a not in stack]
    fan_in = max(1, math.prod(weight.shape[a] for a in rows))
    if not stack:
        return _matrix_scale(weight, fan_in, spec)
    kept = [weight.shape[a] if a in stack else 1 for a in range(weight.ndim)]
    parts = jnp.moveaxis(weight, stack, range(len(stack)))
    others = [n for a, n in enumerate(weight.shape) if a not in stack]
    parts = parts.reshape(math.prod(kept), math.prod(others))
    scales = jax.vmap(lambda part: _matrix_scale(part, fan_in, spec))(parts)
    if axes is None:
        alike = jnp.max(scales, initial=0.0) <= LARGEST_SPREAD * jnp.min(
            scales, initial=jnp.inf
        )
        scales = jnp.where(alike, _matrix_scale(weight, fan_in, spec), scales)
    return scales.reshape(kept)


def _matrix_scale(weight: jax.Array, fan_in: int, spec: "PairSpec") -> jax.Array:
    """The scale of what shares one, () float32."""
    size = jnp.abs(weight).reshape(-1)
    largest = jnp.max(size, initial=0.0)
    some = largest > TINY
    largest = jnp.where(some, largest, 1.0)
    size = size / largest  # Whose square neither overflows nor vanishes.
    rms = largest * jnp.sqrt(jnp.sum(size**2) / max(1, size.size))
    rms = jnp.where(some, rms, fan_in**-0.5)
    scale = spec.full_scale / (spec.w_max_sigmas * rms)

    def error(lower):
        per_unit = scale * lower * largest
        cut_off = jnp.maximum(size - spec.reach / per_unit, 0.0)
        return jnp.sum(cut_off**2 + jnp.minimum(size, spec.write_error / per_unit) ** 2)

    lower = 2.0 ** -(jnp.arange(41, dtype=jnp.float32) / 4)  # Down to a thousandth.
    return scale * lower[jnp.argmin(jax.lax.map(error, lower))]


def check_weights(params: Any) -> None:
    """Raises `ValueError` unless all leaves are real, finite floating-point arrays."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(
                f"params{jax.tree_util.keystr(path)}={dtype}{list(jnp.shape(leaf))}: "
                "devices hold real floating-point weights"
            )
        if isinstance(leaf, jax.core.Tracer | jax.ShapeDtypeStruct):
            continue
        # In NumPy, as inside jit JAX would only note what to do with a constant.
        undefined = int(np.sum(~np.isfinite(np.asarray(leaf))))
        if undefined:
            raise ValueError(
                f"params{jax.tree_util.keystr(path)}: {undefined} of {np.size(leaf)} "
                "are not finite; devices hold finite weights"
            )
