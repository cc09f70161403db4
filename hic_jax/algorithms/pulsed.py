"""`PulsedSpec`: algorithms that fire an update at devices at once, as whole pulses.

What an optimizer asks for is the sum over a batch, the net update. Hardware without
gradients fires the pulses of every example, up and down: where examples disagree many
of them lead nowhere, and draw two-sided devices to their symmetric points, or fill up
both sides of a pair. With ``pulse_counts="both"`` these are fired, too.
"""

import dataclasses
import typing
from typing import Literal

import jax
import jax.numpy as jnp

from hic_jax import checks
from hic_jax.algorithms.events import total
from hic_jax.algorithms.pairs import PairSpec
from hic_jax.pcm import accumulator, pair

PulseCounts = Literal["net", "both"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PulsedSpec(PairSpec):
    """An algorithm whose updates are rounded to whole pulses, stochastically.

    Attributes:
      update_bits: width of the bus that brings pulse numbers to the devices, bits, 2 to
        9; what is beyond it is clipped, and counted.
      pulse_counts: pulses that an update fires: net, those of the sum over a batch;
        both, as many up, and as many down, as its examples ask for in the mean, in
        random order. It takes one more product of inputs and errors in each layer, and
        as many rounds of pulses as there are pulses at the busiest weight.
    """

    update_bits: int = 6
    pulse_counts: PulseCounts = "net"

    def __post_init__(self):
        super().__post_init__()
        checks.integer("update_bits", self.update_bits, 2, 9)
        checks.one_of("pulse_counts", self.pulse_counts, typing.get_args(PulseCounts))

    @property
    def fires_both(self) -> bool:
        """Whether it is to be told what cancels among the examples of a batch."""
        return self.pulse_counts == "both"

    def rounded_and_fired(
        self,
        round_key: jax.Array,
        set_key: jax.Array,
        array: pair.PairState,
        wanted: jax.Array,
        cancelled: jax.Array | None,
        time: jax.Array,
        turn: jax.Array,
    ) -> tuple[pair.PairState, dict[str, jax.Array]]:
        """Rounds to whole pulses, stochastically, and fires them; also what happened.

        Args:
          round_key: of the rounding.
          set_key: order of pulses, and programming noise.
          array: to write.
          wanted: (n,) float32, steps; finite.
          cancelled: (n,) float32, steps up and down in equal parts beside these, not
            negative; None for none.
          time: s.
          turn: see `hic_jax.pcm.pair.set_pulses`.
        """
        if cancelled is None:
            uniform = jax.random.uniform(round_key, wanted.shape, jnp.float32)
            steps, clipped = accumulator.quantise(wanted, uniform, self.update_bits)
            array, counts = self.stepped(set_key, array, steps, time, turn)
            return array, counts | {"clipped_pulses": total(clipped)}
        both = jnp.maximum(jnp.stack([wanted, -wanted]), 0.0) + cancelled / 2
        uniform = jax.random.uniform(round_key, both.shape, jnp.float32)
        steps, clipped = accumulator.quantise(both, uniform, self.update_bits)
        ups, downs = steps
        array, futile = pair.set_both(
            set_key, array, ups, downs, time, self.multilevel, turn
        )
        return array, _counted(steps, futile) | {"clipped_pulses": total(clipped)}

    def stepped(
        self,
        key: jax.Array,
        array: pair.PairState,
        steps: jax.Array,
        time: jax.Array,
        turn: jax.Array,
    ) -> tuple[pair.PairState, dict[str, jax.Array]]:
        """Fires whole pulses, (n,) int32; see `rounded_and_fired`."""
        array, futile = pair.set_pulses(key, array, steps, time, self.multilevel, turn)
        return array, _counted(steps, futile)


def _counted(steps: jax.Array, futile: jax.Array) -> dict[str, jax.Array]:
    return {
        "set_pulses": total(steps),
        "futile_pulses": jnp.sum(futile, axis=-1, dtype=jnp.float32),
    }


def cancelled(update: jax.Array, gradient: jax.Array, total: jax.Array) -> jax.Array:
    """Updates of a tensor that its examples ask for both ways, and that cancel.

    With f the factor by which the rule has multiplied the gradient of the tensor, as it
    is found by a projection, what all examples ask for is f times their total, and
    what of it cancels is f (total - abs(gradient)). It is exact for rules that have
    one factor for a tensor, SGD with or without a trust ratio; decay of weights changes
    it as far as weights and gradients are parallel. Where the gradients of the whole
    tensor are zero there is no factor, and nothing.

    Args:
      update: as the rule has made it.
      gradient: what it was made of.
      total: sum over the examples of absolute values, of which the gradient is the sum.

    Returns:
      float32 of the same shape, not negative; half of it is up. Zero where any of the
      three is not finite.
    """
    parts = [jnp.asarray(x, jnp.float32) for x in (update, gradient, total)]
    finite = jnp.all(jnp.isfinite(jnp.stack(parts)), axis=0)
    update, gradient, total = (jnp.where(finite, x, 0.0) for x in parts)
    largest = jnp.max(jnp.abs(gradient), initial=0.0)
    # Of small numbers no squares: in units of the largest.
    some = largest > 0
    direction = gradient / jnp.where(some, largest, 1.0)
    square = jnp.sum(direction**2)
    along = -jnp.sum(update * direction) / jnp.where(some, square, 1.0)
    factor = jnp.maximum(along, 0.0) / jnp.where(some, largest, jnp.inf)
    return factor * jnp.maximum(total - jnp.abs(gradient), 0.0)
