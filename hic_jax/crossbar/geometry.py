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
      taps: of a convolution's kernel, that is rows per feature.
      columns: output features of a group.
      positions: of the result, that is input vectors that each array multiplies.
      pixels: positions of the input.
    """

    groups: int
    features: int
    taps: int
    columns: int
    positions: int
    pixels: int

    @classmethod
    def of_matrices(
        cls, lhs: Sequence[int], rhs: Sequence[int], dimension_numbers: tuple
    ) -> "Geometry":
        """Of a `jax.lax.dot_general` of these shapes, with weights on the right."""
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
    ) -> "Geometry":
        """Of a `jax.lax.conv_general_dilated` of these shapes."""
        outputs, features, *taps = numbers.rhs_spec
        return cls(
            groups=groups,
            features=rhs[features],
            taps=math.prod(rhs[axis] for axis in taps),
            columns=rhs[outputs] // groups,
            positions=_size_without(result, numbers.out_spec[1]),
            pixels=_size_without(lhs, numbers.lhs_spec[1]),
        )

    @property
    def weights(self) -> int:
        """How many there are."""
        return self.groups * self.features * self.taps * self.columns

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one pass, those with a padding's zeros included."""
        return self.positions * self.weights

    def arrays(self, spec: CrossbarSpec) -> int:
        """Arrays that hold the weights."""
        return self.groups * self._row_tiles(spec) * self._column_tiles(spec)

    def forward_conversions(self, spec: CrossbarSpec) -> tuple[int, int]:
        """Conversions of DACs (at all rows) and of ADCs (at all columns)."""
        rows = self.features * self.taps
        return (
            self.groups * self.positions * rows * self._column_tiles(spec),
            self.groups * self.positions * self.columns * self._row_tiles(spec),
        )

    def backward_conversions(self, spec: CrossbarSpec) -> tuple[int, int]:
        """Conversions of DACs (at the columns) and of ADCs (at the rows)."""
        held = tiles(self.features, self.taps, spec.tile_rows)
        drives = sum(
            self.taps if tile.taps is None else tile.taps[1] - tile.taps[0]
            for tile in held
        )
        return (
            self.groups * self.positions * self.columns * drives,
            self.groups * self.pixels * self.features * self._column_tiles(spec),
        )

    def _row_tiles(self, spec: CrossbarSpec) -> int:
        return len(tiles(self.features, self.taps, spec.tile_rows))

    def _column_tiles(self, spec: CrossbarSpec) -> int:
        return len(tiles(self.columns, 1, spec.tile_columns))


def _size_without(shape: Sequence[int], *axes: int) -> int:
    """Product of all axes but these."""
    return math.prod(n for axis, n in enumerate(shape) if axis not in axes)


@dataclasses.dataclass(frozen=True)
class Tag:
    """What a crossbar says of a product that it computed."""

    geometry: Geometry
    tile_rows: int
    tile_columns: int


def tagged(result: jax.Array, geometry: Geometry, spec: CrossbarSpec) -> jax.Array:
    """The result, with a note in its jaxpr that compiles to nothing.

    Whoever traces a model can so tell the product from the operations that simulate it.
    """
    tag = Tag(geometry, spec.tile_rows, spec.tile_columns)
    # Sizes of a program for any batch (`jax.export.symbolic_shape`) are expressions.
    fields = json.dumps(dataclasses.asdict(tag), default=str)
    return checkpoint_name(result, _TAG + fields)


def read_tag(name: str) -> Tag | None:
    """The note in the name that `tagged` gave; None for a name of others.

    Raises:
      ValueError: if sizes of the product are not known yet.
    """
    if not name.startswith(_TAG):
        return None
    fields = json.loads(name.removeprefix(_TAG))
    for size, value in fields["geometry"].items():
        if isinstance(value, str):
            raise ValueError(f"{size}={value}: must be a number to be counted")
    return Tag(**fields | {"geometry": Geometry(**fields["geometry"])})
