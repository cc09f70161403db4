"""Two-sided devices: pulses of one polarity raise them, of the other lower them.

Resistive RAM and electrochemical RAM, in the models that are in use for training:
soft bounds, exponential steps, constant steps. Constants are normalised as they are
published: a conductance g is

    w = (g - (g_min + g_max) / 2) / ((g_max - g_min) / 2)

in "half ranges", from -1 at g_min to 1 at g_max. Between them lies the range of each
device, from its ``bottom`` to its ``top``, which differ from device to device. An up
pulse of a device at w adds d (1 + a) r_up(w), a down pulse takes d (1 - a) r_down(w),
with noise, and both stop at the ends of the device:

========  ==============================================================
symbol    meaning
========  ==============================================================
d         size of the device's steps, half ranges
a         asymmetry of the device, (up - down) / (up + down)
r         how the size depends on w, each model's own
========  ==============================================================

Where the two are alike lies the symmetric point of a device, to which alternating
pulses draw it. Devices do not drift.
"""

import abc
import dataclasses
import functools
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from hic_jax import checks
from hic_jax.pcm.device import SMALLEST_STEP_US, DeviceSpec
from hic_jax.pcm.namespace import numpy_of

# The end of a device is at least so far from the middle, half ranges: a device that is
# drawn without any range has one of a few steps.
_SHORTEST = 0.01

Number = jax.Array | float


