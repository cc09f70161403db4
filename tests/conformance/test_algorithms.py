"""What every algorithm keeps to: an entry in `ALGORITHMS` is enough to be tested."""

import dataclasses
import functools

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import hic_jax
from hic_jax import compensation, pcm
from hic_jax.algorithms import ALGORITHMS, analog, analog_states, analog_weights
from hic_jax.pcm import pair
from hic_jax.training import mesh, steps
from hic_jax.training.split import Split
from hic_jax.training.state import init_state
from hic_jax.weights import DAY, YEAR
from tests import virtual_devices
from tests.conformance.trained import (
    OTHER_RULES,
    PARAMS,
    REFRESHED,
    SHAPE,
    arrays_of,
    fine_spec,
    scale_of,
    some_updates,
    spec_of,
    steps_of,
    trained,
    trainer,
)
from tests.key_recorder import keys_used_once

every_algorithm = pytest.mark.parametrize("name", ALGORITHMS)


def same(one, two):
    """Bit for bit, NaN as NaN."""
    jax.tree.map(np.testing.assert_array_equal, one, two)


def kernel(run, key=None):
    """What the devices hold, read exactly or with noise."""
    return np.asarray(hic_jax.read(run.weights, key=key)["kernel"])


def sets_of(run):
    sets, _ = run.weights["kernel"].pulses()["multilevel"]
    return sets.astype(int)


# ---- the arithmetic


@pytest.mark.parametrize("name", [n for n in ALGORITHMS if n not in OTHER_RULES])
def test_on_ideal_devices_of_fine_steps_it_is_sgd(name):
    """Two hundred updates of at most 20 steps, as gradients of a loss ask for them."""
    target = jax.random.uniform(jax.random.key(1), (1024, 1), minval=-1e-3, maxval=1e-3)

    def run(tx, params):
        def step(carry, _):
            params, state = carry
            updates, state = tx.update(params - target, state, params)
            return (optax.apply_updates(params, updates), state), None

        carry = params, tx.init(params)
        return jax.jit(lambda c: jax.lax.scan(step, c, length=200)[0])(carry)

    zeros, rule = jnp.zeros((1024, 1)), optax.sgd(0.005)
    expected, _ = run(rule, zeros)
    tx = optax.chain(rule, analog(fine_spec(name), jax.random.key(0)))
    found, state = run(tx, zeros)
    assert np.abs(expected).max() > 5e-4
    # A step is 2.4e-7; rounding each update stochastically errs by some 5 of them.
    np.testing.assert_allclose(found, expected, atol=1e-5)
    held = hic_jax.read(analog_weights(state))
    np.testing.assert_allclose(held, found, rtol=1e-6)  # A difference was added.


@every_algorithm
def test_noisy_devices_are_not_by_passed(name):
    spec = spec_of(name)
    run, start = trained(spec), trainer(spec).start()
    ideal = kernel(start) + sum(u["kernel"] for u in some_updates(spec, start))
    error = (kernel(run) - ideal) * scale_of(run)
    # A pulse adds 0.8 uS, with a deviation of 1 to 2 uS, and each weight has had some.
    assert run.total("set_pulses") > kernel(run).size
    assert 0.5 < error.std() < 10
    assert np.corrcoef(kernel(run).ravel(), ideal.ravel())[0, 1] > 0.5


@every_algorithm
def test_without_a_pulse_nothing_but_noise_changes(name):
    spec = spec_of(name)
    start, nothing = trainer(spec).start(), [steps_of(spec, 1.0, 0.0)]
    runs = [trainer(spec).train(start, nothing * n) for n in (1, 4)]
    for run in runs:
        assert run.total("set_pulses") == 0
        np.testing.assert_array_equal(kernel(run), kernel(start))
        weight, variance = run.weights["kernel"], 0.0
        gains = (1.0, *getattr(spec, "gains", ()))
        for array, gain in zip(arrays_of(weight), gains, strict=True):
            std = gain * spec.multilevel.read_std(array.g)
            variance += float(jnp.mean(jnp.sum(std**2, axis=0)))
        noise = (run.params["kernel"] - kernel(run)) * scale_of(run)
        # Five standard errors of 256 weights, whose deviations differ a little.
        assert noise.std() == pytest.approx(np.sqrt(variance), rel=5 / np.sqrt(512))
    one, two = (run.params["kernel"] - kernel(run) for run in runs)
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 5 / np.sqrt(256)


