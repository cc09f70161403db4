"""Transfers from a fast array to a slower one, line by line, in common.

What the Tiki-Taka family and multi-tile training share. Updates go to a fast array;
every few training steps some of its lines are read, with all others at rest, and what
was read moves the same lines of a slower array, by pulses (`hic_jax.algorithms.arrays`
says what a line is).

An optimizer sees the sum of a batch, and so do the pulses here, unless ``pulse_counts``
is "both": on hardware those of single examples, up and down, come one by one, and draw
devices to their symmetric points more than the net number does.
"""

import abc
import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from hic_jax import checks
from hic_jax.algorithms.arrays import ArraysWeight, numbered_lines
from hic_jax.algorithms.events import Events, total
from hic_jax.algorithms.pulsed import PulsedSpec
from hic_jax.pcm import pair


class TransferEvents(Events):
    """What happened to all devices in the last update, or at first; () float32 each.

    Attributes:
      clipped_pulses: pulses beyond the most of an array in a step, which are lost.
      transferred_pulses: pulses that transfers fired, some of ``set_pulses``.
    """

    clipped_pulses: jax.Array
    transferred_pulses: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferSpec(PulsedSpec):
    """An algorithm with a fast array, which is transferred to a slower one.

    A transfer goes at a pace, as `hic_jax.algorithms.analog` is told: where learning
    rates fall, transfers had better slow down with them, as in IBM's aihwkit. An array
    that no pulse reaches any more keeps what it has collected, and would move the next
    one on.

    Attributes:
      transfer_every: training steps between two transfers.
      reads_per_transfer: lines that a transfer reads, one after the other. Papers read
        one after each example, and a training step is a batch: of 100, by default.
      read_bits: bits of the converters that read a line, 2 to 16, of which the largest
        number is what pulses reach; 0 reads it as it is, with the devices' noise.
    """

    transfer_every: int = 1
    reads_per_transfer: int = 100
    read_bits: int = 0

    by_lines: ClassVar[bool] = True
    events: ClassVar[type[Events]] = TransferEvents

    def __post_init__(self):
        super().__post_init__()
        checks.integer("transfer_every", self.transfer_every, 1)
        checks.integer("reads_per_transfer", self.reads_per_transfer, 1)
        checks.integer("read_bits", self.read_bits, 0 if self.read_bits == 0 else 2, 16)

    @property
    def digital_bits(self) -> int:
        """Bits beside the devices that training keeps for each weight."""
        return 0

    @property
    @abc.abstractmethod
    def gains(self) -> tuple[float, ...]:
        """Factors of the other arrays in a read; one at 0 is not read."""

    @property
    def periods(self) -> tuple[int, ...]:
        """Training steps between two transfers, for each that there is."""
        return (self.transfer_every,)

    def made(
        self, kind: type[ArraysWeight], key: jax.Array, target: jax.Array, **given: Any
    ) -> tuple[Any, Events]:
        """A weight of that kind: one array is written, the others hold zero.

        Args:
          kind: of the weight.
          key: device variation, programming noise.
          target: (n,) float32, wanted signed conductances, uS.
          **given: ``shapes`` of the tensors, and further fields of the weight.

        Returns:
          The weight, and what happened.
        """
        shapes = given.pop("shapes")
        line, first, lines = numbered_lines(shapes, given["axes"])
        make_key, write_key = jax.random.split(key)
        number = 1 + len(self.gains)
        wanted = jnp.concatenate([target, jnp.zeros((number - 1) * target.size)])
        pairs, residue = self.program(make_key, write_key, wanted)
        arrays = _parted(pairs, number)
        weight = kind(
            multilevel=arrays[0],
            others=tuple(arrays[1:]),
            line=line,
            first_line=first,
            lines=lines,
            spec=self,
            **given,
        )
        return self.programmed(key, weight, residue[: target.size])

    def taken_up(
        self,
        key: jax.Array,
        weight: Any,
        update: jax.Array,
        count: jax.Array,
        cancelled: jax.Array | None,
        rate: jax.Array | float,
    ) -> tuple[Any, dict[str, jax.Array]]:
        """Fires an update, times a rate, at the last array, the fast one; see `fired`.

        Args:
          key: rounding, order of pulses and programming noise.
          weight: of packed tensors.
          update: (n,) float32, steps.
          count: () int32, number of the update.
          cancelled: (n,) float32, steps both ways; None for none.
          rate: () or (n,), what the array is asked for over these.
        """
        undefined = jnp.isnan(update)
        wanted = rate * jnp.where(undefined, 0.0, update)
        if cancelled is not None:
            cancelled = jnp.abs(rate) * cancelled
        *slow, fast = weight.arrays
        fast, counts = self.fired(key, fast, wanted, weight.time, count, cancelled)
        counts["undefined_updates"] = total(undefined)
        return weight.with_arrays([*slow, fast]), counts

    def fired(
        self,
        key: jax.Array,
        array: pair.PairState,
        wanted: jax.Array,
        time: jax.Array,
        turn: jax.Array,
        cancelled: jax.Array | None = None,
    ) -> tuple[pair.PairState, dict[str, jax.Array]]:
        """`rounded_and_fired`, with both of its keys from one."""
        round_key, set_key = jax.random.split(key)
        return self.rounded_and_fired(
            round_key, set_key, array, wanted, cancelled, time, turn
        )

    def transfer_number(self, count: jax.Array, every: int) -> jax.Array:
        """Number of the transfer of this update, from 0."""
        return count // every - 1

    def their_turn(
        self, weight: ArraysWeight, count: jax.Array, every: int
    ) -> jax.Array:
        """Weights whose lines are transferred in this update, (n,) bool."""
        _, after, at_once = self._turns(weight, count, every)
        return (count % every == 0) & (after < at_once)

    def reads_before(self, weight: ArraysWeight, count: jax.Array) -> jax.Array:
        """How often the line of each weight that is read now was before, (n,) int32."""
        start, after, _ = self._turns(weight, count, self.transfer_every)
        return (start + after) // weight.lines

    def _turns(
        self, weight: ArraysWeight, count: jax.Array, every: int
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Lines read before this transfer, from it to that of a weight, and at once."""
        at_once = jnp.minimum(self.reads_per_transfer, weight.lines)
        start = self.transfer_number(count, every) * at_once
        after = (weight.line - weight.first_line - start) % weight.lines
        return start, after, at_once

    def seen(self, key: jax.Array, array: pair.PairState, time: jax.Array) -> jax.Array:
        """What reading an array, line by line, tells of each weight, uS."""
        normal = jax.random.normal(key, array.g.shape[1:], jnp.float32)
        value = pair.read(normal, array, time, self.multilevel)
        if not self.read_bits:
            return value
        levels = 2 ** (self.read_bits - 1) - 1
        code = jnp.round(value / self.reach * levels)
        return jnp.clip(code, -levels, levels) * (self.reach / levels)

    def all_refreshed(
        self, key: jax.Array, weight: ArraysWeight, count: jax.Array
    ) -> tuple[Any, dict[str, jax.Array]]:
        """Rewrites the pairs that are due, in all arrays; see `refreshed`."""
        if not self.looks_every:
            return weight, {}
        arrays = weight.arrays
        # What has no axis all arrays share.
        joined = jax.tree.map(
            lambda *x: jnp.concatenate(x, axis=-1) if x[0].ndim else x[0], *arrays
        )
        whole, counts = self.refreshed(key, weight.replace(multilevel=joined), count)
        return weight.with_arrays(_parted(whole.multilevel, len(arrays))), counts


def _parted(pairs: pair.PairState, number: int) -> list[pair.PairState]:
    """Pairs of flat shape (d, number * n) as so many arrays of (d, n)."""

    def part(i):
        def of(x):
            return x if x.ndim == 0 else jnp.split(x, number, axis=-1)[i]

        return jax.tree.map(of, pairs)

    return [part(i) for i in range(number)]


def added(*counts: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The sums of counts, by their names."""
    summed: dict[str, jax.Array] = {}
    for each in counts:
        for name, count in each.items():
            summed[name] = summed[name] + count if name in summed else count
    return summed
