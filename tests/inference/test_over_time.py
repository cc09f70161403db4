"""Reading a network later: chips that age and stay themselves."""

import dataclasses
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hic_jax
from hic_jax.inference import over_time
from hic_jax.inference.compensations import COMPENSATIONS
from hic_jax.inference.network import answers
from hic_jax.pcm.drifting import unpacked_draws
from tests.key_recorder import keys_used_once, recorded_keys
from tests.small_network import (
    CLASSES,
    IMAGES,
    SHAPE,
    Net,
    images_of,
    network_of,
    random_images,
)

CHIPS = 3
TIMES = (25.0, hic_jax.YEAR)
REAL = hic_jax.HICSpec(
    multilevel=hic_jax.pcm.nandakumar_2018(drift_nu_std=0.008), refresh_every=0
)
QUIET = dataclasses.replace(REAL, multilevel=REAL.multilevel.without("read_noise"))


@pytest.fixture(scope="module")
def network():
    return network_of()


def other_images(size=40):
    """Training images: other ones, brighter, and not as many."""
    pixels = np.random.default_rng(1).integers(128, 256, (size, *SHAPE))
    return images_of(pixels)


class Ageing:
    """Accuracy over time of one network, and what was counted for it.

    Attributes:
      counted: (key, network) of every count, chip by chip, time by time.
      rows: what it came to.
    """

    def __init__(self):
        self.network = network_of(REAL)
        self.before = jax.tree.map(jnp.copy, self.network)
        self.test = random_images()
        self.rows, self.counted = self.watch()

    def watch(self, **options):
        """(rows, counted) of a measurement."""
        counted = []

        def count(key, model, network, split):
            np.testing.assert_array_equal(split.images, self.test.images)
            counted.append((key, network))
            return answers(key, model, network, split)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(over_time, "answers", count)
            return self.measure(**options), counted

    def measure(self, seed=5, compensations=("none", "adabs"), **options):
        options = {"times": TIMES, "chips": CHIPS} | options
        at_once = options.pop("chips_at_once", None)
        return over_time.accuracy_over_time(
            jax.random.key(seed),
            Net(),
            options.pop("network", self.network),
            self.test,
            options.pop("train", other_images()),
            chips_at_once=at_once,
            reading=over_time.Reading(compensations=compensations, **options),
        )

    def networks(self, compensation):
        """(networks of the chips at the first time, at the second time)."""
        first = 0 if compensation == "none" else 1
        networks = [network for _, network in self.counted[first::2]]
        return networks[0::2], networks[1::2]


@pytest.fixture(scope="module")
def ageing():
    return Ageing()


def _pairs(network, layer):
    return network.weights[layer]["kernel"].multilevel


def _exponents(network, layer):
    """Drift exponents of the devices, float64."""
    device = network.weights[layer]["kernel"].spec.multilevel
    pairs = _pairs(network, layer)
    z = unpacked_draws(pairs.devices.z)
    return np.asarray(device.drift_exponents(pairs.g, z), np.float64)


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
        assert row["devices"] == "trained"


def test_figures_are_those_of_the_networks_that_were_counted(ageing):
    counted = [
        answers(key, Net(), network, ageing.test) for key, network in ageing.counted
    ]
    for column, total in (("accuracies", "correct"), ("losses", "cross_entropy")):
        totals = [float(getattr(x, total)) for x in counted]
        by_chip = np.reshape(totals, (CHIPS, len(ageing.rows)))
        for row, expected in zip(ageing.rows, by_chip.T, strict=True):
            np.testing.assert_allclose(
                np.array(row[column]) * IMAGES, expected, rtol=1e-6
            )


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
    assert [row["interval"] for row in rows] == [None, None]


def test_the_interval_is_students(ageing):
    for row in ageing.rows:
        # The 97.5 % quantile of t with two degrees of freedom is 4.303.
        half = 4.303 * row["std"] / np.sqrt(CHIPS)
        expected = (row["mean"] - half, row["mean"] + half)
        assert row["interval"] == pytest.approx(expected, rel=1e-3)
    assert any(row["std"] > 0 for row in ageing.rows)


@pytest.mark.parametrize("deploy_spec", [None, hic_jax.pcm.hermes_1()])
def test_chips_at_once_are_chips_one_by_one(ageing, deploy_spec):
    # Of three chips, two at once and then one, beside a chip that is thrown away.
    one_by_one, two_at_once = (
        ageing.measure(
            compensations=COMPENSATIONS, deploy_spec=deploy_spec, chips_at_once=n
        )
        for n in (1, 2)
    )
    assert one_by_one == two_at_once
    assert [row["compensation"] for row in one_by_one] == 2 * list(COMPENSATIONS)
    # Neither chips nor compensations are all the same to this network.
    assert any(row["std"] > 0 for row in one_by_one)
    assert len({tuple(row["accuracies"]) for row in one_by_one}) > 1


