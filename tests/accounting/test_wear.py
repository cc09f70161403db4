"""Wear: what was counted, and that no part of it is lost on the way."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hic_jax
from hic_jax import accounting, pcm

IDEAL = hic_jax.HICSpec(
    multilevel=pcm.ideal(), initial_words="zero", word_steps=1, refresh_every=0
)


def trained(spec, lsbs):
    """One weight per entry of ``lsbs``, updated by that many LSBs, step by step."""
    tx = hic_jax.hic(spec, 0)
    params = [jnp.zeros(len(lsbs[0]))]
    state = tx.init(params)
    update = jax.jit(tx.update)
    for row in lsbs:
        step = jnp.asarray(row) * spec.lsb / state.weights.scale[0]
        _, state = update([step], state, params)
    return state


def test_cycles_are_those_that_the_devices_saw():
    # A word holds -64 to 63: +64 is a carry, -64 is not.
    state = trained(IDEAL, [[64, -64, 0], [64, 1, 0]])
    pulses = accounting.device_pulses(hic_jax.analog_weights(state))
    np.testing.assert_array_equal(pulses["multilevel"][0], [2, 0, 0, 0, 0, 0])
    # Programming RESETs every device once.
    np.testing.assert_array_equal(pulses["multilevel"][1], np.ones(6))
    # The word of the second weight went 0, -64, -63: bit 6, then bit 0.
    sets, resets = (x.reshape(7, 3) for x in pulses["binary"])
    assert sets.sum() == 2
    assert sets[6, 1] == sets[0, 1] == 1
    assert resets.sum() == 0


def test_endurance_summarises_them():
    wear = hic_jax.endurance(
        hic_jax.analog_weights(trained(IDEAL, [[64, -64, 0], [64, 1, 0]])),
        endurance_cycles=1000.0,
    )
    assert wear["multilevel"] == {
        "max": 2,
        "mean": pytest.approx(7 / 6),
        "p99": pytest.approx(1.95),
        "sets": 2,
        "resets": 6,
        "endurance_cycles": 1000.0,
        "fraction_of_endurance": 0.002,
    }
    assert wear["binary"]["fraction_of_endurance"] == 0.001


def test_counters_that_stop_are_told():
    tx, params = hic_jax.hic(IDEAL, 0), [jnp.zeros(3)]
    state = tx.init(params)
    pairs = state.weights.multilevel
    pairs = pairs.replace(set_pulses=jnp.full_like(pairs.set_pulses, 65_534))
    state = state._replace(weights=state.weights.replace(multilevel=pairs))
    # A carry on two devices of G+, and then on one of them.
    told, step = [], IDEAL.lsb / state.weights.scale[0]
    for lsbs in ([64.0, -64.0, 64.0], [64.0, 0.0, 0.0]):
        _, state = jax.jit(tx.update)([step * jnp.asarray(lsbs)], state, params)
        told.append(float(state.events.full_counters))
    assert told == [2, 0]
    assert hic_jax.endurance(hic_jax.analog_weights(state))["full_counters"] == 2


def test_counters_of_cells_stop_at_their_bits():
    spec = dataclasses.replace(IDEAL, counter_bits=1)
    tx, params = hic_jax.hic(spec, 0), [jnp.zeros(3)]
    state, update, told = tx.init(params), jax.jit(tx.update), []
    step = spec.lsb / state.weights.scale[0]
    # Words of 1 and 0 in turn: a RESET of the lowest cell by every second update.
    for lsbs in ([1, 1, 0], [-1, 0, 0], [1, 0, 0], [-1, -1, 0]):
        _, state = update([step * jnp.asarray(lsbs)], state, params)
        told.append(float(state.events.full_counters))
    assert told == [0, 1, 0, 1]
    wear = hic_jax.endurance(hic_jax.analog_weights(state))
    assert (wear["binary"]["resets"], wear["full_counters"]) == (2, 2)


def test_wear_that_was_not_tracked_is_an_error():
    spec = hic_jax.HICSpec(multilevel=pcm.ideal(), refresh_every=0, track_wear=False)
    with pytest.raises(ValueError, match="track_wear=False"):
        hic_jax.endurance(hic_jax.analog_weights(trained(spec, [[1]])))


def test_bad_arguments():
    hybrid = hic_jax.analog_weights(trained(IDEAL, [[1]]))
    with pytest.raises(ValueError, match="endurance_cycles=0"):
        hic_jax.endurance(hybrid, endurance_cycles=0)
    with pytest.raises(ValueError, match="no analog weight"):
        hic_jax.endurance({})


@functools.cache
def fresh(bits, shape):
    spec = hic_jax.HICSpec(multilevel=pcm.ideal(), refresh_every=0, lsb_bits=bits)
    return hic_jax.analog_weights(hic_jax.hic(spec, 0).init([jnp.ones(shape)]))[0]


def worn(seed, scale, lsb_bits=(7, 4)):
    """Two tensors of words of different widths, with counters of any value."""
    draw = np.random.default_rng(seed)

    def counts(*shape):
        return np.floor(scale * draw.pareto(1.0, shape)).clip(max=60_000)

    weights = {"digital": optax.MaskedNode()}
    for name, bits, shape in zip("ab", lsb_bits, [(3, 5), (4,)], strict=True):
        weight = fresh(bits, shape)
        weights[name] = weight.replace(
            multilevel=weight.multilevel.replace(
                set_pulses=counts(2, *shape).astype(np.uint16),
                resets=counts(*shape).astype(np.uint16),
            ),
            binary=weight.binary.replace(
                cycles=draw.integers(0, 2**bits, (16, *shape), np.uint8)
            ),
        )
    return {"layer": weights}


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1000.0))
def test_layers_planes_and_histograms_add_up_to_the_devices(seed, scale):
    weights = worn(seed, scale)
    wear = hic_jax.endurance(weights, endurance_cycles=1e5)
    devices = {"multilevel": 2 * 19, "binary": 7 * 15 + 4 * 4}
    layers, planes = wear["layers"].values(), wear["binary_planes"]
    assert set(wear["layers"]) == {"layer/a", "layer/b"}
    for kind, count in devices.items():
        parts = [layer[kind] for layer in layers]
        for of_whole in [parts, planes] if kind == "binary" else [parts]:
            for field in ("sets", "resets"):
                assert sum(p[field] for p in of_whole) == wear[kind][field]
            for field in ("max", "fraction_of_endurance"):
                assert max(p[field] for p in of_whole) == wear[kind][field]
            np.testing.assert_array_equal(
                np.sum([p["histogram"] for p in of_whole], axis=0),
                wear["histogram"][kind],
            )
        assert sum(wear["histogram"][kind]) == count
    # The last planes are those of the longer words.
    assert [sum(p["histogram"]) for p in planes] == [19] * 4 + [15] * 3


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1000.0))
def test_the_most_worn_device_survives_as_many_trainings_and_no_more(seed, scale):
    wear = hic_jax.endurance(worn(seed, scale), endurance_cycles=1e5)
    for kind in ("multilevel", "binary"):
        most, trainings = wear[kind]["max"], wear["trainings"][kind]
        if most == 0:
            assert trainings is None
        else:
            assert trainings * most <= 1e5 < (trainings + 1) * most


def test_histograms_of_all_runs_have_the_same_edges_in_half_octaves():
    short, long = (
        hic_jax.endurance(worn(0, scale))["histogram"]["edges"] for scale in (1, 100)
    )
    assert short == long[: len(short)]
    assert long[:9] == [0, 1, 2, 3, 4, 6, 8, 12, 16]
    # Powers of two, and the whole numbers that halve the way from one to the next.
    ratios = {b / a for a, b in itertools.pairwise(long[3:])}
    assert ratios == {4 / 3, 3 / 2}


def test_a_device_is_counted_in_the_bin_of_its_cycles():
    wear = hic_jax.endurance(
        hic_jax.analog_weights(trained(IDEAL, [[64, -64, 0], [64, 1, 0]]))
    )
    # One pair had two SETs; every device was RESET once.
    assert wear["histogram"]["edges"] == [0, 1, 2, 3]
    assert wear["histogram"]["multilevel"] == [0, 5, 1]
    # Bits 6 and 0 of one word were SET; nothing else was touched.
    assert [p["sets"] for p in wear["binary_planes"]] == [1, 0, 0, 0, 0, 0, 1]
    assert wear["binary_planes"][6]["histogram"] == [2, 1, 0]
    assert wear["layers"]["0"]["multilevel"]["max"] == 2
    assert wear["trainings"] == {"multilevel": 500_000_000, "binary": 1_000_000_000}
