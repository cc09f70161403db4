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

from hic_jax import checks
from hic_jax.algorithms import base
from hic_jax.algorithms.events import Events, total
from hic_jax.algorithms.pair_weight import PairWeight
from hic_jax.algorithms.pairs import PairSpec
from hic_jax.kernel_axes import KernelAxes
from hic_jax.pcm import accumulator, pair


class PulsedEvents(Events):
    """What happened to all devices in the last update, or at first; () float32 each.

    Attributes:
      clipped_pulses: pulses beyond the most in a step, which are lost.
    """

    clipped_pulses: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class PulsedSGDSpec(PairSpec):
    r"""Pairs of devices without an accumulator.

    :math:`n = \lfloor \Delta W / \epsilon + u \rfloor` blind pulses go to the pair in
    every step, epsilon the mean change of a weight by a SET pulse and u uniform in
    [0, 1). What an optimizer asks for is the net update of a batch: pulses of single
    images, up and down, which hardware without gradients would fire, are not modelled.

    Attributes:
      update_bits: width of the bus that brings pulse numbers to the pairs, bits, 2 to
        9; what is beyond it is clipped, and counted.
    """

    update_bits: int = 6

    events: ClassVar[type[Events]] = PulsedEvents

    def __post_init__(self):
        super().__post_init__()
        checks.integer("update_bits", self.update_bits, 2, 9)

    def update(
        self, key: jax.Array, weight: PairWeight, update: jax.Array, count: jax.Array
    ) -> tuple[PairWeight, PulsedEvents]:
        """Rounds, fires, refreshes; updates are in steps."""
        round_key, set_key, refresh_key = jax.random.split(key, 3)
        undefined = jnp.isnan(update)
        uniform = jax.random.uniform(round_key, update.shape, jnp.float32)
        steps, clipped = accumulator.quantise(
            jnp.where(undefined, 0.0, update), uniform, self.update_bits
        )
        pairs, futile = pair.set_pulses(
            set_key, weight.multilevel, steps, weight.time, self.multilevel, count
        )
        weight, refreshed = self.refreshed(
            refresh_key, weight.replace(multilevel=pairs), count
        )
        events = PulsedEvents.of(
            undefined_updates=total(undefined),
            clipped_pulses=total(clipped),
            set_pulses=total(steps),
            futile_pulses=jnp.sum(futile, axis=-1, dtype=jnp.float32),
            **refreshed,
        )
        return weight, events


def pulsed_sgd(
    spec: PulsedSGDSpec,
    key: jax.Array | int,
    *,
    axes: Mapping[str, KernelAxes] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Holds parameters on pairs alone; see `hic_jax.algorithms.analog`.

    Args:
      spec: the hardware.
      key: a random key or an integer seed.
      axes: which axes of a parameter are rows, columns and parts of a stack.
    """
    return base.analog(base.checked(spec, PulsedSGDSpec), key, axes=axes)
