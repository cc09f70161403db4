"""How a product lies on arrays: rows, columns, tiles, and how often they are driven.

Forward, every position of the result (every image, every pixel of an output) drives the
rows of all its arrays once and reads their columns once. Backward, its error drives the
columns, once per tap of a convolution; the rows of an input pixel are read once, when
all its taps have been integrated (see `hic_jax.crossbar.products.Convolution`). Either
way, each device takes part once per position.
"""

import dataclasses
import json
import math
from collections.abc import Sequence

import jax
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from hic_jax.crossbar.products import tiles
from hic_jax.crossbar.spec import CrossbarSpec

_TAG = "crossbar "


@dataclasses.dataclass(frozen=True, kw_only=True)
class Geometry:
    """Sizes of a product of inputs and weights.

    Attributes:
      groups: products side by side, each with weights of its own: the groups of a
        convolution, the batch axes of a matrix product.
      features: input features of a group.
      taps: entries of a convolution's kernel, that is rows per feature.
      columns: output features of a group.
      positions: places in the result, that is input vectors that each array multiplies.
      pixels: positions of the input.
      zeros: pairs of a position and a tap that meet no input but a zero between or
        around inputs that an ``lhs_dilation`` has drawn apart, as a transposed
        convolution does. These are no products: what it computes is every input times
        every tap, and a row at which such a zero lies is not driven.
    """

    groups: int
    features: int
    taps: int
    columns: int
    positions: int
    pixels: int
    zeros: int = 0

    @classmethod
    def of_matrices(
        cls, lhs: Sequence[int], rhs: Sequence[int], dimension_numbers: tuple
    ) -> "Geometry":
        """That of a `jax.lax.dot_general` of these shapes, weights on the right."""
        (lhs_rows, rhs_rows), (lhs_batch, rhs_batch) = dimension_numbers
        positions = _size_without(lhs, *lhs_rows, *lhs_batch)
        return cls(
            groups=math.prod(lhs[axis] for axis in lhs_batch),
            features=math.prod(lhs[axis] for axis in lhs_rows),
            taps=1,
            columns=_size_without(rhs, *rhs_rows, *rhs_batch),
            positions=positions,
            pixels=positions,
        )

    @classmethod
    def of_convolution(
        cls,
        lhs: Sequence[int],
        rhs: Sequence[int],
        result: Sequence[int],
        numbers: lax.ConvDimensionNumbers,
        groups: int,
        *,
        window_strides: Sequence[int] | None = None,
        padding: Sequence[tuple[int, int]] | None = None,
        lhs_dilation: Sequence[int] | None = None,
        rhs_dilation: Sequence[int] | None = None,
    ) -> "Geometry":
        """That of a `jax.lax.conv_general_dilated` of these shapes.

        Its strides, padding and dilations matter only with an ``lhs_dilation``.
        """
        outputs, features, *taps = numbers.rhs_spec
        positions = _size_without(result, numbers.out_spec[1])
        size = math.prod(rhs[axis] for axis in taps)
        zeros = 0
        if lhs_dilation and max(lhs_dilation) > 1:
            meetings = map(
                _meetings,
                [lhs[axis] for axis in numbers.lhs_spec[2:]],
                [rhs[axis] for axis in taps],
                [result[axis] for axis in numbers.out_spec[2:]],
                window_strides or [1] * len(taps),
                [before for before, _ in padding or [(0, 0)] * len(taps)],
                lhs_dilation,
                rhs_dilation or [1] * len(taps),
            )
            examples = result[numbers.out_spec[0]]
            zeros = positions * size - examples * math.prod(meetings)
        return cls(
            groups=groups,
            features=rhs[features],
            taps=size,
            columns=rhs[outputs] // groups,
            positions=positions,
            pixels=_size_without(lhs, numbers.lhs_spec[1]),
            zeros=zeros,
        )

    @property
    def weights(self) -> int:
        """How many there are."""
        return self.groups * self.features * self.taps * self.columns

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one pass, those with a padding's zeros included."""
        return self.groups * self.features * self.columns * self._drives

    def array_count(self, spec: CrossbarSpec) -> int:
        """Number of arrays that hold the weights."""
        return self.groups * self._row_tiles(spec) * self._column_tiles(spec)

    def forward_conversions(self, spec: CrossbarSpec) -> tuple[int, int]:
        """Conversions of DACs (at all rows) and of ADCs (at all columns)."""
        return (
            self.groups * self._drives * self.features * self._column_tiles(spec),
            self.groups * self.positions * self.columns * self._row_tiles(spec),
        )

    def backward_conversions(self, spec: CrossbarSpec) -> tuple[int, int]:
        """Conversions of DACs (at the columns) and of ADCs (at the rows)."""
        held = tiles(self.features, self.taps, spec.tile_rows)
        taps = sum(
            self.taps if tile.taps is None else tile.taps[1] - tile.taps[0]
            for tile in held
        )
        drives = self._drives * taps // max(1, self.taps)  # Each tap is in as many.
        return (
            self.groups * self.columns * drives,
            self.groups * self.pixels * self.features * self._column_tiles(spec),
        )

    def idle_conversions(self, spec: CrossbarSpec) -> tuple[int, int]:
        """Conversions, forward and backward, of ADCs at which no weight is read.

        Where those of an array convert all at once: forward at columns without weights;
        backward at all rows of a pixel but one for each of its features.
        """
        rows, columns = self._row_tiles(spec), self._column_tiles(spec)
        all_columns = columns * spec.tile_columns or self.columns
        all_rows = rows * spec.tile_rows or self.features
        return (
            self.groups * self.positions * (all_columns - self.columns) * rows,
            self.groups * self.pixels * (all_rows - self.features) * columns,
        )

    @property
    def _drives(self) -> int:
        """Pairs of a position and a tap that are products."""
        return self.positions * self.taps - self.zeros

    def _row_tiles(self, spec: CrossbarSpec) -> int:
        return len(tiles(self.features, self.taps, spec.tile_rows))

    def _column_tiles(self, spec: CrossbarSpec) -> int:
        return len(tiles(self.columns, 1, spec.tile_columns))


