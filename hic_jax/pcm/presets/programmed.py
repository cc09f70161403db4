"""Phase-change memory that is programmed and verified, as in inference chips."""

from hic_jax.pcm.fits import Logarithm, Piecewise, Polynomial, Power
from hic_jax.pcm.programmed import ProgrammedSpec


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
