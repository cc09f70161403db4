"""Crossbars under a model that knows nothing of them: its products, found and replaced.

`tracing` finds what is multiplied by which parameter, and changes nothing; here the
products with analog weights are computed by `hic_jax.crossbar` instead.
"""

from hic_jax.rewriting.on_crossbars import on_crossbars

__all__ = ["on_crossbars"]
