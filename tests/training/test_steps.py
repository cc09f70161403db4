"""The training step: what moves, what is random, where and in what order it runs."""

import dataclasses
import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hic_jax
from hic_jax.algorithms import analog_states
from hic_jax.training import steps
from hic_jax.training.recipes import AnalogRecipe, Recipe, make_tx
from hic_jax.training.split import Split
from hic_jax.training.state import init_state

RATE, CLASSES, IMAGES, BATCH = 0.5, 3, 48, 16
UNSEEN = 1e-30  # A rate at which no float32 of a usual size changes.
IDEAL = hic_jax.HICSpec(multilevel=hic_jax.pcm.ideal(), word_steps=1, refresh_every=0)
# With all that a device can suffer from, and so slow that it drifts between two steps.
# Blind, so that read noise is no part of writing.
REAL = hic_jax.HICSpec(
    multilevel=dataclasses.replace(
        hic_jax.pcm.nandakumar_2018(drift_nu_std=0.008),
        stuck_set=0.05,
        step_spread=0.3,
    ),
    seconds_per_step=100.0,
    refresh_every=0,
    refresh_verify=False,
)
KEY = jax.random.key(8)


class Net(nn.Module):
    """The least that has analog and digital parameters and running statistics."""

    @nn.compact
    def __call__(self, images, *, train):
        # As good as random, and nothing to compile.
        def init(key, shape, dtype):
            return jnp.asarray(np.random.default_rng(0).uniform(-1, 1, shape), dtype)

        x = nn.Conv(4, (3, 3), use_bias=False, kernel_init=init, name="conv")(images)
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        x = jnp.mean(nn.relu(x), axis=(1, 2))
        return nn.Dense(CLASSES, kernel_init=init, name="head")(x)


@functools.cache
def _images():
    image_key, label_key = jax.random.split(jax.random.key(7))
    images = jax.random.randint(image_key, (IMAGES, 6, 6, 1), 0, 256)
    return Split(
        images=images.astype(jnp.uint8),
        labels=jax.random.randint(label_key, (IMAGES,), 0, CLASSES),
        mean=jnp.full(1, 0.5),
        std=jnp.full(1, 0.25),
    )


def _new_training(spec=IDEAL, seed=0, rate=RATE, **options):
    """The state before training, and a training step."""
    init_key, device_key = jax.random.split(jax.random.key(seed))
    recipe = Recipe(learning_rate=rate, schedule="constant", warmup=0.0)
    analog = AnalogRecipe(learning_rate=rate, trust_ratio=False)
    tx = make_tx(recipe, analog, spec, 1, device_key)
    options = {"augmentation": "none", "label_smoothing": 0.0} | options
    state = init_state(init_key, Net(), tx, (6, 6, 1))
    return state, steps.make_step(Net(), tx, **options)


# What several tests look at is made, and compiled, once.
_training = functools.cache(_new_training)


def _batches():
    """(6, BATCH) indices: two epochs."""
    epochs = [steps.epoch_order(jax.random.key(k), IMAGES, BATCH) for k in range(2)]
    return jnp.concatenate(epochs)


def _run(state, step, *, scan=False):
    """The state after six steps, and their metrics."""
    state = jax.tree.map(jnp.copy, state)  # Runners donate it.
    return steps.make_runner(step, KEY, scan=scan)(state, _images(), _batches())


@functools.cache
def _trained(spec=IDEAL):
    return _run(*_training(spec=spec))


def _plain(state):
    """A state without random keys, as NumPy arrays."""
    return jax.tree.map(
        lambda x: np.asarray(
            jax.random.key_data(x)
            if jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
            else x
        ),
        state,
    )


def _held(state):
    """Analog weights by layer, and what the accumulators hold below them."""
    weights = hic_jax.analog_weights(state.opt_state)
    return {
        layer: (
            hic_jax.read(weights[layer]["kernel"]),
            weights[layer]["kernel"].accumulator,
            IDEAL.lsb / weights[layer]["kernel"].scale,
        )
        for layer in ("conv", "head")
    }


