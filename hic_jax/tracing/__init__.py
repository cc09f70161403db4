"""The products with weights in a model, found by tracing it once.

What they cost is `hic_jax.accounting`'s; what of a model is analog, and along which
axes of a kernel an array sums, follows from them, too.
"""

from hic_jax.tracing.products import Product
from hic_jax.tracing.walk import (
    Trace,
    find_kernel_axes,
    products,
    trace,
    trace_jaxpr,
)

__all__ = ["Product", "Trace", "find_kernel_axes", "products", "trace", "trace_jaxpr"]
