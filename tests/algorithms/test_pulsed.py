"""Pulses of single examples, up and down, beside those of a batch."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hic_jax import pcm
from hic_jax.algorithms import (
    ALGORITHMS,
    analog,
    analog_weights,
    zeros_for_totals,
)
from hic_jax.algorithms.pulsed import cancelled
from hic_jax.crossbar import CrossbarSpec, LayerCrossbars
from hic_jax.pcm import pair
from hic_jax.training import steps
from hic_jax.training.recipes import AnalogRecipe, Recipe, make_tx
from hic_jax.training.state import init_state
from tests.key_recorder import keys_used_once
from tests.small_network import random_images

# An array that takes updates as they are, with signs of lines, or times a factor.
KINDS = ["pulsed_sgd", "chopped_tiki_taka", "residual"]
SHAPE = (64, 32)


def device(**fields):
    """Soft bounds of twenty steps to either side."""
    fields = {"step": 0.05} | fields
    return pcm.SoftBoundsSpec(
        name="coarse", source="test", g_min=0.0, g_max=20.0, reset_mean=10.0, **fields
    )


def of_examples(gradients, totals):
    return {
        "gradients": {"kernel": gradients},
        "gradient_totals": {"kernel": totals},
    }


# ---- what cancels


@pytest.mark.parametrize("rule", [optax.sgd(0.3), optax.chain(
    optax.scale_by_trust_ratio(), optax.sgd(0.3))])  # fmt: skip
def test_what_examples_ask_for_both_ways_is_found(rule):
    w, each = jax.random.normal(jax.random.key(0), (2, 8, *SHAPE))[0], []
    parts = jax.random.normal(jax.random.key(1), (6, *SHAPE))
    net = parts.sum(axis=0)
    update, _ = rule.update(net, rule.init(w), w)
    factor = float(jnp.linalg.norm(update) / jnp.linalg.norm(net))
    each = -factor * parts
    ups, downs = (jnp.maximum(sign * each, 0).sum(axis=0) for sign in (1, -1))
    found = cancelled(update, net, jnp.abs(parts).sum(axis=0))
    np.testing.assert_allclose(found / 2, jnp.minimum(ups, downs), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [1e-25, 1.0, 1e18])
def test_what_is_no_number_asks_for_nothing_and_size_does_not_matter(size):
    gradient = size * jnp.array([1.0, jnp.nan, 0.0, 2.0])
    total = size * jnp.array([3.0, 3.0, 4.0, jnp.inf])
    found = cancelled(-gradient / size, gradient, total)
    np.testing.assert_allclose(found, [2.0, 0.0, 4.0, 0.0], rtol=1e-6)
    nothing = cancelled(jnp.zeros(4), jnp.zeros(4), total)
    np.testing.assert_array_equal(nothing, np.zeros(4))


# ---- pulses


def test_pulses_in_both_directions_are_drawn_with_their_means():
    """Of every weight 0.7 steps up in the sum, and 1.8 both ways beside it."""
    even = device(softness_up=0.0, softness_down=0.0)
    spec = ALGORITHMS["pulsed_sgd"](multilevel=even, pulse_counts="both")
    array = pair.init(
        jax.random.key(0), (20000,), even, reference=True, track_wear=True
    )
    before = pair.read(None, array, 0.0, even)
    wanted, both = jnp.full(20000, 0.7), jnp.full(20000, 1.8)
    keys = jax.random.split(jax.random.key(1))
    with keys_used_once():
        after, counts = spec.rounded_and_fired(*keys, array, wanted, both, 0.0, 0)
    ups, downs = (
        np.asarray(getattr(after, name) - getattr(array, name), float).ravel()
        for name in ("set_pulses", "resets")
    )
    for pulses, mean in ((ups, 1.6), (downs, 0.9)):
        # Whole numbers next to their mean: Bernoulli draws.
        assert set(np.unique(pulses)) == {np.floor(mean), np.ceil(mean)}
        error = np.sqrt(mean % 1 * (1 - mean % 1) / 20000)
        assert pulses.mean() == pytest.approx(mean, abs=4 * error)
    assert abs(np.corrcoef(ups, downs)[0, 1]) < 4 / np.sqrt(20000)
    assert float(counts["set_pulses"]) == ups.sum() + downs.sum()
    moved = pair.read(None, after, 0.0, even) - before
    np.testing.assert_allclose(moved / spec.step, ups - downs, atol=1e-4)


def test_the_order_of_pulses_leads_to_no_side():
    coarse, n = device(step=0.2), 20000
    state = pair.init(jax.random.key(0), (n,), coarse, reference=True, track_wear=False)
    pulses = jnp.full(n, 6, jnp.int32)
    after, _ = pair.set_both(jax.random.key(1), state, pulses, pulses, 0.0, coarse)
    w = np.asarray(device().normalised(after.g[0]))
    assert w.std() > 0.1
    assert w.mean() == pytest.approx(0.0, abs=4 * w.std() / np.sqrt(n))


def placed(state, g):
    """The array that takes updates, with its devices at conductances; no other one."""
    *others, last = getattr(state.weights, "arrays", (state.weights.multilevel,))
    last = last.replace(devices=last.devices.replace(g=g[None]))
    if others:
        return state._replace(weights=state.weights.with_arrays([*others, last]))
    return state._replace(weights=state.weights.replace(multilevel=last))


def held(state):
    """What that array holds, half ranges."""
    *_, last = getattr(state.weights, "arrays", (state.weights.multilevel,))
    return np.asarray(device().normalised(last.g[0]))


@pytest.mark.parametrize("name", KINDS)
def test_gradients_that_cancel_draw_devices_to_their_symmetric_points(name):
    """Half of the weights are asked for half a step up and down in each update."""
    n, updates = 400, 40
    fields = {"transfer_every": 1000} if ALGORITHMS[name].by_lines else {}
    # The array that is pulsed is asked for as much as the weight.
    if name == "residual":
        fields["tile_ratio"] = 1.0
    elif fields:
        fields["fast_rate"] = 1.0
    start = jnp.where(jnp.arange(n) % 4 < 2, 15.0, 5.0)
    asked = np.arange(n) % 2 == 1
    spec = ALGORITHMS[name](multilevel=device(), pulse_counts="both", **fields)
    tx = analog(spec, 0)
    params = {"kernel": jax.random.normal(jax.random.key(0), (1, n))}
    state = placed(tx.init(params), start)
    step = spec.step / analog_weights(state)["kernel"].scale
    # One weight has a gradient, which tells the factor of the rule.
    gradients = jnp.zeros((1, n)).at[0, 0].set(step)
    totals = jnp.where(asked, step, gradients)

    @jax.jit
    def update(state):
        more = of_examples(gradients, totals)
        return tx.update({"kernel": -gradients}, state, params, **more)[1]

    for _ in range(updates):
        state = update(state)
    before, after = np.asarray(device().normalised(start)), held(state)
    # The first takes its steps; where nothing cancels a device stays.
    assert after[0] != before[0]
    still = ~asked[1:]
    np.testing.assert_allclose(after[1:][still], before[1:][still], atol=1e-5)
    # 20 pulses up and 20 down, each of a twentieth of the way to an end: 0.95^40 is
    # left. Order and rounding scatter a device by up to 0.16, of 0.5 at the start.
    left = after[asked] / before[asked]
    assert left.mean() == pytest.approx(0.95**updates, abs=4 * 0.32 / np.sqrt(n / 2))


def test_totals_that_are_needed_are_asked_for():
    tx = analog(ALGORITHMS["pulsed_sgd"](pulse_counts="both"), 0)
    params = {"kernel": jnp.ones((3, 2)), "other": jnp.ones(2)}
    state, zeros = tx.init(params), jax.tree.map(jnp.zeros_like, params)
    for given, message in (
        ({}, "gradients=None: devices need them with pulse_counts='both'"),
        ({"gradients": zeros}, "gradient_totals=None"),
        (of_examples(zeros["kernel"], zeros["kernel"]), "gradients: has nothing for o"),
        (
            {"gradients": zeros, "gradient_totals": zeros | {"other": jnp.ones(3)}},
            r"gradient_totals: has the shape \(3,\) for other; must have the shape",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            tx.update(zeros, state, params, **given)
    with pytest.raises(ValueError, match="pulse_counts='all': must be one of net, bo"):
        ALGORITHMS["agad"](pulse_counts="all")


# ---- trainings


class OnCrossbars(nn.Module):
    """A dense layer."""

    @nn.compact
    def __call__(self, images, *, train):
        hook = LayerCrossbars(CrossbarSpec()).dot_general(("head",))
        x = images.reshape(len(images), -1)
        return nn.Dense(3, name="head", dot_general=hook)(x)


def first_step(counts):
    """Pulses that a training step fires, and what totals it takes."""
    spec = ALGORITHMS["pulsed_sgd"](multilevel=device(), pulse_counts=counts)
    recipe = Recipe(warmup=0.0)
    tx = make_tx(recipe, AnalogRecipe(), spec, 10, jax.random.key(0))
    model = OnCrossbars()
    state = init_state(jax.random.key(1), model, tx, (4, 4, 1))
    step = steps.make_step(model, tx, augmentation="none", label_smoothing=0.0)
    zeros = zeros_for_totals(state.opt_state)
    _, metrics = jax.jit(step)(
        state, random_images(), jnp.arange(40), jax.random.key(2)
    )
    return float(metrics["set_pulses"]), zeros


def test_a_training_step_fires_what_its_examples_ask_for():
    net, none = first_step("net")
    both, zeros = first_step("both")
    assert none is None
    (kernel,) = jax.tree.leaves(zeros)  # The bias is digital.
    np.testing.assert_array_equal(kernel, np.zeros((16, 3)))
    # Of forty images as many ask for less of a weight as for more.
    assert both > 3 * net > 0


@pytest.mark.parametrize(
    ("analog_recipe", "message"),
    [
        ({"momentum": 0.9}, "analog_momentum=0.9: must be 0.0 with pulse_counts=both"),
        ({"optimizer": "adamw"}, "analog_optimizer=adamw: must be sgd"),
    ],
)
def test_rules_with_a_memory_are_refused(analog_recipe, message):
    spec = ALGORITHMS["pulsed_sgd"](pulse_counts="both")
    with pytest.raises(ValueError, match=message):
        make_tx(Recipe(), AnalogRecipe(**analog_recipe), spec, 1, jax.random.key(0))
