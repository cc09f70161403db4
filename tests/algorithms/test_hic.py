"""`hic`: the arithmetic of an update, and its contract with optax."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import hic_jax
from hic_jax import pcm
from hic_jax.pcm import pair

IDEAL = hic_jax.HICSpec(
    multilevel=pcm.ideal(),
    initial_words="zero",
    stochastic_rounding=False,
    refresh_every=0,
)
REAL = hic_jax.HICSpec(multilevel=pcm.nandakumar_2018(drift_nu_std=0.008))
STEP = 0.625  # uS, of ideal devices


def normal(seed, shape):
    return jax.random.normal(jax.random.key(seed), shape)


def run(spec, updates, params, key=0):
    """Applies updates, stacked along a leading axis; (state, params, events).

    Step by step and not in a scan: devices of one number and kind compile once for
    all tests.
    """
    tx = hic_jax.hic(spec, jax.random.key(key))
    leaves, treedef = jax.tree.flatten(updates)
    state, events = tx.init(params), []
    for update in zip(*leaves, strict=True):
        change, state = tx.update(treedef.unflatten(update), state, params)
        params = optax.apply_updates(params, change)
        events.append(state.events)
    return state, params, jax.tree.map(lambda *x: np.stack(x), *events)


# ---- the arithmetic


@pytest.mark.parametrize(
    ("lsb_bits", "word_steps"), [(2, 1), (5, 1), (8, 1), (2, 2), (7, 2), (5, 8)]
)
def test_ideal_devices_follow_quantised_sgd_exactly(lsb_bits, word_steps):
    spec = dataclasses.replace(
        IDEAL, lsb_bits=lsb_bits, word_steps=word_steps, update_bits=10
    )
    params = {"a": normal(0, (5, 4)), "b": normal(1, (44,))}
    updates = jax.tree.map(lambda p: 0.2 * normal(p.size, (30, *p.shape)), params)
    state, read, _ = run(spec, updates, params)
    half = 2 ** (lsb_bits - 1)
    one = half // word_steps  # LSBs of a step.
    lsb = np.float32(STEP / one)
    hybrid = hic_jax.analog_weights(state)
    for name, start in params.items():
        scale = np.float32(hybrid[name].scale)
        g = np.zeros((2, *start.shape))
        steps = np.round(np.asarray(start) * scale / STEP)
        g[0], g[1] = STEP * np.maximum(steps, 0), STEP * np.maximum(-steps, 0)
        word = np.zeros(start.shape, int)
        for update in np.asarray(updates[name]):
            lsbs = np.clip(np.rint(update * (scale / lsb)), -512, 511).astype(int)
            total = word + lsbs
            above, below = np.maximum(total - half + 1, 0), np.maximum(-half - total, 0)
            carry = (np.ceil(above / one) - np.ceil(below / one)).astype(int)
            word = total - carry * one
            g[0] += STEP * np.maximum(carry, 0)
            g[1] += STEP * np.maximum(-carry, 0)
            g = np.minimum(g, 20.0)
        np.testing.assert_array_equal(hybrid[name].accumulator, word)
        np.testing.assert_array_equal(hybrid[name].multilevel.g, g)
        np.testing.assert_allclose(read[name], (g[0] - g[1]) / scale, atol=1e-6)


STEPS, WEIGHTS = 12, 4
SMALL = dataclasses.replace(
    IDEAL,
    multilevel=pcm.ideal(g_max=5.0),  # Eight steps: saturation is met.
    refresh_every=3,
    refresh_above=3.0,
    refresh_common=0.3,
)
_small = hic_jax.hic(SMALL, 0)


@jax.jit
def _run_small(lsbs):
    """`run` for updates in whole LSBs, compiled once for all examples."""
    params = jnp.ones(WEIGHTS)
    start = _small.init(params)

    def step(state, lsbs):
        update = lsbs * (SMALL.lsb / state.weights.scale[0])
        _, state = _small.update(update, state, params)
        return state, state.events

    end, events = jax.lax.scan(step, start, lsbs)
    return start, end, events


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.integers(-300, 300), min_size=WEIGHTS, max_size=WEIGHTS),
        min_size=STEPS,
        max_size=STEPS,
    )
)
def test_every_lsb_is_accounted_for(lsbs):
    lsbs = np.array(lsbs)
    start, end, events = _run_small(jnp.asarray(lsbs, jnp.float32))
    passed = np.clip(lsbs, -128, 127)
    assert events.accepted_lsbs.sum() == np.abs(passed).sum()
    assert events.clipped_lsbs.sum() == np.abs(lsbs - passed).sum()
    assert not events.refresh_error.any()
    step = 2 ** (SMALL.lsb_bits - 1) // SMALL.word_steps

    def lsbs_held(state):
        steps = (state.weights.multilevel.g[0] - state.weights.multilevel.g[1]) / STEP
        word = np.asarray(state.weights.accumulator, int)
        return (step * np.asarray(steps, int) + word).sum()

    # What saturated devices did not take is counted, side by side.
    futile = np.asarray(events.futile_pulses.sum(axis=0), int)
    gained = lsbs_held(end) - lsbs_held(start) + step * (futile[0] - futile[1])
    assert gained == passed.sum()


def test_pairs_are_due_that_are_high_and_hold_much_in_common():
    state = hic_jax.hic(SMALL, 0).init(jnp.ones(4)).weights.multilevel
    g = jnp.array([[4.0, 4.0, 2.0, 0.4], [0.2, 0.4, 1.9, 4.0]])
    devices = state.devices.replace(g=g)
    # Above 3 and 0.3 uS.
    now = jnp.float32(0.0)
    due = SMALL.refresh_due(None, state.replace(devices=devices), now)
    np.testing.assert_array_equal(due, [False, True, False, True])


def test_a_look_for_pairs_to_refresh_reads_devices_as_they_are_now():
    device = dataclasses.replace(pcm.ideal(), drift_nu=0.1, read_offset=0.1)
    spec = dataclasses.replace(SMALL, multilevel=device)
    state = hic_jax.hic(spec, 0).init(jnp.ones(4000)).weights.multilevel
    g = jnp.stack([jnp.full(4000, 4.0), jnp.full(4000, 0.4)])
    state = state.replace(devices=state.devices.replace(g=g))
    young, old = jnp.float32(0.0), jnp.float32(1024.0)  # At which they have halved.
    assert spec.refresh_due(None, state, young).all()
    assert not spec.refresh_due(None, state, old).any()
    # At a standard deviation above 0.3 uS 84 % are found to be; five standard errors.
    found = spec.refresh_due(normal(9, (2, 4000)), state, young)
    assert found.mean() == pytest.approx(0.841, abs=5 * np.sqrt(0.134 / 4000))


def test_refreshing_with_real_devices_tells_its_error():
    updates = 0.3 * normal(2, (40, 64))
    _, _, events = run(REAL, updates, normal(3, (64,)))
    refreshed = np.asarray(events.refreshed_pairs)
    assert refreshed.sum() > 20
    # Every tenth step, and only then.
    assert not refreshed[np.arange(1, 41) % 10 != 0].any()
    error = events.refresh_error.sum() / refreshed.sum()
    assert 0.3 < error < 1.5  # uS; a pulse cannot do better than about 1 uS.


def test_a_refresh_of_a_step_finds_what_has_drifted_by_then():
    device = dataclasses.replace(pcm.ideal(), drift_nu=0.1)  # From an age of 1 s on.
    spec = dataclasses.replace(
        IDEAL,
        multilevel=device,
        refresh_every=1,
        refresh_above=0.0,
        refresh_common=0.0,
        refresh_verify=False,
    )
    tx, params = hic_jax.hic(spec, 0), jnp.ones(50)
    state = tx.init(params)
    pairs = state.weights.multilevel
    g = jnp.stack([jnp.full(50, 10.0), jnp.full(50, 5.0)])
    pairs = pairs.replace(devices=pairs.devices.replace(g=g))
    old = state.weights.replace(multilevel=pairs, time=jnp.float32(1024.0))
    _, state = tx.update(jnp.zeros(50), state._replace(weights=old), params)
    assert state.events.refreshed_pairs == 50
    g = state.weights.multilevel.g
    # Half of the 5 uS is left, in steps of 0.625 uS.
    np.testing.assert_allclose(g, np.stack([np.full(50, 2.5), np.zeros(50)]))


def test_stuck_cells_are_told():
    spec = dataclasses.replace(IDEAL, binary=pcm.BinarySpec(stuck_set=0.1))
    _, _, events = run(spec, 0.05 * normal(4, (5, 64)), normal(5, (64,)))
    assert events.faulty_lsbs.sum() > 0
    _, _, events = run(IDEAL, 0.05 * normal(4, (5, 64)), normal(5, (64,)))
    assert events.faulty_lsbs.sum() == 0


def test_stochastic_rounding_lets_small_updates_act():
    params = normal(6, (5000,))
    spec = dataclasses.replace(IDEAL, stochastic_rounding=True)
    tiny = 0.1 * spec.lsb / hic_jax.algorithms.scaling.weight_scale(params, spec)
    updates = jnp.full((20, 5000), tiny)
    nearest, _, _ = run(IDEAL, updates, params)
    stochastic, _, _ = run(spec, updates, params)
    assert not nearest.weights.accumulator.any()
    # 20 updates of 0.1 LSB; standard error 0.02.
    word = np.asarray(stochastic.weights.accumulator, float)
    assert word.mean() == pytest.approx(2.0, abs=0.1)


def test_time_passes_and_only_written_devices_restart_their_clocks():
    spec = dataclasses.replace(IDEAL, seconds_per_step=2.0)
    params = jnp.ones(64)
    one = IDEAL.lsb / hic_jax.algorithms.scaling.weight_scale(params, spec)
    updates = jnp.zeros((3, 64)).at[1, 0].set(100 * one).at[2, 1].set(-one)
    state, _, _ = run(spec, updates, params)
    assert state.weights.time == 6.0
    # The carry of the second step was fired when two seconds had passed.
    expected = np.zeros((2, 64))
    expected[0, 0] = 2.0
    np.testing.assert_array_equal(state.weights.multilevel.written_at, expected)


@functools.cache
def _after_five_updates(spec):
    """The parameters after a few updates, always the same ones."""
    _, params, _ = run(spec, 0.3 * normal(8, (5, 8, 8)), normal(7, (8, 8)))
    return params


@pytest.mark.parametrize(
    "name", [*pcm.MultilevelSpec.NON_IDEALITIES, "stuck_cells", "rounding"]
)
def test_no_non_ideality_is_passed_by(name):
    # Large and slow steps, so that every effect has the time to act.
    full = dataclasses.replace(
        pcm.nandakumar_2018(drift_nu_std=0.01),
        stuck_set=0.05,
        stuck_reset=0.05,
        step_spread=0.3,
    )
    off = dataclasses.replace(
        IDEAL, multilevel=full.only(), refresh_verify=False, seconds_per_step=100.0
    )
    on = {
        "stuck_cells": dataclasses.replace(off, binary=pcm.BinarySpec(stuck_set=0.05)),
        "rounding": dataclasses.replace(off, stochastic_rounding=True),
    }.get(name)
    if name == "drift_spread":  # Spreads what drifts: beside drift.
        off = dataclasses.replace(off, multilevel=full.only("drift"))
        off = dataclasses.replace(off, multilevel=off.multilevel.without(name))
        on = dataclasses.replace(off, multilevel=full.only("drift", name))
    elif on is None:
        on = dataclasses.replace(off, multilevel=full.only(name))
    without, having = map(_after_five_updates, (off, on))
    assert np.abs(np.asarray(without - having)).max() > 0.01


# ---- the contract with optax


def quadratic(params):
    return sum(jnp.sum((p - 1.0) ** 2) for p in jax.tree.leaves(params))


def minimise(tx, params, steps=60, loss=quadratic):
    @jax.jit
    def step(params, state):
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    for _ in range(steps):
        params, state = step(params, state)
    assert step._cache_size() == 1
    return params, state


def test_a_parabola_is_descended_with_real_devices():
    params = {"w": normal(0, (8, 8))}
    end, state = minimise(optax.chain(optax.sgd(0.02), hic_jax.hic(REAL, 0)), params)
    assert quadratic(end) < 0.2 * quadratic(params)
    # What the devices hold, up to the noise of the last read.
    noise = np.asarray(end["w"] - hic_jax.read(hic_jax.analog_weights(state))["w"])
    assert 0 < noise.std() * float(state[1].weights.scale[0]) < 0.6


def test_the_state_keeps_its_structure_shapes_and_types():
    tx = hic_jax.hic(REAL, 0)
    params = {"w": normal(0, (8, 8))}
    before = tx.init(params)
    _, after = jax.jit(tx.update)(params, before, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(before, after)


def test_extra_arguments_are_ignored_and_missing_params_are_not():
    tx = hic_jax.hic(IDEAL, 0)
    params = {"w": jnp.ones((8, 8))}
    state = tx.init(params)
    plain, _ = tx.update(params, state, params)
    extra, _ = tx.update(params, state, params, value=1.0)
    chex.assert_trees_all_equal(plain, extra)
    with pytest.raises(ValueError, match="params"):
        tx.update(params, state)


def test_the_params_after_an_update_are_what_the_devices_read():
    params = {"w": normal(0, (8, 8))}
    state, read, _ = run(IDEAL, {"w": 0.2 * normal(1, (4, 8, 8))}, params)
    held = hic_jax.read(hic_jax.analog_weights(state))
    chex.assert_trees_all_close(read, held, atol=1e-6)


def test_tensors_together_or_alone_are_the_same():
    params = {"a": normal(0, (8, 8)), "b": 3 * normal(1, (64,))}
    updates = jax.tree.map(lambda p: 0.2 * normal(p.size, (10, *p.shape)), params)
    together, _, _ = run(IDEAL, updates, params)
    for name, hybrid in hic_jax.analog_weights(together).items():
        alone, _, _ = run(IDEAL, {name: updates[name]}, {name: params[name]})
        chex.assert_trees_all_equal(hybrid, hic_jax.analog_weights(alone)[name])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tx: optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1), tx),
        lambda tx: optax.chain(
            optax.inject_hyperparams(optax.sgd)(learning_rate=0.1), tx
        ),
        lambda tx: optax.masked(
            optax.chain(optax.sgd(0.1), tx), {"kernel": True, "bias": False}
        ),
        lambda tx: optax.MultiSteps(
            optax.chain(optax.sgd(0.1), tx), every_k_schedule=2
        ).gradient_transformation(),
        lambda tx: optax.partition(
            {"analog": optax.chain(optax.adam(0.1), tx), "digital": optax.sgd(0.1)},
            hic_jax.analog_labels,
        ),
    ],
    ids=["chain", "inject_hyperparams", "masked", "MultiSteps", "partition"],
)
def test_it_works_inside(wrap):
    params = {"kernel": normal(0, (8, 8)), "bias": jnp.zeros(8)}
    end, state = minimise(wrap(hic_jax.hic(IDEAL, 0)), params, steps=4)
    hybrid = hic_jax.analog_weights(state)
    np.testing.assert_allclose(end["kernel"], hic_jax.read(hybrid["kernel"]), atol=1e-6)
    assert not np.array_equal(end["kernel"], params["kernel"])


def test_groups_of_different_keys_draw_different_noise():
    params = {"a": jnp.ones((30, 30)), "b": jnp.ones((30, 30))}
    tx = optax.partition(
        {"a": hic_jax.hic(REAL, 0), "b": hic_jax.hic(REAL, 1)}, {"a": "a", "b": "b"}
    )
    hybrid = hic_jax.analog_weights(tx.init(params))
    a, b = (hic_jax.read(hybrid[name]) - params[name] for name in "ab")
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.17  # Five standard errors.


def test_groups_may_be_whole_layers():
    params = {
        "l1": {"kernel": normal(0, (4, 5)), "bias": jnp.zeros(5)},
        "l2": {"kernel": normal(1, (5, 3))},
        "l3": {"kernel": normal(2, (3, 2))},
    }
    labels = {"l1": "a", "l2": "b", "l3": "digital"}
    groups = {"a": hic_jax.hic(IDEAL, 0), "b": hic_jax.hic(REAL, 1)}
    tx = optax.partition(groups | {"digital": optax.sgd(0.1)}, labels)
    end, state = minimise(tx, params, steps=2)
    hybrid = hic_jax.analog_weights(state)
    assert hybrid["l1"]["kernel"].spec == hybrid["l1"]["bias"].spec == IDEAL
    assert hybrid["l2"]["kernel"].spec == REAL
    assert hybrid["l3"] == optax.MaskedNode()
    read = hic_jax.read_params(end, hybrid)
    chex.assert_trees_all_equal_shapes_and_dtypes(read, params)
    np.testing.assert_array_equal(read["l3"]["kernel"], end["l3"]["kernel"])


def test_trees_of_their_own_are_not_one_tree():
    states = [hic_jax.hic(IDEAL, 0).init({name: jnp.ones(3)}) for name in "ab"]
    with pytest.raises(ValueError, match="trees of different structures"):
        hic_jax.analog_weights(states)


def test_hic_wants_a_spec():
    with pytest.raises(ValueError, match=r"spec=.*ideal.*must be a HICSpec"):
        hic_jax.hic(pcm.ideal(), 0)


def test_an_nnx_optimizer_trains_a_model():
    model = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
    tx = optax.partition(
        {
            "analog": optax.chain(optax.sgd(0.1), hic_jax.hic(REAL, 0)),
            "digital": optax.sgd(0.1),
        },
        hic_jax.analog_labels,
    )
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    x, y = normal(0, (32, 4)), normal(1, (32, 4)) @ jnp.ones((4, 3))

    def loss(model):
        return jnp.mean((model(x) - y) ** 2)

    @nnx.jit
    def step(model, optimizer):
        optimizer.update(model, nnx.grad(loss)(model))

    before = loss(model)
    for _ in range(50):
        step(model, optimizer)
    assert loss(model) < before

    # A year later it goes on.
    optimizer.opt_state = hic_jax.age(optimizer.opt_state, hic_jax.YEAR)
    young = hic_jax.analog_weights(optimizer.opt_state)["kernel"]
    assert jnp.all(young.multilevel.written_at < 50 - hic_jax.YEAR)
    step(model, optimizer)


def test_bfloat16_params_stay_bfloat16():
    params = {"w": normal(0, (8, 8)).astype(jnp.bfloat16)}
    state, read, _ = run(
        IDEAL, {"w": 0.2 * normal(1, (4, 8, 8)).astype(jnp.bfloat16)}, params
    )
    assert read["w"].dtype == jnp.bfloat16
    assert state.weights.multilevel.g.dtype == jnp.float32
    held = hic_jax.read(hic_jax.analog_weights(state))["w"]
    np.testing.assert_allclose(read["w"].astype(jnp.float32), held, atol=0.02)


@pytest.mark.parametrize(
    "params",
    [{}, {"w": jnp.ones(())}, {"w": jnp.ones((3, 0))}, {"w": jnp.ones((1, 1, 2, 1))}],
    ids=["no leaf", "scalar", "empty", "four-dimensional"],
)
def test_odd_shapes(params):
    tx = hic_jax.hic(IDEAL, 0)
    state = tx.init(params)
    updates, _ = tx.update(params, state, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)


def test_many_chips_at_once():
    params = {"w": normal(0, (8, 8))}

    def chip(key):
        tx = hic_jax.hic(REAL, key)
        state = tx.init(params)
        updates, state = tx.update(params, state, params)
        return optax.apply_updates(params, updates)["w"], state

    keys = jax.random.split(jax.random.key(0), 3)
    reads, state = jax.jit(jax.vmap(chip))(keys)
    assert reads.shape == (3, 8, 8)
    alone, _ = jax.jit(chip)(keys[1])
    np.testing.assert_allclose(reads[1], alone, rtol=1e-4, atol=1e-5)
    assert not np.allclose(reads[0], reads[1])
    assert state.weights.multilevel.g.shape == (3, 2, 64)


def test_the_state_can_be_donated():
    tx = hic_jax.hic(IDEAL, 0)
    params = {"w": jnp.ones((8, 8))}
    state = jax.tree.map(jnp.copy, tx.init(params))
    update = jax.jit(tx.update, donate_argnums=1)
    _, after = update(params, state, params)
    assert state.weights.multilevel.g.is_deleted()
    assert after.count == 1


def test_a_diverging_update_does_not_go_unseen():
    params = {"w": jnp.ones((2, 2))}
    state, _, _ = run(IDEAL, {"w": jnp.full((1, 2, 2), jnp.nan)}, params)
    assert state.events.clipped_lsbs == 4 * 2.0**30
    assert state.events.accepted_lsbs == 0


@pytest.mark.parametrize("multilevel_bits", [4, 5, 6, 8])
def test_weights_within_w_max_are_held_at_any_number_of_bits(multilevel_bits):
    spec = hic_jax.HICSpec(multilevel_bits=multilevel_bits)
    weight = normal(0, (100, 100))
    held = hic_jax.read(hic_jax.analog_weights(hic_jax.hic(spec, 0).init([weight])))[0]
    large = (jnp.abs(weight) > 1) & (jnp.abs(weight) < spec.w_max_sigmas)
    ratio = jnp.mean(jnp.abs(held[large])) / jnp.mean(jnp.abs(weight[large]))
    # Blind to the last step, and steps get small up there; 0.57 if it were at g_max.
    assert 0.85 < ratio < 1.0


@pytest.mark.parametrize("multilevel_bits", [2, 8])
def test_nominal_bits_set_the_range_of_initial_weights(multilevel_bits):
    spec = dataclasses.replace(IDEAL, multilevel_bits=multilevel_bits)
    weight = hic_jax.hic(spec, 0).init([normal(0, (2000,))]).weights
    w_max = spec.full_scale / float(weight.scale[0])
    if multilevel_bits < 5:
        assert w_max == pytest.approx(spec.w_max_sigmas, rel=0.05)
    else:  # 1.5 sigma at the end of what pulses reach would cut off 13 % of a Gaussian.
        assert 2 < w_max < 4
    exact = pair.read(None, weight.multilevel, weight.time, spec.multilevel)
    assert np.unique(np.abs(exact)).max() <= 20 * STEP


def test_a_state_without_analog_weights_is_an_error():
    tx = optax.sgd(0.1, momentum=0.9)
    with pytest.raises(ValueError, match="no analog weight"):
        hic_jax.analog_weights(tx.init({"w": jnp.ones(3)}))
    with pytest.raises(ValueError, match="no analog weight"):
        hic_jax.analog_weights(hic_jax.hic(IDEAL, 0).init({}))


# ---- going on later


def _trained(spec, shape=(8, 8)):
    params = {"kernel": normal(0, shape)}
    updates = {"kernel": 0.3 * normal(1, (12, *shape))}
    return run(spec, updates, params)[:2]


def test_an_older_state_reads_as_drifted_weights():
    state, _ = _trained(REAL)
    older = hic_jax.analog_weights(hic_jax.age(state, hic_jax.YEAR))
    drifted = hic_jax.drift(hic_jax.analog_weights(state), hic_jax.YEAR)
    # A float32 clock that has counted a year knows the second to 2 s.
    chex.assert_trees_all_close(
        hic_jax.read(older), hic_jax.read(drifted), rtol=1e-5, atol=1e-6
    )


def test_only_what_is_written_after_a_year_is_young():
    spec = dataclasses.replace(
        REAL, multilevel=pcm.nandakumar_2018(), refresh_every=0, seconds_per_step=50.0
    )
    state, params = _trained(spec)
    state = hic_jax.age(state, hic_jax.YEAR)
    tx = hic_jax.hic(spec, 0)
    push = jnp.zeros((8, 8)).at[0].set(1.0)
    steps = 4
    for step in range(steps):
        update = {"kernel": push if step == 0 else jnp.zeros_like(push)}
        change, state = tx.update(update, state, params)
        params = optax.apply_updates(params, change)
    weights = hic_jax.analog_weights(state)["kernel"]
    now = pair.conductances(weights.multilevel, weights.time, spec.multilevel)
    ratio = np.asarray(now / weights.multilevel.g)
    # (age / 38.6 s) ** -0.04: pushed up, G+ was written `steps` steps ago.
    np.testing.assert_allclose(ratio[0, 0], (steps * 50.0 / 38.6) ** -0.04, rtol=1e-5)
    # The others wait for a year and 4 to 16 steps: one in 1e5.
    np.testing.assert_allclose(ratio[0, 1:], (hic_jax.YEAR / 38.6) ** -0.04, rtol=1e-5)
    np.testing.assert_allclose(ratio[1], (hic_jax.YEAR / 38.6) ** -0.04, rtol=1e-5)


def test_nothing_gets_younger():
    state, _ = _trained(REAL)
    with pytest.raises(ValueError, match=r"seconds=-1.0: must be at least 0"):
        hic_jax.age(state, -1.0)
