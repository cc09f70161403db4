"""What every weight on devices answers: of each algorithm, and of each kind of chip."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hic_jax
from hic_jax import pcm
from hic_jax.algorithms import ALGORITHMS
from hic_jax.pcm import pair, programmed
from hic_jax.weights import DAY, YEAR
from tests.conformance.trained import SHAPE, arrays_of, only, spec_of, trained

SPREAD = pcm.nandakumar_2018(drift_nu_std=0.008)
CHIPS = list(pcm.PROGRAMMED_PRESETS)
every_weight = pytest.mark.parametrize("name", [*ALGORITHMS, *CHIPS])
every_trained = pytest.mark.parametrize("name", ALGORITHMS)
every_chip = pytest.mark.parametrize("name", CHIPS)


@functools.cache
def weight_of(name):
    """A weight after some updates, or programmed onto another chip after them."""
    if name in ALGORITHMS:
        return only(trained(spec_of(name, SPREAD)).weights)
    weights = trained(spec_of(next(iter(ALGORITHMS)), SPREAD)).weights
    spec = pcm.programmed_preset(name)
    return only(hic_jax.deploy(weights, spec, jax.random.key(1)))


def read_std(weight):
    """Standard deviation of a read of each weight, if no reading is cut off at zero."""
    if isinstance(weight.spec, programmed.ProgrammedSpec):
        g = programmed.drifted(weight.g, weight.time, weight.nu, weight.spec)
        std = programmed.read_std(weight.g, g, weight.time, weight.spec)
    else:
        device, gains = weight.spec.multilevel, getattr(weight.spec, "gains", ())
        std = jnp.concatenate(
            [
                gain * device.read_std(pair.conductances(array, weight.time, device))
                for array, gain in zip(arrays_of(weight), (1.0, *gains), strict=True)
            ]
        )
    return jnp.linalg.norm(std, axis=0) / weight.scale


def same(one, two):
    jax.tree.map(np.testing.assert_array_equal, one, two)


# ---- reads


@every_weight
def test_an_exact_read_is_conductance_over_scale(name):
    weight = weight_of(name)
    assert weight.shape == SHAPE
    assert weight.size == 256
    held = weight.read(None)
    assert held.dtype == jnp.float32
    np.testing.assert_allclose(held * weight.scale, weight.conductance(None), rtol=1e-6)
    np.testing.assert_array_equal(hic_jax.read(weight), held)
    np.testing.assert_array_equal(hic_jax.read({"a": [weight]})["a"][0], held)
    # It holds what it was trained to, in the units of weights.
    assert 0.5 < float(jnp.std(held)) < 2


@every_weight
def test_a_noisy_read_has_the_noise_of_its_devices(name):
    weight = weight_of(name)
    keys = jax.random.split(jax.random.key(2), 200)
    reads = jax.jit(jax.vmap(lambda key: hic_jax.read(weight, key=key)))(keys)
    noise = np.asarray(reads - weight.read(None), np.float64)
    std = np.asarray(read_std(weight), np.float64)
    std = np.sqrt(np.mean(std**2))
    # Standard errors of 0.4 % over 200 reads of 256 weights; programmed devices that
    # stand so low that a reading would be below zero are read as zero.
    assert abs(noise.mean()) < 0.05 * std
    assert noise.std() == pytest.approx(std, rel=0.05)
    correlation = np.corrcoef(noise[:2].reshape(2, -1))[0, 1]
    assert abs(correlation) < 5 / np.sqrt(256)
    one, two = (hic_jax.read(weight, key=jax.random.key(7)) for _ in range(2))
    np.testing.assert_array_equal(one, two)


@every_weight
def test_reads_are_compiled_and_mapped_alike(name):
    weight = weight_of(name)
    normal = jax.random.normal(jax.random.key(4), weight.read_shape)
    old = weight.aged(DAY)
    eager = [w.read(normal) for w in (weight, old)]
    # To float32: a compiler has powers of its own.
    compiled = jax.jit(lambda w: w.read(normal))(old)
    np.testing.assert_allclose(compiled, eager[1], rtol=1e-4, atol=1e-5)
    both = jax.tree.map(lambda *x: jnp.stack(x), weight, old)
    mapped = jax.vmap(lambda w: w.read(normal))(both)
    np.testing.assert_allclose(mapped, jnp.stack(eager), rtol=1e-4, atol=1e-5)


# ---- time and chips


@every_weight
def test_ageing_adds_up_and_leaves_its_argument(name):
    weight = weight_of(name)
    before = jax.tree.map(np.array, weight)
    once, twice = weight.aged(DAY + YEAR), weight.aged(DAY).aged(YEAR)
    np.testing.assert_allclose(once.time, twice.time, rtol=1e-6)
    np.testing.assert_allclose(once.read(None), twice.read(None), rtol=1e-5)
    same(hic_jax.drift(weight, YEAR), weight.aged(YEAR))
    # A year has steps of 2 s in float32.
    later = once.aged(0.1)
    for _ in range(49):
        later = later.aged(0.1)
    ahead = float(later.time - once.time) + float(later.time_rest - once.time_rest)
    assert ahead == pytest.approx(5.0, rel=1e-5)
    told = weight.aged(YEAR + 0.1)
    assert float(told.time_rest) == pytest.approx(
        float(weight.aged(YEAR).aged(0.1).time_rest), abs=1e-6
    )
    same(weight, before)
    # The least of the exponents loses a third in a year.
    young, old = (np.linalg.norm(w.read(None)) for w in (weight, once))
    assert 0.3 < old / young < 0.75


@every_weight
def test_without_drift_it_stays(name):
    weight = weight_of(name)
    still = weight.without("drift")
    assert still.shape == weight.shape
    np.testing.assert_array_equal(still.aged(YEAR).read(None), still.read(None))
    quiet = weight.without("read_noise")
    np.testing.assert_array_equal(
        hic_jax.read(quiet, key=jax.random.key(0)), quiet.read(None)
    )
    np.testing.assert_array_equal(quiet.read(None), weight.read(None))
    with pytest.raises(ValueError, match="non-ideality='heat'"):
        weight.without("heat")


@every_trained
def test_another_chip_holds_the_same_and_ages_otherwise(name):
    weight = weight_of(name)
    key = jax.random.key(5)
    chip, again = (hic_jax.drift(weight, 0.0, key) for _ in range(2))
    same(chip, again)
    np.testing.assert_array_equal(chip.read(None), weight.read(None))
    old, other, third = (
        np.asarray(hic_jax.drift(weight, YEAR, k).read(None))
        for k in (None, key, jax.random.key(6))
    )
    for one, two in ((old, other), (other, third)):
        assert (one != two).mean() > 0.95
        assert 0.01 < np.std(one - two) / np.std(old) < 0.5
    same(hic_jax.drift(chip, YEAR).read(None), other)


@every_chip
def test_another_chip_of_a_deployed_one_is_refused(name):
    with pytest.raises(ValueError, match=r"another chip is made by hic_jax\.deploy"):
        hic_jax.drift(weight_of(name), 1.0, jax.random.key(0))


@every_chip
def test_the_spread_of_exponents_of_a_deployed_chip_stays(name):
    weight = weight_of(name)
    with pytest.raises(ValueError, match="without='drift_spread': a deployed chip"):
        weight.without("drift_spread")
    still = weight.without("drift_spread", "drift").aged(YEAR)
    np.testing.assert_array_equal(still.read(None), weight.without("drift").read(None))


@every_trained
def test_set_back_is_older_at_the_same_time(name):
    weight = weight_of(name)
    back = weight.set_back(YEAR)
    assert back.time == weight.time
    np.testing.assert_allclose(back.read(None), weight.aged(YEAR).read(None), rtol=1e-4)


# ---- what it is counted as


@every_trained
def test_its_counts_are_consistent(name):
    weight = weight_of(name)
    bits, devices, pulses = weight.bits(), weight.devices(), weight.pulses()
    spec, arrays = weight.spec, len(arrays_of(weight))
    read = weight.devices_in_products // 2
    assert 1 <= read <= arrays
    assert bits["inference"] == weight.size * spec.multilevel_bits * read
    assert bits["training"] >= weight.size * spec.multilevel_bits * arrays
    assert devices["multilevel"] == 2 * weight.size * arrays
    assert pulses.keys() <= devices.keys()
    for kind, counts in pulses.items():
        for count in counts:
            assert count.size == devices[kind]
            assert count.shape[1:] == (weight.size,)
            assert count.min() >= 0
    none, some = weight.reads(0), weight.reads(20)
    assert none.keys() == some.keys() <= devices.keys()
    assert not any(none.values())
    assert all(n >= 0 for n in some.values())


@every_trained
def test_looks_for_pairs_to_refresh_are_reads(name):
    weight = weight_of(name)
    others = weight.reads(5)["multilevel"]  # Of transfers.
    assert others == 0 or len(arrays_of(weight)) > 1
    weight = weight.replace(spec=dataclasses.replace(weight.spec, refresh_every=2))
    looks = weight.reads(5)["multilevel"] - others
    assert looks == 2 * weight.devices()["multilevel"]


@every_chip
def test_a_deployed_weight_counts_its_devices_alone(name):
    weight = weight_of(name)
    assert weight.devices() == {"multilevel": 2 * weight.size}
    for question in (weight.bits, weight.pulses):
        with pytest.raises(ValueError, match="weights are deployed"):
            question()