def test_hic_on_ideal_devices_moves_as_fp32_sgd():
    state, step = _training()
    start, fp32_step = _training(None)
    start = start.replace(params=state.params)
    before = _held(state)
    moved, metrics = jax.jit(step)(state, _images(), jnp.arange(BATCH), KEY)
    reference, fp32 = jax.jit(fp32_step)(start, _images(), jnp.arange(BATCH), KEY)
    # One computation compiled twice, in float32.
    for name, value in fp32.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-6)
    chex.assert_trees_all_close(moved.batch_stats, reference.batch_stats, rtol=1e-6)
    for layer, (weight, word, lsb) in _held(moved).items():
        old_weight, old_word, _ = before[layer]
        change = weight - old_weight + lsb * (word - old_word)
        wanted = reference.params[layer]["kernel"] - start.params[layer]["kernel"]
        assert jnp.max(jnp.abs(wanted)) > 5 * jnp.max(lsb)
        # Stochastic rounding is off by less than an LSB.
        assert jnp.all(jnp.abs(change - wanted) < 1.001 * lsb)
    for layer, name in (("norm", "scale"), ("norm", "bias"), ("head", "bias")):
        np.testing.assert_allclose(
            moved.params[layer][name], reference.params[layer][name], rtol=1e-5
        )


def test_training_starts_from_what_the_devices_hold():
    state, _ = _training(spec=REAL)
    weights = hic_jax.analog_weights(state.opt_state)
    held = hic_jax.read_params(state.params, weights)
    # One read compiled twice.
    chex.assert_trees_all_close(state.params, held, rtol=1e-6)
    assert state.step == 0


def test_loss_and_accuracy_are_those_of_the_batch():
    state, step = _training(None, rate=UNSEEN, label_smoothing=0.3)
    batch = np.arange(5, 5 + BATCH)
    pixels = (np.asarray(_images().images[batch]) / 255 - 0.5) / 0.25
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    logits, _ = Net().apply(variables, pixels, train=True, mutable=["batch_stats"])
    logits, labels = np.asarray(logits, np.float64), np.asarray(_images().labels[batch])
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    targets = 0.7 * np.eye(CLASSES)[labels] + 0.3 / CLASSES
    _, metrics = jax.jit(step)(state, _images(), jnp.asarray(batch), KEY)
    assert set(metrics) == {"loss", "accuracy"}
    expected = -(targets * log_p).sum(axis=1).mean()
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
    assert metrics["accuracy"] == np.mean(logits.argmax(axis=1) == labels)


def test_every_device_event_is_a_metric():
    state, metrics = _trained(REAL)
    events = vars(analog_states(state.opt_state)[0].events)
    assert set(metrics) == {"loss", "accuracy", *events}
    assert all(values.shape == (6,) for values in metrics.values())
    for name, last in events.items():
        assert metrics[name][-1] == jnp.sum(last)
    assert jnp.all(metrics["accepted_lsbs"] > 0)


@pytest.mark.parametrize("scan", [False, True])
def test_a_program_compiled_ahead_from_shapes_is_the_one_that_runs(scan, caplog):
    state, step = _new_training()
    run = steps.make_runner(step, KEY, scan=scan)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
    compiled = f"XLA compilation of jit({'scan_steps' if scan else 'step'})"
    with jax.log_compiles():
        run.compile(shapes, _images(), _batches())
        assert compiled in caplog.text
        caplog.clear()
        run(state, _images(), _batches())
    assert compiled not in caplog.text


@pytest.mark.parametrize(("scan", "told"), [(False, 6 * [1]), (True, [6])])
def test_how_many_steps_are_done_is_told_meanwhile(scan, told):
    state, step = _new_training()
    done = []
    run = steps.make_runner(step, KEY, scan=scan)
    state, metrics = run(state, _images(), _batches(), done.append)
    assert done == told
    assert metrics["loss"].shape == (6,) and state.step == 6


