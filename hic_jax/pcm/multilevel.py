"""One multi-level PCM device: SET, RESET, drift and read-out (pulse regime).

The statistical model of Nandakumar et al., "A phase-change memory model for
neuromorphic computing", J. Appl. Phys. 124, 152135 (2018). A device is described by
its conductance ``g`` in uS and by ``pulses``, the number of SET pulses that it has
received since its last RESET. Every function is elementwise and pure; random numbers
come in as standard normal draws, so that a noise-free call is the same code.

========  ===========================================================  ==========
symbol    meaning                                                      unit
========  ===========================================================  ==========
g         conductance, as measured ``drift_t0`` after the last write   uS
P         programming memory, exp(-pulses / memory_pulses)             1
t         time since the last write of the device                      s
nu        drift exponent                                               1
========  ===========================================================  ==========
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from hic_jax import checks

# Bounds of the constants: beyond any device, and close enough that nothing computed of
# them leaves float32. A conductance of a siemens is that of a wire; a step of a
# picosiemens is below what any circuit reads.
_LARGEST_US = 1e6
SMALLEST_STEP_US = 1e-6

# Pulses counted before the programming memory is treated as spent: a uint8 counter
# stops here, and exp(-255 / 2.6) is zero in float32.
MAX_COUNTED_PULSES = 255


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultilevelSpec:
    """The physics of a multi-level device: constants only, no state.

    A constant at zero switches its effect off; `without` and `only` do that by name.

    Attributes:
      name: what the preset is called.
      source: where the constants come from.
      g_min: lowest conductance that a SET pulse leaves, uS.
      g_max: highest conductance, uS.
      reset_mean: mean conductance after a RESET pulse, uS.
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
        0.25.
      read_slope: growth of the read noise per uS of conductance, uS per uS, 0 to 1.
      read_offset: standard deviation of the read noise at zero conductance, uS.
      stuck_set: fraction of devices that stay at the highest conductance, 0 to 1.
      stuck_reset: fraction of devices that stay at the mean conductance of a RESET, 0
        to 1.
    """

    name: str
    source: str
    g_min: float
    g_max: float
    reset_mean: float
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
    drift_nu_std: float = 0.0
    read_slope: float = 0.0
    read_offset: float = 0.0
    stuck_set: float = 0.0
    stuck_reset: float = 0.0

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if field.name not in ("name", "source"):
                checks.finite(field.name, getattr(self, field.name))
        for name in ("g_max", "memory_pulses", "step_offset"):
            checks.above(name, getattr(self, name), 0.0)
        for name in (
            "g_min", "g_max", "reset_mean", "reset_std", "reset_min", "step_offset",
            "noise_offset", "noise_memory", "read_offset",
        ):  # fmt: skip
            checks.within(name, getattr(self, name), 0.0, _LARGEST_US)
        checks.within("step_memory", self.step_memory, -_LARGEST_US, _LARGEST_US)
        checks.within("step_slope", self.step_slope, -1.0, 1.0)
        for name in ("noise_slope", "read_slope", "stuck_set", "stuck_reset"):
            checks.within(name, getattr(self, name), 0.0, 1.0)
        # Six standard deviations below the lowest mean a device grows by (t / t0)^2: by
        # 1e32 in `checks.SECONDS_MAX`.
        checks.within("drift_t0", self.drift_t0, 1e-6, 1e6)
        checks.within("drift_nu", self.drift_nu, -0.5, 1.0)
        checks.within("drift_nu_std", self.drift_nu_std, 0.0, 0.25)
        if np.float32(self.g_max) <= np.float32(self.g_min):
            raise ValueError(
                f"g_max={self.g_max}: must be greater than {self.g_min}, the g_min of "
                "the device, in float32, too"
            )
        checks.within("reset_mean", self.reset_mean, 0.0, self.g_max)
        checks.within(
            "stuck_set + stuck_reset", self.stuck_set + self.stuck_reset, 0, 1
        )
        if self.mean_step < SMALLEST_STEP_US:
            raise ValueError(
                f"g_max={self.g_max}, reset_mean={self.reset_mean}, "
                f"step_offset={self.step_offset}, step_slope={self.step_slope}, "
                f"step_memory={self.step_memory}: SET pulses must add to the mean "
                f"conductance after a RESET, at least {SMALLEST_STEP_US} uS each"
            )

    @property
    def mean_step(self) -> float:
        """Mean conductance gained per pulse over the first ten from RESET, uS.

        This is what the controller calls one step (eps). For `nandakumar_2018` it is
        0.77 uS.
        """
        trajectory = mean_trajectory(self, 10)
        return float(trajectory[10] - trajectory[0]) / 10

    def without(self, *names: str) -> "MultilevelSpec":
        """The same device with some non-idealities switched off.

        Args:
          *names: of `NON_IDEALITIES`.

        Returns:
          A new spec. Without the non-linearity every step is `mean_step` in the mean,
          before clipping.
        """
        changes: dict[str, float] = {}
        for name in names:
            checks.one_of("non-ideality", name, NON_IDEALITIES)
            changes |= dict.fromkeys(NON_IDEALITIES[name], 0.0)
            if name == "nonlinearity":
                changes["step_offset"] = self.mean_step
        return dataclasses.replace(self, **changes)

    def only(self, *names: str) -> "MultilevelSpec":
        """The same device with every non-ideality off but ``names``.

        What spreads is drift: "drift_spread" keeps "drift", too.
        """
        if "drift_spread" in names:
            names = (*names, "drift")
        kept: set[str] = set()
        for name in names:
            checks.one_of("non-ideality", name, NON_IDEALITIES)
            kept.update(NON_IDEALITIES[name])
        bare = self.without(*(n for n in NON_IDEALITIES if n not in names))
        return dataclasses.replace(bare, **{name: getattr(self, name) for name in kept})


# What can be switched off alone, and the constants that then become zero.
NON_IDEALITIES: dict[str, tuple[str, ...]] = {
    "nonlinearity": ("step_slope", "step_memory"),
    "write_noise": ("noise_slope", "noise_offset", "noise_memory", "reset_std"),
    "read_noise": ("read_slope", "read_offset"),
    "drift": ("drift_nu", "drift_nu_std"),
    "drift_spread": ("drift_nu_std",),
    "stuck": ("stuck_set", "stuck_reset"),
}


def memory(pulses: jax.Array, spec: MultilevelSpec) -> jax.Array:
    """Programming memory P after ``pulses`` SET pulses since RESET; 1 when fresh."""
    return jnp.exp(-pulses.astype(jnp.float32) / spec.memory_pulses)


def set_step(
    g: jax.Array, pulses: jax.Array, spec: MultilevelSpec
) -> tuple[jax.Array, jax.Array]:
    r"""What the next SET pulse adds (Nandakumar 2018, the model of its Fig. 2 and 5).

    .. math::
      P = e^{-n / n_0}, \quad
      \Delta G \sim \mathcal{N}(m_1 G + c_1 + A_1 P,\; m_2 G + c_2 + A_2 P)

    Args:
      g: conductance before the pulse, uS.
      pulses: uint8, SET pulses since the last RESET, this one not counted.
      spec: the device.

    Returns:
      Mean and standard deviation of the step, before clipping, uS.
    """
    p = memory(_counted(pulses), spec)
    mean = spec.step_slope * g + spec.step_offset + spec.step_memory * p
    std = spec.noise_slope * g + spec.noise_offset + spec.noise_memory * p
    return mean, std


def set_pulse(
    g: jax.Array, pulses: jax.Array, normal: jax.Array, spec: MultilevelSpec
) -> tuple[jax.Array, jax.Array]:
    """Applies one blind SET pulse.

    Args:
      g: conductance before the pulse, uS.
      pulses: uint8, SET pulses since the last RESET, this one not counted.
      normal: standard normal draws, the shape of ``g``.
      spec: the device.

    Returns:
      Conductance after the pulse, clipped to [g_min, g_max], and the new count.
    """
    mean, std = set_step(g, pulses, spec)
    return jnp.clip(g + mean + std * normal, spec.g_min, spec.g_max), _counted(pulses)


def _counted(pulses: jax.Array) -> jax.Array:
    """The count after one more pulse."""
    return pulses + (pulses < MAX_COUNTED_PULSES).astype(pulses.dtype)


def reset(normal: jax.Array, spec: MultilevelSpec) -> jax.Array:
    """Conductance after a RESET pulse, uS, from standard normal draws."""
    return jnp.maximum(spec.reset_mean + spec.reset_std * normal, spec.reset_min)


def drifted(
    g: jax.Array, age: jax.Array, nu: jax.Array | float, spec: MultilevelSpec
) -> jax.Array:
    r"""Conductance at an age, :math:`G (t / t_0)^{-\nu}` for t > t0, uS.

    The model gives ``g`` as measured t0 after the write; before that age the formula
    would return more than was ever measured, so younger devices keep ``g``.

    Args:
      g: conductance at age ``drift_t0``, uS.
      age: seconds since the last write of each device, broadcastable to ``g``.
      nu: drift exponent, broadcastable to ``g``.
      spec: the device.
    """
    return g * (jnp.maximum(age, spec.drift_t0) / spec.drift_t0) ** -nu


def read_std(g: jax.Array, spec: MultilevelSpec) -> jax.Array:
    """Standard deviation of one read of a device at (drifted) ``g``, uS."""
    return spec.read_slope * g + spec.read_offset


def drift_exponents(normal: jax.Array, spec: MultilevelSpec) -> jax.Array:
    r"""Drift exponents of new devices, :math:`|\nu + s z|`; no device drifts upwards.

    Args:
      normal: standard normal draws z, one per device.
      spec: the device.
    """
    return jnp.abs(spec.drift_nu + spec.drift_nu_std * normal)


@functools.lru_cache(maxsize=64)
def mean_trajectory(spec: MultilevelSpec, pulses: int) -> np.ndarray:
    """Mean conductance after 0, 1, ..., ``pulses`` SET pulses from RESET.

    What a controller that knows the data sheet, but not the device, expects: mean and
    variance are followed from pulse to pulse, the distribution taken as Gaussian and
    clipped at ``g_min``.

    Returns:
      (pulses + 1,) float64, uS, non-decreasing.
    """
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


def pulses_for(g: jax.Array, spec: MultilevelSpec, max_pulses: int) -> jax.Array:
    """SET pulses from RESET whose mean conductance is nearest to ``g``.

    Args:
      g: wanted conductance, uS.
      spec: the device.
      max_pulses: never more than this.

    Returns:
      int32, the shape of ``g``, in [0, max_pulses].
    """
    mean = mean_trajectory(spec, max_pulses)
    return jnp.searchsorted(
        jnp.asarray((mean[1:] + mean[:-1]) / 2, jnp.float32), g
    ).astype(jnp.int32)
