"""Device presets: published constants, each with its source."""

import dataclasses
from collections.abc import Callable

from hic_jax import checks
from hic_jax.pcm.multilevel import MultilevelSpec


def nandakumar_2018(
    *, g_max: float = 20.0, drift_nu_std: float = 0.0
) -> MultilevelSpec:
    """Mushroom-type GST cells of a 90 nm chip, about 10,000 devices.

    Args:
      g_max: highest conductance, uS; 20 replicates Fig. 5 of the paper, 12 is the
        other value in use.
      drift_nu_std: spread of the drift exponent from device to device. The model has
        none; 0.008 is what the write-and-verify model of Nandakumar et al.,
        ICECS 2019 gives to devices of more than a third of full conductance.

    References:
      Nandakumar et al., A phase-change memory model for neuromorphic computing,
      J. Appl. Phys. 124, 152135 (2018); constants as in the public re-implementation
      SRNN-PCM, which reproduces its Fig. 2, 5 and 7.
    """
    return MultilevelSpec(
        name="nandakumar_2018",
        source="Nandakumar et al., J. Appl. Phys. 124, 152135 (2018)",
        g_min=0.1,
        g_max=g_max,
        reset_mean=0.1,
        reset_std=0.01,
        reset_min=0.01,
        step_slope=-0.084,
        step_offset=0.880,
        step_memory=1.40,
        noise_slope=0.091,
        noise_offset=0.260,
        noise_memory=2.15,
        memory_pulses=2.6,
        drift_t0=38.6,
        drift_nu=0.04,
        drift_nu_std=drift_nu_std,
        read_slope=0.03,
        read_offset=0.13,
    )


def linear_noisy(*, g_max: float = 20.0, drift_nu_std: float = 0.0) -> MultilevelSpec:
    """`nandakumar_2018` with every SET step at its mean: noisy, but linear."""
    full = nandakumar_2018(g_max=g_max, drift_nu_std=drift_nu_std)
    return dataclasses.replace(full.without("nonlinearity"), name="linear_noisy")


def ideal(*, g_max: float = 20.0) -> MultilevelSpec:
    """Linear, noiseless devices that neither drift nor fluctuate.

    The step is a thirty-second of 20 uS: conductances are exact in float32, so that
    arithmetic on them can be checked bit for bit.
    """
    return MultilevelSpec(
        name="ideal",
        source="by definition",
        g_min=0.0,
        g_max=g_max,
        reset_mean=0.0,
        step_offset=0.625,
    )


PRESETS: dict[str, Callable[..., MultilevelSpec]] = {
    "nandakumar_2018": nandakumar_2018,
    "linear_noisy": linear_noisy,
    "ideal": ideal,
}


def preset(name: str) -> MultilevelSpec:
    """The preset of that name.

    Raises:
      ValueError: if there is none.
    """
    checks.one_of("preset", name, PRESETS)
    return PRESETS[name]()
