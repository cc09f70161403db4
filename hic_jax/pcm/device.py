"""A multi-level device, as everything else sees it: a frozen spec with methods.

A device is a subclass of `DeviceSpec` with a state of its own: one that can only be SET
gradually and RESET at once, or a two-sided one, which pulses lower, too. Pairs
(`hic_jax.pcm.pair`), the rules that train them (`hic_jax.algorithms`) and everything
after them call its methods, and know nothing else of it: to add one, write the subclass
and enter it in `hic_jax.pcm.PRESETS`.

Draws come in as arguments, so that a noise-free call is the same code. What holds for
every device alike is not the device's business: stuck ones, wear, and the clock that
says when each was last written (`hic_jax.pcm.pair.PairState`).
"""

import abc
import dataclasses
import functools
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from hic_jax import checks
from hic_jax.pcm import flicker

# Bounds of conductances: beyond any device, and close enough that nothing computed of
# them leaves float32. A conductance of a siemens is that of a wire; a step of a
# picosiemens is below what any circuit reads.
LARGEST_US = 1e6
SMALLEST_STEP_US = 1e-6

# Devices that stand for all where the mean of a trajectory has no formula.
_SIMULATED = 4096


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceSpec(abc.ABC):
    """The physics of a multi-level device: constants only, no state.

    The state that its methods take is a pytree of arrays of one shape, an entry per
    device, with a ``replace`` (`flax.struct.PyTreeNode`). Its field ``g`` is the
    conductance, uS; all others are the device's own.

    Attributes:
      name: what the preset is called.
      source: where the constants come from.
      g_min: lowest conductance that a SET pulse leaves, uS.
      g_max: highest conductance, uS.
      reset_mean: mean conductance after a RESET pulse, uS.
      stuck_set: fraction of devices that stay at the highest conductance, 0 to 1.
      stuck_reset: fraction of devices that stay at the mean conductance of a RESET, 0
        to 1.
      TWO_SIDED: whether pulses of the other polarity lower it as gradually as others
        raise it. A device that is not two-sided goes down by a RESET alone.
      NON_IDEALITIES: what can be switched off by name, and the constants that then
        become zero.
      NOT_NUMBERS: fields that may hold something else than a number, and are checked by
        the device that has them.
    """

    name: str
    source: str
    g_min: float
    g_max: float
    reset_mean: float
    stuck_set: float = 0.0
    stuck_reset: float = 0.0

    TWO_SIDED: ClassVar[bool] = False
    NON_IDEALITIES: ClassVar[dict[str, tuple[str, ...]]] = {
        "stuck": ("stuck_set", "stuck_reset")
    }
    NOT_NUMBERS: ClassVar[tuple[str, ...]] = ("name", "source")

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if field.name not in self.NOT_NUMBERS:
                checks.finite(field.name, getattr(self, field.name))
        checks.above("g_max", self.g_max, 0.0)
        for name in ("g_min", "g_max", "reset_mean"):
            checks.within(name, getattr(self, name), 0.0, LARGEST_US)
        for name in ("stuck_set", "stuck_reset"):
            checks.within(name, getattr(self, name), 0.0, 1.0)
        if np.float32(self.g_max) <= np.float32(self.g_min):
            raise ValueError(
                f"g_max={self.g_max}: must be greater than {self.g_min}, the g_min of "
                "the device, in float32, too"
            )
        checks.within("reset_mean", self.reset_mean, 0.0, self.g_max)
        checks.within(
            "stuck_set + stuck_reset", self.stuck_set + self.stuck_reset, 0, 1
        )

    @abc.abstractmethod
    def init(self, key: jax.Array, shape: tuple[int, ...]) -> Any:
        """Devices as after a RESET without noise, each with parameters of its own.

        Args:
          key: draws what differs from device to device.
          shape: of the devices.
        """

    @abc.abstractmethod
    def pulse(self, state: Any, normal: jax.Array, up: jax.Array | bool = True) -> Any:
        """Applies one blind pulse to every device: a SET, or one of the polarity told.

        Args:
          state: of the devices.
          normal: standard normal draws, broadcastable to the devices.
          up: whether it raises the conductance, broadcastable to the devices. Always
            True, unless the device is two-sided.
        """

    @abc.abstractmethod
    def reset(self, state: Any, normal: jax.Array) -> Any:
        """Applies a RESET pulse to every device.

        Args:
          state: of the devices.
          normal: standard normal draws, the shape of the devices.
        """

    @property
    def g_dtype(self) -> Any:
        """Number format that conductances are stored in, between pulses."""
        return jnp.float32

    @property
    def young(self) -> float:
        """Age until which nothing of a device changes unless it is written, s.

        Ages are told to a few thousandths of it, or of the time of a training step.
        """
        return 1.0

    def is_at_end(self, state: Any, up: jax.Array | bool = True) -> jax.Array:
        """Devices at the end of their range, where no pulse leads any further.

        Args:
          state: of the devices.
          up: see `pulse`.
        """
        if not self.TWO_SIDED:
            return state.g >= self.g_max
        return jnp.where(up, state.g >= self.g_max, state.g <= self.g_min)

    def conductance(self, state: Any, age: jax.Array) -> jax.Array:
        """Conductance at an age, uS; without drift it stays.

        Args:
          state: of the devices.
          age: s since the last write of each device, broadcastable to them.
        """
        del age
        return state.g

    def read_std(self, g: jax.Array) -> jax.Array:
        """Standard deviation of one read of a device at conductance ``g``, uS."""
        return jnp.zeros_like(g)

    def read_shares(self, age: jax.Array) -> flicker.Parts | None:
        """Shares of the variance of a read by how long the noise stays.

        Args:
          age: s since the last write of each device.

        Returns:
          None if all of it is new at every read.
        """
        del age
        return None

    def slow_draws(self, state: Any) -> jax.Array | None:
        """Standard normal draws of the devices' slow noise; None before there are any.

        Args:
          state: of the devices.
        """
        del state
        return None

    @property
    def chip_draws(self) -> int:
        """Standard normal draws per device that `on_another_chip` takes."""
        return 0

    def on_another_chip(self, state: Any, normal: jax.Array) -> Any:
        """The same conductances on devices that age and fluctuate otherwise.

        Args:
          state: of the devices.
          normal: (chip_draws, *shape) standard normal draws.
        """
        del normal
        return state

    def mean_trajectory(self, pulses: int) -> np.ndarray:
        """Mean conductance after 0, 1, ..., ``pulses`` SET pulses from RESET.

        What a controller that knows the data sheet, but not the device, expects: by
        simulation, unless a device knows better.

        Returns:
          (pulses + 1,) float64, uS, non-decreasing.
        """
        return _simulated(self, pulses)[0]

    def expected_step(
        self, measured: jax.Array, state: Any, up: jax.Array | bool = True
    ) -> tuple[jax.Array, jax.Array]:
        """What a controller expects of the next pulse, before clipping.

        By the mean trajectory from RESET on, up or down, unless a device knows better.

        Args:
          measured: conductance that was read, uS.
          state: of the devices, of which a controller knows what it has done to them.
          up: see `pulse`.

        Returns:
          Mean and standard deviation of the size of the step, uS.
        """
        del state

        def by_trajectory(up):
            mean, std = (np.asarray(x, np.float32) for x in _simulated(self, 64, up))
            at, steps, stds = mean[:-1], np.abs(np.diff(mean)), std[1:]
            if not up:  # Points of an interpolation rise.
                at, steps, stds = at[::-1], steps[::-1], stds[::-1]
            return jnp.interp(measured, at, steps), jnp.interp(measured, at, stds)

        raised = by_trajectory(True)
        if not self.TWO_SIDED:
            return raised
        lowered = by_trajectory(False)
        return jnp.where(up, raised[0], lowered[0]), jnp.where(
            up, raised[1], lowered[1]
        )

    def step_std(self, g: float) -> float:
        """Standard deviation of a SET step at conductance ``g``, uS."""
        mean, std = _simulated(self, 64)
        return float(np.interp(g, mean[:-1], std[1:]))

    @property
    def mean_step(self) -> float:
        """Mean conductance gained per pulse over the first ten from RESET, uS.

        This is what the controller calls one step (eps). For `nandakumar_2018` it is
        0.77 uS.
        """
        trajectory = self.mean_trajectory(10)
        return float(trajectory[10] - trajectory[0]) / 10

    def pulses_for(self, g: jax.Array, max_pulses: int) -> jax.Array:
        """SET pulses from RESET whose mean conductance is nearest to ``g``.

        Args:
          g: wanted conductance, uS.
          max_pulses: never more than this.

        Returns:
          int32, the shape of ``g``, in [0, max_pulses].
        """
        mean = self.mean_trajectory(max_pulses)
        return jnp.searchsorted(
            jnp.asarray((mean[1:] + mean[:-1]) / 2, jnp.float32), g
        ).astype(jnp.int32)

    @property
    def swing(self) -> float:
        """How far pulses lead the mean two-sided device both ways, uS.

        Counted from ``reset_mean``.
        """
        return min(self.g_max - self.reset_mean, self.reset_mean - self.g_min)

    def without(self, *names: str) -> Self:
        """The same device with some non-idealities switched off.

        Args:
          *names: of ``NON_IDEALITIES``.
        """
        changes: dict[str, Any] = {}
        for name in names:
            checks.one_of("non-ideality", name, self.NON_IDEALITIES)
            changes |= dict.fromkeys(self.NON_IDEALITIES[name], 0.0)
        return dataclasses.replace(self, **changes)

    def only(self, *names: str) -> Self:
        """The same device with every non-ideality off but ``names``."""
        kept: set[str] = set()
        for name in names:
            checks.one_of("non-ideality", name, self.NON_IDEALITIES)
            kept.update(self.NON_IDEALITIES[name])
        bare = self.without(*(n for n in self.NON_IDEALITIES if n not in names))
        return dataclasses.replace(bare, **{name: getattr(self, name) for name in kept})


@functools.lru_cache(maxsize=64)
def _simulated(
    spec: DeviceSpec, pulses: int, up: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Mean conductance, and standard deviation of the step, after 0, 1, ... pulses."""
    polarity, further = ((), max) if up else ((up,), min)
    with jax.ensure_compile_time_eval():
        keys = jax.random.split(jax.random.key(0), pulses + 2)

        def normal(key):
            return jax.random.normal(key, (_SIMULATED,), jnp.float32)

        state = spec.reset(spec.init(keys[0], (_SIMULATED,)), normal(keys[1]))
        means, stds = [float(jnp.mean(state.g))], [0.0]
        for key in keys[2:]:
            before, state = state.g, spec.pulse(state, normal(key), *polarity)
            means.append(further(means[-1], float(jnp.mean(state.g))))
            stds.append(float(jnp.std(state.g - before)))
    results = np.asarray(means), np.asarray(stds)
    for result in results:
        result.setflags(write=False)
    return results
