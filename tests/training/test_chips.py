"""Many chips at once: each is the chip that it is alone, on one device or on four."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hic_jax
from hic_jax.algorithms import analog_states
from hic_jax.inference.network import Network, accuracies, accuracy
from hic_jax.training import chips, recipes, steps
from hic_jax.training.recipes import AnalogRecipe, Recipe
from hic_jax.training.split import Split
from hic_jax.training.state import init_state
from tests import virtual_devices

CHIPS, CLASSES, IMAGES, BATCH, STEPS = 5, 3, 48, 16, 4
SHAPE = (8, 8, 1)  # The smallest images that are shifted.
# Everything random, and a refresh in every other step.
SPEC = hic_jax.HICSpec(
    multilevel=dataclasses.replace(
        hic_jax.pcm.nandakumar_2018(drift_nu_std=0.008), stuck_set=0.05
    ),
    seconds_per_step=100.0,
    refresh_every=2,
    refresh_above=1.0,
    refresh_common=0.1,  # A RESET leaves as much: many pairs are due at each look.
)
OPTIONS = {"augmentation": "crop", "label_smoothing": 0.0}


class Net(nn.Module):
    """The least with a convolution, running statistics and a dense layer."""

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Conv(4, (3, 3), strides=(2, 2), use_bias=False, name="conv")(images)
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        return nn.Dense(CLASSES, name="head")(jnp.mean(nn.relu(x), axis=(1, 2)))


def make_tx(key):
    recipe = Recipe(learning_rate=0.5, schedule="constant", warmup=0.0)
    analog = AnalogRecipe(learning_rate=0.5, trust_ratio=False)
    return recipes.make_tx(recipe, analog, SPEC, STEPS, key)


@functools.cache
def _images():
    image_key, label_key = jax.random.split(jax.random.key(7))
    images = jax.random.randint(image_key, (IMAGES, *SHAPE), 0, 256)
    return Split(
        images=images.astype(jnp.uint8),
        labels=jax.random.randint(label_key, (IMAGES,), 0, CLASSES),
        mean=jnp.full(1, 0.5),
        std=jnp.full(1, 0.25),
    )


def _keys(count=CHIPS):
    """(5, chips): parameters, devices, augmentation, order, reading."""
    return jnp.stack(
        [jax.random.split(jax.random.key(seed), 5) for seed in range(count)], axis=1
    )


def _epochs(orders):
    """The batches of the first steps, from a function of an epoch's number."""
    return jnp.concatenate([orders(k) for k in range(2)])[:STEPS]


def _alone(chip):
    """Initial state, state, metrics and accuracy of one chip, trained alone."""
    init_key, device_key, augment_key, order_key, read_key = _keys()[:, chip]
    tx = make_tx(device_key)
    first = init_state(init_key, Net(), tx, SHAPE)
    run = steps.make_runner(steps.make_step(Net(), tx, **OPTIONS), augment_key)
    indices = _epochs(
        lambda k: steps.epoch_order(jax.random.fold_in(order_key, k), IMAGES, BATCH)
    )
    state, metrics = run(jax.tree.map(jnp.copy, first), _images(), indices)
    network = Network.of(state)
    share = accuracy(read_key, Net(), network, _images(), batch_size=20)
    return first, state, metrics, share, indices


def _together():
    """The same of all chips at once, as lists of what each has."""
    mesh = chips.make_mesh(CHIPS)
    keys = jnp.stack(chips.filled(list(_keys().T), mesh)).T
    init_keys, device_keys, augment_keys, order_keys, read_keys = keys
    first = chips.init_states(init_keys, device_keys, Net(), make_tx, SHAPE)
    tx = make_tx(device_keys[0])
    step = chips.make_step(Net(), tx, mesh=mesh, **OPTIONS)
    fold_in = jax.vmap(jax.random.fold_in, in_axes=(0, None))
    indices = _epochs(
        lambda k: chips.epoch_orders(
            fold_in(order_keys, k), lambda key: steps.epoch_order(key, IMAGES, BATCH)
        )
    )
    images = chips.everywhere(_images(), mesh)
    states = chips.spread(jax.tree.map(jnp.copy, first), mesh)
    states, metrics = steps.make_runner(step, augment_keys)(states, images, indices)
    assert len(states.params["head"]["kernel"].addressable_shards) == mesh.size
    tested = accuracies(read_keys, Net(), states, images, batch_size=20)
    return (
        chips.unstack(first, CHIPS),
        chips.unstack(states, CHIPS),
        [jax.tree.map(lambda x, i=i: x[:, i], metrics) for i in range(CHIPS)],
        tested[:CHIPS],  # Without those that fill the devices.
        [indices[:, i] for i in range(CHIPS)],
    )


_trained = functools.cache(_together)


