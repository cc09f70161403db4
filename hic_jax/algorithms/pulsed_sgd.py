"""Pulsed SGD: every update goes to the pair at once, as whole pulses, drawn at random.

Without anything that collects small updates: what is below a SET step fires a pulse
with the probability of its share. As in the PCM preset of IBM's aihwkit.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from hic_jax.algorithms import base
from hic_jax.algorithms.events import Events, total
from hic_jax.algorithms.pair_weight import PairWeight
from hic_jax.algorithms.pulsed import PulsedSpec
from hic_jax.kernel_axes import KernelAxes
from hic_jax.shards import Shards


class PulsedEvents(Events):
    """What happened to all devices in the last update, or at first; () float32 each.

    Attributes:
      clipped_pulses: pulses beyond the most in a step, which are lost.
    """

    clipped_pulses: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class PulsedSGDSpec(PulsedSpec):
    r"""Pairs of devices without an accumulator.

    :math:`n = \lfloor \Delta W / \epsilon + u \rfloor` blind pulses go to the pair in
    every step, epsilon the mean change of a weight by a SET pulse and u uniform in
    [0, 1). That is the net update of a batch, or, with ``pulse_counts="both"``, what
    its examples ask for both ways.
    """

    events: ClassVar[type[Events]] = PulsedEvents

    def update(
        self,
        key: jax.Array,
        weight: PairWeight,
        update: jax.Array,
        count: jax.Array,
        cancelled: jax.Array | None = None,
    ) -> tuple[PairWeight, PulsedEvents]:
        """Rounds, fires, refreshes; updates are in steps."""
        round_key, set_key, refresh_key = jax.random.split(key, 3)
        undefined = jnp.isnan(update)
        wanted = jnp.where(undefined, 0.0, update)
        pairs, fired = self.rounded_and_fired(
            round_key, set_key, weight.multilevel, wanted, cancelled, weight.time, count
        )
        weight, refreshed = self.refreshed(
            refresh_key, weight.replace(multilevel=pairs), count
        )
        events = PulsedEvents.of(
            undefined_updates=total(undefined), **fired, **refreshed
        )
        return weight, events


def pulsed_sgd(
    spec: PulsedSGDSpec,
    key: jax.Array | int,
    *,
    axes: Mapping[str, KernelAxes] | None = None,
    shards: Shards | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Holds parameters on pairs alone; see `hic_jax.algorithms.analog`.

    Args:
      spec: the hardware.
      key: a random key or an integer seed.
      axes: which axes of a parameter are rows, columns and parts of a stack.
      shards: equal parts of the state, which the devices of a mesh share.
    """
    return base.analog(base.checked(spec, PulsedSGDSpec), key, axes=axes, shards=shards)
