"""AGAD: Tiki-Taka with choppers that measures offsets of devices, and removes them.

Rasch, Carta, Fagbohungbe and Gokmen, Fast and robust analog in-memory deep neural
network training, Nat. Commun. 15:7133 (2024). The sign of a line changes regularly;
what was read of it before, in the mean, is what is taken off from then on. A symmetric
point that is not at zero is in both and drops out.
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
from hic_jax.algorithms.chopped import ChoppedSpec, ChoppedWeight
from hic_jax.algorithms.events import Events
from hic_jax.algorithms.tiki_taka import FILTER_BITS
from hic_jax.kernel_axes import KernelAxes


class AGADWeight(ChoppedWeight):
    """Weights on a slow array, beside a fast one whose offsets are measured.

    Attributes:
      mean: S float32 (p), running mean of what is read of the fast array, steps.
      offset: S float32 (p_ref), that mean when the sign last changed, steps.
      spec: the algorithm and its hardware, static.
    """

    mean: jax.Array
    offset: jax.Array
    spec: "AGADSpec" = struct.field(pytree_node=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AGADSpec(ChoppedSpec):
    r"""Tiki-Taka with choppers and a measured offset (AGAD).

    As c-TTv2, on what is read less the offset, with
    :math:`p \leftarrow (1 - \beta) p + \beta z`. The sign of a line changes at every
    1/rho-th read of it, and the offset then becomes p.

    Attributes:
      flip_probability: share of the reads of a line (rho) at which its sign changes, in
        regular intervals, 0 to 0.5; at 0 it never does.
      mean_rate: weight of a read in the running mean over flip_probability; beta is
        their product, or 1; up to 1e3.
    """

    mean_rate: float = 5.0

    def __post_init__(self):
        super().__post_init__()
        checks.above("mean_rate", self.mean_rate, 0.0)
        checks.at_most("mean_rate", self.mean_rate, 1e3)

    @property
    def digital_bits(self) -> int:
        """The filter, the mean and the offset."""
        return 3 * FILTER_BITS

    def init(
        self, key: jax.Array, target: jax.Array, **common: Any
    ) -> tuple[Any, Events]:
        """The fast array begins at zero, as means and offsets do."""
        return self.made(AGADWeight, key, target, **self.at_first(target), **common)

    def at_first(self, target: jax.Array) -> dict[str, jax.Array]:
        """What training keeps beside the arrays, by its name."""
        zeros = {name: jnp.zeros_like(target) for name in ("mean", "offset")}
        return super().at_first(target) | zeros

    def told(
        self,
        key: jax.Array,
        weight: Any,
        read: jax.Array,
        mine: jax.Array,
        count: jax.Array,
    ) -> tuple[Any, jax.Array]:
        """What a read tells without the offset; see `ChoppedSpec.told`."""
        del key  # Signs change regularly.
        told = weight.chopper * (read - weight.offset)
        beta = min(self.mean_rate * self.flip_probability, 1.0)
        mean = weight.mean + jnp.where(mine, beta * (read - weight.mean), 0.0)
        flip = jnp.zeros_like(mine)
        if self.flip_probability:
            each = max(1, round(1 / self.flip_probability))
            flip = mine & (self.reads_before(weight, count) % each == each - 1)
        return weight.replace(
            mean=mean,
            offset=jnp.where(flip, mean, weight.offset),
            chopper=jnp.where(flip, -weight.chopper, weight.chopper),
        ), told


def agad(
    spec: AGADSpec,
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
    return base.analog(base.checked(spec, AGADSpec), key, axes=axes, pace=pace)
