"""Recipes: what training with and without devices share, and what they keep."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hic_jax
from hic_jax.algorithms import analog_states
from hic_jax.quantisation import quantise_kernels
from hic_jax.training.optimizers import adamw, sgd
from hic_jax.training.recipes import AnalogRecipe, Recipe, make_tx

RATE = 0.25
SPEC = hic_jax.HICSpec(multilevel=hic_jax.pcm.ideal(), refresh_every=0)


def _params():
    kernels = jax.random.normal(jax.random.key(0), (2, 6, 4))
    return {
        "first": {"kernel": kernels[0], "bias": jnp.ones(4)},
        "norm": {"scale": jnp.full(4, 2.0)},
        "second": {"kernel": kernels[1]},
    }


def _kernels(tree):
    return {name: tree[name]["kernel"] for name in ("first", "second")}


def _digital(tree):
    return [tree["first"]["bias"], tree["norm"]["scale"]]


def _transformation(spec, analog=None, seed=1, **fields):
    usual = {"learning_rate": RATE, "schedule": "constant", "warmup": 0.0}
    fields = usual | {"weight_decay": 0.0} | fields
    analog = {"learning_rate": RATE, "trust_ratio": False} | (analog or {})
    recipes = Recipe(**fields), AnalogRecipe(**analog)
    return make_tx(*recipes, spec, 1, jax.random.key(seed))


def _update(spec, grads, analog=None, **fields):
    """Updates of the first step, the state after it, and the state before."""
    tx = _transformation(spec, analog, **fields)
    before = tx.init(_params())
    updates, state = tx.update(grads, before, _params())
    return updates, state, before


def _constant(value):
    return jax.tree.map(lambda x: jnp.full_like(x, value), _params())


def _float_buffers(state):
    """Float arrays of the size of a kernel that are no devices."""
    leaves = jax.tree.leaves(
        state, is_leaf=lambda x: isinstance(x, (hic_jax.AnalogState, optax.MaskedNode))
    )
    return [
        leaf.shape
        for leaf in leaves
        if isinstance(leaf, jax.Array)
        and jnp.issubdtype(leaf.dtype, jnp.floating)
        and leaf.ndim >= 2
    ]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_hic_differs_from_fp32_in_the_kernels_alone(momentum):
    grads = _constant(0.5)
    fp32, _, _ = _update(None, grads, momentum=momentum)
    hybrid, state, before = _update(SPEC, grads, momentum=momentum)
    chex.assert_trees_all_equal(_digital(hybrid), _digital(fp32))
    np.testing.assert_array_equal(hybrid["norm"]["scale"], -RATE * 0.5)
    # The same update in LSBs reaches the accumulators; ideal devices hold its carry.
    moved = jax.tree.map(jnp.subtract, *map(_held, (state, before)))
    lsb = _lsb(state)
    for kernel in ("first", "second"):
        wanted = fp32[kernel]["kernel"]
        assert np.all(wanted == -RATE * 0.5)
        assert np.all(np.abs(moved[kernel] - wanted) < lsb[kernel])


def _weights(state):
    return _kernels(hic_jax.analog_weights(state))


def _lsb(state):
    """One LSB of each kernel's accumulators, in weight units."""
    return {name: SPEC.lsb / w.scale for name, w in _weights(state).items()}


def _held(state):
    """What pairs and accumulators hold together, in weight units."""
    weights = _weights(state)
    return {
        name: hic_jax.read(w) + w.accumulator * SPEC.lsb / w.scale
        for name, w in weights.items()
    }


def test_hic_keeps_no_float_buffer_for_analog_weights():
    assert _float_buffers(_transformation(SPEC).init(_params())) == []


def test_analog_momentum_costs_one_float_buffer_per_kernel():
    state = _transformation(SPEC, {"momentum": 0.9}).init(_params())
    assert _float_buffers(state) == [(6, 4), (6, 4)]


def test_fp32_momentum_costs_one_float_buffer_per_kernel():
    assert _float_buffers(_transformation(None).init(_params())) == [(6, 4), (6, 4)]
    assert _float_buffers(_transformation(None, momentum=0.0).init(_params())) == []


def test_fp32_holds_no_device():
    assert analog_states(_transformation(None).init(_params())) == []


def test_fp32_weight_decay_acts_on_kernels_alone():
    updates, _, _ = _update(None, _constant(0.0), weight_decay=0.1)
    for kernel, update in _kernels(updates).items():
        np.testing.assert_allclose(update, -RATE * 0.1 * _params()[kernel]["kernel"])
    assert not any(jnp.any(x) for x in _digital(updates))


