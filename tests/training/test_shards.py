"""Weights on devices in shards: who holds them, what they tell each other, and draw."""

import dataclasses
import functools
import tempfile
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

import hic_jax
from experiments.benchmark.at_size import collectives
from experiments.runs.checkpoints import Checkpoints
from hic_jax import pcm
from hic_jax.algorithms import analog_states
from hic_jax.training import mesh, steps
from hic_jax.training.recipes import AnalogRecipe, Recipe, make_tx
from hic_jax.training.split import Split
from hic_jax.training.state import init_state, state_shapes
from tests import virtual_devices

DEVICES, STEPS, IMAGES, BATCH, CLASSES = 8, 10, 48, 16, 3
SHAPE = (8, 8, 1)

# Nothing is drawn, so that any order of the weights comes to the same.
PLAIN = hic_jax.HICSpec(
    multilevel=pcm.ideal(),
    refresh_every=0,
    stochastic_rounding=False,
    initial_words="zero",
)
# All that there is, refreshed in every second step.
FULL = hic_jax.HICSpec(
    multilevel=dataclasses.replace(
        pcm.nandakumar_2018(drift_nu_std=0.008), stuck_set=0.02, step_spread=0.2
    ),
    binary=pcm.BinarySpec(stuck_reset=0.02),
    refresh_every=2,
    refresh_above=0.5,
    refresh_common=0.1,
)


class Net(nn.Module):
    """Kernels that 8 divides along their last axis and their first, and not at all."""

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Conv(16, (3, 3), use_bias=False, name="conv")(images)
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        x = nn.Dense(12, name="hidden")(jnp.mean(nn.relu(x), axis=(1, 2)))
        return nn.Dense(CLASSES, name="head")(nn.relu(x))


def _transformation(spec, shards):
    """That of a recipe with momentum, whose learning rate stays."""
    recipe = Recipe(schedule="constant", warmup=0.0)
    analog, key = AnalogRecipe(momentum=0.9), jax.random.key(1)
    return make_tx(recipe, analog, spec, STEPS, key, shards=shards)


def _shards(over):
    return hic_jax.Shards(DEVICES, over, mesh.AXIS)


def _images(over):
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, *SHAPE))
    split = Split(
        images=jnp.asarray(pixels, jnp.uint8),
        labels=jnp.arange(IMAGES) % CLASSES,
        mean=jnp.full(1, 0.5),
        std=jnp.full(1, 0.25),
    )
    return split.over(over)


def _step(tx):
    step = steps.make_step(Net(), tx, augmentation="none", label_smoothing=0.0)
    return functools.partial(step, key=jax.random.key(2))


