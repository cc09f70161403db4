"""Reading a network later: AdaBS against NumPy, chips that age and stay themselves."""

import math

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hic_jax
from hic_jax import inference
from hic_jax.training import steps
from hic_jax.training.algorithms import ALGORITHMS, OptimizerSpec

IMAGES, CLASSES, CHIPS = 52, 3, 3
TIMES = (25.0, hic_jax.YEAR)
IDEAL = hic_jax.HICSpec(multilevel=hic_jax.pcm.ideal(), refresh_every=0)
REAL = hic_jax.HICSpec(
    multilevel=hic_jax.pcm.nandakumar_2018(drift_nu_std=0.008), refresh_every=0
)


class Net(nn.Module):
    """An analog layer whose outputs BatchNorm counts, and one after it."""

    momentum: float = 0.9

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Dense(5, use_bias=False, name="first")(images.reshape(len(images), -1))
        x = nn.BatchNorm(
            use_running_average=not train, momentum=self.momentum, name="norm"
        )(x)
        return nn.Dense(CLASSES, name="head")(nn.relu(x))


@pytest.fixture(scope="module", autouse=True)
def _quick_compilation():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def _images(pixels):
    return steps.Arrays(
        images=jnp.asarray(pixels, jnp.uint8),
        labels=jnp.arange(len(pixels)) % CLASSES,
        mean=jnp.full(1, 0.5),
        std=jnp.full(1, 0.25),
    )


def _random_images():
    return _images(np.random.default_rng(0).integers(0, 256, (IMAGES, 4, 4, 1)))


def _network(spec=IDEAL, algorithm="hic"):
    """A network with running statistics other than those of the start."""
    schedule = optax.constant_schedule(0.1)
    optimizer = OptimizerSpec(schedule=schedule, analog_schedule=schedule)
    tx = ALGORITHMS[algorithm](optimizer, spec, jax.random.key(1))
    state = steps.init_state(jax.random.key(0), Net(), tx, (4, 4, 1))
    old = {"norm": {"mean": jnp.arange(5.0) - 2, "var": jnp.arange(5.0) + 3}}
    return steps.Network.of(state).replace(batch_stats=old)


@pytest.fixture(scope="module")
def network():
    return _network()


def _features(network, images):
    """What BatchNorm sees of each image, in float64."""
    pixels = (np.asarray(images.images, np.float64) / 255 - 0.5) / 0.25
    kernel = hic_jax.read(network.weights["first"]["kernel"])
    return pixels.reshape(len(pixels), -1) @ np.asarray(kernel, np.float64)


