"""Pulse trains of two-sided devices, beside those of IBM's aihwkit.

Run by hand, in an environment of its own that has aihwkit as well as hic_jax:

    python -m experiments.benchmark.peers.moments

Of each preset a crowd of devices starts in the middle and gets a train of pulses up,
and then as many down: with devices that are all alike, which tests the models, and with
their spread. What stands there are mean and standard deviation over devices, in
published units (a weight of 1 is the published end of the range), of both, and the
difference over the mean size of a weight. Noise of reads is off on both sides.
"""

import dataclasses
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from aihwkit.simulator.configs import SingleRPUConfig, UpdateParameters
from aihwkit.simulator.presets import devices as presets
from aihwkit.simulator.tiles import AnalogTile

from hic_jax import pcm

SIDE = 512  # Of a square array: 262,144 devices.


@dataclasses.dataclass(frozen=True)
class Case:
    """A preset of ours, and what it is there.

    Attributes:
      name: of our preset.
      theirs: name of the class of theirs.
      unit: half ranges of ours that a weight of 1 is.
      pulses: number of pulses each way.
      median: whether the published step is the median of log-normal ones, as it is
        here, or the mean of normal ones.
      without: what only theirs has, and is set to these values.
    """

    name: str
    theirs: str
    unit: float
    pulses: int
    median: bool = False
    without: tuple[tuple[str, Any], ...] = ()


REFERENCE = (
    ("subtract_symmetry_point", False),
    ("reference_std", 0.0),
    ("corrupt_devices_prob", 0.0),
)
CASES = (
    Case("reram_om", "ReRamArrayOMPresetDevice", 0.4, 40, True, REFERENCE),
    Case("reram_hfo2", "ReRamArrayHfO2PresetDevice", 0.4, 12, True, REFERENCE),
    Case("reram_2018", "ReRamESPresetDevice", 0.5, 1500),
    Case("ecram", "EcRamPresetDevice", 0.7, 1000),
    Case("gokmen_vlasov", "GokmenVlasovPresetDevice", 0.5, 1000),
)


def theirs(case: Case, alike: bool, seed: int) -> dict[int, np.ndarray]:
    """Weights of theirs after so many pulses, by number; (SIDE**2,)."""
    device = getattr(presets, case.theirs)()
    for name, value in (*case.without, ("write_noise_std", 0.0)):
        if hasattr(device, name):
            setattr(device, name, value)
    for field in dataclasses.fields(device):
        if alike and field.name.endswith("_dtod"):
            setattr(device, field.name, 0.0)
    device.construction_seed = seed
    update = UpdateParameters(
        desired_bl=1, update_management=False, update_bl_management=False
    )
    tile = AnalogTile(SIDE, SIDE, SingleRPUConfig(device=device, update=update))
    tile.set_weights(torch.zeros(SIDE, SIDE))
    tile.set_learning_rate(1.0)  # So large that each pulse is fired for certain.
    ones = torch.ones(1, SIDE)
    held = {}
    for pulse in range(1, 2 * case.pulses + 1):
        tile.update(ones, -ones if pulse <= case.pulses else ones)
        if pulse in looks(case):
            weights = tile.get_weights()[0]
            held[pulse] = np.asarray(weights).ravel()
    return held


def ours(case: Case, alike: bool, seed: int) -> dict[int, np.ndarray]:
    """Weights of ours after so many pulses, by number; (SIDE**2,)."""
    spec: Any = pcm.PRESETS[case.name]()
    if alike:
        # Without spread, a step is what was published: here the median is kept.
        size = 1.0 if case.median else math.exp(spec.step_spread**2 / 2)
        spec = spec.without("device_spread")
        spec = dataclasses.replace(spec, step=size * spec.step)
    make_key, pulse_key = jax.random.split(jax.random.key(seed))
    state = spec.init(make_key, (SIDE**2,))

    @jax.jit
    def pulsed(state, number):
        key = jax.random.fold_in(pulse_key, number)
        normal = jax.random.normal(key, state.g.shape, jnp.float32)
        return spec.pulse(state, normal, number <= case.pulses)

    held = {}
    for pulse in range(1, 2 * case.pulses + 1):
        state = pulsed(state, pulse)
        if pulse in looks(case):
            held[pulse] = np.asarray(spec.normalised(state.g)) / case.unit
    return held


def looks(case: Case) -> list[int]:
    """After which pulses devices are looked at."""
    n = case.pulses
    return [n // 4, n // 2, n, n + n // 4, n + n // 2, 2 * n]


def main() -> None:
    """Prints a table of each preset."""
    for case, alike in itertools.product(CASES, (True, False)):
        left, right = ours(case, alike, 0), theirs(case, alike, 1)
        devices = "devices alike" if alike else "device spread"
        print(f"\n{case.name}, {devices}: {case.pulses} pulses up, as many down")
        print("pulses    mean here  in aihwkit    std here  in aihwkit   difference")
        size = max(np.abs(x).mean() for x in right.values())
        worst = 0.0
        for pulse, x in left.items():
            y = right[pulse]
            off = max(abs(x.mean() - y.mean()), abs(x.std() - y.std())) / size
            worst = max(worst, off)
            print(
                f"{pulse:6d} {x.mean():12.4f} {y.mean():11.4f} {x.std():11.4f} "
                f"{y.std():11.4f} {off:11.2%}"
            )
        print(f"largest difference: {worst:.2%}", flush=True)


if __name__ == "__main__":
    main()
