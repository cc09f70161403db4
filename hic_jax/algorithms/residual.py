"""Residual learning on several tiles: each holds what the coarser ones leave.

arXiv:2510.02516: the weight is a sum of tiles with falling factors, made for devices of
few states. A gradient goes to the finest tile, and what a tile holds is added to the
next coarser one at times, without a reset. All tiles count in every product.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from hic_jax import checks
from hic_jax.algorithms import base
from hic_jax.algorithms.arrays import ArraysWeight
from hic_jax.algorithms.events import Events
from hic_jax.algorithms.transfer import TransferEvents, TransferSpec, added
from hic_jax.kernel_axes import KernelAxes


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResidualSpec(TransferSpec):
    r"""Tiles :math:`W = \sum_n \gamma^n W^{(n)}`, from the coarsest to the finest.

    The finest takes updates, and at times tile n moves by :math:`\beta_n W^{(n+1)}`,
    as whole pulses, rounded stochastically. The first writing is on the coarsest tile.

    Attributes:
      tiles: how many there are, 2 to 8.
      tile_ratio: factor of a tile over that of the next coarser one (gamma), 0.001 to
        1: about one over the number of states of a device.
      transfer_every: training steps between two transfers to the coarsest tile.
      transfer_growth: between transfers to a tile over those to the next coarser one, 1
        to 100.
      transfer_rate: share of the next finer tile that moves the coarsest (beta), up to
        1e3.
      rate_growth: that share of a tile over that of the next coarser one, 0.01 to 100.

    References:
      arXiv:2510.02516, whose text and code disagree in which order the rates of its
      transfers grow; this is the text.
    """

    tiles: int = 3
    tile_ratio: float = 0.25
    transfer_every: int = 3
    transfer_growth: float = 2.0
    transfer_rate: float = 0.3
    rate_growth: float = 1.2

    def __post_init__(self):
        super().__post_init__()
        checks.integer("tiles", self.tiles, 2, 8)
        checks.within("tile_ratio", self.tile_ratio, 1e-3, 1.0)
        checks.within("transfer_growth", self.transfer_growth, 1.0, 100.0)
        checks.above("transfer_rate", self.transfer_rate, 0.0)
        checks.at_most("transfer_rate", self.transfer_rate, 1e3)
        checks.within("rate_growth", self.rate_growth, 0.01, 100.0)
        checks.integer("transfer_every", max(self.periods), 1)

    @property
    def gains(self) -> tuple[float, ...]:
        """Falling factors."""
        return tuple(self.tile_ratio**n for n in range(1, self.tiles))

    @property
    def periods(self) -> tuple[int, ...]:
        """Of transfers to the coarsest tile, and then to finer ones."""
        return tuple(
            round(self.transfer_every * self.transfer_growth**n)
            for n in range(self.tiles - 1)
        )

    def init(
        self, key: jax.Array, target: jax.Array, **common: Any
    ) -> tuple[ArraysWeight, Events]:
        """All tiles but the coarsest begin at zero."""
        return self.made(ArraysWeight, key, target, **common)

    def update(
        self,
        key: jax.Array,
        weight: ArraysWeight,
        update: jax.Array,
        count: jax.Array,
        cancelled: jax.Array | None = None,
        pace: jax.Array | float = 1.0,
    ) -> tuple[ArraysWeight, TransferEvents]:
        """Pulses the finest tile, transfers lines, refreshes; updates are in steps."""
        fast_key, transfer_key, refresh_key = jax.random.split(key, 3)
        weight, of_fast = self.taken_up(
            fast_key, weight, update, count, cancelled, rate=1 / self.gains[-1]
        )
        told = [of_fast]
        tiles = list(weight.arrays)
        for n, every in enumerate(self.periods):
            read_key, set_key = jax.random.split(jax.random.fold_in(transfer_key, n))
            mine = self.their_turn(weight, count, every)
            share = pace * self.transfer_rate * self.rate_growth**n
            read = self.seen(read_key, tiles[n + 1], weight.time) / self.step
            tiles[n], counts = self.fired(
                set_key,
                tiles[n],
                jnp.where(mine, share * read, 0.0),
                weight.time,
                self.transfer_number(count, every),
            )
            told += [counts, {"transferred_pulses": counts["set_pulses"]}]
        weight, refreshed = self.all_refreshed(
            refresh_key, weight.with_arrays(tiles), count
        )
        return weight, TransferEvents.of(**added(*told, refreshed))


def residual(
    spec: ResidualSpec,
    key: jax.Array | int,
    *,
    axes: Mapping[str, KernelAxes] | None = None,
    pace: optax.Schedule | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Holds parameters on several tiles; see `hic_jax.algorithms.analog`.

    Args:
      spec: the hardware.
      key: a random key or an integer seed.
      axes: which axes of a parameter are rows, columns and parts of a stack.
      pace: of transfers, by the number of updates before; 1 without.
    """
    return base.analog(base.checked(spec, ResidualSpec), key, axes=axes, pace=pace)
