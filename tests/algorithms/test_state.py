"""The state of `hic`: words at first, what it was made with, its clock, other tools."""

import dataclasses
import pickle
import warnings

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

import hic_jax
from hic_jax import pcm
from hic_jax.algorithms.base import _later

SPEC = hic_jax.HICSpec(multilevel=pcm.ideal())
ZERO = dataclasses.replace(SPEC, initial_words="zero")
PARAMS = {
    "a": jax.random.normal(jax.random.key(0), (16, 8)),
    "b": jax.random.normal(jax.random.key(1), (16, 8)),
}


def run(tx, params, gradients, steps):
    """Trains; the state, the parameters, and the parted tensors of every step."""
    state, parted = tx.init(params), []
    for i in range(steps):
        updates, state = tx.update(gradients(params, i), state, params)
        params = optax.apply_updates(params, updates)
        parted.append(float(hic_state(state).events.parted_tensors))
    return state, params, parted


def hic_state(state):
    leaves = jax.tree.leaves(
        state, is_leaf=lambda x: isinstance(x, hic_jax.AnalogState)
    )
    return next(x for x in leaves if isinstance(x, hic_jax.AnalogState))


# ---- words at first


@pytest.mark.parametrize("bits", [2, 5, 7, 8])
def test_words_begin_uniform_over_their_range(bits):
    spec = dataclasses.replace(SPEC, lsb_bits=bits, word_steps=1)
    state = hic_jax.hic(spec, 0).init({"w": jnp.ones((200, 200))})
    word = np.asarray(state.weights.accumulator).astype(int)
    values, counts = np.unique(word, return_counts=True)
    np.testing.assert_array_equal(
        values, np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1))
    )
    expected = 40000 / 2**bits
    # Chi squared of 2^bits - 1 degrees of freedom: mean + 5 standard deviations.
    freedom = 2**bits - 1
    chi = np.sum((counts - expected) ** 2 / expected)
    assert chi < freedom + 5 * np.sqrt(2 * freedom)


def test_writing_the_first_words_is_counted():
    state = hic_jax.hic(SPEC, 0).init({"w": jnp.ones((50, 50))})
    word = np.asarray(state.weights.accumulator).ravel()
    ones = np.stack([(word.view(np.uint8) >> k) & 1 for k in range(7)])
    sets, resets = state.weights.pulses()["binary"]
    np.testing.assert_array_equal(sets, ones)
    assert not np.any(resets)
    state = hic_jax.hic(ZERO, 0).init({"w": jnp.ones((50, 50))})
    assert not np.any(state.weights.accumulator)
    assert not np.any(state.weights.pulses()["binary"])


def test_first_words_are_independent_of_all_else_that_is_drawn():
    spec = dataclasses.replace(
        SPEC,
        multilevel=pcm.nandakumar_2018(drift_nu_std=0.008),
        binary=pcm.BinarySpec(stuck_set=0.02),
    )
    state = hic_jax.hic(spec, 0).init({"w": jnp.ones((200, 200))})
    pairs, cells = state.weights.multilevel, state.weights.binary
    # The order of words as drawn: a stuck cell changes its own word.
    word = np.asarray(state.weights.accumulator, float).ravel()
    word[np.asarray(cells.stuck).ravel() > 0] = word.mean()
    others = [*pairs.g, *pairs.devices.z, *pairs.devices.pulses]
    for other in (np.asarray(x, float).ravel() for x in others):
        if np.ptp(other):
            assert abs(np.corrcoef(word, other)[0, 1]) < 5 / np.sqrt(word.size)


def test_steps_of_one_size_carry_a_few_weights_at_a_time():
    size = 4096
    updates = {}
    for spec in (SPEC, ZERO):
        tx = hic_jax.hic(spec, 0)
        params = {"w": jax.random.normal(jax.random.key(0), (64, 64))}
        step = spec.lsb * 8 / float(tx.init(params).weights.scale[0])
        state, carried = tx.init(params), []
        for _ in range(12):  # 96 LSBs: past 64, and not yet past 96 + 64.
            change, state = tx.update({"w": jnp.full((64, 64), step)}, state, params)
            params = optax.apply_updates(params, change)
            carried.append(float(state.events.set_pulses))
        updates[spec.initial_words] = carried
    # A sixteenth of the range a step in the mean; then a quarter, once words sit in the
    # upper half, where a carry of 32 LSBs leaves them.
    assert min(updates["uniform"]) > 0.04 * size
    assert max(updates["uniform"]) < 0.3 * size
    assert updates["zero"][:7] == [0] * 7
    assert max(updates["zero"]) == size


