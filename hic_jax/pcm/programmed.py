r"""One programmed device: write-and-verify, drift and read-out (programmed regime).

A fresh inference chip is written once, device by device, with reads in between; then
it only drifts and fluctuates. The statistical model of Nandakumar et al., ICECS 2019,
as IBM's aihwkit implements it. Every function is elementwise and pure; random numbers
come in as draws, so that a noise-free call is the same code. The pulse regime of
training is `hic_jax.pcm.multilevel`; the two share no constants.

========  ===========================================================  ==========
symbol    meaning                                                      unit
========  ===========================================================  ==========
target    conductance that the device is to have                       uS
g         conductance when programming ends                            uS
age       time since then                                              s
nu        drift exponent                                               1
========  ===========================================================  ==========
"""

import dataclasses
import typing
from typing import Any

import jax
import jax.numpy as jnp

from hic_jax import checks
from hic_jax.pcm import fits, flicker
from hic_jax.pcm.fits import Fit


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProgrammedSpec:
    """The physics of a programmed device: constants and fitted curves, no state.

    A curve that is None, or a fraction at zero, switches its effect off; `without` and
    `only` do that by name. Curves are functions of conductance over ``g_max``.

    Attributes:
      name: what the preset is called.
      source: where the constants come from.
      g_max: highest conductance that is asked for, uS.
      write_std: standard deviation of what programming leaves, uS, of the target.
      drift_t0: age, from the last pulse on, at which programming ends, s.
      drift_nu: mean drift exponent, of the target.
      drift_nu_std: standard deviation of the drift exponent from device to device, of
        the target.
      read_noise: strength Q_s of the 1/f noise, 1, of the programmed conductance.
      read_time: length of a read, s, 1e-12 to 1e-4.
      read_spectrum: how long read noise stays what it is: per_read, new at every read
        of an array, for as many images as are computed at once; white, new in every
        product; flicker, of all durations (see `hic_jax.pcm.flicker`).
      stuck_set: fraction of devices that stay at ``g_max``.
      stuck_reset: fraction of devices that stay at zero.
    """

    name: str
    source: str
    g_max: float
    write_std: Fit | None = None
    drift_t0: float = 1.0
    drift_nu: Fit | None = None
    drift_nu_std: Fit | None = None
    read_noise: Fit | None = None
    read_time: float = 1e-6
    read_spectrum: flicker.Spectrum = "per_read"
    stuck_set: float = 0.0
    stuck_reset: float = 0.0

    def __post_init__(self):
        for name in ("g_max", "drift_t0"):
            checks.above(name, getattr(self, name), 0.0)
        checks.within("read_time", self.read_time, 1e-12, 1e-4)
        checks.one_of(
            "read_spectrum", self.read_spectrum, typing.get_args(flicker.Spectrum)
        )
        for name in ("write_std", "drift_nu", "drift_nu_std", "read_noise"):
            curve = getattr(self, name)
            if not isinstance(curve, Fit | None):
                raise ValueError(f"{name}={curve!r}: must be a curve of pcm.fits")
        for name in ("stuck_set", "stuck_reset"):
            checks.within(name, getattr(self, name), 0.0, 1.0)
        checks.within(
            "stuck_set + stuck_reset", self.stuck_set + self.stuck_reset, 0, 1
        )

    @property
    def drifts(self) -> bool:
        """Whether any device drifts."""
        return self.drift_nu is not None or self.drift_nu_std is not None

    @property
    def has_slow_noise(self) -> bool:
        """Whether some of the read noise stays for hours."""
        return self.read_noise is not None and self.read_spectrum == "flicker"

    def without(self, *names: str) -> "ProgrammedSpec":
        """The same device with some non-idealities switched off.

        Args:
          *names: of `NON_IDEALITIES`.
        """
        changes: dict[str, Any] = {}
        for name in names:
            checks.one_of("non-ideality", name, NON_IDEALITIES)
            changes |= NON_IDEALITIES[name]
        return dataclasses.replace(self, **changes)

    def only(self, *names: str) -> "ProgrammedSpec":
        """The same device with every non-ideality off but ``names``.

        What spreads is drift: "drift_spread" keeps "drift", too.
        """
        if "drift_spread" in names:
            names = (*names, "drift")
        kept: set[str] = set()
        for name in names:
            checks.one_of("non-ideality", name, NON_IDEALITIES)
            kept.update(NON_IDEALITIES[name])
        bare = self.without(*NON_IDEALITIES)
        return dataclasses.replace(bare, **{name: getattr(self, name) for name in kept})


# What can be switched off alone, and the constants that then say so. The names are
# those of the pulse regime, where the same thing is meant.
NON_IDEALITIES: dict[str, dict[str, Any]] = {
    "write_noise": {"write_std": None},
    "read_noise": {"read_noise": None},
    "drift": {"drift_nu": None, "drift_nu_std": None},
    "drift_spread": {"drift_nu_std": None},
    "stuck": {"stuck_set": 0.0, "stuck_reset": 0.0},
}


def write_std(target: jax.Array, spec: ProgrammedSpec) -> jax.Array:
    """Standard deviation that write-and-verify leaves around ``target``, uS."""
    return _at(spec.write_std, target, spec)