@pytest.mark.parametrize(("digital", "analog"), [(0.1, 0.0), (0.0, 0.1), (0.1, 0.1)])
def test_hic_weight_decay_acts_on_its_own_group(digital, analog):
    updates, state, before = _update(
        SPEC, _constant(0.0), {"weight_decay": analog}, weight_decay=digital
    )
    assert not any(jnp.any(x) for x in _digital(updates))
    assert (analog_states(state)[0].events.accepted_lsbs > 0) == (analog > 0)
    moved = jax.tree.map(jnp.subtract, *map(_held, (state, before)))
    for kernel, lsb in _lsb(state).items():
        wanted = -RATE * analog * _params()[kernel]["kernel"]
        # Stochastic rounding is off by less than an LSB.
        assert np.all(np.abs(moved[kernel] - wanted) < lsb)


def test_analog_momentum_adds_up_updates():
    moved = {}
    for momentum in (0.0, 0.5):
        tx = _transformation(SPEC, {"momentum": momentum})
        params, state = _params(), tx.init(_params())
        before = _held(state)
        for _ in range(3):
            updates, state = tx.update(_constant(0.125), state, params)
            params = optax.apply_updates(params, updates)
        moved[momentum] = jax.tree.map(jnp.subtract, _held(state), before)
    lsb = _lsb(state)
    for kernel, at_rest in moved[0.0].items():
        # Three steps: 3 without, 1 + 1.5 + 1.75 with momentum; each rounded.
        step = RATE * 0.125
        assert np.all(np.abs(at_rest + 3 * step) < 3 * lsb[kernel])
        assert np.all(np.abs(moved[0.5][kernel] + 4.25 * step) < 3 * lsb[kernel])


def test_trust_ratio_makes_the_rate_the_relative_change_of_a_tensor():
    rate = 0.02
    grads = jax.tree.map(lambda x: 7.0 * jnp.sign(x), _params())
    grads["second"]["kernel"] *= 1e-3
    analog = {"learning_rate": rate, "trust_ratio": True, "norm_decay": 0.0}
    updates, state, before = _update(SPEC, grads, analog)
    moved = jax.tree.map(jnp.subtract, *map(_held, (state, before)))
    for kernel, lsb in _lsb(state).items():
        weight = _params()[kernel]["kernel"]
        wanted = -rate * jnp.linalg.norm(weight) / jnp.sqrt(weight.size)
        assert wanted < -2 * jnp.max(lsb)
        assert np.all(np.abs(moved[kernel] - wanted * jnp.sign(weight)) < lsb)
    # What is digital follows its own rate and its gradient.
    np.testing.assert_array_equal(updates["norm"]["scale"], -RATE * 7.0)


@pytest.mark.parametrize(("norm_decay", "norm"), [(0.0, 2.70), (0.5, 1.0)])
def test_norm_decay_takes_off_what_steps_at_right_angles_add(norm_decay, norm):
    rate, steps = 0.1, 200
    tx = sgd(lambda _: rate, 0.0, 0.0, trust_ratio=True, norm_decay=norm_decay)
    start = jax.random.normal(jax.random.key(0), (64,))

    def step(carry, grad):
        weight, state = carry
        grad -= weight * jnp.vdot(grad, weight) / jnp.vdot(weight, weight)
        update, state = tx.update(grad, state, weight)
        return (weight + update, state), None

    grads = jax.random.normal(jax.random.key(1), (steps, 64))
    (end, _), _ = jax.lax.scan(step, (start, tx.init(start)), grads)
    grown = jnp.linalg.norm(end) / jnp.linalg.norm(start)
    # sqrt(1 + rate^2)^steps, and without its first order 1 - (rate^2 / 2)^2 / 2 a step.
    assert grown == pytest.approx(norm, abs=0.01)


def test_devices_follow_the_key():
    noisy = hic_jax.HICSpec(refresh_every=0)
    first, again, other = (
        _held(_transformation(noisy, seed=seed).init(_params())) for seed in (1, 1, 2)
    )
    chex.assert_trees_all_equal(first, again)
    assert jnp.all(first["first"] != other["first"])


def test_digital_kernels_are_rounded_and_nothing_else():
    grads = _constant(0.1)
    updates, _, _ = _update(None, grads, kernel_bits=4)
    found = optax.apply_updates(_params(), updates)
    exact = optax.apply_updates(_params(), _update(None, grads)[0])
    expected = quantise_kernels(exact, 4)
    chex.assert_trees_all_close(found, expected, rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match=r"kernel_bits=24: must be .* or 32"):
        Recipe(kernel_bits=24)


def test_kernels_on_devices_are_not_rounded():
    one, other = (_update(SPEC, _constant(0.1), kernel_bits=b)[0] for b in (4, 32))
    chex.assert_trees_all_equal(one, other)


def test_layers_have_as_many_devices_as_rules_say():
    rules = {"second": 4}
    tx = make_tx(Recipe(), None, SPEC, 1, jax.random.key(1), devices_by_layer=rules)
    weights = hic_jax.analog_weights(tx.init(_params()))
    first, second = (weights[n]["kernel"] for n in ("first", "second"))
    assert first.devices()["multilevel"] == 2 * first.size
    assert second.devices()["multilevel"] == 8 * second.size
    plain = make_tx(Recipe(), None, SPEC, 1, jax.random.key(1)).init(_params())
    unruled = hic_jax.analog_weights(plain)["first"]["kernel"]
    np.testing.assert_array_equal(unruled.read(None), first.read(None))