@pytest.mark.parametrize("augmentation", ["none", "crop"])
def test_every_step_augments_anew(augmentation):
    state, step = _training(None, rate=UNSEEN, augmentation=augmentation)
    # Images of 8 x 8 pixels are the smallest that are shifted.
    images = jnp.pad(_images().images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    batches = jnp.tile(jnp.arange(BATCH), (4, 1))
    _, metrics = steps.make_runner(step, KEY)(
        state, _images().replace(images=images), batches
    )
    assert len(set(metrics["loss"].tolist())) == (1 if augmentation == "none" else 4)


def test_a_scan_and_a_loop_are_the_same_fp32_run():
    loop, scan = (_run(*_training(None), scan=scan) for scan in (False, True))
    # Two compilations of one computation, in float32.
    chex.assert_trees_all_close(scan, loop, rtol=1e-4, atol=1e-5)


def test_a_scan_and_a_loop_are_the_same_hic_run():
    (loop, loop_metrics), (scan, scan_metrics) = (
        _trained(IDEAL),
        _run(*_training(), scan=True),
    )
    np.testing.assert_allclose(scan_metrics["loss"], loop_metrics["loss"], rtol=1e-3)
    for layer, (_, word, _) in _held(loop).items():
        # Where float32 rounding meets the draw of stochastic rounding, one LSB.
        apart = np.abs(np.subtract(_held(scan)[layer][1], word, dtype=int))
        assert np.max(apart) <= 1
        assert np.sum(apart) <= 0.1 * apart.size


def test_the_same_seed_is_the_same_run_bit_for_bit():
    (first, metrics), (again, metrics_again) = (
        _trained(REAL),
        _run(*_new_training(spec=REAL)),
    )
    chex.assert_trees_all_equal(metrics, metrics_again)
    chex.assert_trees_all_equal(_plain(first), _plain(again))


def test_every_seed_runs_the_same_program():
    programs = set()
    for seed in (0, 1):
        state, step = _new_training(spec=REAL, seed=seed)
        run = steps.make_runner(step, jax.random.key(seed))
        batch = _batches()[0]
        programs.add(run.program.lower(state, _images(), batch, run.key).as_text())
    assert len(programs) == 1


def test_another_seed_is_another_run():
    (first, metrics), (other, metrics_other) = (
        _trained(REAL),
        _run(*_new_training(spec=REAL, seed=1)),
    )
    assert jnp.all(metrics["loss"] != metrics_other["loss"])
    for layer, (weight, word, _) in _held(first).items():
        other_weight, other_word, _ = _held(other)[layer]
        assert jnp.any(weight != other_weight)
        assert jnp.any(word != other_word)


def _alone(*names):
    """A run on devices with these non-idealities and no other."""
    spec = dataclasses.replace(REAL, multilevel=REAL.multilevel.only(*names))
    return _trained(spec)


@pytest.mark.parametrize("name", hic_jax.pcm.MultilevelSpec.NON_IDEALITIES)
def test_each_non_ideality_alone_changes_what_is_trained(name):
    (clean, _), (trained, _) = _alone(), _alone(name)
    for layer in ("conv", "head"):
        kernel, reference = (s.params[layer]["kernel"] for s in (trained, clean))
        assert jnp.max(jnp.abs(kernel - reference)) > 0.01 * jnp.std(reference)


@pytest.mark.parametrize("name", ["read_noise", "drift", "drift_spread"])
def test_what_does_not_disturb_writing_disturbs_the_forward_pass(name):
    (_, clean), (_, metrics) = _alone(), _alone(name)
    # Devices are as they were programmed until the first update.
    assert metrics["loss"][0] == clean["loss"][0]
    assert jnp.abs(metrics["loss"][1] - clean["loss"][1]) > 1e-4


@pytest.mark.parametrize(("size", "batch"), [(48, 16), (50, 16), (7, 7)])
def test_epoch_order_takes_each_image_once(size, batch):
    order = np.asarray(steps.epoch_order(jax.random.key(0), size, batch))
    assert order.shape == (size // batch, batch)
    assert len(np.unique(order)) == order.size
    assert 0 <= order.min() <= order.max() < size


def test_epoch_order_follows_its_key():
    orders = [steps.epoch_order(jax.random.key(k), 48, 16).tolist() for k in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_the_library_prints_nothing(capsys):
    _run(*_training())
    assert capsys.readouterr() == ("", "")
