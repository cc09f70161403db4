"""How often fits find the constants again that ramps were simulated with.

    python -m tests.fitting.round_trip nandakumar_2018 100
    python -m tests.fitting.round_trip ecram 100 500

Forty ramps of fifty SET pulses, or of as many as are named, from a RESET, or, of
two-sided devices, twenty up and twenty down that begin near the ends of the range, read
with noise. Devices of a preset that differ from one another are taken to be alike.
"""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np

from hic_jax import pcm
from hic_jax.fitting import maximum
from hic_jax.fitting.models import Nandakumar
from hic_jax.fitting.trains import Trains
from hic_jax.fitting.two_sided import ExpStep, LinearStep, SoftBounds
from tests.fitting.measured import measured

RAMPS = 40


# Models of two-sided presets, and fields of them that a fit is told.
RANGE = ("g_min", "g_max", "reset_mean")
ENDS = (*RANGE, "bottom", "top")
MODELS = {
    "reram_om": (SoftBounds, RANGE),
    "reram_hfo2": (SoftBounds, RANGE),
    "ecram": (LinearStep, ENDS),
    "gokmen_vlasov": (LinearStep, ENDS),
    "reram_2018": (ExpStep, (*ENDS, "z_slope", "z_offset")),
}


@functools.cache  # One model, one compilation.
def in_its_range(model, told, device):
    """A model whose fit is told fields of the device, which constants depend on."""

    class Told(model):
        """The model, told."""

        def fixed(self, trains):
            return {name: getattr(device, name) for name in told}

    return Told()


def both_ways(device, pulses, seed):
    """Ramps up and down of a two-sided device, read with its noise."""
    low, high = (
        device.reset_mean + 0.9 * device.half_range * end
        for end in (device.bottom, device.top)
    )
    ups = jnp.repeat(jnp.array([True, False]), RAMPS // 2)
    first, *keys = jax.random.split(jax.random.key(seed), pulses + 2)
    state = device.init(first, (RAMPS,)).replace(g=jnp.where(ups, low, high))
    g = []
    for i, key in enumerate(keys):
        if i:
            state = device.pulse(state, jax.random.normal(key, (RAMPS,)), ups)
        noise = jax.random.normal(jax.random.fold_in(key, 1), (RAMPS,))
        g.append(state.g + device.read_std(state.g) * noise)
    return Trains(
        g=np.stack(g, 1).astype(float),
        up=np.broadcast_to(np.asarray(ups)[:, None], (RAMPS, pulses)),
        device=np.zeros(RAMPS, int),
        from_reset=np.zeros(RAMPS, bool),
    )


def off(preset, pulses, seed):
    """By how many standard errors each constant is off, by its name."""
    device = pcm.preset(preset).without("device_spread")
    truth = {name: getattr(device, name) for name in vars(device)}
    if device.TWO_SIDED:
        # Constant steps lose nothing before the ends.
        truth = {"softness_up": 0.0, "softness_down": 0.0, **truth}
        truth["read_offset"] = device.read_noise * device.half_range
        model = in_its_range(*MODELS[preset], device)
        found = maximum.fit(model, both_ways(device, pulses, seed))
    else:
        found = maximum.fit(Nandakumar(), measured(device, RAMPS, pulses, seed=seed))
    return {
        name: 0.0
        # What lies at its bound has no error, and is right if that is where it should.
        if abs(value - truth[name]) < 1e-9
        else float((value - truth[name]) / found.errors[name])
        for name, value in found.constants.items()
    }


def main(preset, repetitions, pulses=50):
    """Prints how the differences are distributed, and how often all are below three."""
    all_off = [off(preset, int(pulses), seed) for seed in range(int(repetitions))]
    names = sorted(set().union(*all_off))
    for name in names:
        z = np.array([one[name] for one in all_off if name in one])
        within = int((np.abs(z) < 3).sum())
        print(f"{name}: mean {z.mean():.2f}, deviation {z.std():.2f}, {within} below 3")
    whole = sum(all(abs(z) < 3 for z in one.values()) for one in all_off)
    print(f"all constants below 3 standard errors: {whole} of {len(all_off)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
