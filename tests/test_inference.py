"""Reading a network later: chips that age and stay themselves."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hic_jax
from hic_jax import inference
from hic_jax.training.compensations import COMPENSATIONS
from hic_jax.training.evaluation import correct_answers
from tests.small_network import CLASSES, IMAGES, Net, network_of, random_images

CHIPS = 3
TIMES = (25.0, hic_jax.YEAR)
REAL = hic_jax.HICSpec(
    multilevel=hic_jax.pcm.nandakumar_2018(drift_nu_std=0.008), refresh_every=0
)


pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def network():
    return network_of()


class Ageing:
    """Accuracy over time of one network, and the networks that were counted."""

    def __init__(self):
        self.network = network_of(REAL)
        self.before = jax.tree.map(jnp.copy, self.network)
        self.counted = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(inference, "correct_answers", self._correct_answers)
            self.rows = self.measure()

    def _correct_answers(self, key, model, network, split):
        self.counted.append(network)
        return correct_answers(key, model, network, split)

    def measure(self, seed=5, chips=CHIPS, compensations=("none", "adabs"), **options):
        return inference.accuracy_over_time(
            jax.random.key(seed),
            Net(),
            self.network,
            random_images(),
            random_images(),
            times=TIMES,
            chips=chips,
            compensations=compensations,
            **options,
        )

    def chips(self, compensation):
        """(chips at the first time, chips at the second time)."""
        # Chip by chip, time by time.
        counted = self.counted[0 if compensation == "none" else 1 :: 2]
        return counted[0::2], counted[1::2]


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
        assert row["devices"] == "trained"


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
    assert len({tuple(row["accuracies"]) for row in one_by_one}) > 4


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

    values = inference.over_chips(function, keys, (jnp.float32(0.5),), at_once)
    alone = [jax.random.uniform(key, maxval=0.5) for key in keys]
    np.testing.assert_array_equal(values, alone)
    jax.effects_barrier()
    assert len(computed) == sum(groups)
    # The last chip fills the last group.
    np.testing.assert_array_equal(computed[11:], alone[-1:] * (sum(groups) - 11))


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


@pytest.fixture(scope="module")
def deployed(ageing):
    """Networks that were counted as deployed: chip by chip, both times, all four."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "correct_answers", ageing._correct_answers)
        before = len(ageing.counted)
        rows = ageing.measure(
            compensations=COMPENSATIONS, deploy_spec=hic_jax.pcm.nandakumar_2019()
        )
        counted = ageing.counted[before:]
        del ageing.counted[before:]
    return rows, np.array(counted, object).reshape(CHIPS, len(TIMES), 4)


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
    assert jnp.mean(chips[0].g == chips[1].g) < 0.5  # Zero where both were cut off.
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
        assert after < 0.8 * before


def test_each_compensation_does_its_own(deployed, ageing):
    _, counted = deployed
    for none, gdc, column, adabs in counted.reshape(-1, 4):
        assert none.gains is None
        assert gdc.gains["head"]["kernel"].shape == (1, 1)
        assert column.gains["head"]["kernel"].shape == (1, CLASSES)
        for network in (none, gdc, column):
            chex.assert_trees_all_equal(network.batch_stats, ageing.network.batch_stats)
        assert jnp.all(
            adabs.batch_stats["norm"]["mean"] != none.batch_stats["norm"]["mean"]
        )


def test_an_ideal_reference_is_compared_with_ideal_reads(ageing):
    options = {"compensations": ["gdc"], "deploy_spec": hic_jax.pcm.nandakumar_2019()}
    with pytest.MonkeyPatch.context() as patch:
        references = []
        patch.setitem(
            COMPENSATIONS,
            "gdc",
            lambda key, model, network, reference, train: (
                references.append(reference) or network
            ),
        )
        for ideal in (False, True):
            ageing.measure(ideal_reference=ideal, **options)
    noisy, ideal = references[: 2 * CHIPS], references[2 * CHIPS :]
    assert all(reference.key is None for reference in ideal)
    # One read a chip, whatever the time.
    for early, late in zip(noisy[::2], noisy[1::2], strict=True):
        assert jnp.all(early.key == late.key)
        assert float(early.weights["head"]["kernel"].time) == 0.0
    assert noisy[0].key != noisy[2].key


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
        ({"chips_at_once": 0}, r"chips_at_once=0: must be at least 1"),
        ({"chips": 1.5}, r"chips=1\.5: must be an integer"),
        ({"compensations": ["adabn"]}, r"compensation='adabn': .*mean 'adabs'"),
    ],
)
def test_reading_that_is_not_allowed(network, arguments, message):
    arguments = {"times": [25.0], "chips": 1, "compensations": ["none"]} | arguments
    images = random_images()
    with pytest.raises(ValueError, match=message):
        inference.accuracy_over_time(
            jax.random.key(0), Net(), network, images, images, **arguments
        )


def test_nothing_analog_is_nothing_to_drift():
    images = random_images()
    with pytest.raises(ValueError, match="no analog weight"):
        inference.accuracy_over_time(
            jax.random.key(0),
            Net(),
            network_of(algorithm="fp32"),
            images,
            images,
            times=[25.0],
            chips=1,
        )


@pytest.mark.parametrize(
    ("change", "train", "message"),
    [
        ({}, None, "train: adabs needs training images"),
        ({"batch_stats": {}}, random_images(), "batch_stats=.*the network has none"),
    ],
)
def test_what_a_compensation_lacks_is_said_before_the_work(
    network, monkeypatch, change, train, message
):
    monkeypatch.setattr(inference, "correct_answers", None)
    with pytest.raises(ValueError, match=message):
        inference.accuracy_over_time(
            jax.random.key(0),
            Net(),
            network.replace(**change),
            random_images(),
            train,
            times=[25.0],
            chips=1,
            compensations=["none", "adabs"],
        )
