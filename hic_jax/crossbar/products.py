"""Bilinear products of inputs and weights, and how arrays cut them into tiles.

A product of n_features x taps rows is cut along features: an array holds as many whole
input features, with all their taps, as it has rows for. Where even one feature has more
taps than an array has rows, the feature's taps are cut.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

# What is read of a tile: of its number and its partial sums, in one or several arrays,
# what is added up over tiles, and () of which the largest counts.
Read = Callable[..., tuple[jax.Array, jax.Array]]

# Partial sums of a matrix, in numbers, that are computed at once. More of them take one
# tile after the other, in the memory of one: those of a GPT's 50,257 outputs are 197
# times as many as its inputs.
MOST_AT_ONCE = 2**26


@dataclasses.dataclass(frozen=True)
class Tile:
    """Rows that one array holds.

    Attributes:
      start: first feature.
      stop: one after the last.
      taps: (first, one after the last) tap; None for all.
    """

    start: int
    stop: int
    taps: tuple[int, int] | None = None


def tiles(features: int, taps: int, rows: int) -> list[Tile]:
    """Cuts ``features`` of ``taps`` rows each over arrays of ``rows`` rows (0: all)."""
    if not rows or features * taps <= rows:
        return [Tile(0, features)]
    if taps <= rows:
        held = rows // taps
        return [Tile(i, min(i + held, features)) for i in range(0, features, held)]
    cuts = [(i, min(i + rows, taps)) for i in range(0, taps, rows)]
    return [
        Tile(feature, feature + 1, cut)
        for feature, cut in itertools.product(range(features), cuts)
    ]


@dataclasses.dataclass(frozen=True)
class MatrixProduct:
    """(b, m, k) times (b, k, n): (b, m, n), every b an array (or a row of tiles).

    Attributes:
      precision: argument of `jax.lax.dot_general`.
      input_examples: axes of the inputs along which the examples lie: an array is
        driven with one after the other, each row of (m, k).
      result_examples: axes of the result along which the examples lie.
      stack: axes of the weights along which there are matrices of their own.
    """

    precision: Any = None
    input_examples: ClassVar[tuple[int, ...]] = (0, 1)
    result_examples: ClassVar[tuple[int, ...]] = (0, 1)
    stack: ClassVar[tuple[int, ...]] = (0,)

    def __call__(self, x: jax.Array, w: jax.Array) -> jax.Array:
        """The product."""
        return jnp.einsum("bmk,bkn->bmn", x, w, precision=self.precision)

    def add_up(
        self, read: Read, rows: int, *pairs: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        """Adds up what is read of every tile.

        Args:
          read: of the partial sums (b, m, n) of a tile, of each pair.
          rows: that an array has; 0 for all.
          *pairs: inputs and weights, all of the same shapes.
        """
        x, w = pairs[0]
        rows = rows or w.shape[1]
        tiles = max(1, math.ceil(w.shape[1] / max(rows, 1)))
        if tiles == 1 or not _many(tiles, *x.shape[:2], w.shape[2]):
            sums = [self._partial_sums(x, w, rows) for x, w in pairs]
            return _added_up(read, zip(*sums, strict=True))
        operands = [
            (
                jnp.moveaxis(_split(x, 2, rows), 2, 0),
                jnp.swapaxes(_split(w, 1, rows), 0, 1),
            )
            for x, w in pairs
        ]

        def of_tile(tile: jax.Array, operands: Any) -> tuple[jax.Array, jax.Array]:
            return read(tile, *(self(x, w) for x, w in operands))

        def step(found: Any, one: Any) -> tuple[Any, None]:
            (total, most), (added, seen) = found, of_tile(*one)
            return (total + added, jnp.maximum(most, seen)), None

        each = jnp.arange(tiles), operands
        first = jax.eval_shape(of_tile, *jax.tree.map(lambda x: x[0], each))
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), first)
        found, _ = lax.scan(step, nothing, each)
        return found

    def _partial_sums(self, x: jax.Array, w: jax.Array, rows: int) -> jax.Array:
        """(tiles, b, m, n): what the columns of every tile read."""
        x, w = _split(x, 2, rows), _split(w, 1, rows)
        return jnp.einsum("bmtr,btrn->tbmn", x, w, precision=self.precision)

    def add_up_transposed(
        self, read: Read, columns: int, error: jax.Array, w: jax.Array, x: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Adds up what is read of the rows of every tile, (b, m, k).

        Errors then drive the columns, so many of an array.
        """
        del x
        return self.add_up(read, columns, (error, w.swapaxes(1, 2)))


def _many(*sizes: Any) -> bool:
    """Whether an array is too large to be made; never if it may have any size."""
    known = all(isinstance(size, int) for size in sizes)
    return known and math.prod(sizes) > MOST_AT_ONCE


def _added_up(
    read: Read, tiles: Iterable[tuple[jax.Array, ...]]
) -> tuple[jax.Array, jax.Array]:
    """Adds up what is read of the partial sums of every tile."""
    found = [read(tile, *sums) for tile, sums in enumerate(tiles)]
    total, most = found[0]
    for added, seen in found[1:]:
        total, most = total + added, jnp.maximum(most, seen)
    return total, most