BAD = {"nan": np.nan, "inf": np.inf, "minus inf": -np.inf, "huge": 1e30, "large": -1e5}


@every_algorithm
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_nothing_is_dropped_without_a_count(name, bad):
    spec = spec_of(name)
    train = trainer(spec)
    start = train.start()
    wanted = jnp.zeros(SHAPE).at[3, 1].set(bad)
    run = train.train(start, [steps_of(spec, scale_of(start), wanted)])
    told = {
        field: float(jnp.sum(x))
        for field, x in vars(run.events[0]).items()
        if field.startswith(("undefined_updates", "clipped", "lost", "futile"))
    }
    # What is not told of is not lost: it comes with later updates, of nothing else.
    nothing = steps_of(spec, 1.0, 0.0)
    later = train.train(run, [nothing] * 2)
    fired = later.total("set_pulses") - run.total("set_pulses")
    assert max(told.values()) > 0 or fired > 0, told
    assert all(np.isfinite(list(told.values())))
    for after in (run, later):
        assert np.isfinite(kernel(after)).all()
        assert np.isfinite(after.params["kernel"]).all()
        others = np.delete(kernel(after).ravel(), 3 * SHAPE[1] + 1)
        untouched = np.delete(kernel(start).ravel(), 3 * SHAPE[1] + 1)
        np.testing.assert_array_equal(others, untouched)


# ---- its state


@every_algorithm
@pytest.mark.parametrize("by", ["arrays", "bytes"])
def test_resumed_is_uninterrupted(name, by):
    spec = spec_of(name, **REFRESHED)
    train, whole = trainer(spec), trained(spec)
    start = train.start()
    updates = some_updates(spec, start)
    half = train.train(start, updates[:3])
    if by == "arrays":
        stored = jax.device_get(half[:2])
        params, state = jax.tree.map(jnp.array, stored)
    else:
        stored = flax.serialization.to_bytes(half[:2])
        other = analog(spec, jax.random.key(9)).init(PARAMS)  # All of it is replaced.
        params, state = flax.serialization.from_bytes((PARAMS, other), stored)
    resumed = train.train(half._replace(params=params, state=state), updates[3:])
    same(resumed.params, whole.params)
    same(resumed.state, whole.state)
    assert whole.total("refreshed_pairs") > 0
    assert (np.asarray(whole.params["kernel"]) != half.params["kernel"]).any()


@every_algorithm
def test_a_state_of_another_algorithm_or_spec_is_refused(name):
    spec = spec_of(name)
    run = trained(spec)
    stored = flax.serialization.to_bytes(run.state)
    others = [spec_of(n) for n in ALGORITHMS if n != name]
    others.append(dataclasses.replace(spec, multilevel_bits=5))
    for other in others:
        tx = analog(other, 0)
        with pytest.raises(ValueError, match=r"made with another specification .*!="):
            tx.update(run.params, run.state, run.params)
        with pytest.raises(ValueError, match="state dict"):
            flax.serialization.from_bytes(jax.eval_shape(tx.init, PARAMS), stored)


@every_algorithm
def test_every_draw_has_a_key_of_its_own(name):
    spec = spec_of(name, **REFRESHED)
    tx, start = analog(spec, jax.random.key(0)), trainer(spec).start()
    params, state = start.params, start.state
    updates = some_updates(spec, start, number=2)
    with keys_used_once() as record:
        update = jax.jit(tx.update)
        for wanted in updates:
            change, state = update(wanted, state, params)
            params = optax.apply_updates(params, change)
    assert state.events.refreshed_pairs > 0
    # In each step a read and a pulse, and those of a refresh.
    assert len(record.draws) > 2 * 2


@every_algorithm
def test_chips_of_a_vmap_are_those_of_a_loop(name):
    spec, train = spec_of(name), trainer(spec_of(name))
    start = train.start()
    (wanted,) = some_updates(spec, start, number=1)

    @jax.jit
    @jax.vmap
    def chips(key):
        tx = analog(spec, key)
        change, state = tx.update(wanted, tx.init(PARAMS), PARAMS)
        return optax.apply_updates(PARAMS, change)["kernel"], state.events.set_pulses

    keys = jnp.stack([jax.random.key(0), jax.random.key(1)])
    (mapped, fired), (turned, _) = chips(keys), chips(keys[::-1])
    alone = train.train(start, [wanted])
    # To rounding: a compiler fuses what is mapped in another way.
    np.testing.assert_allclose(mapped[0], alone.params["kernel"], rtol=1e-5, atol=1e-6)
    assert fired[0] == alone.total("set_pulses")
    np.testing.assert_array_equal(turned, mapped[::-1])
    assert (np.asarray(mapped[0]) != mapped[1]).mean() > 0.9