def _meetings(
    pixels: int, taps: int, positions: int, stride: int, before: int, apart: int,
    between: int,
) -> int:  # fmt: skip
    """Pairs of a position and a tap that meet an input, along one axis.

    Args:
      pixels: of the inputs.
      taps: of the kernel.
      positions: of the result.
      stride: from one position to the next.
      before: zeros of the padding in front.
      apart: from one input to the next.
      between: from one tap to the next.
    """
    place = stride * np.arange(positions)[:, None] + between * np.arange(taps) - before
    inside = (place >= 0) & (place < pixels * apart)
    return int(np.sum(inside & (place % apart == 0)))


def matrix_roles(
    ndim: int,
    rows: Sequence[int],
    batch: Sequence[int],
    ragged: Sequence[int] = (),
) -> list[str]:
    """What each axis of the weights of a matrix product is to its `Geometry`.

    Args:
      ndim: number of axes of the weights.
      rows: axes that are contracted.
      batch: batch axes.
      ragged: axes of a `jax.lax.ragged_dot`'s groups, whose matrices take turns.
    """
    named = dict.fromkeys(rows, "features") | dict.fromkeys(batch, "groups")
    named |= dict.fromkeys(ragged, "repeats")
    return [named.get(axis, "columns") for axis in range(ndim)]


def convolution_roles(numbers: lax.ConvDimensionNumbers) -> list[str]:
    """What each axis of a convolution's kernel is to its `Geometry`.

    The outputs of all groups are "columns".
    """
    outputs, features, *taps = numbers.rhs_spec
    named = {outputs: "columns", features: "features"}
    return [named.get(axis, "taps") for axis in range(2 + len(taps))]


def _size_without(shape: Sequence[int], *axes: int) -> int:
    """Product of all axes but these."""
    return math.prod(n for axis, n in enumerate(shape) if axis not in axes)


@dataclasses.dataclass(frozen=True)
class Tag:
    """What a crossbar says of a product that it computed.

    Attributes:
      geometry: sizes of the product.
      weights: shape of its weights, the second operand.
      roles: what each axis of them is; see `matrix_roles` and `convolution_roles`.
      tile_rows: rows of an array.
      tile_columns: columns of an array.
    """

    geometry: Geometry
    weights: tuple[int, ...]
    roles: tuple[str, ...]
    tile_rows: int
    tile_columns: int


def tagged(
    result: jax.Array,
    geometry: Geometry,
    weights: Sequence[int],
    roles: Sequence[str],
    spec: CrossbarSpec,
) -> jax.Array:
    """The result, with a note in its jaxpr that compiles to nothing.

    Whoever traces a model can so tell the product from the operations that simulate it.
    """
    tag = Tag(geometry, tuple(weights), tuple(roles), spec.tile_rows, spec.tile_columns)
    # Sizes of a program for any batch (`jax.export.symbolic_shape`) are expressions.
    fields = json.dumps(dataclasses.asdict(tag), default=str)
    return checkpoint_name(result, _TAG + fields)


def is_tag(name: str) -> bool:
    """Whether `tagged` gave this name."""
    return name.startswith(_TAG)


def read_tag(name: str) -> Tag:
    """The note in the name that `tagged` gave.

    Raises:
      ValueError: if sizes of the product are not known yet.
    """
    fields = json.loads(name.removeprefix(_TAG))
    for size, value in fields["geometry"].items():
        if isinstance(value, str):
            raise ValueError(f"{size}={value}: must be a number to be counted")
    return Tag(**fields | {"geometry": Geometry(**fields["geometry"])})