def _split(x: jax.Array, axis: int, size: int) -> jax.Array:
    """Splits an axis into (parts, size), padded with zeros."""
    parts = max(1, math.ceil(x.shape[axis] / max(size, 1)))
    size = min(size, x.shape[axis]) if parts == 1 else size
    pad = [(0, 0)] * x.ndim
    pad[axis] = (0, parts * size - x.shape[axis])
    shape = (*x.shape[:axis], parts, size, *x.shape[axis + 1 :])
    return jnp.pad(x, pad).reshape(shape)


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A convolution, its groups on arrays of their own.

    In the backward pass the columns are the output features, driven with the errors of
    one tap after the other, and what comes of all taps is integrated before it is
    converted. (One conversion per tap, each at its own range, would add a rounding
    error of the same variance: nine of a third of the range each.)

    Attributes: the arguments of `jax.lax.conv_general_dilated`. Groups share the ranges
    of converters, and are no ``stack``.
    """

    stack: ClassVar[tuple[int, ...]] = ()

    window_strides: tuple[int, ...]
    padding: str | tuple[tuple[int, int], ...]
    lhs_dilation: tuple[int, ...] | None
    rhs_dilation: tuple[int, ...] | None
    dimension_numbers: lax.ConvDimensionNumbers
    feature_group_count: int = 1
    precision: Any = None

    def __call__(self, x: jax.Array, w: jax.Array) -> jax.Array:
        """The convolution."""
        return lax.conv_general_dilated(
            x, w, self.window_strides, self.padding,
            lhs_dilation=self.lhs_dilation, rhs_dilation=self.rhs_dilation,
            dimension_numbers=self.dimension_numbers,
            feature_group_count=self.feature_group_count, precision=self.precision,
        )  # fmt: skip

    def add_up(
        self, read: Read, rows: int, *pairs: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        """Adds up what is read of every tile; see `MatrixProduct.add_up`."""
        sums = [self._partial_sums(x, w, rows) for x, w in pairs]
        return _added_up(read, zip(*sums, strict=True))

    def _partial_sums(self, x: jax.Array, w: jax.Array, rows: int) -> list[jax.Array]:
        """What the columns of every tile read, a list of the result's shape."""
        x_axis, w_axis = self.dimension_numbers.lhs_spec[1], self._inputs_axis
        return [
            self(
                self._cut(x, x_axis, tile, self.feature_group_count),
                self._cut(self._masked(w, tile), w_axis, tile, 1),
            )
            for tile in tiles(w.shape[w_axis], self._taps(w), rows)
        ]

    def add_up_transposed(
        self, read: Read, columns: int, error: jax.Array, w: jax.Array, x: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Adds up what is read of the rows of every tile.

        Args:
          read: of sums of the shape of ``x``.
          columns: that an array has.
          error: of the shape of the result, drives the columns.
          w: kernel.
          x: tells the shape of the input only.
        """
        groups = self.feature_group_count
        e_axis, w_axis = self.dimension_numbers.out_spec[1], self._outputs_axis
        sums = []
        for tile in tiles(w.shape[w_axis] // groups, 1, columns):
            held = self._cut(w, w_axis, tile, groups)
            transpose = jax.linear_transpose(lambda x, w=held: self(x, w), x)
            sums.append(transpose(self._cut(error, e_axis, tile, groups)))
        return _added_up(read, sums)

    @property
    def input_examples(self) -> tuple[int, ...]:
        """Axis of the inputs along which the examples lie: images, as a rule."""
        return (self.dimension_numbers.lhs_spec[0],)

    @property
    def result_examples(self) -> tuple[int, ...]:
        """Axis of the result along which the examples lie: images, as a rule."""
        return (self.dimension_numbers.out_spec[0],)

    @property
    def _outputs_axis(self) -> int:
        return self.dimension_numbers.rhs_spec[0]

    @property
    def _inputs_axis(self) -> int:
        return self.dimension_numbers.rhs_spec[1]

    def _taps(self, w: jax.Array) -> int:
        return math.prod(w.shape[axis] for axis in self.dimension_numbers.rhs_spec[2:])

    def _masked(self, w: jax.Array, tile: Tile) -> jax.Array:
        """The kernel with zeros for the taps that the tile does not hold."""
        if tile.taps is None:
            return w
        axes = self.dimension_numbers.rhs_spec[2:]
        shape = [w.shape[axis] for axis in axes]
        taps = jnp.arange(math.prod(shape)).reshape(shape)
        held = (taps >= tile.taps[0]) & (taps < tile.taps[1])
        held = jnp.transpose(held, [axes.index(a) for a in sorted(axes)])
        others = [a for a in range(w.ndim) if a not in axes]
        return w * jnp.expand_dims(held, others).astype(w.dtype)

    @staticmethod
    def _cut(x: jax.Array, axis: int, tile: Tile, groups: int) -> jax.Array:
        """The tile's features of every group."""
        features = x.shape[axis] // groups
        if tile.stop - tile.start == features:
            return x
        before, after = x.shape[:axis], x.shape[axis + 1 :]
        x = x.reshape(*before, groups, features, *after)
        x = lax.slice_in_dim(x, tile.start, tile.stop, axis=axis + 1)
        return x.reshape(*before, groups * (tile.stop - tile.start), *after)
