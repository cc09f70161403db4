"""Devices whose pulses lead both ways: resistive RAM, electrochemical RAM."""

import math

from hic_jax.pcm.two_sided import ConstantStepSpec, ExpStepSpec, SoftBoundsSpec


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
