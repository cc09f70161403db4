"""Tiki-Taka with choppers: signs of gradients change, so that offsets average out.

Rasch, Carta, Fagbohungbe and Gokmen, Fast and robust analog in-memory deep neural
network training, Nat. Commun. 15:7133 (2024). Every line of the fast array has a sign,
the chopper: it multiplies what the line is asked for, and what is read of it. What the
fast array holds by itself, because a symmetric point is not at zero, is then added as
often as it is taken. `hic_jax.algorithms.agad` measures it besides.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from hic_jax import checks
from hic_jax.algorithms import base
from hic_jax.algorithms.arrays import ArraysWeight
from hic_jax.algorithms.events import Events
from hic_jax.algorithms.tiki_taka import FILTER_BITS
from hic_jax.algorithms.transfer import TransferEvents, TransferSpec, added
from hic_jax.kernel_axes import KernelAxes


class ChoppedWeight(ArraysWeight):
    """Weights on a slow array, beside a fast one whose lines have a sign each.

    Attributes:
      hidden: S float32 (H), what was read of the fast array and has not moved the slow
        one yet, in steps.
      chopper: S int8, 1 or -1, the sign of the line that a weight is on.
      spec: the algorithm and its hardware, static.
    """

    hidden: jax.Array
    chopper: jax.Array
    spec: "ChoppedSpec" = struct.field(pytree_node=False)

    def bits(self) -> dict[str, int]:
        """A bit for the sign of each line, too."""
        bits = super().bits()
        return bits | {"training": bits["training"] + self.line_count}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChoppedSpec(TransferSpec):
    r"""Tiki-Taka with choppers (c-TTv2).

    With c the sign of a line, z what is read of it in mean steps, and N training steps
    from a read of a line to the next,

    .. math::
      H \leftarrow H + \lambda c z N / M

    and all whole steps of H are fired at the slow array and taken off.

    Attributes:
      fast_rate: what the fast array is asked for, over the update of the weight, up to
        1e6. What it holds sinks to the symmetric points of its devices, and is read
        with noise: a large one pays (experiments/results).
      transfer_rate: factor of what is read (lambda), up to 1e6.
      filter_steps: training steps (M) in which a constant reading of one step moves the
        slow array by one, 1 to 1e9: aihwkit's thousand examples are ten batches of 100.
      flip_probability: probability with which the sign of a line changes after a read
        of it, 0 to 0.5.
    """

    fast_rate: float = 16.0
    transfer_rate: float = 1.0
    filter_steps: float = 10.0
    flip_probability: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        for name in ("fast_rate", "transfer_rate"):
            checks.above(name, getattr(self, name), 0.0)
            checks.at_most(name, getattr(self, name), 1e6)
        checks.within("filter_steps", self.filter_steps, 1.0, 1e9)
        checks.within("flip_probability", self.flip_probability, 0.0, 0.5)

    @property
    def gains(self) -> tuple[float, ...]:
        """The fast array does not count in a read: its signs change."""
        return (0.0,)

    @property
    def digital_bits(self) -> int:
        """The filter."""
        return FILTER_BITS

    def init(
        self, key: jax.Array, target: jax.Array, **common: Any
    ) -> tuple[Any, Events]:
        """The fast array begins at zero, as the filter does, with signs of 1."""
        return self.made(ChoppedWeight, key, target, **self.at_first(target), **common)

    def at_first(self, target: jax.Array) -> dict[str, jax.Array]:
        """What training keeps beside the arrays, by its name."""
        return {
            "hidden": jnp.zeros_like(target),
            "chopper": jnp.ones(target.shape, jnp.int8),
        }

    def update(
        self,
        key: jax.Array,
        weight: Any,
        update: jax.Array,
        count: jax.Array,
        cancelled: jax.Array | None = None,
        pace: jax.Array | float = 1.0,
    ) -> tuple[Any, TransferEvents]:
        """Pulses the fast array, transfers lines, refreshes; updates are in steps."""
        fast_key, read_key, slow_key, flip_key, refresh_key = jax.random.split(key, 5)
        weight, of_fast = self.taken_up(
            fast_key,
            weight,
            update,
            count,
            cancelled,
            rate=self.fast_rate * weight.chopper,
        )
        slow, fast = weight.arrays
        every = self.transfer_every
        mine = self.their_turn(weight, count, every)
        read = self.seen(read_key, fast, weight.time) / self.step
        weight, told = self.told(flip_key, weight, read, mine, count)
        between = every * jnp.maximum(weight.lines / self.reads_per_transfer, 1.0)
        told = pace * self.transfer_rate * told * between / self.filter_steps
        hidden = weight.hidden + jnp.where(mine, told, 0.0)
        most = float(2 ** (self.update_bits - 1) - 1)
        steps = jnp.where(mine, jnp.clip(jnp.trunc(hidden), -most, most), 0.0)
        slow, of_slow = self.stepped(
            slow_key, slow, steps.astype(jnp.int32), weight.time,
            self.transfer_number(count, every),
        )  # fmt: skip
        weight = weight.with_arrays([slow, fast]).replace(hidden=hidden - steps)
        weight, refreshed = self.all_refreshed(refresh_key, weight, count)
        moved = {"transferred_pulses": of_slow["set_pulses"]}
        counts = added(of_fast, of_slow, moved, refreshed)
        return weight, TransferEvents.of(**counts)

    def told(
        self,
        key: jax.Array,
        weight: Any,
        read: jax.Array,
        mine: jax.Array,
        count: jax.Array,
    ) -> tuple[Any, jax.Array]:
        """What a read tells of gradients, in steps; and signs for what comes next.

        Args:
          key: of the flips.
          weight: with the signs that what was read has.
          read: (n,) float32, steps.
          mine: (n,) bool, weights whose lines are read.
          count: () int32, number of the update, from 1.
        """
        del count
        # One draw for each line, by the number of the line.
        uniform = jax.random.uniform(key, read.shape, jnp.float32)
        flip = mine & (uniform[weight.line] < self.flip_probability)
        chopper = jnp.where(flip, -weight.chopper, weight.chopper)
        return weight.replace(chopper=chopper), weight.chopper * read


def chopped_tiki_taka(
    spec: ChoppedSpec,
    key: jax.Array | int,
    *,
    axes: Mapping[str, KernelAxes] | None = None,
    pace: optax.Schedule | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Holds parameters on fast and slow arrays; see `hic_jax.algorithms.analog`.

    Args:
      spec: the hardware.
      key: a random key or an integer seed.
      axes: which axes of a parameter are rows, columns and parts of a stack.
      pace: of transfers, by the number of updates before; 1 without.
    """
    return base.analog(base.checked(spec, ChoppedSpec), key, axes=axes, pace=pace)
