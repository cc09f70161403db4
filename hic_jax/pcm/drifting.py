"""What devices that drift and are read with noise have in common, beside their pulses.

A subclass says what a pulse adds in the mean, and how much that varies
(`expected_step`); devices may differ in it by a factor of their own, for life. Symbols
as in `hic_jax.pcm.multilevel`.
"""

import abc
import dataclasses
import math
import typing
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from hic_jax import checks
from hic_jax.pcm import fits, flicker
from hic_jax.pcm.device import LARGEST_US, DeviceSpec
from hic_jax.streams import stream


class DriftingState(struct.PyTreeNode):
    """Devices of a `DriftingSpec`; an entry per device.

    Attributes:
      g: float32, uS, as measured ``drift_t0`` after the last write.
      z: int8 standard normal draws (see `packed_draws`), one for the life of a device,
        that its drift exponent follows from; None if all devices share the mean.
      slow: float32 standard normal draws, one for the life of a device, of its slow
        noise; None before `DriftingSpec.on_another_chip` has drawn them.
      step: int8 standard normal draws, one for the life of a device, that the size of
        its steps follows from; None if all devices are alike.
    """

    g: jax.Array
    z: jax.Array | None = None
    slow: jax.Array | None = None
    step: jax.Array | None = None


def packed_draws(normal: jax.Array) -> jax.Array:
    """Standard normal draws in steps of 1/32, up to 4 of them either way, int8.

    Their standard deviation is 4e-5 above 1.
    """
    return jnp.clip(jnp.round(32 * normal), -127, 127).astype(jnp.int8)


