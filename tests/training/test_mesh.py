"""Many devices do what one does: training, evaluation, calibration."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hic_jax
from hic_jax import crossbar
from hic_jax.algorithms import analog_states
from hic_jax.inference import compensations
from hic_jax.inference.network import Network, answers
from hic_jax.training import mesh, steps
from hic_jax.training.recipes import AnalogRecipe, Recipe, make_tx
from hic_jax.training.split import Split
from hic_jax.training.state import init_state
from tests import virtual_devices

DEVICES, STEPS, WORDS = 8, 50, 10
# Neither the images nor 20 of them, of an evaluation, can be shared by eight devices.
IMAGES, TESTED, BATCH, CLASSES = 50, 20, 16, 3
SHARED = (16, 100, 7, 11)
KEY = jax.random.key(8)


class Net(nn.Module):
    """The least that has analog and digital parameters and running statistics."""

    spec: crossbar.CrossbarSpec | None

    @nn.compact
    def __call__(self, images, *, train):
        conv = dense = {}
        if self.spec:
            conv = {"conv_general_dilated": crossbar.LinenConvGeneralDilated(self.spec)}
            dense = {"dot_general": crossbar.LinenDotGeneral(self.spec)}
        x = nn.Conv(4, (3, 3), use_bias=False, name="conv", **conv)(images)
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        x = jnp.mean(nn.relu(x), axis=(1, 2))
        return nn.Dense(CLASSES, name="head", **dense)(x)


def _training(spec, devices):
    """Model, state and images on so many devices, and a training step."""
    image_key, label_key, init_key, device_key = jax.random.split(jax.random.key(7), 4)
    images = jax.random.randint(image_key, (IMAGES, 8, 8, 1), 0, 256)
    split = Split(
        images=images.astype(jnp.uint8),
        labels=jax.random.randint(label_key, (IMAGES,), 0, CLASSES),
        mean=jnp.full(1, 0.5),
        std=jnp.full(1, 0.25),
    )
    recipe = Recipe(learning_rate=0.2, schedule="constant", warmup=0.0)
    analog = AnalogRecipe(learning_rate=0.02)
    # Nothing is compiled that is the same everywhere anyway.
    hardware = hic_jax.HICSpec(
        multilevel=hic_jax.pcm.ideal(), refresh_every=0, track_wear=False
    )
    model, tx = Net(spec), make_tx(recipe, analog, hardware, STEPS, device_key)
    state = init_state(init_key, model, tx, (8, 8, 1))
    step = steps.make_step(model, tx, augmentation="crop_flip", label_smoothing=0.0)
    over = mesh.make_mesh(BATCH, devices)
    return model, mesh.replicate(state, over), split.over(over), step


def _batches():
    epochs = [steps.epoch_order(jax.random.key(k), IMAGES, BATCH) for k in range(17)]
    return jnp.concatenate(epochs)[:STEPS]


def _word(state):
    return analog_states(state.opt_state)[0].weights.accumulator.tolist()


def _exact(devices):
    """What a training without converters comes to, as plain lists."""
    model, state, images, step = _training(None, devices)
    run, losses, words = steps.make_runner(step, KEY, scan=False), [], []
    for batch in _batches():
        state, metrics = run(state, images, batch[None])
        losses.append(float(metrics["loss"][0]))
        words.append(_word(state))
    network, key = Network.of(state), jax.random.key(1)
    adabs = compensations.adabs(key, model, network, images, batches=3)
    parts = {
        "state": jax.tree.leaves(state.params)[0],
        "word": analog_states(state.opt_state)[0].weights.accumulator,
        "images": images.images,
        "batch": jax.jit(Split.batch)(images, _batches()[0])[0],
    }
    correct = answers(key, model, network, images, batch_size=TESTED).correct
    return {
        "losses": losses,
        "words": words[:WORDS],
        "correct": int(correct),
        "adabs": [x.tolist() for x in jax.tree.leaves(adabs.batch_stats)],
        "parts": {
            name: [list(s.data.shape) for s in x.addressable_shards]
            for name, x in parts.items()
        },
    }


def _scanned(devices):
    """The words after some steps of a scan."""
    _, state, images, step = _training(None, devices)
    run = steps.make_runner(step, KEY, scan=True)
    return _word(run(state, images, _batches()[:WORDS])[0])


def _converted(devices):
    """Loss and ranges of a step with noisy converters."""
    spec = crossbar.CrossbarSpec(adc_range="running", adc_noise=0.05)
    _, state, images, step = _training(spec, devices)
    state, metrics = jax.jit(step)(state, images, _batches()[0], KEY)
    return {
        "loss": float(metrics["loss"]),
        "ranges": [x.tolist() for x in jax.tree.leaves(state.ranges)],
        "word": _word(state),
    }


def _all(devices):
    shared = {size: mesh.make_mesh(size).size for size in SHARED}
    with pytest.raises(ValueError) as error:
        mesh.make_mesh(BATCH, 3)
    return {
        "exact": _exact(devices),
        "scanned": _scanned(devices),
        "converted": _converted(devices),
        "shared": shared,
        "error": str(error.value),
    }


@pytest.fixture(scope="module")
def many():
    """What eight devices, of another process, come to."""
    return virtual_devices.call(__file__, "_all", DEVICES, devices=DEVICES)


one = functools.cache(_exact)


def test_losses_are_those_of_one_device(many):
    # The order in which a batch is summed differs: float32 rounding.
    np.testing.assert_allclose(many["exact"]["losses"], one(1)["losses"], rtol=1e-5)
    assert len(set(many["exact"]["losses"])) == STEPS


def test_accumulators_are_those_of_one_device(many):
    # An update that float32 rounding takes to the other side of a draw of stochastic
    # rounding would be one LSB more or less. That is a matter of luck: rounding is off
    # by some 1e-6 of an LSB, and there are 48 weights and ten steps.
    assert many["exact"]["words"] == one(1)["words"]
    assert all(map(any, many["exact"]["words"]))


def test_a_scan_over_many_devices_is_the_loop_on_one(many):
    assert many["scanned"] == one(1)["words"][-1]


def test_answers_are_those_of_one_device(many):
    assert many["exact"]["correct"] == one(1)["correct"]
    # An image that fills up a batch is not counted again.
    assert 0 < one(1)["correct"] < IMAGES


def test_calibration_is_that_of_one_device(many):
    for mine, others in zip(many["exact"]["adabs"], one(1)["adabs"], strict=True):
        np.testing.assert_allclose(mine, others, rtol=1e-4, atol=1e-6)  # Sums, again.


def test_converters_see_the_whole_batch(many):
    """One step only.

    From then on a sum that differs in its last bit may lie on the other side of a
    boundary between two codes. That activation changes by a whole code, 1/127 of its
    range, and two trainings part.
    """
    mine, others = many["converted"], _converted(1)
    np.testing.assert_allclose(mine["loss"], others["loss"], rtol=1e-5)
    assert len(mine["ranges"]) == 2  # Of a convolution and of a dense layer.
    for ranges, expected in zip(mine["ranges"], others["ranges"], strict=True):
        np.testing.assert_allclose(ranges, expected, rtol=1e-5)
        assert np.all(np.asarray(ranges) > 0)
    assert mine["word"] == others["word"]


def test_each_device_has_its_share_of_a_batch_and_a_copy_of_all_else(many):
    parts, whole = many["exact"]["parts"], one(1)["parts"]
    for name in ("state", "word", "images"):
        assert parts[name] == whole[name] * DEVICES
    assert parts["batch"] == [[BATCH // DEVICES, 8, 8, 1]] * DEVICES


def test_a_mesh_is_as_large_as_the_batch_allows(many):
    assert many["shared"] == {"16": 8, "100": 5, "7": 7, "11": 1}


def test_a_mesh_that_cannot_share_the_batch_is_refused(many):
    assert many["error"].startswith("mesh=3: must divide batch_size=16")


@pytest.mark.parametrize(
    ("size", "message"),
    [(0, "mesh=0: must be at least 1"), (2, "mesh=2: must be at most 1, the number")],
)
def test_a_mesh_that_is_not_there_is_refused(size, message):
    with pytest.raises(ValueError, match=message):
        mesh.make_mesh(BATCH, size)


@pytest.mark.parametrize(
    ("batch", "size", "message"),
    [
        (16, 3, "mesh=3: must be a multiple of 2, the number of processes"),
        (15, None, "batch_size=15: must be a multiple of 2, the number of processes"),
    ],
)
def test_processes_that_cannot_share_are_refused(monkeypatch, batch, size, message):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "device_count", lambda: 4)
    with pytest.raises(ValueError, match=re.escape(message)):
        mesh.make_mesh(batch, size)