@pytest.mark.parametrize(
    ("platform", "at_once", "groups"),
    [("cpu", None, [1] * 11), ("gpu", None, [6, 6]), ("cpu", 4, [4, 4, 4])],
)
def test_chips_are_computed_in_groups_of_one_size(
    monkeypatch, platform, at_once, groups
):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    keys = list(jax.random.split(jax.random.key(0), 11))
    computed = []

    def function(key, most):
        value = jax.random.uniform(key, maxval=most)
        jax.debug.callback(computed.append, value)
        return value

    values = over_time.over_chips(function, keys, (jnp.float32(0.5),), at_once)
    alone = [jax.random.uniform(key, maxval=0.5) for key in keys]
    np.testing.assert_array_equal(values, alone)
    jax.effects_barrier()
    assert len(computed) == sum(groups)
    # The last chip fills the last group.
    np.testing.assert_array_equal(computed[11:], alone[-1:] * (sum(groups) - 11))


@pytest.mark.parametrize("layer", ["first", "head"])
def test_chips_share_conductances_and_nothing_else(ageing, layer):
    first, second, _ = ageing.networks("none")[0]
    trained = _pairs(ageing.network, layer)
    for chip in (first, second):
        np.testing.assert_array_equal(_pairs(chip, layer).g, trained.g)
        # 16 x 5 or 5 x 3 pairs: the mean of their exponents is 0.04 +- 0.0015 (the
        # standard error of 30 of them, whose spread is 0.008).
        assert np.mean(_exponents(chip, layer)) == pytest.approx(0.04, abs=0.006)
    # Draws are held in 255 steps, of which two devices may have the same.
    draws = [p.devices.z for p in (_pairs(first, layer), _pairs(second, layer))]
    for one, other in (draws, (draws[0], trained.devices.z)):
        assert jnp.mean(one != other) > 0.9


@pytest.mark.parametrize("layer", ["first", "head"])
def test_a_chip_keeps_its_exponents_at_all_times(ageing, layer):
    for early, late in zip(*ageing.networks("none"), strict=True):
        np.testing.assert_array_equal(
            _pairs(early, layer).devices.z, _pairs(late, layer).devices.z
        )


@pytest.mark.parametrize("layer", ["first", "head"])
def test_every_analog_tensor_drifts(ageing, layer):
    for seconds, chips in zip(TIMES, ageing.networks("none"), strict=True):
        for chip in chips:
            weight = chip.weights[layer]["kernel"]
            pairs = weight.multilevel
            age = max(seconds, 38.6) / 38.6
            g = np.asarray(pairs.g) * age ** -_exponents(chip, layer)
            expected = (g[0] - g[1]) / weight.scale
            # float32 power of 8e5.
            np.testing.assert_allclose(
                hic_jax.read(weight), expected, rtol=1e-5, atol=1e-5
            )


def test_adabs_recalibrates_the_same_drifted_chip(ageing):
    for (_, plain), (_, calibrated) in zip(
        *(ageing.counted[i::2] for i in (0, 1)), strict=True
    ):
        chex.assert_trees_all_equal(calibrated.weights, plain.weights)
        chex.assert_trees_all_equal(plain.batch_stats, ageing.network.batch_stats)
        new, old = (n.batch_stats["norm"]["mean"] for n in (calibrated, plain))
        assert jnp.all(new != old)