# ---- many devices of a computer

BATCH, MESH = 16, 8


@functools.cache
def _started(name):
    """An algorithm, and its parameters and state before the first step."""
    tx = analog(spec_of(name, pcm.ideal(), track_wear=False), 0)
    params = {"kernel": PARAMS["kernel"][:8, :2]}
    return tx, (params, jax.jit(tx.init)(params))


def _on_mesh(size):
    """What the devices of each algorithm hold after a few steps on so many."""
    over = mesh.make_mesh(BATCH, size)
    data = NamedSharding(over, PartitionSpec(mesh.AXIS))
    rng = np.random.default_rng(0)
    # Sums of small integers are exact in whatever order they are made.
    x = jax.device_put(rng.integers(-4, 5, (BATCH, 8)).astype(np.float32), data)
    c = jax.device_put(rng.integers(-4, 5, (BATCH, 2)).astype(np.float32), data)
    held = {}
    for name in ALGORITHMS:
        tx, start = _started(name)
        params, state = mesh.replicate(start, over)

        @jax.jit
        def step(params, state, x, c, tx=tx):
            def loss(p):
                return jnp.sum((x @ p["kernel"]) * c) / 64

            grads = mesh.replicate(jax.grad(loss)(params), over)
            change, state = tx.update(grads, state, params)
            params = optax.apply_updates(params, change)
            return mesh.replicate((params, state), over)

        for _ in range(4):
            params, state = step(params, state, x, c)
        leaves = jax.tree.leaves(state.weights)
        held[name] = [
            np.asarray(params["kernel"]).tolist(),
            *[np.asarray(leaf).tolist() for leaf in leaves],
            float(state.events.set_pulses),
        ]
    return held


def _on_both():
    return [_on_mesh(1), _on_mesh(MESH)]


@pytest.fixture(scope="module")
def on_both():
    return virtual_devices.call(__file__, "_on_both", devices=MESH)


@every_algorithm
def test_eight_devices_do_what_one_does(name, on_both):
    one, eight = (held[name] for held in on_both)
    assert eight == one
    assert (np.asarray(one[0]) != PARAMS["kernel"][:8, :2]).all()
    assert one[-1] > 0


# ---- time

FACTOR = (YEAR / 38.6) ** -0.04


