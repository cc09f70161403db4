"""Random numbers of a training step: no two are drawn from one key.

`key_recorder` sees which key each draw uses. That the draws act where they should is
tested beside each effect; here only that none is another's.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hic_jax
from hic_jax import compensation, crossbar, pcm
from hic_jax.inference import compensations
from hic_jax.inference.network import answers
from hic_jax.pcm import writing
from tests.key_recorder import keys_used_once, recorded_keys
from tests.small_network import SHAPE, Net, images_of, network_of

# Everything that draws: all devices are due for a refresh at every second step.
SPEC = hic_jax.HICSpec(
    multilevel=dataclasses.replace(
        pcm.nandakumar_2018(drift_nu_std=0.008), stuck_set=0.05, stuck_reset=0.05
    ),
    binary=pcm.BinarySpec(stuck_set=0.05),
    lsb_bits=3,
    refresh_every=2,
    refresh_above=0.0,
    refresh_common=0.1,
    refresh_pulses=3,
)
SIZE = 2 * writing.MIN_REFRESH_CHUNK  # Two chunks.


@pytest.fixture(scope="module")
def record():
    """Draws of programming and of four steps, two of them with a refresh."""
    params = {"w": jax.random.normal(jax.random.key(0), (SIZE,))}
    tx = optax.chain(optax.sgd(1.0), hic_jax.hic(SPEC, 0))
    with keys_used_once() as record:
        state, update = jax.jit(tx.init)(params), jax.jit(tx.update)
        for i in range(4):
            updates = {"w": 2 * jnp.cos(jnp.arange(SIZE) + i)}
            change, state = update(updates, state, params)
            params = optax.apply_updates(params, change)
            refreshed = state[1].events.refreshed_pairs
            assert (refreshed > writing.MIN_REFRESH_CHUNK) == (i % 2 == 1)
    return record


def test_every_draw_of_training_has_a_key_of_its_own(record):
    # 7 of programming but for its pulses; in each step rounding, reading, pulses.
    assert len(record.draws) > 7 + 4 * 3


def test_a_key_that_two_steps_share_would_be_seen():
    params = {"w": jnp.ones(8)}
    tx = hic_jax.hic(hic_jax.HICSpec(), 0)
    with recorded_keys() as record:
        state, update = jax.jit(tx.init)(params), jax.jit(tx.update)
        update(params, state, params)
        update(params, state, params)  # The same state: the same count.
    assert record.faults()


def test_a_read_and_a_drift_may_be_given_one_key():
    spec = hic_jax.HICSpec(multilevel=pcm.nandakumar_2018(drift_nu_std=0.008))
    params = {"w": jax.random.normal(jax.random.key(0), (100, 100))}
    weights = hic_jax.analog_weights(hic_jax.hic(spec, 0).init(params))
    key = jax.random.key(3)
    with keys_used_once():
        aged = hic_jax.drift(weights, hic_jax.DAY, key)
        noisy = hic_jax.read(aged, key=key)
    noise = np.asarray(noisy["w"] - hic_jax.read(aged)["w"]).ravel()
    plus, minus = np.asarray(aged["w"].multilevel.devices.z, float)
    spread = plus - minus
    correlation = np.corrcoef(noise, spread.ravel())[0, 1]
    assert abs(correlation) < 5 / np.sqrt(noise.size)


def test_any_two_functions_may_be_given_one_key():
    """Of a device whose every part of the noise is drawn."""
    device = dataclasses.replace(SPEC.multilevel, read_spectrum="flicker")
    chip = dataclasses.replace(pcm.nandakumar_2019(), read_spectrum="flicker")
    network = network_of(dataclasses.replace(SPEC, multilevel=device))
    images = images_of(np.random.default_rng(0).integers(0, 256, (6, *SHAPE)))
    key, params, weights = jax.random.key(3), {"w": jnp.ones(6)}, network.weights

    def train():
        tx = hic_jax.hic(SPEC, key)
        tx.update(params, tx.init(params), params)

    def statistics(params, stats, batch):
        return {"mean": 0.9 * stats["mean"] + 0.1 * batch}

    means, batches = {"mean": jnp.ones(3)}, jnp.ones((2, 3))
    uses = {
        "hic": train,
        "read": lambda: hic_jax.read(weights, key=key),
        "drift": lambda: hic_jax.drift(weights, hic_jax.YEAR, key),
        "deploy": lambda: hic_jax.deploy(weights, chip, key),
        "gains": lambda: compensation.column_currents(weights, key=key),
        "adabs": lambda: compensation.adabs(
            statistics, network.params, means, weights, batches, key=key
        ),
        "adabs of a network": lambda: compensations.adabs(
            key, Net(), network, images, batches=2
        ),
        "accuracy": lambda: answers(key, Net(), network, images, batch_size=3).correct,
        "converters": lambda: jax.random.normal(crossbar.rngs(key)["crossbar"]),
    }
    drawn = {}
    for name, use in uses.items():
        with recorded_keys() as record:
            jax.jit(use)()
        drawn[name] = set(record.draws)
        assert drawn[name], name
    for one, two in itertools.combinations(drawn, 2):
        assert not drawn[one] & drawn[two], (one, two)


def test_a_key_makes_another_chip_and_another_read_each_time():
    spec = hic_jax.HICSpec(multilevel=pcm.nandakumar_2018(drift_nu_std=0.008))
    weights = hic_jax.analog_weights(
        hic_jax.hic(spec, 0).init({"w": jnp.ones((50, 50))})
    )["w"]
    chips = [
        np.asarray(
            hic_jax.drift(weights, 1.0, jax.random.key(i)).multilevel.devices.z
        ).ravel()
        for i in range(3)
    ]
    correlation = np.corrcoef(
        [*chips, np.asarray(weights.multilevel.devices.z).ravel()]
    )
    assert np.abs(correlation - np.eye(4)).max() < 5 / np.sqrt(chips[0].size)
