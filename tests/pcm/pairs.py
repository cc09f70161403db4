"""Pairs of devices at sizes of a test, written and rewritten."""

import jax
import jax.numpy as jnp
import numpy as np

from hic_jax import pcm
from hic_jax.pcm import pair, writing

DEVICE, IDEAL = pcm.nandakumar_2018(), pcm.ideal()
NOW = jnp.float32(100.0)

# Compiled once for a shape and a device, not at every call.
set_pulses = jax.jit(pair.set_pulses, static_argnames="spec")
RULE = ("spec", "max_pulses", "verify", "by_chance")
write_difference = jax.jit(writing.write_difference, static_argnames=RULE)
refresh = jax.jit(writing.refresh, static_argnames=RULE)


def pairs(n, spec=DEVICE, key=0, per_sign=1):
    return pair.init(
        jax.random.key(key), (n,), spec, per_sign=per_sign, track_wear=True
    )


def written(difference, spec=DEVICE, *, verify=False, key=1, per_sign=1):
    """Pairs that hold a difference, written at time 0."""
    difference = jnp.asarray(difference, jnp.float32)
    state = pairs(difference.size, spec, per_sign=per_sign)
    state, _ = write_difference(
        jax.random.key(key), state, difference,
        jnp.float32(0.0), spec, max_pulses=20, verify=verify,
    )  # fmt: skip
    return state


def holding(state, g, **others):
    """Pairs whose devices hold other conductances."""
    return state.replace(devices=state.devices.replace(g=g, **others))


def difference(state):
    plus, minus = np.asarray(state.g).reshape(2, state.per_sign, -1).mean(axis=1)
    return plus - minus


def refreshed(state, time, spec, *, verify=False):
    due = jnp.ones(state.g.shape[1], bool)
    state, _ = refresh(
        jax.random.key(7), state, due, jnp.float32(time), spec,
        max_pulses=20, verify=verify,
    )  # fmt: skip
    return state
