"""Where a year costs, and which layers get more devices for it."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hic_jax
from hic_jax.inference.network import Network, answers, cross_entropy
from hic_jax.inference.sensitivity import allocated, expected_rise, sensitivities
from hic_jax.training.recipes import Recipe, make_tx
from hic_jax.training.state import init_state
from tests.small_network import IDEAL, SHAPE, Net, network_of, random_images

KEY = jax.random.key(5)


def _network(**drifts):
    """A network of which some layers drift alone: a spec for each."""
    spec = hic_jax.HICSpec(multilevel=hic_jax.pcm.ideal(), refresh_every=0)
    tx = make_tx(Recipe(), None, spec, 1, jax.random.key(1))
    network = Network.of(init_state(jax.random.key(0), Net(), tx, SHAPE))
    weights = dict(network.weights)
    for name, nu in drifts.items():
        weight = weights[name]["kernel"]
        device = dataclasses.replace(spec.multilevel, drift_nu=nu)
        spec_of = dataclasses.replace(weight.spec, multilevel=device)
        weights[name] = weights[name] | {"kernel": weight.replace(spec=spec_of)}
    return network.replace(weights=weights)


def test_cross_entropy_is_that_of_the_logits():
    network, images = network_of(), random_images()
    logits = Net().apply(
        network.variables(KEY),
        (images.images / 255 - 0.5) / 0.25,
        train=False,
    )
    picked = jnp.take_along_axis(
        jax.nn.log_softmax(logits), images.labels[:, None], axis=1
    )
    for batch_size in (500, 7):
        found = cross_entropy(KEY, Net(), network, images, batch_size=batch_size)
        assert float(found) == pytest.approx(-float(jnp.mean(picked)), rel=1e-5)
        right = answers(KEY, Net(), network, images, batch_size=batch_size).correct
        assert int(right) == int(jnp.sum(jnp.argmax(logits, 1) == images.labels))


def test_only_what_drifts_costs():
    """Ideal devices but for one layer, which loses nine tenths of its weights."""
    nu = float(np.log(10) / np.log(hic_jax.YEAR))
    images = random_images()
    for name, other in itertools.permutations(("first", "head")):
        network = _network(**{name: nu})
        found = sensitivities(
            KEY, Net(), network, images,
            seconds=hic_jax.YEAR, chips=2, compensation="none",
        )  # fmt: skip
        assert found[f"{other}/kernel"] == [0.0, 0.0]
        assert found[f"{name}/kernel"] == found[""] != [0.0, 0.0]
        new, old = (
            float(cross_entropy(KEY, Net(), network.replace(weights=w), images))
            for w in (
                network.weights,
                hic_jax.drift(network.weights, hic_jax.YEAR),
            )
        )
        assert found[""][0] == pytest.approx(old - new, abs=1e-5)


def test_devices_go_where_they_save_most_for_each():
    """Against all allocations of four layers there are."""
    rises = {"a": 0.016, "b": 0.016, "c": 0.0024, "d": -0.001}
    weights = {"a": 7, "b": 75, "c": 690, "d": 30}
    found = allocated(rises, weights, 1.5)
    assert found["a"] == 8
    assert found["d"] == 1

    def devices(numbers):
        return sum(weights[k] * n for k, n in numbers.items())

    budget = 1.5 * sum(weights.values())
    assert devices(found) <= budget
    kept = {k: max(r, 0.0) for k, r in rises.items()}
    every = (
        dict(zip(rises, numbers, strict=True))
        for numbers in itertools.product((1, 2, 4, 8), repeat=4)
    )
    best = min(expected_rise(kept, n) for n in every if devices(n) <= budget)
    # A greedy choice may miss the last doubling that would have fitted.
    assert expected_rise(kept, found) <= 1.1 * best
    assert allocated(rises, weights, 1.0) == dict.fromkeys(rises, 1)
    assert set(allocated(rises, weights, 100.0).values()) == {1, 8}


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"budget=0\.5: must be at least 1"):
        allocated({"a": 1.0}, {"a": 1}, 0.5)
    with pytest.raises(ValueError, match="rises=a: must be of the layers b"):
        allocated({"a": 1.0}, {"b": 1}, 2.0)
    with pytest.raises(ValueError, match="holds no analog weight"):
        sensitivities(KEY, Net(), network_of(None), random_images(), seconds=1.0)
    with pytest.raises(ValueError, match="adabs needs training images"):
        sensitivities(KEY, Net(), network_of(IDEAL), random_images(), seconds=1.0)
