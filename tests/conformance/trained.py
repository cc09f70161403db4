"""Algorithms of the registry at sizes of a test, each compiled once."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import hic_jax
from hic_jax import pcm
from hic_jax.algorithms import ALGORITHMS, analog, analog_states
from hic_jax.weights import AnalogWeight

# A line for an algorithm that does in a few steps what it else does in many.
SMALL: dict[str, dict[str, Any]] = {
    "volatile": {"transfer_every": 2},
    # All lines at once, and a third of what is read, so that noise moves nothing soon.
    "tiki_taka": {"reads_per_transfer": 64, "fast_rate": 1.0, "transfer_rate": 0.3},
    "chopped_tiki_taka": {
        "reads_per_transfer": 64, "fast_rate": 1.0, "filter_steps": 3.0,
        "flip_probability": 0.02,
    },
    "agad": {"reads_per_transfer": 64, "fast_rate": 1.0, "filter_steps": 3.0},
    # What is read of a tile moves the next one by chance, even if it is noise.
    "residual": {"transfer_every": 100},
}  # fmt: skip
# Algorithms that are another rule than SGD on ideal devices, too: their fast arrays are
# never emptied (`tests/algorithms/test_transfer.py`).
OTHER_RULES = {"tiki_taka", "chopped_tiki_taka", "agad", "residual"}
# A line for an algorithm whose defaults are too coarse for arithmetic to 1e-5.
FINE: dict[str, dict[str, Any]] = {
    # A step is 32 LSBs, and 20 of them come at once.
    "hic": {"update_bits": 16},
    # Steps of a fifth of a device's, as exact as they are small; pulses enough for what
    # eight updates bring, because what a transfer leaves is lost with the cell.
    "volatile": {
        "transfer_every": 8,
        "transfer_pulses": 255,
        "cell_range": 1000.0,
        "cell_step": 1e-4,
        "cell_spread": 0.0,
    },
}

SHAPE = (64, 4)
PARAMS = {"kernel": jax.random.normal(jax.random.key(100), SHAPE)}
# Pairs are due soon, and rewritten at every second step.
REFRESHED = {"refresh_every": 2, "refresh_above": 1.0, "refresh_common": 0.2}
STILL = {"refresh_every": 0}


def spec_of(name, device=None, **fields):
    """The algorithm at the size of a test, without refreshes unless it is told."""
    device = device or pcm.nandakumar_2018()
    fields = STILL | SMALL.get(name, {}) | fields
    return ALGORITHMS[name](multilevel=device, **fields)


class Run(NamedTuple):
    """A training so far: its parameters, the state, and the events of every update."""

    params: Any
    state: Any
    events: list[Any]

    @property
    def weights(self) -> Any:
        return hic_jax.analog_weights(self.state)

    def total(self, name):
        """Sum of an event over all updates."""
        return sum(float(jnp.sum(getattr(e, name))) for e in self.events)


class Trainer(NamedTuple):
    """An optax transformation, and what is compiled of it."""

    init: Any
    update: Any

    def start(self, params=None):
        return Run(
            PARAMS if params is None else params, self.init(params or PARAMS), []
        )

    def train(self, run, updates):
        """The run after each of these updates of all its weights."""
        params, state, events = run
        for wanted in updates:
            params, state = self.update(wanted, state, params)
            events = [*events, analog_states(state)[0].events]
        return Run(params, state, events)


@functools.cache
def trainer(spec, seed=0):
    """The transformation of a spec, compiled."""
    tx = analog(spec, jax.random.key(seed))

    @jax.jit
    def update(updates, state, params):
        change, state = tx.update(updates, state, params)
        return optax.apply_updates(params, change), state

    return Trainer(jax.jit(tx.init), update)


def steps_of(spec, scale, steps):
    """An update by so many mean changes of a weight by a pulse."""
    return {"kernel": jnp.broadcast_to(jnp.asarray(steps), SHAPE) * spec.step / scale}


def scale_of(run):
    return run.weights["kernel"].scale


def some_updates(spec, run, number=6, size=2.0):
    """Updates of about so many steps in either direction, the same ones each time."""
    draws = size * jax.random.normal(jax.random.key(101), (number, *SHAPE))
    return [steps_of(spec, scale_of(run), draw) for draw in draws]


@functools.cache
def trained(spec, updates=6):
    """A run of `some_updates`."""
    train = trainer(spec)
    start = train.start()
    return train.train(start, some_updates(spec, start, updates))


def fine_spec(name):
    """Ideal devices whose step is a millionth of their range, 2e-7 of a weight.

    ``refresh_pulses`` and ``multilevel_bits`` make the nominal range 128 such steps, of
    a kernel of zeros a thousandth of its untrained spread (1/sqrt(1024)).
    """
    device = dataclasses.replace(pcm.ideal(), step_offset=20 / 2**20)
    fields = {"multilevel_bits": 8, "refresh_pulses": 255, "w_max_sigmas": 1e-3}
    fields |= STILL | FINE.get(name, {})
    return ALGORITHMS[name](multilevel=device, **fields)


def arrays_of(weight):
    """All arrays of a weight."""
    return getattr(weight, "arrays", (weight.multilevel,))


def only(weights) -> AnalogWeight:
    """The weight in a tree of one."""
    (weight,) = jax.tree.leaves(weights, is_leaf=hic_jax.weights.is_analog)
    return weight