@pytest.mark.parametrize("batches", [1, 13])
def test_adabs_leaves_1_5_percent_of_the_old_statistics(network, batches):
    # Equal images: every batch has the same mean, and no variance.
    images = _images(np.tile(_random_images().images[:1], (IMAGES, 1, 1, 1)))
    new = inference.adabs(
        jax.random.key(2), Net(), network, images, batches=batches
    ).batch_stats["norm"]
    old = network.batch_stats["norm"]
    expected = 0.015 * old["mean"] + 0.985 * _features(network, images)[0]
    # float32 sums of 16 products; the variance is a difference of such squares.
    np.testing.assert_allclose(new["mean"], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(new["var"], 0.015 * old["var"], rtol=1e-4, atol=1e-4)


def test_adabs_follows_its_formula_batch_by_batch(network):
    images, batches = _random_images(), 4
    key = jax.random.key(3)
    # The same images in the same order.
    order = np.asarray(jax.random.permutation(jax.random.split(key)[0], IMAGES))
    kept = 0.015 ** (1 / batches)
    mean, var = (np.asarray(network.batch_stats["norm"][k]) for k in ("mean", "var"))
    for batch in order.reshape(batches, -1):
        features = _features(network, images)[batch]
        mean = kept * mean + (1 - kept) * features.mean(axis=0)
        var = kept * var + (1 - kept) * features.var(axis=0)
    new = inference.adabs(key, Net(), network, images, batches=batches)
    # float32 sums of 16 products over 13 images.
    np.testing.assert_allclose(new.batch_stats["norm"]["mean"], mean, rtol=1e-4)
    np.testing.assert_allclose(new.batch_stats["norm"]["var"], var, rtol=1e-4)
    other = inference.adabs(
        key, Net(momentum=0.5), network, images, batches=batches
    ).batch_stats
    chex.assert_trees_all_close(other, new.batch_stats, rtol=1e-4)


def test_adabs_changes_running_statistics_alone(network):
    new = inference.adabs(
        jax.random.key(2), Net(), network, _random_images(), batches=4
    )
    chex.assert_trees_all_equal(new.params, network.params)
    chex.assert_trees_all_equal(new.weights, network.weights)
    assert jnp.all(new.batch_stats["norm"]["mean"] != jnp.arange(5.0) - 2)


@pytest.mark.parametrize("batches", [0, IMAGES + 1, 2.5])
def test_adabs_needs_an_image_for_each_batch(network, batches):
    with pytest.raises(ValueError, match=rf"batches={batches}: must be"):
        inference.adabs(
            jax.random.key(2), Net(), network, _random_images(), batches=batches
        )


class Ageing:
    """Accuracy over time of one network, and the networks that were counted."""

    def __init__(self):
        self.network = _network(REAL)
        self.before = jax.tree.map(jnp.copy, self.network)
        self.counted = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(inference, "accuracy", self._accuracy)
            self.rows = self.measure()

    def _accuracy(self, key, model, network, split):
        self.counted.append(network)
        return steps.accuracy(key, model, network, split)

    def measure(self, seed=5, chips=CHIPS, compensations=("none", "adabs")):
        return inference.accuracy_over_time(
            jax.random.key(seed),
            Net(),
            self.network,
            _random_images(),
            _random_images(),
            times=TIMES,
            chips=chips,
            compensations=compensations,
        )

    def chips(self, compensation):
        """(chips at the first time, chips at the second time)."""
        counted = self.counted[0 if compensation == "none" else 1 :: 2]
        return counted[:CHIPS], counted[CHIPS:]


@pytest.fixture(scope="module")
def ageing():
    return Ageing()


def _pairs(network, layer):
    return network.weights[layer]["kernel"].multilevel


def test_a_row_for_each_time_and_compensation(ageing):
    assert [(row["time"], row["compensation"]) for row in ageing.rows] == [
        (time, name) for time in TIMES for name in ("none", "adabs")
    ]
    for row in ageing.rows:
        accuracies = row["accuracies"]
        assert len(accuracies) == CHIPS
        counts = np.array(accuracies) * IMAGES
        np.testing.assert_allclose(counts, np.rint(counts))
        assert row["mean"] == pytest.approx(np.mean(accuracies))
        assert row["std"] == pytest.approx(np.std(accuracies, ddof=1))


def test_the_same_key_is_the_same_result(ageing):
    assert ageing.measure() == ageing.rows
    assert ageing.measure(seed=6) != ageing.rows


def test_one_chip_has_no_spread(ageing):
    rows = ageing.measure(chips=1, compensations=["none"])
    # The first chip is the same chip, however many there are.
    assert [row["accuracies"] for row in rows] == [
        row["accuracies"][:1] for row in ageing.rows if row["compensation"] == "none"
    ]
    assert [row["std"] for row in rows] == [0.0, 0.0]


@pytest.mark.parametrize("layer", ["first", "head"])
def test_chips_share_conductances_and_nothing_else(ageing, layer):
    first, second, _ = ageing.chips("none")[0]
    trained = _pairs(ageing.network, layer)
    for chip in (first, second):
        np.testing.assert_array_equal(_pairs(chip, layer).g, trained.g)
        # 16 x 5 or 5 x 3 pairs: the mean of their exponents is 0.04 +- 0.0015.
        assert jnp.mean(_pairs(chip, layer).nu) == pytest.approx(0.04, abs=0.006)
    assert jnp.all(_pairs(first, layer).nu != _pairs(second, layer).nu)
    assert jnp.all(_pairs(first, layer).nu != trained.nu)


@pytest.mark.parametrize("layer", ["first", "head"])
def test_a_chip_keeps_its_exponents_at_all_times(ageing, layer):
    for early, late in zip(*ageing.chips("none"), strict=True):
        np.testing.assert_array_equal(_pairs(early, layer).nu, _pairs(late, layer).nu)


@pytest.mark.parametrize("layer", ["first", "head"])
def test_every_analog_tensor_drifts(ageing, layer):
    for seconds, chips in zip(TIMES, ageing.chips("none"), strict=True):
        for chip in chips:
            weight = chip.weights[layer]["kernel"]
            pairs = weight.multilevel
            age = max(seconds, 38.6) / 38.6
            g = np.asarray(pairs.g) * age ** -np.asarray(pairs.nu, np.float64)
            expected = (g[0] - g[1]) / weight.scale
            # float32 power of 8e5.
            np.testing.assert_allclose(
                hic_jax.read(weight), expected, rtol=1e-5, atol=1e-5
            )
    early, late = (chips[0].weights[layer]["kernel"] for chips in ageing.chips("none"))
    ratio = np.asarray(hic_jax.read(late) / hic_jax.read(early))
    # A year takes (1 year / 38.6 s) ** -0.04 = 0.58 of the mean.
    assert np.median(ratio) == pytest.approx(0.58, abs=0.1)


def test_adabs_recalibrates_the_same_drifted_chip(ageing):
    for plain, calibrated in zip(
        ageing.counted[::2], ageing.counted[1::2], strict=True
    ):
        chex.assert_trees_all_equal(calibrated.weights, plain.weights)
        chex.assert_trees_all_equal(plain.batch_stats, ageing.network.batch_stats)
        new, old = (n.batch_stats["norm"]["mean"] for n in (calibrated, plain))
        assert jnp.all(new != old)


def test_the_trained_network_is_left_as_it_was(ageing):
    chex.assert_trees_all_equal(ageing.network, ageing.before)


def test_nothing_is_printed(ageing, capsys):
    ageing.measure()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"times": [25.0, 0.0]}, r"times=0\.0: must be greater than 0"),
        ({"times": [-1.0]}, r"times=-1\.0: must be greater than 0"),
        ({"times": [math.inf]}, r"times=inf: must be a finite number"),
        ({"times": []}, r"times=\[\]: must name at least one"),
        ({"chips": 0}, r"chips=0: must be at least 1"),
        ({"chips": 1.5}, r"chips=1\.5: must be an integer"),
        ({"compensations": ["adabn"]}, r"compensation='adabn': .*mean 'adabs'"),
    ],
)
def test_reading_that_is_not_allowed(network, arguments, message):
    arguments = {"times": [25.0], "chips": 1, "compensations": ["none"]} | arguments
    images = _random_images()
    with pytest.raises(ValueError, match=message):
        inference.accuracy_over_time(
            jax.random.key(0), Net(), network, images, images, **arguments
        )


def test_nothing_analog_is_nothing_to_drift():
    images = _random_images()
    with pytest.raises(ValueError, match="no analog weight"):
        inference.accuracy_over_time(
            jax.random.key(0),
            Net(),
            _network(algorithm="fp32"),
            images,
            images,
            times=[25.0],
            chips=1,
        )