def test_layers_of_a_rule_draw_noise_of_their_own():
    """Two layers of equal weights, one of them of a rule: their errors are unlike."""
    spec = hic_jax.HICSpec()
    kernel = jnp.ones((40, 50))
    params = {name: {"kernel": kernel} for name in ("first", "second")}
    tx = make_tx(
        Recipe(), None, spec, 1, jax.random.key(1), devices_by_layer={"second": 1}
    )
    weights = hic_jax.analog_weights(tx.init(params))
    errors = [np.ravel(weights[name]["kernel"].read(None) - kernel) for name in params]
    assert min(map(np.std, errors)) > 0.01
    # 2,000 pairs: five standard errors of a correlation of none.
    assert abs(np.corrcoef(errors)[0, 1]) < 5 / np.sqrt(2000)


@pytest.mark.parametrize("rules", [{"third": 2}, {"norm": 2}])
def test_a_rule_of_no_analog_layer_is_refused(rules):
    tx = make_tx(Recipe(), None, SPEC, 1, jax.random.key(1), devices_by_layer=rules)
    with pytest.raises(ValueError, match="rule="):
        tx.init(_params())


def _after(tx, steps=3):
    """Parameters after some steps, along gradients of many sizes."""
    params = _params()
    state = tx.init(params)
    for step in range(steps):
        grads = jax.tree.map(lambda x, step=step: x * 10.0 ** (step - 2), params)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def test_adamw_is_that_of_optax_before_devices():
    fields = {"optimizer": "adamw", "momentum": 0.8, "weight_decay": 0.1}
    mine, _ = _after(_transformation(None, **fields))
    kernels = {"first": {"kernel": True, "bias": False}, "norm": {"scale": False}}
    rule = optax.adamw(
        RATE, b1=0.8, weight_decay=0.1, mask=kernels | {"second": {"kernel": True}}
    )
    chex.assert_trees_all_close(mine, _after(rule)[0], rtol=1e-6)

    # The devices get what AdamW makes of the gradients.
    tx = _transformation(SPEC, fields, **fields)
    hybrid, state = _after(tx)
    digital_rule = optax.adamw(RATE, b1=0.8, weight_decay=0.1)
    chain = optax.chain(digital_rule, hic_jax.hic(SPEC, jax.random.key(1)))
    analog, _ = _after(optax.masked(chain, kernels | {"second": {"kernel": True}}))
    chex.assert_trees_all_equal(_kernels(hybrid), _kernels(analog))
    assert not np.allclose(hybrid["first"]["kernel"], _params()["first"]["kernel"])
    # Two moments of each of 48 analog and 8 digital parameters.
    assert hic_jax.accounting.optimizer_bits(state) == 2 * 32 * (48 + 8)


def test_adamw_with_a_trust_ratio_takes_relative_steps():
    rule = adamw(lambda count: 0.01, 0.9, 0.0, trust_ratio=True)
    params = _params()
    updates, _ = rule.update(_constant(3.0), rule.init(params), params)
    for name, kernel in _kernels(params).items():
        size = jnp.linalg.norm(updates[name]["kernel"]) / jnp.linalg.norm(kernel)
        assert float(size) == pytest.approx(0.01, rel=1e-5)


def test_a_first_moment_that_never_moves_is_refused():
    with pytest.raises(ValueError, match=r"^momentum=1.0: must be less than 1.0"):
        Recipe(optimizer="adamw", momentum=1.0)
    Recipe(optimizer="sgd", momentum=1.0)


def test_transfers_slow_down_with_the_learning_rate():
    """What the fast array holds moves nothing once the rate is at its end."""

    def transferred(schedule):
        recipe = Recipe(schedule=schedule, warmup=0.0, weight_decay=0.0)
        spec = hic_jax.TikiTakaSpec(multilevel=hic_jax.pcm.ideal_two_sided())
        analog = AnalogRecipe(learning_rate=1.0, trust_ratio=False, norm_decay=0.0)
        tx = make_tx(recipe, analog, spec, 8, jax.random.key(1))
        params = _params()
        state = tx.init(params)
        found = []
        for _ in range(9):
            # Of nothing but the first gradient, which the fast array keeps.
            grads = _constant(0.0 if found else 0.3)
            updates, state = tx.update(grads, state, params)
            params = optax.apply_updates(params, updates)
            (analog_state,) = analog_states(state)
            found.append(float(analog_state.events.transferred_pulses))
        return found

    constant, falling = transferred("constant"), transferred("linear")
    assert constant[0] == falling[0] > 0
    assert constant[8] == constant[0]
    assert falling[8] == 0
    assert sum(falling) < sum(constant)