class TwoSidedState(struct.PyTreeNode):
    """Devices of a `TwoSidedSpec`; an entry per device.

    Attributes:
      g: float32, uS.
      step: float32 sizes of steps, half ranges; None if all are alike.
      asymmetry: float32 asymmetries of steps; None if all are alike.
      top: float32 upper ends, half ranges; None if all are alike.
      bottom: float32 lower ends, half ranges; None if all are alike.
    """

    g: jax.Array
    step: jax.Array | None = None
    asymmetry: jax.Array | None = None
    top: jax.Array | None = None
    bottom: jax.Array | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwoSidedSpec(DeviceSpec):
    """A device that pulses raise and lower; a subclass says by how much.

    What is a RESET of other devices brings one of these to ``reset_mean``, where it is
    when it is made: the middle of the range in all presets.

    Attributes:
      reset_std: standard deviation of the conductance that a device is made with, uS.
      step: median size of a device's steps in the middle, half ranges, 1e-7 to 1.
      step_spread: standard deviation of the logarithm of the step size from device to
        device, 0 to 2.
      asymmetry: how much larger steps up are than steps down, (up - down) / (up +
        down), in the mean of all devices, -0.9 to 0.9.
      asymmetry_spread: standard deviation of the asymmetry from device to device, 0 to
        1; no device has less than -0.99 or more than 0.99.
      top: mean upper end of a device, half ranges, 0.01 to 1.
      bottom: mean lower end of a device, half ranges, -1 to -0.01.
      top_spread: standard deviation of the upper end from device to device, half
        ranges, 0 to 1; ends are cut off at the range and at 0.01 from the middle.
      bottom_spread: standard deviation of the lower end from device to device, half
        ranges, 0 to 1; cut off as the upper one.
      step_noise: standard deviation of a step from pulse to pulse, over its size, 0 to
        100.
      read_noise: standard deviation of a read, half ranges, 0 to 10.
      NOISE_FOLLOWS_STEP: whether the noise of a step is in proportion to the size that
        it has where the device stands, or to that in the middle.
    """

    reset_std: float = 0.0
    step: float
    step_spread: float = 0.0
    asymmetry: float = 0.0
    asymmetry_spread: float = 0.0
    top: float = 1.0
    bottom: float = -1.0
    top_spread: float = 0.0
    bottom_spread: float = 0.0
    step_noise: float = 0.0
    read_noise: float = 0.0

    TWO_SIDED: ClassVar[bool] = True
    NOISE_FOLLOWS_STEP: ClassVar[bool] = False
    NON_IDEALITIES: ClassVar[dict[str, tuple[str, ...]]] = {
        "write_noise": ("step_noise", "reset_std"),
        "read_noise": ("read_noise",),
        "device_spread": (
            "step_spread", "asymmetry_spread", "top_spread", "bottom_spread",
        ),
        "asymmetry": ("asymmetry", "asymmetry_spread"),
        **DeviceSpec.NON_IDEALITIES,
    }  # fmt: skip

    def __post_init__(self):
        super().__post_init__()
        checks.within("reset_std", self.reset_std, 0.0, self.g_max)
        checks.within("step", self.step, 1e-7, 1.0)
        checks.within("step_spread", self.step_spread, 0.0, 2.0)
        checks.within("asymmetry", self.asymmetry, -0.9, 0.9)
        checks.within("asymmetry_spread", self.asymmetry_spread, 0.0, 1.0)
        checks.within("top", self.top, _SHORTEST, 1.0)
        checks.within("bottom", self.bottom, -1.0, -_SHORTEST)
        for name in ("top_spread", "bottom_spread"):
            checks.within(name, getattr(self, name), 0.0, 1.0)
        checks.within("step_noise", self.step_noise, 0.0, 100.0)
        checks.within("read_noise", self.read_noise, 0.0, 10.0)
        start = self.normalised(self.reset_mean)
        if not self.bottom <= start <= self.top:
            raise ValueError(
                f"reset_mean={self.reset_mean}: must lie between the mean ends of a "
                f"device, in [{self.in_us(self.bottom):g}, {self.in_us(self.top):g}]"
            )
        if self.mean_step < SMALLEST_STEP_US:
            raise ValueError(
                f"reset_mean={self.reset_mean}, step={self.step}: pulses there must "
                f"move the mean device by {SMALLEST_STEP_US} uS or more"
            )

    # ---- half ranges

    @property
    def half_range(self) -> float:
        """Half of the range from g_min to g_max, uS."""
        return (self.g_max - self.g_min) / 2

    def normalised(self, g: Any) -> Any:
        """Conductances in half ranges from the middle."""
        return (g - (self.g_min + self.g_max) / 2) / self.half_range

    def in_us(self, w: Any) -> Any:
        """Conductances of so many half ranges from the middle, uS."""
        return (self.g_min + self.g_max) / 2 + self.half_range * w

    # ---- devices

    def init(self, key: jax.Array, shape: tuple[int, ...]) -> TwoSidedState:
        """Devices at ``reset_mean``, with steps and ends of their own."""
        keys = jax.random.split(key, 4)

        def normal(i):
            return jax.random.normal(keys[i], shape, jnp.float32)

        state = TwoSidedState(g=jnp.full(shape, self.reset_mean, jnp.float32))
        if self.step_spread:
            state = state.replace(
                step=self.step * jnp.exp(self.step_spread * normal(0))
            )
        if self.asymmetry_spread:
            drawn = self.asymmetry + self.asymmetry_spread * normal(1)
            state = state.replace(asymmetry=jnp.clip(drawn, -0.99, 0.99))
        if self.top_spread:
            end = jnp.abs(self.top + self.top_spread * normal(2))
            state = state.replace(top=jnp.clip(end, _SHORTEST, 1.0))
        if self.bottom_spread:
            end = jnp.abs(self.bottom + self.bottom_spread * normal(3))
            state = state.replace(bottom=-jnp.clip(end, _SHORTEST, 1.0))
        return self.reset(state, jnp.zeros(shape, jnp.float32))

    def pulse(
        self, state: TwoSidedState, normal: jax.Array, up: jax.Array | bool = True
    ) -> TwoSidedState:
        """Applies one blind pulse, up or down; no device leaves its own range."""
        mean, std = self.step_of(state, up)
        size = mean + std * normal
        g = state.g + self.half_range * jnp.where(up, size, -size)
        return state.replace(g=self._in_range(g, state))

    def reset(self, state: TwoSidedState, normal: jax.Array) -> TwoSidedState:
        """Brings devices to ``reset_mean``, as far as it is in their range."""
        g = jnp.asarray(self.reset_mean + self.reset_std * normal, jnp.float32)
        return state.replace(g=self._in_range(g, state))

    def is_at_end(self, state: TwoSidedState, up: jax.Array | bool = True) -> jax.Array:
        """Devices at the end of their own range that a pulse would lead beyond."""
        bottom, top = self._ends(state)
        return jnp.where(up, state.g >= self.in_us(top), state.g <= self.in_us(bottom))

    @property
    def young(self) -> float:
        """They never drift."""
        return math.inf

    def read_std(self, g: jax.Array) -> jax.Array:
        """Standard deviation of one read of a device, uS; the same wherever it is."""
        return jnp.full_like(g, self.read_noise * self.half_range)

    def step_of(
        self, state: TwoSidedState, up: jax.Array | bool
    ) -> tuple[jax.Array, jax.Array]:
        """Mean size of the next step, and its standard deviation, half ranges.

        Of the devices themselves, which no controller knows, and before the ends of
        their ranges cut it off.
        """
        step = self.step if state.step is None else state.step
        asymmetry = self.asymmetry if state.asymmetry is None else state.asymmetry
        middle = step * (1 + jnp.where(up, asymmetry, -asymmetry))
        bottom, top = self._ends(state)
        mean = middle * self.relative_step(self.normalised(state.g), bottom, top, up)
        return mean, self.step_noise * (mean if self.NOISE_FOLLOWS_STEP else middle)

    @abc.abstractmethod
    def relative_step(
        self, w: jax.Array, bottom: Number, top: Number, up: jax.Array | bool
    ) -> jax.Array:
        """Mean size of a step at w, in units of the device's own (r_up, r_down).

        Args:
          w: where the device stands, half ranges.
          bottom: its lower end, half ranges.
          top: its upper end, half ranges.
          up: whether the pulse is one up.

        Returns:
          What is not negative, broadcast from all of them.
        """

    # ---- what a controller expects

    def expected_step(
        self, measured: jax.Array, state: Any, up: jax.Array | bool = True
    ) -> tuple[jax.Array, jax.Array]:
        """What a controller expects of the next pulse: the mean device's step.

        Its deviation is that from pulse to pulse and from device to device together.
        """
        del state
        xp = numpy_of(measured, up)
        w = xp.clip(self.normalised(measured), self.bottom, self.top)
        # Of a log-normal size the mean is above the median.
        mean_size = self.step * math.exp(self.step_spread**2 / 2)
        middle = mean_size * (1 + xp.where(up, self.asymmetry, -self.asymmetry))
        mean = middle * self.relative_step(w, self.bottom, self.top, up)
        noise = self.step_noise * (mean if self.NOISE_FOLLOWS_STEP else middle)
        unlike = math.exp(self.step_spread**2) - 1 + self.asymmetry_spread**2
        std = xp.sqrt(noise**2 + unlike * mean**2)
        return self.half_range * mean, self.half_range * std

    def step_std(self, g: float) -> float:
        """Standard deviation of a step up at conductance ``g``, uS."""
        return _expected(self, g)[0][1]

    @property
    def mean_step(self) -> float:
        """Mean size of the steps up and down from ``reset_mean``, uS.

        This is what the controller calls one step (eps); further up or down it may be
        another one.
        """
        (up, _), (down, _) = _expected(self, self.reset_mean)
        return (up + down) / 2

    @property
    def swing(self) -> float:
        """How far the nearer mean end of a device is from ``reset_mean``, uS."""
        start = self.normalised(self.reset_mean)
        return self.half_range * min(self.top - start, start - self.bottom)

    # ---- ranges

    def _ends(self, state: TwoSidedState) -> tuple[Number, Number]:
        """Lower and upper ends of devices, half ranges."""
        bottom = self.bottom if state.bottom is None else state.bottom
        return bottom, self.top if state.top is None else state.top

    def _in_range(self, g: jax.Array, state: TwoSidedState) -> jax.Array:
        """Conductances cut off at the ends of each device, uS."""
        bottom, top = self._ends(state)
        return jnp.clip(g, self.in_us(bottom), self.in_us(top))


