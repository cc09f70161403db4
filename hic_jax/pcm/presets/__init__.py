"""Device presets: published constants, each with its source.

`PRESETS` holds the pulse regime of training, `PROGRAMMED_PRESETS` the programmed
regime of inference chips. They are different experiments on different devices: no
constant of one belongs in the other.
"""

from collections.abc import Callable

from hic_jax import checks
from hic_jax.pcm.device import DeviceSpec
from hic_jax.pcm.presets.phase_change import (
    ideal,
    linear_noisy,
    nandakumar_2018,
    projected,
)
from hic_jax.pcm.presets.programmed import hermes_1, hermes_2, nandakumar_2019
from hic_jax.pcm.presets.two_sided import (
    ecram,
    gokmen_vlasov,
    ideal_two_sided,
    reram_2018,
    reram_hfo2,
    reram_om,
)
from hic_jax.pcm.programmed import ProgrammedSpec

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
