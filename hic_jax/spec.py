"""`HICSpec`: everything that defines the hybrid hardware, in one frozen object."""

import dataclasses
import math
import re
import zlib
from typing import Any

from hic_jax import checks
from hic_jax.pcm.binary import BinarySpec
from hic_jax.pcm.multilevel import SMALLEST_STEP_US, MultilevelSpec, mean_trajectory
from hic_jax.pcm.presets import nandakumar_2018

INITIAL_WORDS = ("uniform", "zero")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HICSpec:
    r"""The hybrid in-memory computing architecture of arXiv:2102.05271.

    A weight is :math:`W = (G^+ - G^-) / s`, with :math:`s = 2^{b_M - 1} \epsilon /
    w_{max}` uS per unit of weight (``w_max`` not above what ``refresh_pulses`` reach
    in the mean), epsilon the mean conductance of one SET pulse and :math:`w_{max} =
    \alpha\,\mathrm{rms}(W)` at initialisation; smaller where single weights are too
    large for that (`hic_jax.scaling.weight_scale`). One LSB of the accumulator stands
    for :math:`n \epsilon / 2^{b_L - 1}`, where n is ``word_steps``.

    The abstract of the paper gives no bit widths and no rules; the defaults below are
    choices of this project, each with its reason.

    Attributes:
      multilevel: the multi-level devices (MSB).
      binary: the binary devices (LSB).
      multilevel_bits: nominal width of a pair of multi-level devices (b_M), bits, 2 to
        8. Sets how much conductance the initial weights use, as far as pulses reach,
        and what is counted as the size of the model.
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
      w_max_sigmas: the weight of full nominal range (w_max) over the root mean square
        of a layer's initial weights, 0.001 to 1000. A pulse's noise does not shrink
        with the weights, so they had better be large in uS. Beyond w_max there is room
        as far as SET pulses reach: with `nandakumar_2018`, 9.3 uS after the 20 of a
        refresh, where w_max is 6.2.
      stochastic_rounding: whether updates are rounded to LSBs stochastically, so that
        updates far below an LSB act in the mean, or to the nearest.
      refresh_every: training steps between looks for pairs to refresh; 0 for never.
      refresh_above: conductance above which one device of a pair must be for a refresh,
        uS. Low, because the mean of a pulse falls faster with conductance than its
        noise.
      refresh_common: conductance above which both devices of a pair must be for a
        refresh, uS: what they hold in common is the room that a rewrite gains. Not
        below the mean of a RESET, if there are refreshes.
      refresh_pulses: most SET pulses that a device gets when a pair is written, 1 to
        255.
      refresh_verify: whether the writing of a pair reads before every pulse and stops
        at its target, or fires a planned number of pulses blind.
      seconds_per_step: time that one training step takes on the hardware, s.
      track_wear: whether the pulses of every device are counted.
    """

    multilevel: MultilevelSpec = dataclasses.field(default_factory=nandakumar_2018)
    binary: BinarySpec = dataclasses.field(default_factory=BinarySpec)
    multilevel_bits: int = 4
    lsb_bits: int = 7
    initial_words: str = "uniform"
    word_steps: int = 2
    update_bits: int = 8
    w_max_sigmas: float = 1.5
    stochastic_rounding: bool = True
    refresh_every: int = 10
    refresh_above: float = 2.5
    refresh_common: float = 0.5
    refresh_pulses: int = 20
    refresh_verify: bool = True
    seconds_per_step: float = 0.1
    track_wear: bool = True

    def __post_init__(self):
        if not isinstance(self.multilevel, MultilevelSpec):
            raise ValueError(
                f"multilevel={self.multilevel!r}: must be a MultilevelSpec"
            )
        if not isinstance(self.binary, BinarySpec):
            raise ValueError(f"binary={self.binary!r}: must be a BinarySpec")
        checks.integer("multilevel_bits", self.multilevel_bits, 2, 8)
        checks.integer("lsb_bits", self.lsb_bits, 2, 8)
        checks.one_of("initial_words", self.initial_words, INITIAL_WORDS)
        checks.integer("word_steps", self.word_steps, 1, 2 ** (self.lsb_bits - 1))
        if self.word_steps & (self.word_steps - 1):
            raise ValueError(f"word_steps={self.word_steps}: must be a power of two")
        checks.integer("update_bits", self.update_bits, 2, 16)
        checks.above("w_max_sigmas", self.w_max_sigmas, 0.0)
        # Beyond, every weight is clipped, or none uses as much as a pulse.
        checks.within("w_max_sigmas", self.w_max_sigmas, 1e-3, 1e3)
        checks.integer("refresh_every", self.refresh_every, 0)
        checks.at_least("refresh_above", self.refresh_above, 0.0)
        checks.at_least("refresh_common", self.refresh_common, 0.0)
        if self.refresh_every and self.refresh_common < self.multilevel.reset_mean:
            raise ValueError(
                f"refresh_common={self.refresh_common}: must be at least "
                f"{self.multilevel.reset_mean}, the reset_mean of the device, or a "
                "rewrite gains no room"
            )
        checks.integer("refresh_pulses", self.refresh_pulses, 1, 255)
        if self.full_scale < SMALLEST_STEP_US:
            raise ValueError(
                f"refresh_pulses={self.refresh_pulses}: must be as many as add "
                f"{SMALLEST_STEP_US} uS to the mean conductance of the device after a "
                "RESET, or it holds no weights"
            )
        checks.above("seconds_per_step", self.seconds_per_step, 0.0)
        checks.at_most("seconds_per_step", self.seconds_per_step, checks.SECONDS_MAX)
        for name in ("stochastic_rounding", "refresh_verify", "track_wear"):
            checks.boolean(name, getattr(self, name))

    @property
    def lsb(self) -> float:
        """Conductance that one LSB of the accumulator stands for, uS."""
        return self.word_steps * self.multilevel.mean_step / 2 ** (self.lsb_bits - 1)

    @property
    def reach(self) -> float:
        """Difference that ``refresh_pulses`` SET pulses write in the mean, uS.

        9.3 uS for the 20 pulses of the default on `nandakumar_2018`, whose pulses add
        nothing in the mean at 10.5 uS.
        """
        trajectory = mean_trajectory(self.multilevel, self.refresh_pulses)
        return float(trajectory[-1] - trajectory[0])

    @property
    def full_scale(self) -> float:
        """Conductance of a weight of w_max, uS.

        That of 2^(b_M - 1) steps, or of as many as a device has: a fifth bit finds 9.3
        instead of 12.3 uS on `nandakumar_2018`, and more bits the same.
        """
        return min(
            2 ** (self.multilevel_bits - 1) * self.multilevel.mean_step, self.reach
        )

    @property
    def write_error(self) -> float:
        """About what a write leaves between a difference and its target, uS.

        A step, below which nothing is written, and the noise of a pulse halfway up:
        1.0 uS on `nandakumar_2018`, where 1.1 is found of weights that are normally
        distributed.
        """
        device = self.multilevel
        noise = device.noise_offset + device.noise_slope * self.reach / 2
        return math.hypot(device.mean_step, noise)

    def differences(self, other: "HICSpec") -> list[str]:
        """Fields in which another spec differs, as ``name: mine != its`` each."""
        mine, others = _flat(self), _flat(other)
        return [
            f"{name}: {mine.get(name)!r} != {others.get(name)!r}"
            for name in mine | others
            if mine.get(name) != others.get(name)
        ]

    def made_with(self) -> tuple[str, ...]:
        """A line for every field, ``name=value``; for devices a name and a checksum.

        A state that has these among its names cannot be restored with another spec:
        whatever stores a pytree refuses one of other names, and says which.
        """
        lines = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if dataclasses.is_dataclass(value):
                told = re.sub(r"\W", "_", getattr(value, "name", field.name))
                value = f"{told}-{zlib.crc32(repr(value).encode()):08x}"
            lines.append(f"{field.name}={value}")
        return tuple(lines)


def _flat(spec: HICSpec) -> dict[str, Any]:
    """Every constant by its name, those of devices as ``multilevel.g_max``."""
    flat = {}
    for name, value in dataclasses.asdict(spec).items():
        inner = value if isinstance(value, dict) else None
        flat |= {f"{name}.{k}": v for k, v in inner.items()} if inner else {name: value}
    return flat
