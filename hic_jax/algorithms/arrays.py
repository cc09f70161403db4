"""`ArraysWeight`: weights on several arrays of devices, whose lines are numbered.

A line is an input of an array, a row of its matrix (kernels have their outputs last;
where papers write W x it is a column): what an array reads at once when one input is on
and all others are off. That of a convolution has as many as taps times channels. Each
tensor goes through its own lines, a stack through those of all its matrices at once.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from hic_jax.algorithms.pair_weight import PairWeight
from hic_jax.kernel_axes import KernelAxes
from hic_jax.pcm import pair
from hic_jax.weights import Pulses

if TYPE_CHECKING:
    from hic_jax.algorithms.transfer import TransferSpec


class ArraysWeight(PairWeight):
    """Weights on several arrays of devices: ``multilevel``, and others beside it.

    Attributes:
      others: further arrays, S each, in the order of the specification's ``gains``.
      line: S int32, the line that a weight is on, counted over all arrays.
      first_line: S int32, the first line of its array.
      lines: S int32, how many its array has.
      spec: the algorithm and its hardware, static.
    """

    others: tuple[pair.PairState, ...]
    line: jax.Array
    first_line: jax.Array
    lines: jax.Array
    spec: "TransferSpec" = struct.field(pytree_node=False)

    @property
    def arrays(self) -> tuple[pair.PairState, ...]:
        """All arrays, the one that was written at first before the others."""
        return (self.multilevel, *self.others)

    def with_arrays(self, arrays: Sequence[pair.PairState]) -> Self:
        """The weight on these arrays."""
        return self.replace(multilevel=arrays[0], others=tuple(arrays[1:]))

    @property
    def _read(self) -> list[tuple[pair.PairState, float]]:
        """Arrays that count in a read, with their factors."""
        both = zip(self.arrays, (1.0, *self.spec.gains), strict=True)
        return [(array, gain) for array, gain in both if gain]

    @property
    def read_shape(self) -> tuple[int, ...]:
        """A draw for each pair of each array that counts."""
        return (len(self._read), *self.shape)

    @property
    def chip_shape(self) -> tuple[int, ...]:
        """As many draws for each device of each array as differ between chips."""
        draws, *of_one = super().chip_shape
        return (len(self.arrays), draws, *of_one)

    def conductance(self, normal: jax.Array | None, *, fresh: bool = True) -> jax.Array:
        """The sum of all arrays at ``time``, each times its factor, uS."""
        device, summed = self.spec.multilevel, jnp.zeros(self.shape, jnp.float32)
        for i, (array, gain) in enumerate(self._read):
            z = None if normal is None else normal[i]
            summed += gain * pair.read(z, array, self.time, device, fresh=fresh)
        return summed

    def fresh_variance(self) -> jax.Array | None:
        """Variance of the weights that is new in every product; None without any."""
        device, variance = self.spec.multilevel, jnp.zeros(self.shape, jnp.float32)
        for array, gain in self._read:
            one = pair.fresh_variance(array, self.time, device)
            if one is None:
                return None
            variance += gain**2 * one
        return (jnp.sqrt(variance) / self.scale) ** 2

    def on_another_chip(self, normal: jax.Array) -> Self:
        """The same conductances on devices that age otherwise, of all arrays."""
        device = self.spec.multilevel
        return self.with_arrays(
            [
                array.replace(devices=device.on_another_chip(array.devices, z))
                for array, z in zip(self.arrays, normal, strict=True)
            ]
        )

    def bits(self) -> dict[str, int]:
        """Inference takes the arrays that count in a read, training all of them."""
        one = super().bits()["inference"]
        return {
            "inference": one * len(self._read),
            "training": one * len(self.arrays) + self.size * self.spec.digital_bits,
        }

    def devices(self) -> dict[str, int]:
        """Number of multi-level devices of all arrays."""
        each = self.spec.held_by + self.spec.own_references
        return {"multilevel": self.size * each * len(self.arrays)}

    @property
    def devices_in_products(self) -> int:
        """All devices of a weight in arrays that count in a read."""
        return super().devices_in_products * len(self._read)

    def pulses(self) -> dict[str, Pulses]:
        """SETs and RESETs of every device, (d, n) for each array after the other."""
        each = [
            super(ArraysWeight, self.replace(multilevel=array)).pulses()["multilevel"]
            for array in self.arrays
        ]
        sets, resets = (np.concatenate(x) for x in zip(*each, strict=True))
        return {"multilevel": (sets, resets)}

    def reads(self, steps: int) -> dict[str, int]:
        """Looks for pairs to refresh in all arrays, and lines that are transferred."""
        looks = super().reads(steps)["multilevel"] * len(self.arrays)
        lines = max(1, self.lines_of_array)
        each = min(self.spec.reads_per_transfer, lines) * (self.size // lines)
        transfers = sum(steps // every for every in self.spec.periods)
        devices = self.spec.held_by + self.spec.own_references
        return {"multilevel": looks + transfers * each * devices}

    @property
    def lines_of_array(self) -> int:
        """Lines of each array of the tensor."""
        return math.prod(self.shape[a] for a in self.axes.rows(len(self.shape)))

    @property
    def line_count(self) -> int:
        """Lines of all arrays of the tensor, of which a stack has several."""
        stack = math.prod(self.shape[a] for a in self.axes.stack)
        return self.lines_of_array * stack


def numbered_lines(
    shapes: Sequence[tuple[int, ...]], axes: Sequence[KernelAxes]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Lines of packed tensors: which one each weight is on, and of how many.

    Args:
      shapes: of the tensors.
      axes: of the tensors.

    Returns:
      (n,) int32 each: numbers of the lines, which no two arrays share; that of the
      first line of the same array; and how many lines the array has.
    """
    line, first, lines, start = [], [], [], 0
    for shape, known in zip(shapes, axes, strict=True):
        rows = known.rows(len(shape))
        # Matrices of a stack one after the other, each with its rows.
        order = (*known.stack, *rows)
        sizes = [shape[a] if a in order else 1 for a in range(len(shape))]
        count = math.prod(shape[a] for a in rows)
        number = np.arange(math.prod(sizes)).reshape([shape[a] for a in order])
        number = np.transpose(number, np.argsort(order)).reshape(sizes)
        number = np.broadcast_to(number, shape).ravel()
        line.append(start + number)
        first.append(start + number // max(count, 1) * count)
        lines.append(np.full(number.shape, count))
        start += math.prod(sizes)

    def packed(parts):
        return jnp.asarray(np.concatenate([*parts, np.zeros(0)]), jnp.int32)

    return packed(line), packed(first), packed(lines)
