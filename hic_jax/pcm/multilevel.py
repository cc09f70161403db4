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
f         size of a device's steps over the mean, for all its life     1
========  ===========================================================  ==========
"""

import dataclasses
import functools
import math
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from hic_jax import checks
from hic_jax.pcm.device import LARGEST_US, SMALLEST_STEP_US
from hic_jax.pcm.drifting import DriftingSpec, DriftingState

# Pulses counted before the programming memory is treated as spent: a uint8 counter
# stops here, and exp(-255 / 2.6) is zero in float32.
MAX_COUNTED_PULSES = 255

# Devices with steps of their own whose mean stands for that of all.
_STAND_FOR_ALL = 7


class MultilevelState(DriftingState, kw_only=True):
    """Devices of a `MultilevelSpec`; an entry per device.

    Attributes:
      pulses: uint8, SET pulses since the last RESET.
    """

    pulses: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultilevelSpec(DriftingSpec):
    """A device of which a SET pulse adds less the higher it stands and the more it got.

    A constant at zero switches its effect off; `without` and `only` do that by name.

    Attributes:
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
    """

    step_slope: float = 0.0
    step_offset: float
    step_memory: float = 0.0
    noise_slope: float = 0.0
    noise_offset: float = 0.0
    noise_memory: float = 0.0
    memory_pulses: float = 1.0

    NON_IDEALITIES: ClassVar[dict[str, tuple[str, ...]]] = {
        "nonlinearity": ("step_slope", "step_memory"),
        "write_noise": ("noise_slope", "noise_offset", "noise_memory", "reset_std"),
        **DriftingSpec.NON_IDEALITIES,
    }

    def __post_init__(self):
        super().__post_init__()
        for name in ("memory_pulses", "step_offset"):
            checks.above(name, getattr(self, name), 0.0)
        for name in ("step_offset", "noise_offset", "noise_memory"):
            checks.within(name, getattr(self, name), 0.0, LARGEST_US)
        checks.within("step_memory", self.step_memory, -LARGEST_US, LARGEST_US)
        checks.within("step_slope", self.step_slope, -1.0, 1.0)
        checks.within("noise_slope", self.noise_slope, 0.0, 1.0)
        if self.mean_step < SMALLEST_STEP_US:
            raise ValueError(
                f"g_max={self.g_max}, reset_mean={self.reset_mean}, "
                f"step_offset={self.step_offset}, step_slope={self.step_slope}, "
                f"step_memory={self.step_memory}: SET pulses must add to the mean "
                f"conductance after a RESET, at least {SMALLEST_STEP_US} uS each"
            )

    def fresh(self, shape: tuple[int, ...]) -> MultilevelState:
        """Devices as after a RESET without noise, all alike."""
        return MultilevelState(
            g=jnp.full(shape, self.reset_mean, jnp.float32),
            pulses=jnp.zeros(shape, jnp.uint8),
        )

    def pulse(
        self, state: MultilevelState, normal: jax.Array, up: jax.Array | bool = True
    ) -> MultilevelState:
        """Applies one blind SET pulse; conductances stay in [g_min, g_max]."""
        pulses = _counted(state.pulses)
        return super().pulse(state, normal, up).replace(pulses=pulses)

    def reset(self, state: MultilevelState, normal: jax.Array) -> MultilevelState:
        """Applies a RESET pulse, which makes the programming memory full."""
        pulses = jnp.zeros_like(state.pulses)
        return super().reset(state, normal).replace(pulses=pulses)

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
        Gaussian and clipped at ``g_min``; where devices differ in their steps, of a few
        that stand for all.

        Returns:
          (pulses + 1,) float64, uS, non-decreasing.
        """
        if not self.step_spread:
            return _mean_trajectory(self, pulses)
        draws, weights = np.polynomial.hermite_e.hermegauss(_STAND_FOR_ALL)
        variance = math.log1p(self.step_spread**2)
        factors = np.exp(math.sqrt(variance) * draws - variance / 2)
        trajectories = [_mean_trajectory(self, pulses, float(f)) for f in factors]
        return np.average(trajectories, axis=0, weights=weights)

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


def _counted(pulses: jax.Array) -> jax.Array:
    """The count after one more pulse."""
    return pulses + (pulses < MAX_COUNTED_PULSES).astype(pulses.dtype)


@functools.lru_cache(maxsize=64)
def _mean_trajectory(
    spec: MultilevelSpec, pulses: int, factor: float = 1.0
) -> np.ndarray:
    """The trajectory of devices whose steps are so many times the mean."""
    mean, variance = spec.reset_mean, spec.reset_std**2
    trajectory = [mean]
    for n in range(1, pulses + 1):
        p = math.exp(-n / spec.memory_pulses)
        noise = spec.noise_slope * mean + spec.noise_offset + spec.noise_memory * p
        variance *= (1 + factor * spec.step_slope) ** 2 + spec.noise_slope**2
        variance += noise**2
        step = spec.step_slope * mean + spec.step_offset + spec.step_memory * p
        mean += factor * step
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