@every_algorithm
def test_drift_changes_its_reads_by_the_factor_of_its_devices(name):
    run = trainer(spec_of(name)).start()
    before = kernel(run)
    old = hic_jax.read(hic_jax.drift(run.weights, YEAR))["kernel"]
    np.testing.assert_allclose(old, before * FACTOR, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(kernel(run), before)
    exempt = run.weights["kernel"].without("drift").aged(YEAR)
    np.testing.assert_allclose(exempt.read(None), before, rtol=1e-6)


@every_algorithm
def test_age_makes_its_devices_older_and_what_is_written_later_young(name):
    spec = spec_of(name)
    train, run = trainer(spec), trainer(spec).start()
    aged = run._replace(state=hic_jax.age(run.state, YEAR))
    np.testing.assert_allclose(kernel(aged), kernel(run) * FACTOR, rtol=1e-4, atol=1e-6)
    up = steps_of(spec, scale_of(run), 3.0)
    later = train.train(aged, [up] * 2)
    fired = sets_of(later) > sets_of(aged)
    arrays = arrays_of(later.weights["kernel"])
    written = np.concatenate([np.asarray(array.written_at) for array in arrays])
    fired = fired.reshape(written.shape)
    # Of several arrays the last is the one that updates go to.
    assert fired[-2].mean() > 0.9
    assert fired[1::2].mean() < 0.05  # A transfer may read noise.
    assert (written[fired] >= 0).all()
    # A stamp is off by 1/1024 of its age at most.
    np.testing.assert_allclose(written[~fired], -YEAR, rtol=1 / 1024)


@every_algorithm
def test_compensations_see_what_has_become_of_its_weights(name):
    weights = trainer(spec_of(name)).start().weights
    old = hic_jax.drift(weights, YEAR)
    new = compensation.column_currents(weights)
    ratio = compensation.column_currents(old)["kernel"] / new["kernel"]
    np.testing.assert_allclose(ratio, np.full((1, SHAPE[1]), FACTOR), rtol=1e-4)
    gains = compensation.gains(old, new)["kernel"]
    np.testing.assert_allclose(gains, np.full((1, 1), 1 / FACTOR), rtol=1e-4)
    images = jax.random.normal(jax.random.key(0), (2, 32, SHAPE[0]))

    def update(params, stats, batch):
        found = jnp.var(batch @ params["kernel"], axis=0)
        return {"var": 0.9 * stats["var"] + 0.1 * found}

    young, aged = (
        compensation.adabs(update, PARAMS, {"var": jnp.zeros(SHAPE[1])}, w, images)
        for w in (weights, old)
    )
    # A variance goes with the square.
    np.testing.assert_allclose(aged["var"] / young["var"], FACTOR**2, rtol=1e-3)


def test_age_raises_where_there_is_nothing_to_age():
    state = optax.sgd(0.1, momentum=0.9).init(PARAMS)
    with pytest.raises(ValueError, match="nothing to age"):
        hic_jax.age(state, DAY)
    with pytest.raises(ValueError, match="opt_state holds no analog weight"):
        analog_weights(state)


# ---- wear


@every_algorithm
def test_wear_is_that_of_programming_and_of_every_pulse(name):
    run, start = trained(spec_of(name)), trainer(spec_of(name)).start()
    fired = run.total("set_pulses")
    assert fired > 0
    assert sets_of(run).sum() - sets_of(start).sum() == fired
    resets = run.weights["kernel"].pulses()["multilevel"][1]
    np.testing.assert_array_equal(resets, np.ones_like(resets))  # Of programming.


@every_algorithm
def test_a_refresh_counts_its_resets(name):
    run = trained(spec_of(name, **REFRESHED))
    sets, resets = run.weights["kernel"].pulses()["multilevel"]
    assert run.total("refreshed_pairs") > 0
    # Each device of a pair, and one RESET of programming.
    refreshed = (resets.astype(int) - 1).sum(axis=1).reshape(-1, 2)
    np.testing.assert_array_equal(refreshed[:, 0], refreshed[:, 1])
    assert refreshed[:, 0].sum() == run.total("refreshed_pairs")
    assert sets.sum() > run.total("set_pulses")


@every_algorithm
def test_without_counters_it_is_written_alike(name):
    spec = spec_of(name)
    counted, uncounted = (
        trainer(dataclasses.replace(spec, track_wear=t)).start() for t in (True, False)
    )
    np.testing.assert_array_equal(kernel(uncounted), kernel(counted))
    with pytest.raises(ValueError, match="track_wear=False"):
        uncounted.weights["kernel"].pulses()


# ---- several devices on each side


@every_algorithm
def test_several_devices_on_a_side_are_held_counted_and_used_in_turn(name):
    spec = spec_of(name, devices_per_sign=4)
    train = trainer(spec)
    start = train.start()
    weight = start.weights["kernel"]
    size, single = np.prod(SHAPE), trainer(spec_of(name)).start().weights["kernel"]
    arrays = len(arrays_of(weight))
    assert weight.multilevel.g.shape == (8, *SHAPE)
    assert weight.devices()["multilevel"] == 8 * size * arrays
    assert weight.bits()["inference"] == 4 * single.bits()["inference"]
    # What is not on devices is as large.
    extra = [
        w.bits()["training"] - size * w.spec.multilevel_bits * w.spec.devices_per_sign
        * arrays
        for w in (weight, single)
    ]  # fmt: skip
    assert extra[0] == extra[1] >= 0
    sets, resets = weight.pulses()["multilevel"]
    assert sets.shape == resets.shape == (8 * arrays, size)
    run = train.train(start, [steps_of(spec, scale_of(start), 4.0)] * 8)
    fired = (sets_of(run) - sets_of(start)).sum(axis=1)
    fired = fired.reshape(arrays, 8).sum(axis=0)
    assert fired.sum() == run.total("set_pulses")
    assert fired[:4].sum() > 8 * size
    # Four pulses at a time, one for each; a carry or a transfer may take a few more.
    np.testing.assert_allclose(fired[:4], fired[:4].mean(), rtol=0.15)
    assert fired[4:].sum() < 0.2 * fired[:4].sum()  # A verified one may go back.


# ---- beside others


class Net(nn.Module):
    """A layer for each algorithm, one after the other."""

    @nn.compact
    def __call__(self, images, *, train):
        x = images.reshape(len(images), -1)
        for name in ALGORITHMS:
            x = nn.Dense(6, use_bias=False, name=name)(x)
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        return nn.Dense(3, name="head")(x)


def _labels(params):
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[0].key if path[0].key in ALGORITHMS else "digital", params
    )


