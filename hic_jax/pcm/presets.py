"""Device presets: published constants, each with its source.

`PRESETS` holds the pulse regime of training, `PROGRAMMED_PRESETS` the programmed
regime of inference chips. They are different experiments on different devices: no
constant of one belongs in the other.
"""

import dataclasses
import math
from collections.abc import Callable

from hic_jax import checks
from hic_jax.pcm.device import DeviceSpec
from hic_jax.pcm.fits import Fit, Logarithm, Piecewise, Polynomial, Power
from hic_jax.pcm.multilevel import MultilevelSpec
from hic_jax.pcm.programmed import ProgrammedSpec
from hic_jax.pcm.two_sided import ConstantStepSpec, ExpStepSpec, SoftBoundsSpec


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


def reram_om(*, g_max: float = 50.0) -> SoftBoundsSpec:
    """An array of resistive RAM of optimised material: soft bounds, 20 steps of range.

    The published range of weights, -1 to 1, is 0.4 of the half range here. Its 13 % of
    corrupt devices are left out, as in the source; they would be ``stuck_reset``.

    Args:
      g_max: highest conductance, uS, nominal.

    References:
      Gong, Rasch et al., Deep learning acceleration in 14nm CMOS compatible ReRAM
      array: device, material and algorithm co-optimization, IEDM 2022; constants as in
      `ReRamArrayOMPresetDevice` of IBM's aihwkit. What is noise of each write there,
      1.41 steps, is noise of each read here.
    """
    return _reram_array(
        "reram_om", g_max, step=0.0949, step_spread=0.7829, step_noise=0.4158,
        top_spread=0.3499, bottom_spread=0.5695, read_steps=1.4113,
    )  # fmt: skip


def reram_hfo2(*, g_max: float = 50.0) -> SoftBoundsSpec:
    """An array of resistive RAM of HfO2: soft bounds, 4 steps of range.

    The published range of weights, -1 to 1, is 0.4 of the half range here.

    Args:
      g_max: highest conductance, uS, nominal.

    References:
      As `reram_om`, the baseline of the paper; constants as in
      `ReRamArrayHfO2PresetDevice` of IBM's aihwkit. What is noise of each write there,
      0.58 steps, is noise of each read here.
    """
    return _reram_array(
        "reram_hfo2", g_max, step=0.4622, step_spread=0.7125, step_noise=0.2174,
        top_spread=0.4295, bottom_spread=0.5990, read_steps=0.5841,
    )  # fmt: skip


def _reram_array(
    name: str,
    g_max: float,
    *,
    step: float,
    step_spread: float,
    step_noise: float,
    top_spread: float,
    bottom_spread: float,
    read_steps: float,
) -> SoftBoundsSpec:
    """Published constants, in units of the published range of weights."""
    unit = 0.4
    return SoftBoundsSpec(
        name=name,
        source="Gong, Rasch et al., IEDM 2022, as in IBM's aihwkit; uS are nominal",
        g_min=0.0,
        g_max=g_max,
        reset_mean=g_max / 2,
        step=unit * step,
        step_spread=step_spread,
        asymmetry_spread=0.01,
        top=unit,
        bottom=-unit,
        top_spread=unit * top_spread,
        bottom_spread=unit * bottom_spread,
        step_noise=step_noise,
        read_noise=unit * step * read_steps,
    )


def reram_2018(*, g_max: float = 50.0) -> ExpStepSpec:
    """Single devices of resistive RAM: small, noisy steps, larger down than up.

    The published range of weights, -1 to 1, is half of the half range here.

    Args:
      g_max: highest conductance, uS, nominal.

    References:
      Gong et al., Signal and noise extraction from analog memory elements for
      neuromorphic computing, Nat. Commun. 9:2102 (2018); constants as in
      `ReRamESPresetDevice` of IBM's aihwkit, its steps down 0.259 smaller before their
      exponential part, as an asymmetry. What is noise of each write there, 75 steps, is
      noise of each read here.
    """
    unit, up, down = 0.5, 1.0, 1.0 - 0.259359
    step, mean = unit * 0.00135, (up + down) / 2
    return ExpStepSpec(
        name="reram_2018",
        source="Gong et al., Nat. Commun. 9:2102 (2018), as in aihwkit; uS are nominal",
        g_min=0.0,
        g_max=g_max,
        reset_mean=g_max / 2,
        **_log_normal(step * mean, 0.2 / mean),
        asymmetry=(up - down) / (up + down),
        asymmetry_spread=0.05 / mean,
        top=unit,
        bottom=-unit,
        top_spread=0.3 * unit,
        bottom_spread=0.3 * unit,
        step_noise=5.0,
        read_noise=75.0 * step,
        factor_up=-1.18445,
        factor_down=-0.081404,
        exponent_up=5.0,
        exponent_down=5.0,
        z_slope=-0.5,
        z_offset=-0.5,
    )