def test_adabs_calibrates_with_training_images(ageing):
    # Equal images: every batch has the same mean, and no variance.
    train = images_of(np.tile(other_images(1).images, (30, 1, 1, 1)))
    network = network_of(QUIET)
    _, counted = ageing.watch(network=network, train=train, compensations=["adabs"])
    pixels = (np.asarray(train.images[0], np.float64).reshape(-1) / 255 - 0.5) / 0.25
    old = network.batch_stats["norm"]
    for key, ready in counted:
        features = pixels @ np.asarray(ready.read(key)["first"]["kernel"], np.float64)
        new = ready.batch_stats["norm"]
        # float32 sums of 16 products; the variance is a difference of such squares.
        expected = 0.015 * old["mean"] + 0.985 * features
        np.testing.assert_allclose(new["mean"], expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(new["var"], 0.015 * old["var"], atol=1e-3)


def test_a_reading_is_the_same_whatever_else_is_read(ageing):
    rows, counted = ageing.watch(
        times=[hic_jax.YEAR, 3600.0], compensations=["adabs", "none"]
    )
    # The two readings after a year, which came last, and in the other order.
    assert rows[:2] == ageing.rows[:1:-1]
    for first, last in ((0, 3), (1, 2)):
        for (key, ready), (same_key, same) in zip(
            counted[first::4], ageing.counted[last::4], strict=True
        ):
            assert key == same_key
            chex.assert_trees_all_equal(ready, same)


@pytest.mark.parametrize("deploy_spec", [None, hic_jax.pcm.nandakumar_2019()])
@pytest.mark.parametrize(
    ("without", "drifts", "noisy"),
    [([], True, True), (["drift"], False, True), (["read_noise"], True, False)],
)
def test_what_is_switched_off_is_off(ageing, deploy_spec, without, drifts, noisy):
    rows, counted = ageing.watch(
        chips=1, compensations=["none"], deploy_spec=deploy_spec, without=without
    )
    assert [row["without"] for row in rows] == 2 * [without]
    early, late = (network for _, network in counted)
    exact = [hic_jax.read(n.weights["first"]["kernel"]) for n in (early, late)]
    assert jnp.array_equal(*exact) != drifts
    reads = [late.read(jax.random.key(i))["first"]["kernel"] for i in range(2)]
    assert jnp.array_equal(*reads) != noisy


def test_compensations_are_compared_on_the_same_reads(ageing):
    keys = [key for key, _ in ageing.counted]
    assert keys[::2] == keys[1::2]


# ---- random numbers

# More test images than are counted at a time, so that the devices are read three times.
MANY = 1100
STUCK = dataclasses.replace(hic_jax.pcm.nandakumar_2019(), stuck_set=0.01)


def _read(network, compensation, deploy_spec, ideal_reference, chips=2):
    rng = np.random.default_rng(0)
    over_time.accuracy_over_time(
        jax.random.key(5),
        Net(),
        network,
        images_of(rng.integers(0, 256, (MANY, *SHAPE))),
        other_images(),
        reading=over_time.Reading(
            times=(0.25, 0.75),
            chips=chips,
            compensations=[compensation],
            deploy_spec=deploy_spec,
            ideal_reference=ideal_reference,
        ),
    )


# Of a chip: exponents alone, or the read of the trained devices, writes, exponents and
# which are stuck. At a time: three reads for the test images, each with the products of
# two layers where the trained devices are read; for AdaBS the order of the images and
# 13 reads.
@pytest.mark.parametrize(
    ("compensation", "deploy_spec", "chips", "draws"),
    [
        ("none", None, 2, 2 * (1 + 2 * 3 * (1 + 2))),
        ("none", STUCK, 2, 2 * (4 + 2 * 3)),
        ("adabs", STUCK, 1, 4 + 2 * (3 + 1 + 13)),
    ],
)
def test_chips_times_and_batches_draw_independently(
    ageing, compensation, deploy_spec, chips, draws
):
    with keys_used_once() as record:
        _read(ageing.network, compensation, deploy_spec, True, chips)
    assert len(record.draws) == draws


@pytest.mark.parametrize("compensation", ["gdc", "column"])
def test_only_the_stored_read_of_the_new_chip_is_the_same_at_all_times(
    ageing, compensation
):
    with recorded_keys() as record:
        _read(ageing.network, compensation, STUCK, ideal_reference=False)
    often = [len(uses) for uses in record.draws.values() if len(uses) > 1]
    assert often == 2 * [2]  # One of each chip, at two times.
    assert not record.draws.keys() & record.derivations.keys()
    assert len(record.draws) == 2 * (4 + 1 + 2 * (3 + 1))


# ---- deployed


@pytest.fixture(scope="module")
def deployed(ageing):
    """Rows, and networks that were counted: chip by chip, both times, all four."""
    rows, counted = ageing.watch(
        compensations=COMPENSATIONS, deploy_spec=hic_jax.pcm.nandakumar_2019()
    )
    networks = np.array([network for _, network in counted], object)
    return rows, networks.reshape(CHIPS, len(TIMES), 4)


@pytest.mark.parametrize("layer", ["first", "head"])
def test_a_deployed_chip_is_programmed_once(deployed, layer):
    rows, counted = deployed
    assert {row["devices"] for row in rows} == {"nandakumar_2019"}
    chips = []
    for chip in counted:
        first = chip[0, 0].weights[layer]["kernel"]
        for network in chip.flat:
            held = network.weights[layer]["kernel"]
            np.testing.assert_array_equal(held.g, first.g)
            np.testing.assert_array_equal(held.nu, first.nu)
        chips.append(first)
    # Both may be zero, where writing would end below it.
    other = chips[0].g != chips[1].g
    assert jnp.any(other) and jnp.all(other | (chips[0].g == 0))
    assert jnp.all(chips[0].nu != chips[1].nu)


@pytest.mark.parametrize("layer", ["first", "head"])
def test_every_weight_ages_whatever_compensation_is_asked_for(deployed, layer):
    _, counted = deployed
    for i, seconds in enumerate(TIMES):
        for network in counted[:, i].flat:
            assert float(network.weights[layer]["kernel"].time) == seconds
    early, late = (
        [jnp.sum(abs(hic_jax.read(n.weights[layer]["kernel"]))) for n in networks]
        for networks in (counted[0, 0], counted[0, 1])
    )
    for before, after in zip(early, late, strict=True):
        assert after < 0.8 * before  # (1 year / (25 s + 20 s)) ** -0.049 is 0.52.


def test_each_compensation_does_its_own(deployed, ageing):
    _, counted = deployed
    for none, gdc, column, adabs in counted.reshape(-1, 4):
        assert none.gains is None
        assert gdc.gains["head"]["kernel"].shape == (1, 1)
        assert column.gains["head"]["kernel"].shape == (1, CLASSES)
        assert adabs.gains["head"]["kernel"].shape == (1, 1)
        for network in (none, gdc, column):
            chex.assert_trees_all_equal(network.batch_stats, ageing.network.batch_stats)
        assert jnp.all(
            adabs.batch_stats["norm"]["mean"] != none.batch_stats["norm"]["mean"]
        )


@pytest.mark.parametrize("deploy_spec", [None, hic_jax.pcm.nandakumar_2019()])
def test_the_reference_is_the_chip_when_it_was_new(ageing, deploy_spec):
    compensated = []

    def gdc(key, model, network, reference, train):
        compensated.append((network, reference))
        return network

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(COMPENSATIONS, "gdc", gdc)
        for ideal in (False, True):
            rows = ageing.measure(
                compensations=["gdc"], deploy_spec=deploy_spec, ideal_reference=ideal
            )
            assert {row["ideal_reference"] for row in rows} == {ideal}
    for network, reference in compensated:
        new = jax.tree.map(
            lambda w: w.replace(time=jnp.float32(0.0)),
            network.weights,
            is_leaf=hic_jax.weights.is_analog,
        )
        chex.assert_trees_all_equal(reference.weights, new)
    noisy, ideal = np.split(np.array([r for _, r in compensated], object), 2)
    assert all(reference.key is None for reference in ideal)
    # One read a chip, whatever the time.
    keys = [reference.key for reference in noisy]
    assert keys[::2] == keys[1::2]
    assert len(set(map(str, keys))) == CHIPS


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
        ({"times": [25.0, 25.0]}, r"times=\[25\.0, 25\.0\]: names one twice"),
        ({"compensations": ["gdc"] * 2}, r"compensations=\[.*\]: names one twice"),
        ({"without": ["stuck"]}, r"without='stuck': must be one of read_noise, drift"),
        ({"chips": 0}, r"chips=0: must be in \[1, 1000000\]"),
        ({"chips": 1.5}, r"chips=1\.5: must be an integer"),
        ({"compensations": ["adabn"]}, r"compensation='adabn': .*mean 'adabs'"),
    ],
)
def test_reading_that_is_not_allowed(arguments, message):
    arguments = {"times": [25.0], "chips": 1, "compensations": ["none"]} | arguments
    with pytest.raises(ValueError, match=message):
        over_time.Reading(**arguments)