# One device of each kind: constants make no difference to what is compiled.
KINDS = {"one-sided": pcm.nandakumar_2018, "two-sided": pcm.reram_om}


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS)
def together(request):
    """A network of all algorithms on one kind of device, after four steps."""
    device = request.param()
    rules = {
        name: optax.chain(optax.adam(0.1), analog(spec_of(name, device), seed))
        for seed, name in enumerate(ALGORITHMS)
    }
    tx = optax.partition(rules | {"digital": optax.sgd(0.1)}, _labels)
    rng = np.random.default_rng(0)
    train = Split(
        images=jnp.asarray(rng.integers(0, 256, (24, 4, 4, 1)), jnp.uint8),
        labels=jnp.arange(24) % 3,
        mean=jnp.full(1, 0.5),
        std=jnp.full(1, 0.25),
    )
    model = Net()
    state = init_state(jax.random.key(0), model, tx, (4, 4, 1))
    step = jax.jit(steps.make_step(model, tx, augmentation="none", label_smoothing=0.0))
    before = jax.tree.map(np.asarray, state.params)
    for _ in range(4):
        state, metrics = step(state, train, jnp.arange(24), jax.random.key(1))
    return before, state, metrics


def test_all_algorithms_train_any_device_side_by_side(together):
    before, state, _ = together
    weights = analog_weights(state.opt_state)
    assert isinstance(weights["head"]["kernel"], optax.MaskedNode)
    held = hic_jax.read(weights)
    for name, kind in ALGORITHMS.items():
        weight = weights[name]["kernel"]
        assert type(weight.spec) is kind
        assert weight.shape == before[name]["kernel"].shape
        assert np.isfinite(held[name]["kernel"]).all()
        assert (
            np.asarray(state.params[name]["kernel"]) != before[name]["kernel"]
        ).any()
        assert (weight.pulses()["multilevel"][0] > 0).any()
    params = hic_jax.read_params(state.params, weights)
    same(params["head"], state.params["head"])
    same(params["norm"], state.params["norm"])
    for name in ALGORITHMS:
        same(params[name], held[name])


def test_events_of_all_algorithms_are_added(together):
    _, state, metrics = together
    events = [s.events for s in analog_states(state.opt_state)]
    assert len(events) == len(ALGORITHMS)
    names = {name for e in events for name in vars(e)}
    assert names <= metrics.keys()
    for name in names:
        total = sum(float(jnp.sum(getattr(e, name, 0.0))) for e in events)
        assert float(metrics[name]) == pytest.approx(total, rel=1e-5)
    assert metrics["set_pulses"] > 0


def test_age_and_drift_act_on_the_devices_of_all_algorithms(together):
    _, state, _ = together
    weights = analog_weights(state.opt_state)
    aged = analog_weights(hic_jax.age(state.opt_state, DAY))
    drifted = hic_jax.drift(weights, DAY)
    for name in ALGORITHMS:
        now, before = weights[name]["kernel"], weights[name]["kernel"].multilevel
        for old in (aged[name]["kernel"], drifted[name]["kernel"]):
            ages = old.time - old.multilevel.written_at
            ages -= now.time - before.written_at
            np.testing.assert_allclose(ages, np.full(ages.shape, DAY), rtol=1e-4)
            spec = now.spec.multilevel
            found = pair.conductances(old.multilevel, old.time, spec)
            ages = now.time - before.written_at + DAY
            expected = spec.conductance(before.devices, ages)
            np.testing.assert_allclose(found, expected, rtol=1e-4)