@functools.lru_cache(maxsize=64)
def _expected(spec: TwoSidedSpec, g: float) -> list[tuple[float, float]]:
    """Mean and deviation of a step up from there, and of one down, uS."""
    measured: Any = np.float32(g)  # Of NumPy, as what comes of it then is.
    both = [spec.expected_step(measured, None, up) for up in (True, False)]
    return [(float(mean), float(std)) for mean, std in both]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoftBoundsSpec(TwoSidedSpec):
    """Steps that shrink linearly towards the end they lead to.

    r_up = 1 - k_up w / top and r_down = 1 - k_down w / bottom: at k = 1 a device never
    reaches its end.

    Attributes:
      softness_up: share of a step up that is lost at the upper end (k_up), 0 to 1.
      softness_down: share of a step down that is lost at the lower end (k_down), 0 to
        1.
    """

    softness_up: float = 1.0
    softness_down: float = 1.0

    NON_IDEALITIES: ClassVar[dict[str, tuple[str, ...]]] = {
        "nonlinearity": ("softness_up", "softness_down"),
        **TwoSidedSpec.NON_IDEALITIES,
    }

    def __post_init__(self):
        for name in ("softness_up", "softness_down"):
            checks.within(name, getattr(self, name), 0.0, 1.0)
        super().__post_init__()

    def relative_step(
        self, w: jax.Array, bottom: Number, top: Number, up: jax.Array | bool
    ) -> jax.Array:
        """Linear in w."""
        return numpy_of(w, up).where(
            up, 1 - self.softness_up * w / top, 1 - self.softness_down * w / bottom
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExpStepSpec(TwoSidedSpec):
    """Steps whose size has an exponential part.

    With z = z_slope 2 w / (top - bottom) + z_offset,
    r_up = max(1 - A_up exp(gamma_up z), 0), r_down = max(1 - A_down exp(-gamma_down z),
    0). The noise of a step is in proportion to its size.

    Attributes:
      factor_up: exponential part of steps up (A_up), -100 to 100.
      factor_down: exponential part of steps down (A_down), -100 to 100.
      exponent_up: how fast it grows with z for steps up (gamma_up), -20 to 20.
      exponent_down: how fast it falls with z for steps down (gamma_down), -20 to 20.
      z_slope: slope of z, -2 to 2.
      z_offset: z in the middle, -2 to 2.
    """

    factor_up: float
    factor_down: float
    exponent_up: float
    exponent_down: float
    z_slope: float = 1.0
    z_offset: float = 0.0

    NOISE_FOLLOWS_STEP = True
    NON_IDEALITIES: ClassVar[dict[str, tuple[str, ...]]] = {
        "nonlinearity": ("factor_up", "factor_down"),
        **TwoSidedSpec.NON_IDEALITIES,
    }

    def __post_init__(self):
        for name, most in (
            ("factor_up", 100.0), ("factor_down", 100.0), ("exponent_up", 20.0),
            ("exponent_down", 20.0), ("z_slope", 2.0), ("z_offset", 2.0),
        ):  # fmt: skip
            checks.within(name, getattr(self, name), -most, most)
        super().__post_init__()

    def relative_step(
        self, w: jax.Array, bottom: Number, top: Number, up: jax.Array | bool
    ) -> jax.Array:
        """Exponential in w."""
        z = self.z_slope * 2 * w / (top - bottom) + self.z_offset
        xp = numpy_of(w, up)
        factor = xp.where(up, self.factor_up, self.factor_down)
        exponent = xp.where(up, self.exponent_up, -self.exponent_down)
        return xp.maximum(1 - factor * xp.exp(exponent * z), 0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConstantStepSpec(TwoSidedSpec):
    """Steps of one size, wherever a device stands in its range."""

    def relative_step(
        self, w: jax.Array, bottom: Number, top: Number, up: jax.Array | bool
    ) -> jax.Array:
        """One."""
        del bottom, top, up
        return numpy_of(w).ones_like(w)