def ecram(*, g_max: float = 40.0) -> SoftBoundsSpec:
    """Electrochemical RAM with lithium: a thousand steps, nearly alike and quiet.

    The unit of published weights, whose range is -0.83 to 1.17, is 0.7 of the half
    range here, and zero the middle, where steps up and down are alike.

    Args:
      g_max: highest conductance, uS, nominal.

    References:
      Tang et al., ECRAM as scalable synaptic cell for high-speed, low-power
      neuromorphic computing, IEDM 2018; constants as in `EcRamPresetDevice` of IBM's
      aihwkit, whose noise of a step shrinks with it by up to a half.
    """
    unit = 0.7
    return SoftBoundsSpec(
        name="ecram",
        source="Tang et al., IEDM 2018, as in IBM's aihwkit; uS are nominal",
        g_min=0.0,
        g_max=g_max,
        reset_mean=g_max / 2,
        **_log_normal(unit * 0.002, 0.1),
        asymmetry_spread=0.01,
        top=unit * 1.1724,
        bottom=-unit * 0.8276,
        top_spread=unit * 0.05 * 1.1724,
        bottom_spread=unit * 0.05 * 0.8276,
        step_noise=0.3,
        softness_up=0.1153,
        softness_down=0.5085,
    )


def gokmen_vlasov(*, g_max: float = 40.0) -> ConstantStepSpec:
    """The device that a resistive processing unit was specified with: 1,200 steps.

    The published range of weights, -1 to 1, is half of the half range here.

    Args:
      g_max: highest conductance, uS, nominal.

    References:
      Gokmen and Vlasov, Acceleration of deep neural network training with resistive
      cross-point devices, Front. Neurosci. 10:333 (2016); constants as in
      `GokmenVlasovPresetDevice` of IBM's aihwkit.
    """
    unit = 0.5
    return ConstantStepSpec(
        name="gokmen_vlasov",
        source="Gokmen and Vlasov, Front. Neurosci. 10:333 (2016); uS are nominal",
        g_min=0.0,
        g_max=g_max,
        reset_mean=g_max / 2,
        **_log_normal(unit * 0.0016, 0.3),
        asymmetry_spread=0.01,
        top=unit,
        bottom=-unit,
        top_spread=0.3 * unit,
        bottom_spread=0.3 * unit,
        step_noise=0.3,
    )


def _log_normal(mean: float, spread: float) -> dict[str, float]:
    """``step`` and ``step_spread`` of a mean and a relative standard deviation."""
    return {
        "step": mean / math.sqrt(1 + spread**2),
        "step_spread": math.sqrt(math.log1p(spread**2)),
    }


def ideal_two_sided(*, g_max: float = 20.0) -> ConstantStepSpec:
    """Linear, noiseless devices that go up and down alike, in exact steps of float32.

    The step is that of `ideal`, a thirty-second of 20 uS.
    """
    return ConstantStepSpec(
        name="ideal_two_sided",
        source="by definition",
        g_min=0.0,
        g_max=g_max,
        reset_mean=g_max / 2,
        step=1.25 / g_max,
    )


PRESETS: dict[str, Callable[..., DeviceSpec]] = {
    "nandakumar_2018": nandakumar_2018,
    "projected": projected,
    "linear_noisy": linear_noisy,
    "ideal": ideal,
    "reram_om": reram_om,
    "reram_hfo2": reram_hfo2,
    "reram_2018": reram_2018,
    "ecram": ecram,
    "gokmen_vlasov": gokmen_vlasov,
    "ideal_two_sided": ideal_two_sided,
}


def preset(name: str) -> DeviceSpec:
    """The preset of that name in the pulse regime.

    Raises:
      ValueError: if there is none.
    """
    checks.one_of("preset", name, PRESETS)
    return PRESETS[name]()