def _batch(i):
    return np.arange(IMAGES).reshape(-1, BATCH)[i % (IMAGES // BATCH)]


def _words(state):
    """The word of every weight, tensor by tensor."""
    weights = hic_jax.analog_weights(state.opt_state)
    kernels = {name: weights[name]["kernel"] for name in ("conv", "hidden", "head")}
    return {name: w.accumulator.tolist() for name, w in kernels.items()}


def _trained(devices, shards):
    """Some steps without any draw: losses, words, and all that goes on from there."""
    over = mesh.make_mesh(BATCH, devices, shards)
    tx = _transformation(PLAIN, _shards(over) if shards else None)
    state = mesh.place(init_state(jax.random.key(0), Net(), tx, SHAPE), over)
    step, images, losses, words = jax.jit(_step(tx)), _images(over), [], []
    for i in range(STEPS):
        state, metrics = step(state, images, _batch(i))
        losses.append(float(metrics["loss"]))
        words.append(_words(state))
    return {"losses": losses, "words": words}, state, step


def _held(tree):
    """Bytes of all arrays of weights, and of what each device holds of them."""
    arrays = [x for x in jax.tree.leaves(tree) if x.ndim]
    each = {d.id: 0 for d in jax.devices()}
    for x in arrays:
        for shard in x.addressable_shards:
            each[shard.device.id] += shard.data.nbytes
    return {"all": sum(x.nbytes for x in arrays), "each": sorted(each.values())}


def _collectives():
    """What a step of all that there is sends: operation, type and bytes of each."""
    over = mesh.make_mesh(BATCH, DEVICES, DEVICES)
    tx = _transformation(FULL, _shards(over))
    shapes = state_shapes(jax.random.key(0), Net(), tx, SHAPE)
    state = _template(shapes, over)
    program = jax.jit(_step(tx)).lower(state, _images(over), _batch(0)).compile()
    return collectives(program)


def _template(shapes, over):
    """Shapes of a state, and where its arrays are to be."""
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        shapes,
        mesh.shardings(shapes, over),
    )


def _drawn():
    """How far apart devices are after updates, on a mesh and without one."""
    over = mesh.make_mesh(BATCH, DEVICES)
    params, states = {"w": jax.random.normal(jax.random.key(0), (16, 24))}, []
    for shards in (_shards(over), hic_jax.Shards(DEVICES)):
        tx = hic_jax.hic(FULL, 3, shards=shards)
        state, update = jax.jit(tx.init)(params), jax.jit(tx.update)
        for _ in range(2):
            _, state = update({"w": 0.1 * params["w"]}, state, params)
        states.append(state)

    def difference(x, y):
        x, y = (np.nan_to_num(np.asarray(z, float)) for z in (x, y))
        return float(np.max(np.abs(x - y), initial=0.0))

    apart = jax.tree.map(difference, *(s.weights for s in states))
    return {
        "apart": max(jax.tree.leaves(apart)),
        "refreshed": float(states[0].events.refreshed_pairs),
        "held": _held(states[0].weights.replace(scale=())),
    }


def _moved(state, folder):
    """A state by way of a checkpoint on fewer devices, and a step from there."""
    checkpoints = Checkpoints(Path(folder), keep=1)
    checkpoints.save(1, state)
    checkpoints.wait()
    moved = {}
    for devices in (2, 1):
        over = mesh.make_mesh(BATCH, devices, DEVICES)
        restored, _ = checkpoints.restore(_template(state, over))
        same = jax.tree.map(
            lambda x, y: bool(np.array_equal(x, y, equal_nan=True)), state, restored
        )
        moved[devices] = {
            "same": all(jax.tree.leaves(same)),
            "held": _held(analog_states(restored.opt_state)[0].weights.multilevel),
        }
    checkpoints.close()
    step = jax.jit(_step(_transformation(PLAIN, _shards(over))))
    _, metrics = step(restored, _images(over), _batch(STEPS))
    return moved | {"loss": float(metrics["loss"])}


def _all():
    trained, state, step = _trained(DEVICES, DEVICES)
    over = mesh.make_mesh(BATCH, DEVICES, DEVICES)
    (whole,) = (s for s in analog_states(state.opt_state) if s.layout.parts is None)
    _, metrics = step(state, _images(over), _batch(STEPS))
    with tempfile.TemporaryDirectory() as folder:
        moved = _moved(state, f"{folder}/c")
    with pytest.raises(ValueError) as error:
        mesh.make_mesh(BATCH, 4, 6)
    return {
        "trained": trained,
        "loss": float(metrics["loss"]),
        "kernel": _held(state.params["conv"]["kernel"]),
        "whole": _held(whole.weights.replace(scale=())),
        "moved": moved,
        "drawn": _drawn(),
        "collectives": _collectives(),
        "error": str(error.value),
        "default": mesh.make_mesh(BATCH, None, 12).size,
    }


@pytest.fixture(scope="module")
def many():
    """What eight devices, of another process, come to."""
    return virtual_devices.call(__file__, "_all", devices=DEVICES)


def test_each_device_holds_its_share_of_the_state(many):
    state, kernel = many["drawn"]["held"], many["kernel"]
    for held in (state, kernel):
        assert held["each"] == [held["all"] // DEVICES] * DEVICES
    # 39 bytes for each of 16 x 24 weights: 37, and 2 for steps of their own.
    assert state["all"] == 16 * 24 * 39
    assert kernel["all"] == 9 * 16 * 4
    # What 8 does not divide, 12 x 3 weights, has a copy on each.
    assert many["whole"]["each"] == [many["whole"]["all"]] * DEVICES
    assert many["whole"]["all"] > 36 * 11


def test_no_state_of_devices_is_sent(many):
    sent = many["collectives"]
    assert {kind for _, kind, _ in sent} <= {"f32", "s32", "pred"}  # Not f16, u8, u16.
    gathered = [size for name, _, size in sent if name == "all-gather"]
    # Parameters are, one by one (144, 192), and activations; never all weights at once.
    assert 4 * 144 in gathered
    assert max(gathered) < 4 * (144 + 192)
    assert {name for name, _, _ in sent} <= {"all-gather", "all-reduce"}


def test_shards_train_as_one_array_on_one_device_does(many):
    whole, _, _ = _trained(1, 0)
    assert many["trained"]["words"] == whole["words"]
    assert all(np.any(words["conv"]) for words in whole["words"])
    # float32 is summed in another order.
    np.testing.assert_allclose(many["trained"]["losses"], whole["losses"], rtol=1e-5)
    assert len(set(whole["losses"])) == STEPS


def test_what_is_drawn_does_not_depend_on_the_mesh(many):
    # But for a last bit of what is computed: a scale, and conductances of up to 20 uS.
    assert many["drawn"]["apart"] <= 1e-4
    assert many["drawn"]["refreshed"] > 0


def test_a_checkpoint_moves_to_fewer_devices(many):
    for devices in (2, 1):
        moved = many["moved"][str(devices)]
        assert moved["same"]
        each = moved["held"]["all"] // devices
        assert moved["held"]["each"][-devices:] == [each] * devices
        assert sum(moved["held"]["each"]) == moved["held"]["all"]
    # And training goes on from there.
    assert many["moved"]["loss"] == pytest.approx(many["loss"], rel=1e-5)


def test_a_mesh_divides_the_shards(many):
    assert many["error"] == "mesh=4: must divide state_shards=6"
    assert many["default"] == 4


# ---- on one device


def _one_step(algorithm, shards):
    """What devices hold, and were asked for, after a step of an ideal device."""
    spec = hic_jax.algorithms.ALGORITHMS[algorithm](
        multilevel=pcm.ideal(), refresh_every=0
    )
    tx = hic_jax.algorithms.analog(spec, 0, shards=shards)
    params = {"a": jax.random.normal(jax.random.key(1), (6, 4)), "b": jnp.ones((2, 3))}
    state = jax.jit(tx.init)(params)
    params = hic_jax.read_params(params, hic_jax.analog_weights(state))
    changes, state = jax.jit(tx.update)(params, state, params)
    return optax.apply_updates(params, changes), hic_jax.analog_weights(state)


@pytest.mark.parametrize("algorithm", ["mixed_precision", "volatile"])
def test_algorithms_answer_with_what_their_shards_hold(algorithm):
    params, weights = _one_step(algorithm, hic_jax.Shards(2))
    read = hic_jax.read(weights)
    for name in params:
        np.testing.assert_allclose(params[name], read[name], atol=1e-5)
        assert weights[name].shape == params[name].shape


def _planned(parts):
    """The memory that the compiler plans for an update of 65,536 weights."""
    tx = hic_jax.hic(FULL, 0, shards=hic_jax.Shards(parts))
    params = {"w": jax.ShapeDtypeStruct((256, 256), jnp.float32)}
    state = jax.eval_shape(tx.init, params)
    update = jax.jit(tx.update, donate_argnums=(0, 1))
    return update.lower(params, state, params).compile().memory_analysis()


def test_parts_of_one_device_take_the_memory_of_one():
    one, many = _planned(1), _planned(16)
    # The state is written where it was.
    assert many.alias_size_in_bytes > 0.9 * many.output_size_in_bytes
    # What was read, and what is to be written, of all parts: 12 bytes a weight.
    whole = 12 * 256 * 256
    assert many.temp_size_in_bytes - whole < (one.temp_size_in_bytes - whole) / 8


def test_what_parts_share_is_the_same_for_each():
    def later(key, state, amount):
        noise = jax.random.normal(key, ())
        state = {"x": state["x"] + state["time"] + amount, "time": state["time"] + 1.0}
        return state, {"sum": state["x"].sum(), "noise": noise}

    x = jnp.arange(24.0).reshape(2, 3, 4)
    key, parts = jax.random.key(0), hic_jax.Shards(3)
    amount = 100.0 * jnp.arange(3.0)[:, None] * jnp.ones((3, 4))
    state, counted = parts.update(later, key, {"x": x, "time": jnp.array(5.0)}, amount)
    np.testing.assert_array_equal(state["x"], x + 5.0 + amount)
    assert state["time"] == 6.0
    assert counted["sum"] == pytest.approx(float(state["x"].sum()))
    keys = [jax.random.fold_in(key, part) for part in range(3)]
    assert counted["noise"] == pytest.approx(
        sum(float(jax.random.normal(key, ())) for key in keys), rel=1e-5
    )
    # What is made of parts is what is made of their state.
    made, _ = parts.make(lambda key, x, y: ((x + y, x.sum()), ()), key, x, amount)
    np.testing.assert_array_equal(made[0], x + amount)


def test_shards_fire_the_pulses_of_single_examples():
    spec = hic_jax.PulsedSGDSpec(
        multilevel=pcm.ideal(), refresh_every=0, pulse_counts="both"
    )
    tx = hic_jax.pulsed_sgd(spec, 0, shards=hic_jax.Shards(2))
    params = {"w": jax.random.normal(jax.random.key(0), (6, 4))}
    state = tx.init(params)
    gradients = {"w": jnp.where(jnp.arange(24).reshape(6, 4) % 3, 1.0, -1.0)}
    step = spec.step / state.weights.scale[0]
    _, state = tx.update(
        {"w": -step * gradients["w"]},
        state,
        params,
        gradients=gradients,
        gradient_totals={"w": jnp.full((6, 4), 3.0)},
    )
    # A pulse that counts, and one up and one down that cancel.
    assert state.events.set_pulses == 3 * 24


def test_bad_shards_are_refused():
    def tx(shards, spec=PLAIN):
        return hic_jax.algorithms.analog(spec, 0, shards=shards)

    with pytest.raises(ValueError, match="count=0: must be at least 1"):
        hic_jax.Shards(0)
    explicit = jax.make_mesh((1,), ("data",), (AxisType.Explicit,))
    with pytest.raises(ValueError, match=r"mesh=.*AxisType\.Auto"):
        hic_jax.Shards(2, explicit)
    with pytest.raises(ValueError, match="axis='model': must be"):
        hic_jax.Shards(2, mesh.make_mesh(2, 1), "model")
    with pytest.raises(ValueError, match=r"shards=2: must be hic_jax\.Shards"):
        tx(2)
    with pytest.raises(ValueError, match="TikiTakaSpec goes by lines of arrays"):
        tx(hic_jax.Shards(2), hic_jax.TikiTakaSpec(multilevel=pcm.ideal_two_sided()))
    params = {"w": jnp.ones((2, 3))}
    with pytest.raises(ValueError, match=r"params w\[2, 3\]: must have an axis that"):
        tx(hic_jax.Shards(4)).init(params)
    state = tx(None).init(params)
    with pytest.raises(ValueError, match="must have as many parts as opt_state, None"):
        tx(hic_jax.Shards(2)).update(params, state, params)
