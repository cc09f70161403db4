"""Noise of reads that lingers: told from that of pulses, and from ramps that differ."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from hic_jax.fitting import choice, foretold, likelihood, maximum
from hic_jax.fitting.likelihood import Data
from hic_jax.fitting.models import Table
from hic_jax.fitting.trains import Trains
from hic_jax.releases import enable_x64
from tests.fitting.measured import TABLE, measured

# Quiet steps that are alike everywhere, far from the ends of the range.
EVEN = dataclasses.replace(
    TABLE, at=(1.0, 100.0), up_mean=(0.2, 0.2), up_std=(0.03, 0.03), g_max=100.0,
    reset_mean=10.0, reset_std=1.0,
)  # fmt: skip
SHARE, CORRELATION, NOISE = 0.6, 0.9, 0.5


def lingering(shape, seed=0):
    """Noise of reads, of which a share lingers, (ramps, reads)."""
    draws = np.random.default_rng([seed, 1]).standard_normal((2, *shape))
    slow = [draws[0, :, 0]]
    for draw in draws[0, :, 1:].T:
        slow.append(CORRELATION * slow[-1] + np.sqrt(1 - CORRELATION**2) * draw)
    return NOISE * (np.sqrt(SHARE) * np.stack(slow, 1) + np.sqrt(1 - SHARE) * draws[1])


def read_so(device, ramps, pulses, **more):
    """Ramps of a device that were read with it."""
    trains = measured(device, ramps, pulses, **more)
    return dataclasses.replace(
        trains, g=trains.g + lingering(trains.g.shape, more.get("seed", 0))
    )


@pytest.mark.parametrize("from_reset", [True, False])
def test_the_filter_has_the_likelihood_of_all_values_at_once(from_reset):
    trains = read_so(EVEN, 3, 12)
    trains = dataclasses.replace(trains, from_reset=np.full(3, from_reset))
    constants = {
        name: getattr(EVEN, name)
        for name in ("at", "up_mean", "up_std", "g_min", "g_max", "reset_mean")
    } | {"read_offset": NOISE, "read_lingering": SHARE, "read_correlation": CORRELATION}
    constants["reset_std"] = EVEN.reset_std
    with enable_x64(True):
        constants = {k: jnp.asarray(v) for k, v in constants.items()}
        found = likelihood._filtered(
            Table(), constants, Data.of(trains), jnp.ones((3, 1))
        )
    at = np.arange(13)
    walk = EVEN.up_std[0] ** 2 * np.minimum.outer(at, at)
    slow = SHARE * CORRELATION ** abs(np.subtract.outer(at, at))
    covariance = walk + NOISE**2 * (slow + (1 - SHARE) * np.eye(13))
    mean = EVEN.reset_mean + EVEN.up_mean[0] * at
    if from_reset:
        covariance += EVEN.reset_std**2
        expected = stats.multivariate_normal(mean, covariance).logpdf(trains.g)
    else:
        # Whatever the first conductance was: of what values differ by from the first.
        differ = np.eye(13)[1:] - np.eye(13)[0]
        law = stats.multivariate_normal(differ @ mean, differ @ covariance @ differ.T)
        expected = law.logpdf(trains.g @ differ.T)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_it_is_told_from_noise_of_pulses():
    trains = read_so(EVEN, 20, 100)
    alike, found = (
        maximum.fit_with(Table(), trains, reads=True, spread=False, lingers=lingers)
        for lingers in (False, True)
    )
    for name, true in zip(
        ("read_offset", *maximum.LINGERING), (NOISE, SHARE, CORRELATION), strict=True
    ):
        assert abs(found.constants[name] - true) < 3 * found.errors[name] < 0.25
    # What lingers is taken for noise of pulses where it is not known.
    weights = found.errors["up_mean"] ** -2
    of_pulses, known = (
        np.average(one.constants["up_std"], weights=weights) for one in (alike, found)
    )
    assert of_pulses > 0.12
    assert known == pytest.approx(EVEN.up_std[0], abs=0.03)
    assert found.log_likelihood > alike.log_likelihood + 7


def band_of(fit, trains):
    """The band of a ramp that a fit foretells."""
    device = fit.model.device("fitted", "", fit.all_constants)
    (band,) = foretold.bands(device, trains, trains)
    return band


def test_it_is_kept_where_ramps_bear_it_out():
    trains = read_so(EVEN, 20, 100)
    part = trains.training(choice.SHARE)
    without = maximum.fit_with(Table(), part, reads=True, spread=False, whole=trains)
    found = choice.judged(Table(), trains).fit
    assert found.lingers
    assert maximum.fit(Table(), trains, start=found).lingers
    wide, narrow = band_of(without, trains), band_of(found, trains)
    assert (narrow.high - narrow.low)[-1] < 0.8 * (wide.high - wide.low)[-1]
    assert narrow.holds(trains.g).mean() > 0.93


@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_not_found_where_all_reads_are_new(seed):
    trains = measured(EVEN, 20, 60, seed=seed, read_std=NOISE)
    found = choice.judged(Table(), trains).fit
    assert found.reads
    assert not found.lingers


def test_ramps_that_differ_as_wholes_are_not_taken_for_it():
    # Each ramp has steps of its own size, which no fit of one device knows of.
    steps = np.random.default_rng(0).permutation(np.linspace(0.18, 0.22, 20))
    ramps = [
        read_so(dataclasses.replace(EVEN, up_mean=(step, step)), 1, 100, seed=seed)
        for seed, step in enumerate(steps)
    ]
    trains = Trains(
        g=np.concatenate([ramp.g for ramp in ramps]),
        up=np.ones((20, 100), bool),
        device=np.zeros(20, int),
        from_reset=np.ones(20, bool),
    )
    part = trains.training(choice.SHARE)
    alike = {"reads": True, "spread": False, "whole": trains}
    without = maximum.fit_with(Table(), part, **alike)
    more = maximum.fit_with(Table(), part, lingers=True, start=without, **alike)
    # The next value is likelier with it, but ramps are not.
    assert more.log_likelihood > without.log_likelihood + 5
    found = choice.judged(Table(), trains).fit
    assert found.reads
    assert not found.lingers
    assert band_of(found, trains).holds(trains.g).mean() > 0.95


def test_ramps_begin_where_what_was_read_began():
    device = dataclasses.replace(EVEN, read_offset=NOISE)
    read = measured(device, 200, 1, read_std=NOISE)
    begun = dataclasses.replace(read, from_reset=np.zeros(200, bool))
    spread = np.std(begun.g[:, 0])
    (many,) = foretold.bands(device, begun, begun)
    # They spread as far as those that were read, whose noise is in them once.
    assert many.high[0] - many.low[0] == pytest.approx(2 * 1.96 * spread, rel=0.06)
    one = dataclasses.replace(
        begun,
        g=begun.g[:1],
        up=begun.up[:1],
        device=[0],
        from_reset=begun.from_reset[:1],
    )
    (single,) = foretold.bands(device, one, one)
    # The first value has noise of its own, and what a second one would be has another.
    both = np.sqrt(2) * NOISE
    assert single.high[0] - single.low[0] == pytest.approx(2 * 1.96 * both, rel=0.06)