def test_no_chip_at_once_is_not_allowed(network):
    images = random_images()
    with pytest.raises(ValueError, match=r"chips_at_once=0: must be at least 1"):
        over_time.accuracy_over_time(
            jax.random.key(0), Net(), network, images, images,
            reading=over_time.Reading(times=[25.0], chips=1), chips_at_once=0,
        )  # fmt: skip


def test_nothing_analog_is_nothing_to_drift():
    images = random_images()
    with pytest.raises(ValueError, match="no analog weight"):
        over_time.accuracy_over_time(
            jax.random.key(0),
            Net(),
            network_of(spec=None),
            images,
            images,
            reading=over_time.Reading(times=[25.0], chips=1),
        )


@pytest.mark.parametrize(
    ("change", "train", "message"),
    [
        ({}, None, "train: adabs needs training images"),
        ({"batch_stats": {}}, random_images(), "adabs.*the network has none"),
    ],
)
def test_what_a_compensation_lacks_is_said_before_the_work(
    network, monkeypatch, change, train, message
):
    monkeypatch.setattr(over_time, "answers", None)
    with pytest.raises(ValueError, match=message):
        over_time.accuracy_over_time(
            jax.random.key(0),
            Net(),
            network.replace(**change),
            random_images(),
            train,
            reading=over_time.Reading(times=[25.0], chips=1),
        )
