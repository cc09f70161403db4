"""The multi-level device of Nandakumar et al.: SET, RESET, drift and read-out.

The statistical model of Nandakumar et al., "A phase-change memory model for
neuromorphic computing", J. Appl. Phys. 124, 152135 (2018). A device is described by
its conductance ``g`` in uS and by ``pulses``, the number of SET pulses that it has
received since its last RESET. All is elementwise and pure.

========  ===========================================================  ==========
symbol    meaning                                                      unit
========  ===========================================================  ==========
g         conductance, as measured ``drift_t0`` after the last write   uS
P         programming memory, exp(-pulses / memory_pulses)             1
t         time since the last write of the device                      s
nu        drift exponent                                               1
z         standard normal draw of a device, for all its life           1
========  ===========================================================  ==========
"""

import dataclasses
import functools
import math
import typing
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from hic_jax import checks
from hic_jax.pcm import fits, flicker
from hic_jax.pcm.device import LARGEST_US, SMALLEST_STEP_US, DeviceSpec

# Pulses counted before the programming memory is treated as spent: a uint8 counter
# stops here, and exp(-255 / 2.6) is zero in float32.
MAX_COUNTED_PULSES = 255


class MultilevelState(struct.PyTreeNode):
    """Devices of a `MultilevelSpec`; an entry per device.

    Attributes:
      g: float32, uS, as measured ``drift_t0`` after the last write.
      pulses: uint8, SET pulses since the last RESET.
      nu: float32 drift exponents, where they do not follow from conductance; None if
        they do, or if all devices share the mean.
      z: float32 standard normal draws, one for the life of a device, that its drift
        exponent follows from wherever it stands; None if ``nu`` tells, or the mean.
      slow: float32 standard normal draws, one for the life of a device, of its slow
        noise; None before `MultilevelSpec.on_another_chip` has drawn them.
    """

    g: jax.Array
    pulses: jax.Array
    nu: jax.Array | None
    z: jax.Array | None = None
    slow: jax.Array | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultilevelSpec(DeviceSpec):
    """A device of which a SET pulse adds less the higher it stands and the more it got.

    A constant at zero switches its effect off; `without` and `only` do that by name.

    Attributes:
      reset_std: standard deviation of the conductance after a RESET pulse, uS.
      reset_min: lowest conductance after a RESET pulse, uS.
      step_slope: change of the mean SET step per uS of conductance, uS per uS, -1 to 1.
      step_offset: mean SET step at zero conductance and spent programming memory, uS.
      step_memory: what a full programming memory adds to the mean SET step, uS.
      noise_slope: change of the SET step's standard deviation per uS of conductance,
        uS per uS, 0 to 1.
      noise_offset: standard deviation of the SET step at zero conductance and spent
        programming memory, uS.
      noise_memory: what a full programming memory adds to the SET step's standard
        deviation, uS.
      memory_pulses: SET pulses in which the programming memory falls by a factor of e.
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
    step_slope: float = 0.0
    step_offset: float
    step_memory: float = 0.0
    noise_slope: float = 0.0
    noise_offset: float = 0.0
    noise_memory: float = 0.0
    memory_pulses: float = 1.0
    drift_t0: float = 1.0
    drift_nu: float = 0.0
    drift_nu_std: float | fits.Fit = 0.0
    read_slope: float = 0.0
    read_offset: float = 0.0
    read_spectrum: flicker.Spectrum = "per_read"
    read_time: float = 250e-9

    NON_IDEALITIES: ClassVar[dict[str, tuple[str, ...]]] = {
        "nonlinearity": ("step_slope", "step_memory"),
        "write_noise": ("noise_slope", "noise_offset", "noise_memory", "reset_std"),
        "read_noise": ("read_slope", "read_offset"),
        "drift": ("drift_nu", "drift_nu_std"),
        "drift_spread": ("drift_nu_std",),
        **DeviceSpec.NON_IDEALITIES,
    }
    NOT_NUMBERS = (*DeviceSpec.NOT_NUMBERS, "drift_nu_std", "read_spectrum")

    def __post_init__(self):
        super().__post_init__()
        for name in ("memory_pulses", "step_offset"):
            checks.above(name, getattr(self, name), 0.0)
        for name in (
            "reset_std", "reset_min", "step_offset", "noise_offset", "noise_memory",
            "read_offset",
        ):  # fmt: skip
            checks.within(name, getattr(self, name), 0.0, LARGEST_US)
        checks.within("step_memory", self.step_memory, -LARGEST_US, LARGEST_US)
        checks.within("step_slope", self.step_slope, -1.0, 1.0)
        for name in ("noise_slope", "read_slope"):
            checks.within(name, getattr(self, name), 0.0, 1.0)
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
        if self.mean_step < SMALLEST_STEP_US:
            raise ValueError(
                f"g_max={self.g_max}, reset_mean={self.reset_mean}, "
                f"step_offset={self.step_offset}, step_slope={self.step_slope}, "
                f"step_memory={self.step_memory}: SET pulses must add to the mean "
                f"conductance after a RESET, at least {SMALLEST_STEP_US} uS each"
            )

    def init(self, key: jax.Array, shape: tuple[int, ...]) -> MultilevelState:
        """Devices as after a RESET without noise, with drift exponents of their own."""
        state = MultilevelState(
            g=jnp.full(shape, self.reset_mean, jnp.float32),
            pulses=jnp.zeros(shape, jnp.uint8),
            nu=None,
        )
        if not self.drift_nu_std:
            return state
        return self._of_other_draws(state, jax.random.normal(key, shape, jnp.float32))

    def pulse(
        self, state: MultilevelState, normal: jax.Array, up: jax.Array | bool = True
    ) -> MultilevelState:
        """Applies one blind SET pulse; conductances stay in [g_min, g_max]."""
        if up is not True:
            raise ValueError(f"up={up}: must be True, because {self.name} has no other")
        mean, std = self.expected_step(state.g, state)
        g = jnp.clip(state.g + mean + std * normal, self.g_min, self.g_max)
        return state.replace(g=g, pulses=_counted(state.pulses))

    def reset(self, state: MultilevelState, normal: jax.Array) -> MultilevelState:
        """Applies a RESET pulse, which makes the programming memory full."""
        g = jnp.maximum(self.reset_mean + self.reset_std * normal, self.reset_min)
        return state.replace(g=g, pulses=jnp.zeros_like(state.pulses))

    def conductance(self, state: MultilevelState, age: jax.Array) -> jax.Array:
        r"""Conductance at an age, :math:`G (t / t_0)^{-\nu}` for t > t0, uS.

        The model gives ``g`` as measured t0 after the write; before that age the
        formula would return more than was ever measured, so younger devices keep
        ``g``.
        """
        if not (self.drift_nu or self.drift_nu_std):
            return state.g
        nu: jax.Array | float = self.drift_nu
        if self.drift_nu_std and state.z is not None:
            nu = self.drift_exponents(state.g, state.z)
        elif self.drift_nu_std and state.nu is not None:
            nu = state.nu
        t0 = self.drift_t0
        return state.g * (jnp.maximum(age, t0) / t0) ** -nu

    def read_std(self, g: jax.Array) -> jax.Array:
        """Standard deviation of one read of a device at (drifted) ``g``, uS."""
        return self.read_slope * g + self.read_offset

    def read_shares(self, age: jax.Array) -> flicker.Parts | None:
        """Shares of the variance of a read, as ``read_spectrum`` has them."""
        if self.read_spectrum == "per_read" or not self._is_read_with_noise:
            return None
        return flicker.shares(self.read_spectrum, age, self.read_time)

    def slow_draws(self, state: MultilevelState) -> jax.Array | None:
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

    def on_another_chip(
        self, state: MultilevelState, normal: jax.Array
    ) -> MultilevelState:
        """Other drift exponents, and other slow noise, where devices differ in them."""
        if self._has_slow_noise:
            state = state.replace(slow=normal[-1])
        return self._of_other_draws(state, normal[0]) if self.drift_nu_std else state

    def _of_other_draws(self, state: MultilevelState, z: jax.Array) -> MultilevelState:
        """The devices with drift exponents that follow from other draws."""
        if isinstance(self.drift_nu_std, fits.Fit):
            return state.replace(nu=None, z=z)
        return state.replace(nu=self.drift_exponents(state.g, z), z=None)

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

    def memory(self, pulses: jax.Array) -> jax.Array:
        """Programming memory P after ``pulses`` SETs since RESET; 1 when fresh."""
        return jnp.exp(-pulses.astype(jnp.float32) / self.memory_pulses)

    def expected_step(
        self, measured: jax.Array, state: MultilevelState, up: jax.Array | bool = True
    ) -> tuple[jax.Array, jax.Array]:
        r"""What the next SET pulse adds (Nandakumar 2018, the model of its Fig. 2, 5).

        .. math::
          P = e^{-n / n_0}, \quad
          \Delta G \sim \mathcal{N}(m_1 G + c_1 + A_1 P,\; m_2 G + c_2 + A_2 P)
        """
        del up
        p = self.memory(_counted(state.pulses))
        mean = self.step_slope * measured + self.step_offset + self.step_memory * p
        std = self.noise_slope * measured + self.noise_offset + self.noise_memory * p
        return mean, std

    def step_std(self, g: float) -> float:
        """Standard deviation of a SET step when the programming memory is spent, uS."""
        return self.noise_offset + self.noise_slope * g

    def mean_trajectory(self, pulses: int) -> np.ndarray:
        """Mean conductance after 0, 1, ..., ``pulses`` SET pulses from RESET.

        Mean and variance are followed from pulse to pulse, the distribution taken as
        Gaussian and clipped at ``g_min``.

        Returns:
          (pulses + 1,) float64, uS, non-decreasing.
        """
        return _mean_trajectory(self, pulses)

    def without(self, *names: str) -> Self:
        """The same device with some non-idealities switched off.

        Args:
          *names: of ``NON_IDEALITIES``.

        Returns:
          A new spec. Without the non-linearity every step is `mean_step` in the mean,
          before clipping.
        """
        device = self
        # Once only: noise that is clipped is in the mean of what is linear already.
        if "nonlinearity" in names and (self.step_slope or self.step_memory):
            device = dataclasses.replace(self, step_offset=self.mean_step)
        return super(MultilevelSpec, device).without(*names)

    def only(self, *names: str) -> Self:
        """The same device with every non-ideality off but ``names``.

        What spreads is drift: "drift_spread" keeps "drift", too.
        """
        if "drift_spread" in names:
            names = (*names, "drift")
        return super().only(*names)


def _counted(pulses: jax.Array) -> jax.Array:
    """The count after one more pulse."""
    return pulses + (pulses < MAX_COUNTED_PULSES).astype(pulses.dtype)


@functools.lru_cache(maxsize=64)
def _mean_trajectory(spec: MultilevelSpec, pulses: int) -> np.ndarray:
    mean, variance = spec.reset_mean, spec.reset_std**2
    trajectory = [mean]
    for n in range(1, pulses + 1):
        p = math.exp(-n / spec.memory_pulses)
        noise = spec.noise_slope * mean + spec.noise_offset + spec.noise_memory * p
        variance *= (1 + spec.step_slope) ** 2 + spec.noise_slope**2
        variance += noise**2
        mean += spec.step_slope * mean + spec.step_offset + spec.step_memory * p
        mean, variance = _clipped_moments(mean, variance, spec.g_min)
        mean = min(mean, spec.g_max)
        trajectory.append(max(mean, trajectory[-1]))
    result = np.asarray(trajectory)
    result.setflags(write=False)
    return result


def _clipped_moments(mean: float, variance: float, low: float) -> tuple[float, float]:
    """Mean and variance of max(X, low) for a Gaussian X."""
    std = math.sqrt(variance)
    if std == 0:
        return max(mean, low), 0.0
    z = (mean - low) / std
    above = 0.5 * math.erfc(-z / math.sqrt(2))
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    first = (mean - low) * above + std * density
    second = ((mean - low) ** 2 + variance) * above + (mean - low) * std * density
    return low + first, max(second - first**2, 0.0)  # Rounding may leave less.
