"""HIC: a low-precision word in binary PCM collects what a pair is too coarse for.

The hybrid in-memory computing architecture of arXiv:2102.05271. An update is rounded to
LSBs and added to the word, which writes only the bits that change; what leaves its
range is carried to the multi-level pair as blind SET pulses.
"""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from flax import struct

from hic_jax import checks
from hic_jax.algorithms import base
from hic_jax.algorithms.events import Events, total
from hic_jax.algorithms.pair_weight import PairWeight, flat_pulses
from hic_jax.algorithms.pairs import PairSpec
from hic_jax.kernel_axes import KernelAxes
from hic_jax.pcm import accumulator, binary, pair
from hic_jax.pcm.binary import BinarySpec
from hic_jax.shards import Shards
from hic_jax.weights import Pulses

InitialWords = typing.Literal["uniform", "zero"]


class HICEvents(Events):
    """What happened to all devices in the last update, or at first; () float32 each.

    Attributes:
      accepted_lsbs: absolute LSBs that reached the accumulators.
      clipped_lsbs: absolute LSBs that the update bus cut off; 2^30 for a NaN.
      faulty_lsbs: absolute LSBs by which stuck binary cells changed words.
    """

    accepted_lsbs: jax.Array
    clipped_lsbs: jax.Array
    faulty_lsbs: jax.Array


class HybridWeight(PairWeight):
    """Weights in (multi-level PCM, binary PCM, accumulator word) form.

    The following holds, for a weight tensor of shape S, beside what `PairWeight` says:
      * the word below the pairs never counts in a read
      * -2^(lsb_bits - 1) <= accumulator < 2^(lsb_bits - 1)

    Attributes:
      binary: wear and faults of the binary cells, shape S.
      accumulator: S int8, the word that the binary cells hold, LSBs.
      spec: the algorithm and its hardware, static.
    """

    binary: binary.BinaryState
    accumulator: jax.Array
    spec: "HICSpec" = struct.field(pytree_node=False)

    def bits(self) -> dict[str, int]:
        """The words are needed in training only."""
        bits = super().bits()
        words = self.size * self.spec.lsb_bits
        return bits | {"training": bits["training"] + words}

    def devices(self) -> dict[str, int]:
        """A binary cell for each bit of the words."""
        return super().devices() | {"binary": self.size * self.spec.lsb_bits}

    def pulses(self) -> dict[str, Pulses]:
        """Those of binary cells are (lsb_bits, n), least significant first."""
        cells = binary.wear(self.binary, self.accumulator, self.spec.lsb_bits)
        return super().pulses() | {"binary": flat_pulses(*cells)}

    def full_counters(self) -> jax.Array:
        """Those of cells, too."""
        return super().full_counters() + binary.full_counters(self.binary)

    def reads(self, steps: int) -> dict[str, int]:
        """Every word is read at every step, also where its update is rounded to 0."""
        cells = self.size * self.spec.lsb_bits
        return super().reads(steps) | {"binary": steps * cells}


