"""`KernelAxes`: which axes of a weight tensor are rows of an array, and which columns.

"A tensor is a layer and its last axis the columns" holds for plain kernels, but not for
a stack of layers (`flax.linen.scan`, experts), nor for attention kernels of several
axes, nor for kernels with their outputs first. Scales, gains, fan-in and columns belong
to what an array holds.
"""

import dataclasses

from hic_jax import checks


@dataclasses.dataclass(frozen=True, kw_only=True)
class KernelAxes:
    """The axes of one weight tensor.

    Attributes:
      stack: axes along which there are matrices of their own, each on arrays of its
        own: the layers of a scan, the experts of a mixture, the batch of a product.
      columns: axes of the outputs; all that is left are rows, over which an array sums.
    """

    stack: tuple[int, ...] = ()
    columns: tuple[int, ...] = ()

    def __post_init__(self):
        both = (*self.stack, *self.columns)
        for axis in both:
            checks.integer("axis", axis, 0)
        if len(set(both)) < len(both):
            raise ValueError(
                f"stack={self.stack}, columns={self.columns}: no axis may be both"
            )

    @classmethod
    def plain(cls, ndim: int) -> "KernelAxes":
        """Of a kernel with its outputs last, as flax has them."""
        return cls(columns=(ndim - 1,) if ndim else ())

    def rows(self, ndim: int) -> tuple[int, ...]:
        """Axes that an array sums over."""
        return tuple(a for a in range(ndim) if a not in (*self.stack, *self.columns))
