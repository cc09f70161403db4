"""Compensations by name: gains against closed forms, AdaBS against NumPy."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hic_jax
from hic_jax import crossbar, pcm
from hic_jax.inference import compensations
from hic_jax.inference.compensations import COMPENSATIONS, Reference
from hic_jax.inference.network import Network
from hic_jax.streams import stream
from tests.key_recorder import keys_used_once
from tests.small_network import IMAGES, SHAPE, Net, images_of, network_of, random_images

# All devices drift alike, and are read exactly.
ALIKE = hic_jax.HICSpec(multilevel=pcm.nandakumar_2018().without("read_noise"))
KEY, OTHER = jax.random.split(jax.random.key(4))


@pytest.fixture(scope="module")
def network():
    return network_of()


def _features(network, images):
    """What BatchNorm sees of each image, in float64."""
    pixels = (np.asarray(images.images, np.float64) / 255 - 0.5) / 0.25
    kernel = hic_jax.read(network.weights["first"]["kernel"])
    return pixels.reshape(len(pixels), -1) @ np.asarray(kernel, np.float64)


# ---- gains


def _deployed(network, spec, key=KEY):
    return network.replace(weights=hic_jax.deploy(network.weights, spec, key))


def _aged(network, seconds=hic_jax.YEAR):
    return network.replace(weights=hic_jax.drift(network.weights, seconds))


def _kernels(network, key=KEY):
    """Kernels of a network as it infers."""
    params = network.read(key)
    return {name: np.asarray(params[name]["kernel"]) for name in ("first", "head")}


@pytest.mark.parametrize("compensate", [compensations.gdc, compensations.column])
@pytest.mark.parametrize("key", [None, OTHER], ids=["ideal", "noisy"])
def test_gains_undo_a_drift_that_is_common_to_all_devices(compensate, key):
    new = network_of(ALIKE)
    old = _aged(new)
    # (1 year / 38.6 s) ** -0.04
    np.testing.assert_allclose(
        _kernels(old)["head"], 0.580 * _kernels(new)["head"], rtol=1e-3
    )
    mended = compensate(KEY, Net(), old, Reference(new.weights, key))
    # Where two conductances cancel, their rounding stays.
    chex.assert_trees_all_close(_kernels(mended), _kernels(new), rtol=1e-5, atol=1e-7)
    chex.assert_trees_all_equal(mended.weights, old.weights)
    chex.assert_trees_all_equal(mended.batch_stats, old.batch_stats)


def _columns_alike(network):
    """A chip on which the devices of a column, and only those, drift alike."""
    chip = _deployed(network, pcm.hermes_2().without("read_noise"))

    def alike(w):
        nu = jnp.linspace(0.0, 0.1, w.shape[-1])
        return w.replace(nu=jnp.broadcast_to(nu, w.g.shape))

    weights = jax.tree.map(alike, chip.weights, is_leaf=hic_jax.weights.is_analog)
    return chip.replace(weights=weights)


def test_a_gain_per_column_undoes_what_one_per_layer_cannot(network):
    new = _columns_alike(network)
    old, reference = _aged(new), Reference(new.weights, None)
    each = compensations.column(KEY, Net(), old, reference)
    chex.assert_trees_all_close(_kernels(each), _kernels(new), rtol=1e-5)
    whole = _kernels(compensations.gdc(KEY, Net(), old, reference))
    for name, kernel in _kernels(new).items():
        # The first column loses nothing, the last all but 1e6 ** -0.1 = 0.25 of it.
        assert np.abs(whole[name] - kernel).max() > 0.1 * np.abs(kernel).max()
        # The sum of currents is what it was.
        np.testing.assert_allclose(abs(whole[name]).sum(), abs(kernel).sum(), rtol=1e-5)


def test_gains_are_on_the_outputs_of_analog_layers_alone(network):
    gains = jax.tree.map(
        lambda w: jnp.arange(1.0, 1 + w.shape[-1]),
        network.weights,
        is_leaf=hic_jax.weights.is_analog,
    )
    plain = network.read(KEY)
    scaled = network.replace(gains=gains).read(KEY)
    for layer, x in (("first", jnp.ones((2, 16))), ("head", jnp.ones((2, 5)))):
        before, after = (x @ params[layer]["kernel"] for params in (plain, scaled))
        np.testing.assert_allclose(
            after, before * gains[layer]["kernel"], rtol=1e-5, atol=1e-5
        )
    chex.assert_trees_all_equal(scaled["head"]["bias"], plain["head"]["bias"])
    chex.assert_trees_all_equal(scaled["norm"], plain["norm"])


@pytest.mark.parametrize("compensate", [compensations.gdc, compensations.column])
def test_reads_are_noisy_before_and_now_or_neither(network, compensate):
    new = _deployed(network, pcm.nandakumar_2019())
    old = _aged(new)

    def gains(reference_key, now_key):
        reference = Reference(new.weights, reference_key)
        return jax.tree.leaves(compensate(now_key, Net(), old, reference).gains)

    def same(one, two):
        return all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))

    assert same(gains(KEY, KEY), gains(KEY, KEY))
    assert not same(gains(KEY, KEY), gains(OTHER, KEY))
    assert not same(gains(KEY, KEY), gains(KEY, OTHER))
    assert same(gains(None, KEY), gains(None, OTHER))
    assert not same(gains(None, KEY), gains(KEY, KEY))


@pytest.mark.parametrize("name", ["gdc", "column", "adabs"])
def test_reads_of_a_compensation_are_independent(network, name):
    new = _deployed(network, pcm.nandakumar_2019())
    reference, images = Reference(new.weights, OTHER), random_images()
    with keys_used_once() as record:
        COMPENSATIONS[name](KEY, Net(), _aged(new), reference, images)
    # Currents before and now; for AdaBS the order of images and a read for each batch.
    assert len(record.draws) == {"gdc": 2, "column": 2, "adabs": 2 + 1 + 13}[name]


def test_none_changes_nothing(network):
    reference = Reference(network.weights, KEY)
    none = COMPENSATIONS["none"]
    assert none(KEY, Net(), network, reference, None) is network


# ---- AdaBS


def _batches_of(monkeypatch, network, images, key=KEY, **options):
    """Indices of the images that AdaBS is given."""
    given = []

    def adabs(update, params, stats, weights, batches, **_):
        assert all(train is images for *_, train, _ in batches)
        given.append([np.asarray(indices) for *_, indices in batches])
        return stats

    with monkeypatch.context() as patch:
        patch.setattr(compensations.compensation, "adabs", adabs)
        compensations.adabs(key, Net(), network, images, **options)
    return np.stack(given[0])


def test_adabs_takes_13_batches_of_200_images_none_twice(monkeypatch, network):
    images = images_of(np.zeros((2600 + 400, 4, 4, 1)))
    batches, others = (
        _batches_of(monkeypatch, network, images, key=key) for key in (KEY, OTHER)
    )
    assert batches.shape == (13, 200)
    assert len(set(batches.flat)) == 2600
    assert 0 <= batches.min() and batches.max() < 3000
    # 2600 of 3000 at random: each batch is from all over the set. The mean of 200 has a
    # standard error of 3000 / sqrt(12 * 200) = 61.
    np.testing.assert_allclose(batches.mean(axis=1), 1500, atol=5 * 61)
    # Drawn anew: two times 200 of 3000 have 200 ** 2 / 3000 = 13 in common, +- 3.4.
    assert len(np.intersect1d(batches[0], others[0])) < 13 + 5 * 3.4


@pytest.mark.parametrize(("batches", "size"), [(13, 4), (5, 10), (IMAGES, 1)])
def test_adabs_shares_a_small_set_between_its_batches(
    monkeypatch, network, batches, size
):
    given = _batches_of(monkeypatch, network, random_images(), batches=batches)
    assert given.shape == (batches, size)
    assert len(set(given.flat)) == batches * size


@pytest.mark.parametrize("batches", [1, 13])
def test_adabs_leaves_1_5_percent_of_the_old_statistics(network, batches):
    # Equal images: every batch has the same mean, and no variance.
    images = images_of(np.tile(random_images().images[:1], (IMAGES, 1, 1, 1)))
    new = compensations.adabs(
        jax.random.key(2), Net(), network, images, batches=batches
    ).batch_stats["norm"]
    old = network.batch_stats["norm"]
    expected = 0.015 * old["mean"] + 0.985 * _features(network, images)[0]
    # float32 sums of 16 products; the variance is a difference of such squares.
    np.testing.assert_allclose(new["mean"], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(new["var"], 0.015 * old["var"], rtol=1e-4, atol=1e-4)


def test_adabs_follows_its_formula_batch_by_batch(network):
    images, batches = random_images(), 4
    key = jax.random.key(3)
    # The same images in the same order.
    order_key, _ = jax.random.split(stream(key, "images of adabs"))
    order = np.asarray(jax.random.permutation(order_key, IMAGES))
    kept = 0.015 ** (1 / batches)
    mean, var = (np.asarray(network.batch_stats["norm"][k]) for k in ("mean", "var"))
    for batch in order.reshape(batches, -1):
        features = _features(network, images)[batch]
        mean = kept * mean + (1 - kept) * features.mean(axis=0)
        var = kept * var + (1 - kept) * features.var(axis=0)
    new = compensations.adabs(key, Net(), network, images, batches=batches)
    # float32 sums of 16 products over 13 images.
    np.testing.assert_allclose(new.batch_stats["norm"]["mean"], mean, rtol=1e-4)
    np.testing.assert_allclose(new.batch_stats["norm"]["var"], var, rtol=1e-4)
    other = compensations.adabs(
        key, Net(momentum=0.5), network, images, batches=batches
    ).batch_stats
    chex.assert_trees_all_close(other, new.batch_stats, rtol=1e-4)


def test_adabs_changes_running_statistics_alone(network):
    new = compensations.adabs(
        jax.random.key(2), Net(), network, random_images(), batches=4
    )
    chex.assert_trees_all_equal(new.params, network.params)
    chex.assert_trees_all_equal(new.weights, network.weights)
    assert jnp.all(new.batch_stats["norm"]["mean"] != jnp.arange(5.0) - 2)


class Ranged(nn.Module):
    """A BatchNorm that sees no more of an image than a running range lets through."""

    @nn.compact
    def __call__(self, images, *, train):
        top = self.variable(crossbar.COLLECTION, "top", jnp.ones, ())
        pixels = jnp.clip(images, -top.value, top.value)
        return nn.BatchNorm(use_running_average=not train, name="norm")(pixels)


def test_adabs_runs_the_model_with_its_ranges():
    images = images_of(np.tile(random_images().images[:1], (IMAGES, 1, 1, 1)))
    variables = Ranged().init(KEY, images.images, train=False)
    ranges = {"top": jnp.float32(0.5)}
    network = Network(variables["params"], variables["batch_stats"], ranges, None)
    new = compensations.adabs(KEY, Ranged(), network, images).batch_stats["norm"]
    pixels = np.clip((np.asarray(images.images) / 255 - 0.5) / 0.25, -0.5, 0.5)
    # float32 means of 64 numbers; the statistics of the start are 0 and 1.
    np.testing.assert_allclose(new["mean"], [0.985 * pixels.mean()], rtol=1e-4)
    np.testing.assert_allclose(new["var"], [0.015 + 0.985 * pixels.var()], rtol=1e-4)


def test_adabs_compiles_a_model_once(network):
    traced = []

    class Traced(Net):
        def __call__(self, images, *, train):
            traced.append(images.shape)
            return super().__call__(images, train=train)

    for key in (KEY, OTHER):
        compensations.adabs(key, Traced(), network, random_images(), batches=4)
    # Twice: a layer's momentum takes two updates of its statistics.
    assert traced == 2 * [(13, *SHAPE)]


@pytest.mark.parametrize("batches", [0, IMAGES + 1, 2.5])
def test_adabs_needs_an_image_for_each_batch(network, batches):
    with pytest.raises(ValueError, match=rf"batches={batches}: must be"):
        compensations.adabs(
            jax.random.key(2), Net(), network, random_images(), batches=batches
        )


def test_adabs_without_batchnorm(network):
    bare = network.replace(batch_stats={})
    with pytest.raises(
        ValueError, match=r"^compensation='adabs': .*must be one of none, gdc, column$"
    ):
        compensations.adabs(KEY, Net(), bare, random_images())


@pytest.mark.parametrize("train", [None, images_of(np.zeros((0, 4, 4, 1)))])
def test_adabs_without_images(network, train):
    with pytest.raises(ValueError, match="train: adabs needs training images"):
        compensations.adabs(KEY, Net(), network, train)


def test_gains_and_adabs_undo_a_common_drift_where_no_batchnorm_does():
    new, images = network_of(ALIKE), random_images()
    reference = Reference(new.weights, None)

    def logits(network):
        ready = COMPENSATIONS["adabs"](KEY, Net(), network, reference, images)
        pixels = (images.images / 255 - 0.5) / 0.25
        return Net().apply(ready.variables(OTHER), pixels, train=False)

    # AdaBS keeps 1.5 % of statistics that are not those of the drifted network.
    chex.assert_trees_all_close(logits(_aged(new)), logits(new), rtol=0.02, atol=0.02)
