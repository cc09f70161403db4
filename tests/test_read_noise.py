"""Read noise by how long it stays: of a chip, of a read, of a product."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hic_jax
from hic_jax import pcm
from hic_jax.pcm import flicker
from hic_jax.weights import YEAR

SIZE, READS = 2000, 64
# Exponents that all share: then another chip differs in nothing but slow noise.
DEVICE = pcm.nandakumar_2018()
CHIP = dataclasses.replace(pcm.nandakumar_2019(), drift_nu_std=None)


@functools.cache
def weights_of(regime, spectrum):
    """Weights of about 4 uS, programmed in either regime."""
    device = dataclasses.replace(DEVICE, read_spectrum=spectrum)
    spec = hic_jax.HICSpec(multilevel=device, track_wear=False)
    params = {"w": jax.random.normal(jax.random.key(0), (SIZE,))}
    weights = hic_jax.analog_weights(hic_jax.hic(spec, 1).init(params))
    if regime == "trained":
        return weights
    chip = dataclasses.replace(CHIP, read_spectrum=spectrum)
    return hic_jax.deploy(weights, chip, jax.random.key(2))


def chips_of(regime, spectrum, number):
    """After a year: so many chips of the same conductances."""
    weights = weights_of(regime, spectrum)
    keys = jax.random.split(jax.random.key(3), number)
    if regime == "trained":
        return [hic_jax.drift(weights, YEAR, key)["w"] for key in keys]
    aged = hic_jax.drift(weights, YEAR)["w"]
    if aged.slow is None:
        return [aged] * number
    return [aged.replace(slow=jax.random.normal(k, aged.slow.shape)) for k in keys]


@jax.jit
def noise_of(weight):
    """(READS, SIZE) uS: with what is new in products, and without."""
    keys = jax.random.split(jax.random.key(4), READS)

    def read(fresh):
        noisy = jax.vmap(lambda k: hic_jax.read(weight, key=k, fresh=fresh))(keys)
        return (noisy - weight.read(None)) * weight.scale

    return read(True), read(False)


def expected_variance(regime, weight):
    """Mean over the weights of what one read of the devices finds, uS^2."""
    once = dataclasses.replace(
        weight.spec if regime == "deployed" else weight.spec.multilevel,
        read_spectrum="per_read",
    )
    spec = (
        once
        if regime == "deployed"
        else dataclasses.replace(weight.spec, multilevel=once)
    )
    noise, _ = noise_of(weight.replace(spec=spec))
    return float(jnp.mean(noise**2))


every_regime = pytest.mark.parametrize("regime", ["trained", "deployed"])


@every_regime
@pytest.mark.parametrize("spectrum", ["white", "flicker"])
def test_noise_has_the_parts_of_its_spectrum(regime, spectrum):
    one, two = chips_of(regime, spectrum, 2)
    with_fresh, without = (np.asarray(x, np.float64) for x in noise_of(one))
    total = expected_variance(regime, one)
    shares = [float(x) for x in flicker.shares(spectrum, jnp.float32(YEAR), 250e-9)]
    slow = with_fresh.mean(axis=0)  # What stays from read to read.
    new = with_fresh - slow
    # 128,000 draws and 2,000 of slow noise, whose deviations differ; of the programmed
    # devices those near zero are cut off there, which changes some per cent.
    tolerance = 0.1 if regime == "trained" else 0.15
    found = (
        slow.var() - new.var(axis=0, ddof=1).mean() / READS,
        without.var(axis=0, ddof=1).mean(),
        new.var(axis=0, ddof=1).mean() - without.var(axis=0, ddof=1).mean(),
    )
    np.testing.assert_allclose(np.array(found) / total, shares, atol=tolerance)
    assert (np.array(found)[np.array(shares) == 0] < 0.02 * total).all()
    # What products are told to add is what a read then leaves out.
    variance = hic_jax.weights.fresh_variances({"w": one})["w"] * one.scale**2
    assert float(variance.mean()) == pytest.approx(shares[2] * total, rel=0.1)
    other, _ = noise_of(two)
    correlation = np.corrcoef(slow, np.asarray(other).mean(axis=0))[0, 1]
    alone = 1 / READS / max(slow.var() / total, 1 / READS)  # The same reads of both.
    assert abs(correlation) < alone + 5 / np.sqrt(SIZE)


@every_regime
def test_one_draw_per_read_is_all_there_is_by_default(regime):
    (chip,) = chips_of(regime, "per_read", 1)
    assert hic_jax.weights.fresh_variances(chip) is None
    with_fresh, without = noise_of(chip)
    np.testing.assert_array_equal(with_fresh, without)
    assert abs(np.corrcoef(with_fresh[0], with_fresh[1])[0, 1]) < 5 / np.sqrt(SIZE)


def test_slow_noise_is_of_the_chip_at_all_times_and_in_no_other_draw():
    weights = weights_of("trained", "flicker")
    assert weights["w"].multilevel.devices.slow is None  # Training has no use for it.
    chip = hic_jax.drift(weights, 1.0, jax.random.key(3))
    later = hic_jax.drift(chip, YEAR)
    again = hic_jax.drift(weights, YEAR + 1.0, jax.random.key(3))
    slow = chip["w"].multilevel.devices.slow
    for other in (later, again):
        np.testing.assert_array_equal(other["w"].multilevel.devices.slow, slow)
    np.testing.assert_allclose(
        *(hic_jax.read(w, key=jax.random.key(5))["w"] for w in (later, again)),
        rtol=1e-4, atol=1e-5,
    )  # fmt: skip
    # Nothing is slow in its first hour; without a chip all is drawn at the read.
    young, old = (
        np.asarray(hic_jax.read(w, key=jax.random.key(5))["w"] - hic_jax.read(w)["w"])
        for w in (chip, hic_jax.drift(weights, YEAR))
    )
    assert np.corrcoef(young, old)[0, 1] > 0.95


@every_regime
def test_without_read_noise_there_is_none_of_any_part(regime):
    (chip,) = chips_of(regime, "flicker", 1)
    quiet = chip.without("read_noise")
    for found in noise_of(quiet):
        # Rounding of conductances that differ from program to program, uS.
        np.testing.assert_allclose(found, np.zeros((READS, SIZE)), atol=1e-5)
    assert quiet.fresh_variance() is None


def test_a_spectrum_that_is_none_is_refused():
    allowed = "read_spectrum='pink': must be one of per_read, white, flicker"
    for spec in (DEVICE, CHIP):
        with pytest.raises(ValueError, match=allowed):
            dataclasses.replace(spec, read_spectrum="pink")
        with pytest.raises(ValueError, match=r"read_time=0\.01: must lie in"):
            dataclasses.replace(spec, read_time=0.01)
