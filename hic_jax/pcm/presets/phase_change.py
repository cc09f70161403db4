"""Phase-change memory under blind SET pulses, as in training."""

import dataclasses

from hic_jax.pcm.fits import Fit
from hic_jax.pcm.multilevel import MultilevelSpec


def nandakumar_2018(
    *, g_max: float = 20.0, drift_nu_std: float | Fit = 0.0
) -> MultilevelSpec:
    """Mushroom-type GST cells of a 90 nm chip, about 10,000 devices.

    Args:
      g_max: highest conductance, uS; 20 replicates Fig. 5 of the paper, 12 is the
        other value in use.
      drift_nu_std: spread of the drift exponent from device to device. The model has
        none; the write-and-verify model of Nandakumar et al., ICECS 2019 has
        ``nandakumar_2019().drift_nu_std``, which falls with conductance: 0.022 at 2.2
        uS, 0.014 at 4 uS, and 0.008 from a third of full conductance on.

    The model tells how large read noise is, not how long it stays: that it is 1/f
    noise, of all durations from a read on, is as `nandakumar_2019` has it.

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
        read_spectrum="flicker",
    )


def projected(
    *, g_max: float = 20.0, drift_nu: float = 0.01, drift_nu_std: float | Fit = 0.003
) -> MultilevelSpec:
    """Cells with a liner that reads pass through: `nandakumar_2018` that hardly drifts.

    What a liner changes but drift (a smaller range of conductance, other pulses, other
    noise) is not in it: no constants of such cells in training were found.

    Args:
      g_max: highest conductance, uS.
      drift_nu: mean drift exponent; about 0.01 is what the abstract of the first
        reference says of cells with a metallic liner.
      drift_nu_std: spread of the drift exponent from device to device. An assumption:
        the second reference says that projection makes it smaller, too, and we know no
        number.

    References:
      Reliability benefits of a metallic liner in confined PCM (abstract); Li et al.,
      Adv. Electron. Mater. (2023) (abstract: lower drift coefficient and variability,
      smaller memory window).
    """
    return dataclasses.replace(
        nandakumar_2018(g_max=g_max, drift_nu_std=drift_nu_std),
        name="projected",
        source="nandakumar_2018 with the drift of a cell with a liner, assumed in part",
        drift_nu=drift_nu,
    )


def linear_noisy(
    *, g_max: float = 20.0, drift_nu_std: float | Fit = 0.0
) -> MultilevelSpec:
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


# Two-sided devices. Published constants are normalised by a range of weights from about
# -1 to 1; what that is in uS they do not say. Here it is a part of a nominal range,
# with room on both sides for devices whose own range is larger than the mean.
# Where steps are published with a normal spread, sizes here have a log-normal one of
# the same mean and standard deviation, in which none is negative.