def write(target: jax.Array, normal: jax.Array, spec: ProgrammedSpec) -> jax.Array:
    r"""Conductance that programming leaves, :math:`\max(G_T + \sigma z, 0)`, uS.

    Args:
      target: in [0, g_max], uS.
      normal: standard normal draws z, the shape of ``target``.
      spec: the device.
    """
    return jnp.maximum(target + write_std(target, spec) * normal, 0.0)


def drift_exponents(
    target: jax.Array, normal: jax.Array, spec: ProgrammedSpec
) -> jax.Array:
    r"""Drift exponents, :math:`|\mu(G_T) + s(G_T) z|`; drawn once, then the device's.

    Args:
      target: in [0, g_max], uS.
      normal: standard normal draws z, the shape of ``target``.
      spec: the device.
    """
    std = _at(spec.drift_nu_std, target, spec)
    return jnp.abs(_at(spec.drift_nu, target, spec) + std * normal)


def stick(
    g: jax.Array, nu: jax.Array | None, uniform: jax.Array, spec: ProgrammedSpec
) -> tuple[jax.Array, jax.Array | None]:
    """Devices as they are when some took no pulse: those stay at one end, undrifted.

    Args:
      g: programmed conductances, uS.
      nu: drift exponents; None if nothing drifts.
      uniform: draws from [0, 1), the shape of ``g``.
      spec: the device.

    Returns:
      Conductances and drift exponents.
    """
    stuck = uniform < spec.stuck_set + spec.stuck_reset
    end = jnp.where(uniform < spec.stuck_set, jnp.float32(spec.g_max), 0.0)
    return jnp.where(stuck, end, g), None if nu is None else jnp.where(stuck, 0.0, nu)


def drifted(
    g: jax.Array,
    age: jax.Array | float,
    nu: jax.Array | float,
    spec: ProgrammedSpec,
) -> jax.Array:
    r"""Conductance at an age, :math:`G ((t + t_0) / t_0)^{-\nu}`, uS.

    Args:
      g: conductance when programming ended, uS.
      age: seconds since then, broadcastable to ``g``.
      nu: drift exponent, broadcastable to ``g``.
      spec: the device.
    """
    return g * ((age + spec.drift_t0) / spec.drift_t0) ** -nu


def read_std(
    g: jax.Array, drifted_g: jax.Array, age: jax.Array | float, spec: ProgrammedSpec
) -> jax.Array:
    r"""Standard deviation of one read, uS: 1/f noise grows with time.

    .. math::
      \sigma = G(t) Q_s(G) \sqrt{\ln\frac{t + t_0 + t_{read}}{2 t_{read}}}

    Args:
      g: conductance G when programming ended, uS.
      drifted_g: conductance G(t) now, uS.
      age: seconds since programming ended, broadcastable to ``g``.
      spec: the device.
    """
    periods = (age + spec.drift_t0 + spec.read_time) / (2 * spec.read_time)
    return drifted_g * _at(spec.read_noise, g, spec) * jnp.sqrt(jnp.log(periods))


def read(
    g: jax.Array,
    drifted_g: jax.Array,
    age: jax.Array | float,
    normal: jax.Array,
    spec: ProgrammedSpec,
    *,
    slow: jax.Array | None = None,
    fresh: bool = True,
) -> jax.Array:
    """Conductance as one read finds it, not below zero, uS.

    Args:
      g: conductance when programming ended, uS.
      drifted_g: conductance now, uS.
      age: seconds since programming ended, broadcastable to ``g``.
      normal: standard normal draws, the shape of ``g``.
      spec: the device.
      slow: standard normal draws of the slow noise, if there is any.
      fresh: whether to add what is new in every product, too; False where products do.
    """
    std = read_std(g, drifted_g, age, spec)
    if spec.read_spectrum != "per_read":
        parts = _read_shares(age, spec).times(std**2)
        if slow is not None:
            drifted_g = drifted_g + jnp.sqrt(parts.slow) * slow
        std = jnp.sqrt(parts.read + parts.fresh if fresh else parts.read)
    return jnp.maximum(drifted_g + std * normal, 0.0)


def fresh_variance(
    g: jax.Array, drifted_g: jax.Array, age: jax.Array | float, spec: ProgrammedSpec
) -> jax.Array:
    """Variance of what every product finds anew, as if none were below zero, uS^2.

    Args:
      g: conductance when programming ended, uS.
      drifted_g: conductance now, uS.
      age: seconds since programming ended, broadcastable to ``g``.
      spec: the device.
    """
    return _read_shares(age, spec).fresh * read_std(g, drifted_g, age, spec) ** 2


def _read_shares(age: jax.Array | float, spec: ProgrammedSpec) -> flicker.Parts:
    since_the_last_pulse = jnp.asarray(age + spec.drift_t0)
    return flicker.shares(spec.read_spectrum, since_the_last_pulse, spec.read_time)


def _at(curve: Fit | None, g: jax.Array, spec: ProgrammedSpec) -> jax.Array:
    """A curve at a conductance in uS; zero if it is off."""
    if curve is None:
        return jnp.zeros_like(g)
    return fits.at(curve, g, spec.g_max)
