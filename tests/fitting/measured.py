"""Trains of pulses as a laboratory would measure them, of devices that are known."""

import jax
import jax.numpy as jnp
import numpy as np

from hic_jax import pcm
from hic_jax.fitting.trains import Trains

# A device whose fit compiles quickly: SET steps that shrink, with noise.
TABLE = pcm.TableSpec(
    name="table",
    source="this test",
    g_min=1.0,
    g_max=30.0,
    reset_mean=2.0,
    reset_std=0.2,
    at=(1.0, 8.0, 15.0),
    up_mean=(0.8, 0.4, 0.2),
    up_std=(0.3, 0.25, 0.2),
)


def measured(device, ramps, pulses, *, seed=0, devices=1, read_std=0.0):
    """Ramps of SET pulses from a RESET, each device with as many of them."""
    make, *keys = jax.random.split(jax.random.key(seed), pulses + 2)
    per_device = ramps // devices

    def normal(key):
        return jax.random.normal(key, (ramps,), jnp.float32)

    state = device.init(make, (devices,))
    state = jax.tree.map(lambda x: jnp.repeat(x, per_device), state)
    state = device.reset(state, normal(keys[0]))
    g = [state.g]
    for key in keys[1:]:
        state = device.pulse(state, normal(key))
        g.append(state.g)
    noise = np.random.default_rng(seed).standard_normal((ramps, pulses + 1))
    return Trains(
        g=np.stack(g, 1).astype(float) + read_std * noise,
        up=np.ones((ramps, pulses), bool),
        device=np.repeat(np.arange(devices), per_device),
        from_reset=np.ones(ramps, bool),
    )