def _pairs(state, layer):
    return hic_jax.analog_weights(state.opt_state)[layer]["kernel"].multilevel


def _word(state, layer):
    weight = hic_jax.analog_weights(state.opt_state)[layer]["kernel"]
    return np.asarray(weight.accumulator, int)


def test_a_chip_of_many_is_the_chip_alone():
    chip = 3
    first, state, metrics, accuracy, indices = _alone(chip)
    others = [values[chip] for values in _trained()]
    first_, state_, metrics_, accuracy_, indices_ = others
    # The bits that are drawn are the same.
    np.testing.assert_array_equal(indices_, indices)
    (hic,), (hic_,) = (analog_states(s.opt_state) for s in (state, state_))
    np.testing.assert_array_equal(*(jax.random.key_data(h.key) for h in (hic, hic_)))
    for layer in ("conv", "head"):
        pairs, pairs_ = _pairs(first, layer), _pairs(first_, layer)
        np.testing.assert_array_equal(pairs_.stuck, pairs.stuck)
        # What is made of them is compiled twice: float32 rounding.
        # A draw next to a boundary of its grid, or a conductance, may be a step off.
        z_, z = (np.asarray(p.devices.z, int) for p in (pairs_, pairs))
        assert np.max(np.abs(z_ - z)) <= 1 and np.mean(z_ != z) <= 0.1
        np.testing.assert_allclose(pairs_.g, pairs.g, rtol=2**-10, atol=1e-5)
        # Where that meets the draw of stochastic rounding, one LSB.
        apart = np.abs(_word(state_, layer) - _word(state, layer))
        assert np.max(apart) <= 1 and np.mean(apart) <= 0.1
    assert state_.step == state.step == STEPS
    np.testing.assert_allclose(metrics_["loss"], metrics["loss"], rtol=1e-3)
    np.testing.assert_array_equal(
        metrics_["refreshed_pairs"], metrics["refreshed_pairs"]
    )
    assert metrics["refreshed_pairs"].tolist()[::2] == [0, 0]
    assert metrics["refreshed_pairs"][1] > 0
    assert accuracy_ == accuracy


def test_chips_differ():
    _, _, metrics, _, indices = _trained()
    assert len({tuple(m["loss"].tolist()) for m in metrics}) == CHIPS
    assert len({tuple(i.ravel().tolist()) for i in indices}) == CHIPS


def test_most_steps_leave_out_the_refresh():
    keys = _keys(2)
    states = chips.stack(_trained()[1][:2])
    tx, mesh = make_tx(keys[1, 0]), chips.make_mesh(1)
    step = chips.make_step(Net(), tx, mesh=mesh, **OPTIONS)
    indices = jnp.tile(jnp.arange(BATCH), (2, 1))
    # A condition that differs between chips would be computed both ways.
    made = jax.make_jaxpr(step)(states, _images(), indices, keys[2])
    assert str(made).count(" cond[") == 1


def test_states_are_stacked_and_unstacked():
    one, other = _trained()[1][:2]
    both = chips.stack([one, other])
    assert both.step.shape == () and both.params["norm"]["bias"].shape == (2, 4)
    for state, again in zip((one, other), chips.unstack(both, 2), strict=True):
        np.testing.assert_array_equal(
            again.params["head"]["kernel"], state.params["head"]["kernel"]
        )
    both.step.delete()  # As a runner does, to which it is donated.
    assert one.step == again.step == STEPS
    with pytest.raises(ValueError, match=r"states: have counts of \[3, 4\]; chips"):
        chips.stack([one, other.replace(step=jnp.int32(3))])


@pytest.mark.parametrize(("members", "devices", "filled"), [
    ("abcde", 4, "abcdeeee"), ("ab", 4, "ab"), ("abcd", 4, "abcd"), ("abc", 1, "abc"),
])  # fmt: skip
def test_devices_get_equally_many(members, devices, filled, monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda: devices * jax.devices("cpu")[:1])
    monkeypatch.setattr(chips, "Mesh", lambda devices, axes: devices)
    assert "".join(chips.filled(members, chips.make_mesh(len(members)))) == filled


def _losses():
    _, _, metrics, accuracies, indices = _trained()
    return {
        "devices": jax.device_count(),
        "losses": [m["loss"].tolist() for m in metrics],
        "accuracies": accuracies,
        "indices": [i.tolist() for i in indices],
    }


def test_four_devices_train_the_same_chips():
    four = virtual_devices.call(__file__, "_losses", devices=4)
    one = _losses()
    assert (four["devices"], one["devices"]) == (4, 1)
    assert four["indices"] == one["indices"]
    # Two chips on each device, not five on one: float32 rounding.
    np.testing.assert_allclose(four["losses"], one["losses"], rtol=1e-3)
    assert four["accuracies"] == one["accuracies"]
