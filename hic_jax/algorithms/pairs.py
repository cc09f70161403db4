"""Algorithms on pairs of devices: how they write and refresh them, in common.

Every algorithm of this package that trains devices is a subclass of `PairSpec` with an
`update`. What it keeps beside the pairs is a subclass of `PairWeight`.
"""

import abc
import dataclasses
import math
import typing
from collections.abc import Callable
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp

from hic_jax import checks
from hic_jax.algorithms import arrangement, thresholds
from hic_jax.algorithms.arrangement import Arrangement
from hic_jax.algorithms.events import Events, total
from hic_jax.algorithms.pair_weight import PairWeight
from hic_jax.algorithms.scaling import weight_scale
from hic_jax.kernel_axes import KernelAxes
from hic_jax.pcm import pair, writing
from hic_jax.pcm.device import SMALLEST_STEP_US, DeviceSpec
from hic_jax.pcm.presets import nandakumar_2018

DEVICES_PER_SIGN = (1, 2, 4, 8)

Residue = typing.Literal["dropped", "kept", "chance"]

# Streams beside the three that `writing.refresh` makes of its key.
_LOOK, _KEEP = 3, 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairSpec(abc.ABC):
    r"""A training algorithm on pairs of devices, in one frozen object.

    A weight is :math:`W = (G^+ - G^-) / s`, with :math:`s = 2^{b_M - 1} \epsilon /
    w_{max}` uS per unit of weight (``w_max`` not above what ``refresh_pulses`` reach
    in the mean), epsilon the mean conductance of one SET pulse and :math:`w_{max} =
    \alpha\,\mathrm{rms}(W)` at initialisation; smaller where single weights are too
    large for that (`hic_jax.algorithms.scaling.weight_scale`).

    A subclass is an algorithm: it has an `update`, and perhaps a weight, events and
    an `init` of its own.

    Two-sided devices go down by pulses, too: none is ever refreshed, a weight is first
    written by verified pulses, up and down, and ``w_max`` is half of what the devices
    reach, whatever ``multilevel_bits``. What the fields ``refresh_*`` say is of other
    devices, and refused with these.

    Attributes:
      multilevel: the devices of the pairs.
      arrangement: what a weight is held by: a pair of devices; or a device and a fixed
        reference in the place of the other, without noise of its own. auto is a pair,
        and a reference where devices are two-sided, which alone can do with it.
      zero_shift_pulses: alternating pulses that bring each device to its symmetric
        point before the first writing, where its reference is then, too; even, up to
        100,000. 0 leaves the reference in the middle of the range.
      devices_per_sign: devices on each side of a pair, 1, 2, 4 or 8. A side is their
        mean, and a pulse goes to one of them, in turn: it moves the weight by as many
        times less, with as much less noise.
      multilevel_bits: nominal width of a pair of multi-level devices (b_M), bits, 2 to
        8. Sets how much conductance the initial weights use, as far as pulses reach,
        and what is counted as the size of the model, once for each device on a side.
      w_max_sigmas: the weight of full nominal range (w_max) over the root mean square
        of a layer's initial weights, 0.001 to 1000. A pulse's noise does not shrink
        with the weights, so they had better be large in uS. Beyond w_max there is room
        as far as SET pulses reach: with `nandakumar_2018`, 9.3 uS after the 20 of a
        refresh, where w_max is 6.2.
      refresh_every: training steps between looks for pairs to refresh; 0 for never.
      refresh_above: conductance above which one side of a pair must be for a refresh,
        uS. Low, because the mean of a pulse falls faster with conductance than its
        noise.
      refresh_common: conductance above which both sides of a pair must be for a
        refresh, uS: what they hold in common is the room that a rewrite gains. Not
        below the mean of a RESET, if there are refreshes. Devices that are stuck
        gain no room, and do not count.
      refresh_pulses: most SET pulses that a device gets when a pair is written, 1 to
        255.
      refresh_verify: whether the writing of a pair reads before every pulse and stops
        at its target, or fires a planned number of pulses blind.
      rewrite_residue: what becomes of the difference that the writing of a pair leaves,
        at first and in a refresh: a pulse is coarse, and below 1.7 uS none is fired at
        `nandakumar_2018`. It is "dropped"; or read once more and "kept" where the
        algorithm collects what pairs are too coarse for, if it does; or "chance" fires
        the pulses so that the difference is right in the mean, which leaves a larger
        one of a single pair below 2 uS and a smaller one above.
      seconds_per_step: time that one training step takes on the hardware, s.
      track_wear: whether the pulses of every device are counted.
    """

    multilevel: DeviceSpec = dataclasses.field(default_factory=nandakumar_2018)
    arrangement: Arrangement = "auto"
    zero_shift_pulses: int = 0
    devices_per_sign: int = 1
    multilevel_bits: int = 4
    w_max_sigmas: float = 1.5
    refresh_every: int = 10
    refresh_above: float = 2.5
    refresh_common: float = 0.5
    refresh_pulses: int = 20
    refresh_verify: bool = True
    rewrite_residue: Residue = "dropped"
    seconds_per_step: float = 0.1
    track_wear: bool = True

    # Whether training fires its pulses blind, without a read before each.
    blind: ClassVar[bool] = True
    # Whether its rule goes by lines of arrays, so that its `init` takes ``shapes``.
    by_lines: ClassVar[bool] = False
    # Whether it collects what pairs are too coarse for, and has a `keep`.
    collects: ClassVar[bool] = False
    # What it tells of an update.
    events: ClassVar[type[Events]] = Events

    def __post_init__(self):
        if not isinstance(self.multilevel, DeviceSpec):
            raise ValueError(f"multilevel={self.multilevel!r}: must be a DeviceSpec")
        arrangement.check(self)
        checks.integer("devices_per_sign", self.devices_per_sign, 1, 8)
        if self.devices_per_sign not in DEVICES_PER_SIGN:
            raise ValueError(
                f"devices_per_sign={self.devices_per_sign}: must be 1, 2, 4 or 8"
            )
        checks.integer("multilevel_bits", self.multilevel_bits, 2, 8)
        checks.above("w_max_sigmas", self.w_max_sigmas, 0.0)
        # Beyond, every weight is clipped, or none uses as much as a pulse.
        checks.within("w_max_sigmas", self.w_max_sigmas, 1e-3, 1e3)
        checks.integer("refresh_every", self.refresh_every, 0)
        checks.at_least("refresh_above", self.refresh_above, 0.0)
        checks.at_least("refresh_common", self.refresh_common, 0.0)
        if self.looks_every and self.refresh_common < self.multilevel.reset_mean:
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
        checks.one_of("rewrite_residue", self.rewrite_residue, typing.get_args(Residue))
        if self.rewrite_residue == "kept" and not self.collects:
            raise ValueError(
                "rewrite_residue='kept': must be 'dropped' or 'chance', because "
                f"{type(self).__name__} has nothing to keep it in"
            )
        checks.above("seconds_per_step", self.seconds_per_step, 0.0)
        checks.at_most("seconds_per_step", self.seconds_per_step, checks.SECONDS_MAX)
        for name in ("refresh_verify", "track_wear"):
            checks.boolean(name, getattr(self, name))

    @classmethod
    def suited_to(cls, device: DeviceSpec, **changes: Any) -> Self:
        """The algorithm on a device of another range than the usual one.

        Args:
          device: the devices of the pairs.
          **changes: fields that are to have other values than those that suit it.
        """
        return cls(multilevel=device, **{**thresholds.suited_to(device), **changes})

    @property
    def has_reference(self) -> bool:
        """Whether a reference stands in the place of the second device of a pair."""
        return arrangement.has_reference(self)

    @property
    def held_by(self) -> int:
        """Devices that pulses write, of each weight."""
        return self.devices_per_sign * (1 if self.has_reference else 2)

    @property
    def own_references(self) -> int:
        """References of each weight, beside these; one in the middle all can share."""
        return int(self.zero_shift_pulses > 0)

    @property
    def looks_every(self) -> int:
        """Training steps between looks for pairs to refresh; 0 for never."""
        return 0 if self.multilevel.TWO_SIDED else self.refresh_every

    # ---- what an algorithm is

    @property
    def fires_both(self) -> bool:
        """Whether `update` takes ``cancelled``, too: `hic_jax.algorithms.pulsed`."""
        return False

    @property
    def unit(self) -> float:
        """Conductance that 1 in the updates which `update` takes stands for, uS."""
        return self.step

    def init(
        self, key: jax.Array, target: jax.Array, **common: Any
    ) -> tuple[Any, Events]:
        """Makes devices and writes weights onto them, at time 0.

        Args:
          key: device variation, programming noise.
          target: (n,) float32, wanted signed conductances, uS.
          **common: ``scale``, ``time``, ``time_rest`` and ``axes`` of the weight; and
            ``shapes`` of the tensors, if it goes `by_lines`.

        Returns:
          The devices, and what happened.
        """
        make_key, write_key = jax.random.split(key)
        pairs, residue = self.program(make_key, write_key, target)
        return self.programmed(
            key, PairWeight(multilevel=pairs, spec=self, **common), residue
        )

    @abc.abstractmethod
    def update(
        self,
        key: jax.Array,
        weight: Any,
        update: jax.Array,
        count: jax.Array,
    ) -> tuple[Any, Events]:
        """One step's writes.

        Args:
          key: all that it draws.
          weight: as `init` made it, of packed tensors.
          update: (n,) float32, wanted changes of the weights, in units of `unit`.
          count: () int32, number of this update, from 1.

        Returns:
          The devices after the writes, at the same time, and what happened.
        """

    def keep(
        self, key: jax.Array, weight: Any, residue: jax.Array, count: jax.Array | int
    ) -> tuple[Any, dict[str, jax.Array]]:
        """Collects what the writing of pairs left, like an update; if it `collects`.

        Args:
          key: all that it draws.
          weight: as `init` made it.
          residue: (n,) float32, missing in the differences of the pairs, uS.
          count: () int32, number of the update, 0 at first.

        Returns:
          The weight, and counts for its events.
        """
        raise NotImplementedError

    # ---- how large weights are on its devices

    @property
    def step(self) -> float:
        """Mean change of a weight by one pulse, uS."""
        return self.multilevel.mean_step / self.devices_per_sign

    @property
    def reach(self) -> float:
        """Difference that ``refresh_pulses`` SET pulses write in the mean, uS.

        9.3 uS for the 20 pulses of the default on `nandakumar_2018`, whose pulses add
        nothing in the mean at 10.5 uS. Of two-sided devices, how far they lead a weight
        both ways.
        """
        if self.multilevel.TWO_SIDED:
            return self.multilevel.swing * (1 if self.has_reference else 2)
        trajectory = self.multilevel.mean_trajectory(self.refresh_pulses)
        return float(trajectory[-1] - trajectory[0])

    @property
    def full_scale(self) -> float:
        """Conductance of a weight of w_max, uS.

        That of 2^(b_M - 1) steps, or of as many as a device has: a fifth bit finds 9.3
        instead of 12.3 uS on `nandakumar_2018`, and more bits the same. Of two-sided
        devices half of what they reach: the other half is for training.
        """
        if self.multilevel.TWO_SIDED:
            return self.reach / 2
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
        halfway = device.reset_mean
        if not device.TWO_SIDED:
            halfway = max(halfway, self.reach / 2)
        return math.hypot(device.mean_step, device.step_std(halfway))

    def scale(self, weight: jax.Array, axes: KernelAxes | None) -> jax.Array:
        """Scale of a tensor, uS per unit of weight, broadcastable to it."""
        return weight_scale(weight, self, axes)

    # ---- pairs

    def program(
        self, make_key: jax.Array, write_key: jax.Array, target: jax.Array
    ) -> tuple[pair.PairState, jax.Array]:
        """Makes pairs and writes signed conductances onto them, at time 0.

        Args:
          make_key: what differs from device to device.
          write_key: programming noise, and read noise.
          target: (n,) float32, uS.

        Returns:
          The pairs, and (n,) float32, uS: what is missing of the target by a read.
        """
        return arrangement.program(make_key, write_key, target, self)

    def programmed(
        self, key: jax.Array, weight: Any, residue: jax.Array
    ) -> tuple[Any, Any]:
        """The weight, as `program` wrote its pairs, with what is kept of the residue.

        Args:
          key: all that keeping it draws.
          weight: the weight.
          residue: (n,) float32, uS.

        Returns:
          The weight, and what happened.
        """
        events = self.events.of(residue=total(residue))
        if self.rewrite_residue != "kept":
            return weight, events
        weight, counts = self.keep(key, weight, residue, 0)
        return weight, events.plus(**counts)

    def refreshed(
        self, key: jax.Array, weight: Any, count: jax.Array
    ) -> tuple[Any, dict[str, jax.Array]]:
        """Rewrites the pairs that are due, every ``refresh_every`` steps, if ever.

        Args:
          key: read noise and programming noise.
          weight: of packed tensors.
          count: () int32, number of this update, from 1.

        Returns:
          The weight, and counts for its events.
        """
        if not self.looks_every:
            return weight, {}
        time, device = weight.time, self.multilevel

        def refresh(pairs):
            look_key = jax.random.fold_in(key, _LOOK)
            normal = jax.random.normal(look_key, pairs.g.shape, jnp.float32)
            due = self.refresh_due(normal, pairs, time)
            new, residue = writing.refresh(
                key, pairs, due, time, device, **self.write_rule
            )
            error = pair.read(None, new, time, device)
            error -= pair.read(None, pairs, time, device)
            return (
                new,
                residue,
                {
                    "refreshed_pairs": total(due),
                    "refresh_error": total(jnp.where(due, error, 0.0)),
                    "residue": total(residue),
                },
            )

        look = count % self.looks_every == 0
        pairs, residue, counts = _if(look, refresh, weight.multilevel)
        weight = weight.replace(multilevel=pairs)
        if self.rewrite_residue != "kept":
            return weight, counts
        weight, more = _if(
            look,
            lambda w: self.keep(jax.random.fold_in(key, _KEEP), w, residue, count),
            weight,
        )
        return weight, counts | more

    @property
    def write_rule(self) -> dict[str, Any]:
        """How pairs are written: arguments of `hic_jax.pcm.writing`."""
        return {
            "max_pulses": self.refresh_pulses,
            "verify": self.refresh_verify,
            "by_chance": self.rewrite_residue == "chance",
        }

    def refresh_due(
        self, normal: jax.Array | None, pairs: pair.PairState, time: jax.Array
    ) -> jax.Array:
        """Pairs whose sides are high, and hold much in common: (n,) bool.

        The look is a read of every device, drifted to ``time``. Of devices that are
        stuck a RESET gains nothing: only the others count.

        Args:
          normal: (d, n) standard normal draws for the read noise; None looks without.
          pairs: of packed tensors.
          time: s, hardware time of the look.
        """
        g = pair.conductances(pairs, time, self.multilevel)
        if normal is not None:
            g = g + self.multilevel.read_std(g) * normal
        held, height = pair.answering(g, pairs)
        high = jnp.max(height, axis=0) > self.refresh_above
        return high & (jnp.min(held, axis=0) > self.refresh_common)


def _if(condition: jax.Array, do: Callable[[Any], tuple], state: Any) -> tuple:
    """What ``do`` makes of a state and tells, or the state and zeros."""

    def leave(state):
        _, *told = jax.eval_shape(do, state)
        return state, *jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), told)

    return jax.lax.cond(condition, do, leave, state)
