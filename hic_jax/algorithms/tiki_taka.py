"""Tiki-Taka: a fast array takes gradients, and is transferred to a slow one.

Gokmen and Haensch, Algorithm for training neural networks on resistive device arrays,
Front. Neurosci. 14:103 (2020), and, with a digital filter between the arrays, Gokmen,
Enabling training of neural networks on noisy hardware, Front. Artif. Intell. 4:699148
(2021). Pulses that lead nowhere draw the fast array to the symmetric points of its
devices, which are to be zero: what stays in it is what gradients agree on.

It is made for two-sided devices. A pair of one-sided ones has no symmetric point:
alternating pulses raise both, and a refresh keeps the difference.
"""

import dataclasses
import typing
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
from hic_jax.algorithms.transfer import TransferEvents, TransferSpec, added
from hic_jax.kernel_axes import KernelAxes

Version = typing.Literal["v1", "v2"]

FILTER_BITS = 32


class TikiTakaWeight(ArraysWeight):
    """Weights on a slow array (C), beside a fast one (A).

    Attributes:
      hidden: S float32 (H), what was read of the fast array and has not moved the slow
        one yet, in steps; None in the first version.
      spec: the algorithm and its hardware, static.
    """

    hidden: jax.Array | None
    spec: "TikiTakaSpec" = struct.field(pytree_node=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TikiTakaSpec(TransferSpec):
    r"""A fast array A before the slow one, C, which is the weight.

    An update goes to A as whole pulses, rounded stochastically. Then a line of A is
    read, and with what it tells, z in mean steps, the same line of C is moved: in the
    first version by :math:`\lambda z` pulses; in the second over a digital number,

    .. math::
      H \leftarrow H + \lambda z, \quad
      n = \mathrm{clip}(\mathrm{trunc}(H / \theta), -1, 1)

    of which n pulses are fired, and where one was, a share of H is kept.

    Attributes:
      version: v1 moves the slow array by what is read, v2 by what a digital filter
        makes of it.
      fast_rate: what the fast array is asked for, over the update of the weight, up to
        1e6. What it holds sinks to the symmetric points of its devices, and is read
        with noise: a large one pays (experiments/results).
      transfer_rate: mean steps by which the slow array, or the filter, is moved for
        each that is read (lambda), up to 1e6.
      threshold: filtered steps at which a pulse is fired (theta), 0.001 to 1e6; of v2.
      kept: share of the filtered steps that stays where a pulse was fired, 0 to 1; of
        v2.
      fast_share: share of the fast array that is added to the weight (gamma), 0 to 1.
    """

    version: Version = "v2"
    fast_rate: float = 16.0
    transfer_rate: float = 1.0
    threshold: float = 1.0
    kept: float = 0.1
    fast_share: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        checks.one_of("version", self.version, typing.get_args(Version))
        for name in ("fast_rate", "transfer_rate"):
            checks.above(name, getattr(self, name), 0.0)
            checks.at_most(name, getattr(self, name), 1e6)
        checks.within("threshold", self.threshold, 1e-3, 1e6)
        checks.within("kept", self.kept, 0.0, 1.0)
        checks.within("fast_share", self.fast_share, 0.0, 1.0)

    @property
    def gains(self) -> tuple[float, ...]:
        """The fast array counts by its share."""
        return (self.fast_share,)

    @property
    def digital_bits(self) -> int:
        """The filter of the second version."""
        return FILTER_BITS if self.version == "v2" else 0

    def init(
        self, key: jax.Array, target: jax.Array, **common: Any
    ) -> tuple[TikiTakaWeight, Events]:
        """The fast array begins at zero, as the filter does."""
        hidden = jnp.zeros_like(target) if self.version == "v2" else None
        return self.made(TikiTakaWeight, key, target, hidden=hidden, **common)

    def update(
        self,
        key: jax.Array,
        weight: TikiTakaWeight,
        update: jax.Array,
        count: jax.Array,
        cancelled: jax.Array | None = None,
        pace: jax.Array | float = 1.0,
    ) -> tuple[TikiTakaWeight, TransferEvents]:
        """Pulses the fast array, transfers lines, refreshes; updates are in steps."""
        fast_key, read_key, slow_key, refresh_key = jax.random.split(key, 4)
        weight, of_fast = self.taken_up(
            fast_key, weight, update, count, cancelled, rate=self.fast_rate
        )
        slow, fast = weight.arrays
        turn = self.transfer_number(count, self.transfer_every)
        mine = self.their_turn(weight, count, self.transfer_every)
        read = self.seen(read_key, fast, weight.time) / self.step
        read = jnp.where(mine, pace * self.transfer_rate * read, 0.0)
        hidden = weight.hidden
        if hidden is None:
            slow, of_slow = self.fired(slow_key, slow, read, weight.time, turn)
        else:
            hidden = hidden + read
            steps = jnp.clip(jnp.trunc(hidden / self.threshold), -1, 1)
            # Where it is no line's turn, what was left below a pulse may stay.
            steps = jnp.where(mine, steps, 0.0)
            hidden = jnp.where(steps != 0, self.kept * hidden, hidden)
            slow, of_slow = self.stepped(
                slow_key, slow, steps.astype(jnp.int32), weight.time, turn
            )
        weight = weight.with_arrays([slow, fast]).replace(hidden=hidden)
        weight, refreshed = self.all_refreshed(refresh_key, weight, count)
        moved = {"transferred_pulses": of_slow["set_pulses"]}
        counts = added(of_fast, of_slow, moved, refreshed)
        return weight, TransferEvents.of(**counts)


def tiki_taka(
    spec: TikiTakaSpec,
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
    return base.analog(base.checked(spec, TikiTakaSpec), key, axes=axes, pace=pace)