# ---- parameters that part from the devices


def _loss(params):
    return sum(jnp.sum((x - 1) ** 2) for x in params.values()) / 10


def _gradients(params, i):
    return jax.grad(_loss)(params)


def _hardware(spec=SPEC):
    return hic_jax.hic(spec, 0)


FROZEN = optax.freeze({"a": False, "b": True})
TOGETHER = {
    "last": lambda: optax.chain(optax.sgd(1.0), FROZEN, _hardware()),
    "noisy": lambda: optax.chain(optax.sgd(1.0), _hardware(hic_jax.HICSpec())),
    "MultiSteps": lambda: optax.MultiSteps(
        optax.chain(optax.sgd(1.0), _hardware()), every_k_schedule=2
    ).gradient_transformation(),
    "partition": lambda: optax.partition(
        {"x": _hardware(), "y": optax.sgd(0.1)}, {"a": "x", "b": "y"}
    ),
    "apply_if_finite": lambda: optax.apply_if_finite(
        optax.chain(optax.sgd(1.0), _hardware()), 3
    ),
}


@pytest.mark.parametrize("name", TOGETHER)
def test_what_devices_answer_with_is_known_again(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, _, parted = run(TOGETHER[name](), PARAMS, _gradients, 12)
    assert parted == [0] * 12


PARTED = {
    "freeze": (lambda tx: optax.chain(tx, FROZEN), 1),
    "clip": (lambda tx: optax.chain(tx, optax.clip(0.01)), 2),
    "scale": (lambda tx: optax.chain(tx, optax.scale(0.999)), 2),
    "noise": (lambda tx: optax.chain(tx, optax.add_noise(1e-4, 0.0, 0)), 2),
    "average": (lambda tx: optax.chain(tx, optax.ema(0.9)), 2),
    "mechanize": (optax.contrib.mechanize, 2),
    "schedule_free": (
        lambda tx: optax.contrib.schedule_free(tx, learning_rate=1.0, b1=0.9),
        2,
    ),
}


@pytest.mark.parametrize("name", PARTED)
def test_what_changes_the_answer_of_devices_is_counted_and_said(name):
    wrap, tensors = PARTED[name]
    tx = wrap(optax.chain(optax.sgd(1.0), _hardware()))
    with pytest.warns(UserWarning, match="b: are not what the devices answered with"):
        _, _, parted = run(tx, PARAMS, _gradients, 6)
    assert parted[0] == 0  # What is there before the first answer may be anything.
    assert parted[-1] == tensors


def test_inside_jit_parted_tensors_are_counted():
    tx = optax.chain(optax.sgd(1.0), _hardware(), FROZEN)

    @jax.jit
    def step(params, state):
        updates, state = tx.update(_gradients(params, 0), state, params)
        return optax.apply_updates(params, updates), state

    params, state = PARAMS, tx.init(PARAMS)
    for _ in range(3):
        params, state = step(params, state)
    assert hic_state(state).events.parted_tensors == 1


def test_one_weight_that_parts_by_a_thousandth_is_seen():
    tx = optax.chain(optax.sgd(1.0), _hardware())
    state, params, _ = run(tx, PARAMS, _gradients, 2)
    params["b"] = params["b"].at[3, 3].add(0.05)
    with pytest.warns(UserWarning, match="params b: "):
        _, state = tx.update(_gradients(params, 0), state, params)
    assert hic_state(state).events.parted_tensors == 1


def test_after_time_has_passed_parameters_may_be_read_anew():
    tx = optax.chain(optax.sgd(1.0), _hardware(hic_jax.HICSpec()))
    state, params, _ = run(tx, PARAMS, _gradients, 3)
    state = hic_jax.age(state, hic_jax.YEAR)
    params = hic_jax.read_params(params, hic_jax.analog_weights(state))
    updates, state = tx.update(_gradients(params, 0), state, params)
    assert hic_state(state).events.parted_tensors == 0
    params = optax.apply_updates(params, updates)
    _, state = tx.update(_gradients(params, 0), state, params)
    assert hic_state(state).events.parted_tensors == 0


# ---- what it was made with

CHANGES = {
    "lsb_bits": 4,
    "seconds_per_step": 3600.0,
    "refresh_every": 20,
    "stochastic_rounding": False,
    "multilevel": pcm.ideal(g_max=12.0),
    "binary": pcm.BinarySpec(stuck_set=0.25),
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A state on disk, and as bytes of flax."""
    state = _hardware().init(PARAMS)
    folder = tmp_path_factory.mktemp("orbax") / "state"
    saver = ocp.StandardCheckpointer()
    saver.save(folder, state)
    saver.wait_until_finished()
    return state, folder, flax.serialization.to_bytes(state)


def test_it_is_restored_with_the_same_spec(stored):
    state, folder, data = stored
    template = jax.eval_shape(_hardware().init, PARAMS)
    for again in (
        ocp.StandardCheckpointer().restore(folder, template),
        flax.serialization.from_bytes(state, data),
        pickle.loads(pickle.dumps(state)),
    ):
        assert again.layout == state.layout
        jax.tree.map(np.testing.assert_array_equal, again, state)


@pytest.mark.parametrize("name", CHANGES)
def test_a_state_is_not_restored_with_another_spec(stored, name):
    _, folder, data = stored
    other = dataclasses.replace(SPEC, **{name: CHANGES[name]})
    start = _hardware(other).init(PARAMS)
    shapes = jax.eval_shape(_hardware(other).init, PARAMS)
    with pytest.raises(ValueError, match=f"{name}="):
        ocp.StandardCheckpointer().restore(folder, shapes)
    with pytest.raises(ValueError, match=f"{name}="):
        flax.serialization.from_bytes(start, data)


def test_an_update_of_another_spec_names_what_differs():
    other = dataclasses.replace(SPEC, lsb_bits=4, multilevel=pcm.ideal(g_max=12.0))
    state = _hardware().init(PARAMS)
    message = r"multilevel.g_max: 20.0 != 12.0; lsb_bits: 7 != 4"
    with pytest.raises(ValueError, match=message):
        jax.jit(_hardware(other).update)(PARAMS, state, PARAMS)


# ---- its clock


def test_the_clock_adds_up_seconds_without_loss():
    spec = dataclasses.replace(SPEC, seconds_per_step=0.1)

    def step(_, clock):
        return _later(*clock, spec)

    start = (jnp.float32(0), jnp.float32(0))
    time, _ = jax.jit(lambda c: jax.lax.fori_loop(0, 3_000_000, step, c))(start)
    # Without its correction float32 is off by 20 % here.
    assert float(time) == pytest.approx(300_000, rel=1e-6)


def test_the_clock_goes_on_from_where_it_is():
    tx = _hardware(dataclasses.replace(SPEC, seconds_per_step=2.0))
    state, params, _ = run(tx, PARAMS, _gradients, 3)
    state = state._replace(count=jnp.int32(50))  # A count is no clock.
    _, state = tx.update(params, state, params)
    assert state.weights.time == 8


# ---- seeds, and tools of others


def test_seeds_of_every_kind_are_the_same_seed():
    keys = [3, np.int64(3), jnp.asarray(3), jax.random.key(3), jax.random.PRNGKey(3)]
    first, *others = [hic_jax.hic(SPEC, key).init(PARAMS) for key in keys]
    for other in others:
        jax.tree.map(np.testing.assert_array_equal, first, other)


def test_seeds_can_be_mapped_over():
    def words(seed):
        return hic_jax.hic(SPEC, seed).init(PARAMS).weights.accumulator

    mapped = jax.vmap(words)(jnp.arange(3))
    for seed in range(3):
        np.testing.assert_array_equal(mapped[seed], words(seed))


def test_sam_trains():
    spec = dataclasses.replace(SPEC, lsb_bits=8)
    tx = optax.contrib.sam(
        optax.chain(optax.sgd(0.5), hic_jax.hic(spec, 0)),
        optax.chain(optax.contrib.normalize(), optax.sgd(0.05)),
    )
    _, params, _ = run(tx, PARAMS, _gradients, 100)
    # A step of the devices is 0.15 here: weights cannot stay nearer than that to 1.
    assert _loss(params) < 0.03 * _loss(PARAMS)


def test_tools_of_optax_find_their_way():
    tx = optax.chain(optax.sgd(1.0, momentum=0.9), _hardware())
    state = tx.init(PARAMS)
    assert optax.tree.get(state, "events").set_pulses == 0
    assert optax.tree.get(state, "made_with")["lsb_bits=7"] == 0
    doubled = optax.tree.map_params(tx, lambda x: x + 2, state)
    np.testing.assert_array_equal(doubled[0][0].trace["a"], np.full((16, 8), 2))
    assert doubled[1] is state[1]