def unpacked_draws(packed: jax.Array) -> jax.Array:
    """The draws that `packed_draws` has kept, float32."""
    return packed.astype(jnp.float32) / 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class DriftingSpec(DeviceSpec):
    """A device that drifts, is read with noise, and has steps of a size of its own.

    Attributes:
      reset_std: standard deviation of the conductance after a RESET pulse, uS.
      reset_min: lowest conductance after a RESET pulse, uS.
      step_spread: standard deviation of the mean size of a device's steps from device
        to device, over the mean of all, 0 to 2; log-normal. The noise of steps is the
        same for all devices.
      drift_t0: age from which a device drifts, counted from its last write, s, 1e-6 to
        1e6. Conductances are those at this age; younger devices keep them.
      drift_nu: mean drift exponent, -0.5 to 1.
      drift_nu_std: standard deviation of the drift exponent from device to device, 0 to
        0.25: a constant, or a curve of `hic_jax.pcm.fits`, of the conductance that a
        device was last written to over g_max. A flag takes the curve of a programmed
        device, by its name.
      read_slope: growth of the read noise per uS of conductance, uS per uS, 0 to 1.
      read_offset: standard deviation of the read noise at zero conductance, uS.
      read_spectrum: how long read noise stays what it is: per_read, new at every read
        of an array, for as many images as are computed at once; white, new in every
        product; flicker, of all durations (see `hic_jax.pcm.flicker`). Training
        draws all of it once a step.
      read_time: shortest duration of flicker noise, s, 1e-12 to 1e-4: the length of a
        read.
    """

    reset_std: float = 0.0
    reset_min: float = 0.0
    step_spread: float = 0.0
    drift_t0: float = 1.0
    drift_nu: float = 0.0
    drift_nu_std: float | fits.Fit = 0.0
    read_slope: float = 0.0
    read_offset: float = 0.0
    read_spectrum: flicker.Spectrum = "per_read"
    read_time: float = 250e-9

    NON_IDEALITIES: ClassVar[dict[str, tuple[str, ...]]] = {
        "device_spread": ("step_spread",),
        "read_noise": ("read_slope", "read_offset"),
        "drift": ("drift_nu", "drift_nu_std"),
        "drift_spread": ("drift_nu_std",),
        **DeviceSpec.NON_IDEALITIES,
    }
    NOT_NUMBERS = (*DeviceSpec.NOT_NUMBERS, "drift_nu_std", "read_spectrum")

    def __post_init__(self):
        super().__post_init__()
        for name in ("reset_std", "reset_min", "read_offset"):
            checks.within(name, getattr(self, name), 0.0, LARGEST_US)
        checks.within("step_spread", self.step_spread, 0.0, 2.0)
        checks.within("read_slope", self.read_slope, 0.0, 1.0)
        # Six standard deviations below the lowest mean a device grows by (t / t0)^2: by
        # 1e32 in `checks.SECONDS_MAX`.
        checks.within("drift_t0", self.drift_t0, 1e-6, 1e6)
        checks.within("drift_nu", self.drift_nu, -0.5, 1.0)
        spread = self.drift_nu_std
        if isinstance(spread, fits.Fit):
            least, most = fits.extremes(spread)
            if not 0.0 <= least <= most <= 0.25:
                raise ValueError(
                    f"drift_nu_std={spread!r}: must lie in [0.0, 0.25] at all "
                    f"conductances; goes from {least:.3g} to {most:.3g}"
                )
        else:
            checks.within("drift_nu_std", spread, 0.0, 0.25)
        checks.one_of(
            "read_spectrum", self.read_spectrum, typing.get_args(flicker.Spectrum)
        )
        checks.within("read_time", self.read_time, 1e-12, 1e-4)

    @abc.abstractmethod
    def fresh(self, shape: tuple[int, ...]) -> Any:
        """Devices as after a RESET without noise, all alike."""

    @abc.abstractmethod
    def expected_step(
        self, measured: jax.Array, state: Any, up: jax.Array | bool = True
    ) -> tuple[jax.Array, jax.Array]:
        """What a pulse adds in the mean of all devices, and its deviation, uS."""

    def init(self, key: jax.Array, shape: tuple[int, ...]) -> Any:
        """Devices as after a RESET without noise, each with exponent and steps."""
        state = self.fresh(shape)
        if self.step_spread:
            step_key = stream(key, "size of steps")
            draws = jax.random.normal(step_key, shape, jnp.float32)
            state = state.replace(step=packed_draws(draws))
        if not self.drift_nu_std:
            return state
        draws = jax.random.normal(key, shape, jnp.float32)
        return state.replace(z=packed_draws(draws))

    @property
    def g_dtype(self) -> Any:
        """float16 where pulses are noisier than it is coarse, by four times or more.

        Rounding then is unbiased, as noise comes before it, and adds at most 0.3 % to
        the standard deviation of a pulse.
        """
        if self.TWO_SIDED or self.g_max > float(jnp.finfo(jnp.float16).max):
            return jnp.float32
        coarse = 2.0 ** (math.floor(math.log2(self.g_max)) - 10)
        heights = np.linspace(self.g_min, self.g_max, 65)
        noise = min(self.step_std(float(g)) for g in heights)
        return jnp.float16 if noise >= 4 * coarse else jnp.float32

    @property
    def young(self) -> float:
        """Devices that drift keep until then what was written."""
        return self.drift_t0 if self.drift_nu or self.drift_nu_std else math.inf

    def step_factors(self, z: jax.Array) -> jax.Array:
        """Sizes of steps over the mean, log-normal, of standard normal draws."""
        variance = math.log1p(self.step_spread**2)
        return jnp.exp(math.sqrt(variance) * z - variance / 2)

    def pulse(self, state: Any, normal: jax.Array, up: jax.Array | bool = True) -> Any:
        """Applies one blind SET pulse; conductances stay in [g_min, g_max]."""
        if up is not True:
            raise ValueError(f"up={up}: must be True, because {self.name} has no other")
        g = state.g.astype(jnp.float32)
        mean, std = self.expected_step(g, state)
        if state.step is not None:
            mean = mean * self.step_factors(unpacked_draws(state.step))
        g = jnp.clip(g + mean + std * normal, self.g_min, self.g_max)
        return state.replace(g=g)

    def reset(self, state: Any, normal: jax.Array) -> Any:
        """Applies a RESET pulse."""
        g = jnp.maximum(self.reset_mean + self.reset_std * normal, self.reset_min)
        return state.replace(g=g)

    def conductance(self, state: Any, age: jax.Array) -> jax.Array:
        r"""Conductance at an age, :math:`G (t / t_0)^{-\nu}` for t > t0, uS.

        The model gives ``g`` as measured t0 after the write; before that age the
        formula would return more than was ever measured, so younger devices keep
        ``g``.
        """
        g = state.g.astype(jnp.float32)
        if not (self.drift_nu or self.drift_nu_std):
            return g
        nu: jax.Array | float = self.drift_nu
        if self.drift_nu_std and state.z is not None:
            nu = self.drift_exponents(g, unpacked_draws(state.z))
        t0 = self.drift_t0
        return g * (jnp.maximum(age, t0) / t0) ** -nu

    def read_std(self, g: jax.Array) -> jax.Array:
        """Standard deviation of one read of a device at (drifted) ``g``, uS."""
        return self.read_slope * g + self.read_offset

    def read_shares(self, age: jax.Array) -> flicker.Parts | None:
        """Shares of the variance of a read, as ``read_spectrum`` has them."""
        if self.read_spectrum == "per_read" or not self._is_read_with_noise:
            return None
        return flicker.shares(self.read_spectrum, age, self.read_time)

    def slow_draws(self, state: Any) -> jax.Array | None:
        """Those of `on_another_chip`."""
        return state.slow

    @property
    def chip_draws(self) -> int:
        """One for the drift exponent where devices differ in it, one for slow noise."""
        return bool(self.drift_nu_std) + self._has_slow_noise

    @property
    def _is_read_with_noise(self) -> bool:
        return self.read_slope > 0 or self.read_offset > 0

    @property
    def _has_slow_noise(self) -> bool:
        return self._is_read_with_noise and self.read_spectrum == "flicker"

    def on_another_chip(self, state: Any, normal: jax.Array) -> Any:
        """Other drift exponents, and other slow noise, where devices differ in them."""
        if self._has_slow_noise:
            state = state.replace(slow=normal[-1])
        if self.drift_nu_std:
            state = state.replace(z=packed_draws(normal[0]))
        return state

    def drift_exponents(self, g: jax.Array, z: jax.Array) -> jax.Array:
        r"""Drift exponents, :math:`|\nu + s(G) z|`; none drifts upwards.

        Args:
          g: conductances G that the devices were last written to, uS.
          z: standard normal draws, one per device.
        """
        spread = self.drift_nu_std
        if isinstance(spread, fits.Fit):
            return jnp.abs(self.drift_nu + fits.at(spread, g, self.g_max) * z)
        return jnp.abs(self.drift_nu + spread * z)

    def only(self, *names: str) -> Self:
        """The same device with every non-ideality off but ``names``.

        What spreads is drift: "drift_spread" keeps "drift", too.
        """
        if "drift_spread" in names:
            names = (*names, "drift")
        return super().only(*names)
