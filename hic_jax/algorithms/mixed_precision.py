"""Mixed precision: a floating-point number collects what a pair is too coarse for.

Nandakumar et al., Mixed-precision deep learning based on computational memory, Front.
Neurosci. 14:406 (2020). Behind a rule of optax with a state, as
``optax.chain(optax.adamw(...), mixed_precision(...))``, it is the digital residual in
logical space of Wu et al., arXiv:2609.36584.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from hic_jax import checks
from hic_jax.algorithms import base
from hic_jax.algorithms.events import Events, total
from hic_jax.algorithms.pair_weight import PairWeight
from hic_jax.algorithms.pairs import PairSpec
from hic_jax.kernel_axes import KernelAxes
from hic_jax.pcm import pair
from hic_jax.shards import Shards

RESIDUAL_BITS = 32


class ResidualWeight(PairWeight):
    """Weights on pairs, and beside each a digital number that training needs.

    Attributes:
      residual: S float32 (chi), updates that have not reached the devices yet, in mean
        SET steps. It never counts in a read.
    """

    residual: jax.Array

    def bits(self) -> dict[str, int]:
        """The residuals are needed in training only."""
        bits = super().bits()
        return bits | {"training": bits["training"] + self.size * RESIDUAL_BITS}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixedPrecisionSpec(PairSpec):
    r"""Pairs of devices below float32 residuals (Nandakumar et al. 2020).

    With epsilon the mean change of a weight by a SET pulse,

    .. math::
      \chi \leftarrow \chi + \Delta W / \epsilon, \quad
      n = \mathrm{trunc}(\chi), \quad \chi \leftarrow \chi - n

    and n blind pulses go to the pair.

    Attributes:
      pulses_per_step: most SET pulses that a weight gets in a training step, 1 to
        255; what is beyond waits in its residual.
    """

    pulses_per_step: int = 32

    collects: ClassVar[bool] = True

    def __post_init__(self):
        super().__post_init__()
        checks.integer("pulses_per_step", self.pulses_per_step, 1, 255)

    def init(
        self, key: jax.Array, target: jax.Array, **common: Any
    ) -> tuple[ResidualWeight, Events]:
        """Residuals begin at zero, or with what programming left."""
        make_key, write_key, keep_key = jax.random.split(key, 3)
        pairs, residue = self.program(make_key, write_key, target)
        residual = jnp.zeros(target.shape, jnp.float32)
        weight = ResidualWeight(
            multilevel=pairs, residual=residual, spec=self, **common
        )
        return self.programmed(keep_key, weight, residue)

    def update(
        self,
        key: jax.Array,
        weight: ResidualWeight,
        update: jax.Array,
        count: jax.Array,
    ) -> tuple[ResidualWeight, Events]:
        """Accumulates, transfers whole steps, refreshes; updates are in steps."""
        set_key, refresh_key = jax.random.split(key)
        undefined = ~jnp.isfinite(update)
        residual = weight.residual + jnp.where(undefined, 0.0, update)
        most = self.pulses_per_step
        steps = jnp.clip(jnp.trunc(residual), -most, most)
        pairs, futile = pair.set_pulses(
            set_key,
            weight.multilevel,
            steps.astype(jnp.int32),
            weight.time,
            self.multilevel,
            count,
        )
        weight = weight.replace(multilevel=pairs, residual=residual - steps)
        weight, refreshed = self.refreshed(refresh_key, weight, count)
        events = Events.of(
            undefined_updates=total(undefined),
            set_pulses=total(steps),
            futile_pulses=jnp.sum(futile, axis=-1, dtype=jnp.float32),
            **refreshed,
        )
        return weight, events

    def keep(
        self,
        key: jax.Array,
        weight: ResidualWeight,
        residue: jax.Array,
        count: jax.Array | int,
    ) -> tuple[ResidualWeight, dict[str, jax.Array]]:
        """Adds it to the residuals, from which the next update transfers."""
        del key, count
        return weight.replace(residual=weight.residual + residue / self.step), {}


def mixed_precision(
    spec: MixedPrecisionSpec,
    key: jax.Array | int,
    *,
    axes: Mapping[str, KernelAxes] | None = None,
    shards: Shards | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Holds parameters on pairs with residuals; see `hic_jax.algorithms.analog`.

    Args:
      spec: the hardware.
      key: a random key or an integer seed.
      axes: which axes of a parameter are rows, columns and parts of a stack.
      shards: equal parts of the state, which the devices of a mesh share.
    """
    return base.analog(
        base.checked(spec, MixedPrecisionSpec), key, axes=axes, shards=shards
    )
