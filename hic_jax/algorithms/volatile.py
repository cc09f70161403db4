"""A volatile cell in front of the pair: updates go there, and are transferred at times.

Ambrogio et al., Equivalent-accuracy accelerated neural-network training using analogue
memory, Nature 558:60 (2018): a capacitor with three transistors (3T1C), linear but
leaky, whose conductance counts in every product beside that of the pair.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import optax
from flax import struct

from hic_jax import checks
from hic_jax.algorithms import base
from hic_jax.algorithms.events import Events, total
from hic_jax.algorithms.pair_weight import PairWeight
from hic_jax.algorithms.pairs import PairSpec
from hic_jax.kernel_axes import KernelAxes
from hic_jax.pcm import accumulator, pair, stepping
from hic_jax.shards import Shards

# Steps of a cell are counted as so many bits: 200 over its range.
CELL_BITS = 8


class VolatileEvents(Events):
    """What happened to all devices in the last update, or at first; () float32 each.

    Attributes:
      clipped_steps: steps of cells that the update bus cut off, which are lost.
      lost_range: absolute conductance by which updates left the range of their cells
        and were cut off, uS.
      transfers: cells that were transferred to their pairs, and emptied.
      transfer_error: summed absolute difference between what pairs took over and what
        cells had held, uS.
    """

    clipped_steps: jax.Array
    lost_range: jax.Array
    transfers: jax.Array
    transfer_error: jax.Array


class VolatileWeight(PairWeight):
    """Weights on pairs and volatile cells: G+ - G- and what the cell holds.

    Attributes:
      cell: S float32, uS, the cell's part of the signed conductance at ``charged_at``.
      cell_steps: (2, S) float32, the size of an up and of a down step of each cell,
        in units of the mean one.
      charged_at: () float32, s, when the cells were last written; they leak since.
      spec: the algorithm and its hardware, static.
    """

    cell: jax.Array
    cell_steps: jax.Array
    charged_at: jax.Array
    spec: "VolatileSpec" = struct.field(pytree_node=False)

    @property
    def held(self) -> jax.Array:
        """What the cells hold at ``time``, uS."""
        age = self.time - self.charged_at
        return self.cell * jnp.exp(-age / self.spec.leak_seconds)

    def conductance(self, normal: jax.Array | None, *, fresh: bool = True) -> jax.Array:
        """G+ - G- at ``time``, and what the cell holds then, uS."""
        return super().conductance(normal, fresh=fresh) + self.held

    def set_back(self, seconds: jax.Array | float) -> Self:
        """The cells leak, too."""
        # A map, because an nnx.Optimizer holds variables instead of arrays.
        before = jax.tree.map(lambda x: x - seconds, self.charged_at)
        return super().set_back(seconds).replace(charged_at=before)

    def bits(self) -> dict[str, int]:
        """The cells are needed in training only."""
        bits = super().bits()
        return bits | {"training": bits["training"] + self.size * CELL_BITS}

    def devices(self) -> dict[str, int]:
        """A volatile cell for each weight; it does not wear."""
        return super().devices() | {"volatile": self.size}


@dataclasses.dataclass(frozen=True, kw_only=True)
class VolatileSpec(PairSpec):
    """Pairs of devices below leaky, linear cells (Ambrogio et al. 2018).

    An update is rounded stochastically to whole steps of the cell. Every
    ``transfer_every`` training steps the pair takes over what the cell holds, by pulses
    that are verified, and the cell is emptied. Its polarity alternates from transfer to
    transfer, so that what its up and down steps differ in averages out.

    Attributes:
      transfer_every: training steps between two transfers; 80 are 8,000 images at 100
        a step, about what the paper has.
      transfer_pulses: most SET pulses that a weight gets in a transfer, 1 to 255.
      cell_range: largest conductance that a cell adds or takes, in mean SET steps of a
        multi-level device, 0.01 to 1000. The paper scales the pair up by a factor in
        the periphery, which is what this stands for; its size is a choice of this
        project.
      cell_step: step of a cell, as a share of its range from one end to the other,
        1e-6 to 0.5.
      cell_spread: standard deviation of the size of steps from cell to cell, up and
        down by themselves, as a share of it, 0 to 0.2.
      leak_seconds: time in which a cell loses all but 1/e of what it holds, s: a
        million training steps of 0.1 s.
      update_bits: width of the bus that brings step numbers to the cells, bits, 2 to
        16; what is beyond it is clipped, and counted.

    References:
      Step, spread and leak: `CapacitorPresetDevice` of IBM's aihwkit.
    """

    transfer_every: int = 80
    transfer_pulses: int = 20
    cell_range: float = 4.0
    cell_step: float = 0.005
    cell_spread: float = 0.05
    leak_seconds: float = 1e5
    update_bits: int = 8

    blind: ClassVar[bool] = False
    collects: ClassVar[bool] = True
    events: ClassVar[type[Events]] = VolatileEvents

    def __post_init__(self):
        super().__post_init__()
        checks.integer("transfer_every", self.transfer_every, 1)
        checks.integer("transfer_pulses", self.transfer_pulses, 1, 255)
        checks.within("cell_range", self.cell_range, 0.01, 1e3)
        checks.within("cell_step", self.cell_step, 1e-6, 0.5)
        # Five standard deviations are a step in the right direction.
        checks.within("cell_spread", self.cell_spread, 0.0, 0.2)
        checks.within("leak_seconds", self.leak_seconds, 1e-6, checks.SECONDS_MAX)
        checks.integer("update_bits", self.update_bits, 2, 16)

    @property
    def range_us(self) -> float:
        """Largest conductance that a cell adds or takes, uS."""
        return self.cell_range * self.multilevel.mean_step

    @property
    def unit(self) -> float:
        """Updates come in mean steps of the cells."""
        return 2 * self.range_us * self.cell_step

    def init(
        self, key: jax.Array, target: jax.Array, **common: Any
    ) -> tuple[VolatileWeight, VolatileEvents]:
        """Cells begin empty, or with what programming left."""
        make_key, write_key, cell_key, keep_key = jax.random.split(key, 4)
        spread = jax.random.normal(cell_key, (2, *target.shape), jnp.float32)
        pairs, residue = self.program(make_key, write_key, target)
        weight = VolatileWeight(
            multilevel=pairs,
            cell=jnp.zeros(target.shape, jnp.float32),
            cell_steps=jnp.maximum(1 + self.cell_spread * spread, 0.0),
            charged_at=jnp.zeros((), jnp.float32),
            spec=self,
            **common,
        )
        return self.programmed(keep_key, weight, residue)

    def update(
        self,
        key: jax.Array,
        weight: VolatileWeight,
        update: jax.Array,
        count: jax.Array,
    ) -> tuple[VolatileWeight, VolatileEvents]:
        """Charges the cells, transfers, refreshes; updates are in steps of cells."""
        round_key, transfer_key, refresh_key = jax.random.split(key, 3)
        undefined = jnp.isnan(update)
        weight, counts = self._charge(
            round_key, weight, jnp.where(undefined, 0.0, update), count
        )

        def transfer(pairs, cell):
            new, fired, futile = stepping.add_difference(
                transfer_key, pairs, cell, weight.time, self.multilevel,
                count // self.transfer_every, max_pulses=self.transfer_pulses,
            )  # fmt: skip
            taken = pair.read(None, new, weight.time, self.multilevel)
            taken -= pair.read(None, pairs, weight.time, self.multilevel)
            futile = jnp.sum(futile, axis=-1, dtype=jnp.float32)
            return new, jnp.zeros_like(cell), total(fired), futile, total(taken - cell)

        def leave(pairs, cell):
            zero = jnp.zeros((), jnp.float32)
            return pairs, cell, zero, jnp.zeros((2,), jnp.float32), zero

        due = count % self.transfer_every == 0
        pairs, cell, fired, futile, error = jax.lax.cond(
            due, transfer, leave, weight.multilevel, weight.cell
        )
        weight, refreshed = self.refreshed(
            refresh_key, weight.replace(multilevel=pairs, cell=cell), count
        )
        events = VolatileEvents.of(
            undefined_updates=total(undefined),
            transfers=jnp.where(due, float(cell.size), 0.0),
            transfer_error=error,
            set_pulses=fired,
            futile_pulses=futile,
            **counts,
        )
        return weight, events.plus(**refreshed)

    def keep(
        self,
        key: jax.Array,
        weight: VolatileWeight,
        residue: jax.Array,
        count: jax.Array | int,
    ) -> tuple[VolatileWeight, dict[str, jax.Array]]:
        """Charges the cells with it, as with an update: it counts in every read."""
        return self._charge(key, weight, residue / self.unit, count)

    def _charge(
        self,
        key: jax.Array,
        weight: VolatileWeight,
        steps: jax.Array,
        count: jax.Array | int,
    ) -> tuple[VolatileWeight, dict[str, jax.Array]]:
        """Rounds to whole steps and adds them to the cells; also what happened."""
        uniform = jax.random.uniform(key, steps.shape, jnp.float32)
        steps, clipped = accumulator.quantise(steps, uniform, self.update_bits)
        # In the other polarity a cell is discharged where the weight is to grow.
        inverted = (count // self.transfer_every) % 2 == 1
        up = (steps > 0) != inverted
        size = jnp.where(up, weight.cell_steps[0], weight.cell_steps[1])
        wanted = weight.held + self.unit * size * steps
        charged = jnp.clip(wanted, -self.range_us, self.range_us)
        counts = {
            "clipped_steps": total(clipped),
            "lost_range": total(wanted - charged),
        }
        return weight.replace(cell=charged, charged_at=jnp.asarray(weight.time)), counts


def volatile(
    spec: VolatileSpec,
    key: jax.Array | int,
    *,
    axes: Mapping[str, KernelAxes] | None = None,
    shards: Shards | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Holds parameters on pairs and volatile cells; see `hic_jax.algorithms.analog`.

    Args:
      spec: the hardware.
      key: a random key or an integer seed.
      axes: which axes of a parameter are rows, columns and parts of a stack.
      shards: equal parts of the state, which the devices of a mesh share.
    """
    return base.analog(base.checked(spec, VolatileSpec), key, axes=axes, shards=shards)