def nandakumar_2019(*, g_max: float = 25.0) -> ProgrammedSpec:
    """PCM devices under iterative programming, as IBM models its inference chips.

    Args:
      g_max: highest conductance, uS. The spread of programming was fitted at 25 and
        scales with it.

    References:
      Nandakumar et al., Phase-change memory models for deep learning training and
      inference, ICECS 2019; constants as in `PCMLikeNoiseModel` of IBM's aihwkit. The
      spread of programming is within 7 % of that in Joshi et al., Nat. Commun.
      11:2473 (2020), Fig. 3b.
    """
    return ProgrammedSpec(
        name="nandakumar_2019",
        source="Nandakumar et al., ICECS 2019, as in aihwkit's PCMLikeNoiseModel",
        g_max=g_max,
        write_std=Polynomial(
            tuple(c * g_max / 25.0 for c in (0.26348, 1.9650, -1.1731))
        ),
        drift_t0=20.0,
        drift_nu=Logarithm(slope=-0.0155, offset=0.0244, low=0.049, high=0.1),
        drift_nu_std=Logarithm(slope=-0.0125, offset=-0.0059, low=0.008, high=0.045),
        read_noise=Power(factor=0.0088, exponent=-0.65, high=0.2),
        read_time=250e-9,
    )


# Mean drift exponent of the HERMES chip, of one device as of two.
_HERMES_DRIFT_NU = Piecewise(
    split=0.0945,
    below=Logarithm(slope=-0.0387, offset=-0.0182, low=0.0720, high=0.13),
    above=Polynomial((0.0736, -0.0126, -0.0436)),
)


def hermes_1() -> ProgrammedSpec:
    """The IBM HERMES chip (14 nm), one device on each side of a pair.

    References:
      Khaddam-Aljameh et al., JSSC (2022), and Le Gallo et al., Nat. Electron. (2023);
      constants as in `HermesNoiseModel` of IBM's aihwkit, ``num_devices=1``.
    """
    return ProgrammedSpec(
        name="hermes_1",
        source="Le Gallo et al., Nat. Electron. 2023, as in aihwkit's HermesNoiseModel",
        g_max=10.35,
        write_std=Polynomial((0.15781817, 2.32443916, -2.16310839, 0.68841818)),
        drift_t0=200.0,
        drift_nu=_HERMES_DRIFT_NU,
        drift_nu_std=Piecewise(
            split=0.3039,
            below=Logarithm(slope=-0.0120, offset=-0.0023, low=0.0124, high=0.04),
            above=Polynomial((0.0104, 0.0116, -0.0165)),
        ),
        read_noise=Piecewise(
            split=0.1591,
            below=Logarithm(slope=-0.0078, offset=0.0038, low=0.0179, high=0.04),
            above=Polynomial((0.0088, 0.0768, -0.1352, 0.0664)),
        ),
        read_time=512e-9,
    )


def hermes_2() -> ProgrammedSpec:
    """The IBM HERMES chip (14 nm), two devices on each side of a pair, as one.

    References:
      As `hermes_1`, programmed as in Vasilopoulos et al., TED 2023; constants as in
      `HermesNoiseModel` of IBM's aihwkit, ``num_devices=2``, its default.
    """
    return ProgrammedSpec(
        name="hermes_2",
        source="Le Gallo et al., Nat. Electron. 2023, as in aihwkit's HermesNoiseModel",
        g_max=20.7,
        write_std=Polynomial((0.16603222, 4.71806468, -8.48101252, 4.68961419)),
        drift_t0=300.0,
        drift_nu=_HERMES_DRIFT_NU,
        drift_nu_std=Piecewise(
            split=0.3055,
            below=Logarithm(slope=-0.0117, offset=-0.0057, low=0.0091, high=0.04),
            above=Polynomial((0.0073, 0.0093, -0.0118)),
        ),
        read_noise=Piecewise(
            split=0.16,
            below=Logarithm(slope=-0.0117, offset=-0.0069, low=0.015, high=0.04),
            above=Polynomial((0.0123, 0.0211, -0.0280, 0.0069)),
        ),
        read_time=512e-9,
    )


PROGRAMMED_PRESETS: dict[str, Callable[..., ProgrammedSpec]] = {
    "nandakumar_2019": nandakumar_2019,
    "hermes_1": hermes_1,
    "hermes_2": hermes_2,
}


def programmed_preset(name: str) -> ProgrammedSpec:
    """The preset of that name in the programmed regime.

    Raises:
      ValueError: if there is none.
    """
    checks.one_of("programmed preset", name, PROGRAMMED_PRESETS)
    return PROGRAMMED_PRESETS[name]()