@dataclasses.dataclass(frozen=True, kw_only=True)
class HICSpec(PairSpec):
    r"""The hybrid in-memory computing architecture of arXiv:2102.05271.

    One LSB of the accumulator stands for :math:`n \epsilon / 2^{b_L - 1}`, where n is
    ``word_steps`` and epsilon the mean conductance of one SET pulse.

    The abstract of the paper gives no bit widths and no rules; the defaults below are
    choices of this project, each with its reason.

    Attributes:
      binary: the binary devices (LSB).
      lsb_bits: width of the accumulator word (b_L), bits, 2 to 8.
      initial_words: what the accumulators hold at first: uniform, drawn over the whole
        range (the cells are written once, which is counted), or zero. From zero,
        weights whose updates are of one size, as under Adam, would all carry in the
        same step.
      word_steps: SET steps that half the range of the accumulator word stands for, a
        power of two; a carry takes one of them. At 1 it leaves the word near zero, so
        that the next carry may as well lead back. At 2 it leaves it half full, three
        steps from a carry back: updates that only fluctuate fire a third of the noisy
        pulses.
      update_bits: width of the bus that brings updates to the accumulator, bits, 2 to
        16; an update beyond it is clipped, and counted.
      stochastic_rounding: whether updates are rounded to LSBs stochastically, so that
        updates far below an LSB act in the mean, or to the nearest.
      counter_bits: bits of the counter of each binary cell, where wear is tracked, 1 to
        30; each takes a byte a weight. A full counter stops, and is counted
        (``full_counters``). Every second write at the most is a RESET of a healthy
        cell, and every write a pulse of a stuck one: 16 bits are exact for 131,070
        writes, and for 65,535.
    """

    binary: BinarySpec = dataclasses.field(default_factory=BinarySpec)
    lsb_bits: int = 7
    initial_words: InitialWords = "uniform"
    word_steps: int = 2
    update_bits: int = 8
    stochastic_rounding: bool = True
    counter_bits: int = 16

    collects: ClassVar[bool] = True
    events: ClassVar[type[Events]] = HICEvents

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.binary, BinarySpec):
            raise ValueError(f"binary={self.binary!r}: must be a BinarySpec")
        checks.integer("lsb_bits", self.lsb_bits, 2, 8)
        checks.one_of(
            "initial_words", self.initial_words, typing.get_args(InitialWords)
        )
        checks.integer("word_steps", self.word_steps, 1, 2 ** (self.lsb_bits - 1))
        if self.word_steps & (self.word_steps - 1):
            raise ValueError(f"word_steps={self.word_steps}: must be a power of two")
        checks.integer("update_bits", self.update_bits, 2, 16)
        checks.boolean("stochastic_rounding", self.stochastic_rounding)
        # With 31, the SET after the last RESET that is counted would leave int32.
        checks.integer("counter_bits", self.counter_bits, 1, 30)

    @property
    def lsb(self) -> float:
        """Conductance that one LSB of the accumulator stands for, uS."""
        return self.word_steps * self.step / 2 ** (self.lsb_bits - 1)

    @property
    def unit(self) -> float:
        """Updates come in LSBs."""
        return self.lsb

    def init(
        self, key: jax.Array, target: jax.Array, **common: Any
    ) -> tuple[HybridWeight, HICEvents]:
        """The word below each pair is written, too, where it is not to be zero."""
        make_key, write_key, cell_key, word_key, keep_key = jax.random.split(key, 5)
        cells, word = binary.init(
            cell_key,
            target.shape,
            self.lsb_bits,
            self.binary,
            counter_bits=self.counter_bits if self.track_wear else None,
        )
        if self.initial_words == "uniform":
            half = 2 ** (self.lsb_bits - 1)
            drawn = jax.random.randint(word_key, word.shape, -half, half, jnp.int32)
            cells, word = binary.write(
                cells, word, drawn.astype(jnp.int8), self.lsb_bits
            )
        pairs, residue = self.program(make_key, write_key, target)
        weight = HybridWeight(
            multilevel=pairs, binary=cells, accumulator=word, spec=self, **common
        )
        return self.programmed(keep_key, weight, residue)

    def update(
        self,
        key: jax.Array,
        weight: HybridWeight,
        update: jax.Array,
        count: jax.Array,
    ) -> tuple[HybridWeight, HICEvents]:
        """Quantises, accumulates, transfers, refreshes; updates are in LSBs."""
        round_key, set_key, refresh_key = jax.random.split(key, 3)
        weight, counts = self._add(round_key, set_key, weight, update, count)
        weight, refreshed = self.refreshed(refresh_key, weight, count)
        return weight, HICEvents.of(**counts).plus(**refreshed)

    def keep(
        self,
        key: jax.Array,
        weight: HybridWeight,
        residue: jax.Array,
        count: jax.Array | int,
    ) -> tuple[HybridWeight, dict[str, jax.Array]]:
        """Adds it to the words, as an update, and carries."""
        round_key, set_key = jax.random.split(key)
        return self._add(round_key, set_key, weight, residue / self.lsb, count)

    def _add(
        self,
        round_key: jax.Array,
        set_key: jax.Array,
        weight: HybridWeight,
        lsbs: jax.Array,
        count: jax.Array | int,
    ) -> tuple[HybridWeight, dict[str, jax.Array]]:
        """Quantises, accumulates, transfers; also what happened."""
        uniform = None
        if self.stochastic_rounding:
            uniform = jax.random.uniform(round_key, lsbs.shape, jnp.float32)
        passed, clipped = accumulator.quantise(lsbs, uniform, self.update_bits)
        word, carry = accumulator.accumulate(
            weight.accumulator, passed, self.lsb_bits, self.word_steps
        )
        cells, held = binary.write(
            weight.binary, weight.accumulator, word, self.lsb_bits
        )
        pairs, futile = pair.set_pulses(
            set_key, weight.multilevel, carry, weight.time, self.multilevel, count
        )
        counts = {
            "accepted_lsbs": total(passed),
            "clipped_lsbs": total(clipped),
            "faulty_lsbs": total(held.astype(jnp.int32) - word),
            "set_pulses": total(carry),
            "futile_pulses": jnp.sum(futile, axis=-1, dtype=jnp.float32),
        }
        return weight.replace(multilevel=pairs, binary=cells, accumulator=held), counts


def hic(
    spec: HICSpec,
    key: jax.Array | int,
    *,
    axes: Mapping[str, KernelAxes] | None = None,
    shards: Shards | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Holds parameters in hybrid PCM; see `hic_jax.algorithms.analog`.

    Args:
      spec: the hardware.
      key: a random key or an integer seed.
      axes: which axes of a parameter are rows, columns and parts of a stack.
      shards: equal parts of the state, which the devices of a mesh share.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, hic_jax
      >>> spec = hic_jax.HICSpec(multilevel=hic_jax.pcm.ideal())
      >>> tx = optax.chain(optax.sgd(0.1), hic_jax.hic(spec, jax.random.key(0)))
      >>> params = {"kernel": jax.random.normal(jax.random.key(1), (8, 8))}
      >>> loss = lambda p: jnp.mean((p["kernel"] @ jnp.ones(8) - 1.0) ** 2)
      >>> state = tx.init(params)
      >>> for _ in range(200):
      ...     updates, state = tx.update(jax.grad(loss)(params), state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> print(f"{loss(params):.1f}")  # 20.7 before
      0.0
    """
    return base.analog(base.checked(spec, HICSpec), key, axes=axes, shards=shards)
