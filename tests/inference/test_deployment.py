"""Trained weights on a fresh inference chip."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hic_jax
from hic_jax import pcm
from hic_jax.pcm import programmed
from hic_jax.weights import is_analog

TRAINED = hic_jax.HICSpec(multilevel=pcm.ideal(), refresh_every=0)
STUCK = dataclasses.replace(pcm.nandakumar_2019(), stuck_set=0.02, stuck_reset=0.05)
EXACT = STUCK.without(*programmed.NON_IDEALITIES)
KEY = jax.random.key(7)


@pytest.fixture(scope="module")
def weights():
    """Two analog tensors, one of them small, and a digital one."""
    params = {
        "first": {"kernel": jax.random.normal(jax.random.key(0), (40, 50))},
        "head": {"kernel": 0.01 * jax.random.normal(jax.random.key(1), (50, 7))},
        "bias": jnp.zeros(7),
    }
    tx = optax.partition(
        {"analog": hic_jax.hic(TRAINED, 0), "digital": optax.identity()},
        hic_jax.analog_labels,
    )
    return hic_jax.analog_weights(tx.init(params))


def test_exact_devices_hold_the_trained_weights(weights):
    chip = hic_jax.deploy(weights, EXACT, KEY)
    assert isinstance(chip["bias"], optax.MaskedNode)
    chex.assert_trees_all_close(hic_jax.read(chip), hic_jax.read(weights), rtol=1e-6)
    chex.assert_trees_all_close(
        hic_jax.read(hic_jax.drift(chip, hic_jax.YEAR), key=KEY),
        hic_jax.read(weights),
        rtol=1e-6,
    )


def test_the_largest_weight_of_a_layer_takes_the_whole_range(weights):
    for layer in ("first", "head"):
        kernel = np.asarray(hic_jax.read(weights)[layer]["kernel"])
        held = hic_jax.deploy(weights, EXACT, KEY)[layer]["kernel"]
        assert held.shape == kernel.shape
        assert held.size == kernel.size
        assert float(held.scale) == pytest.approx(25 / abs(kernel).max(), rel=1e-6)
        assert float(held.g.max()) == pytest.approx(25.0, rel=1e-6)
        # One device of each pair has the weight, the other nothing.
        np.testing.assert_array_equal(held.g[0] > 0, kernel > 0)
        np.testing.assert_array_equal(held.g[1] > 0, kernel < 0)


def test_trained_devices_are_read_with_their_noise():
    devices = dataclasses.replace(pcm.ideal(), read_offset=0.5)
    noisy = dataclasses.replace(TRAINED, multilevel=devices)
    params = {"kernel": jax.random.normal(jax.random.key(0), (60, 50))}
    weights = hic_jax.analog_weights(hic_jax.hic(noisy, 0).init(params))
    held = hic_jax.read(hic_jax.deploy(weights, EXACT, KEY))["kernel"]
    error = np.asarray(held - hic_jax.read(weights)["kernel"])
    # Two devices of 0.5 uS; standard error 1.3 %.
    assert error.std() * float(weights["kernel"].scale) == pytest.approx(
        0.5 * np.sqrt(2), rel=0.06
    )


# ---- parameters that were trained in floating point


def error_of(chip, kernel):
    """Of a chip, as a share of the root mean square of its weights."""
    return float(jnp.linalg.norm(hic_jax.read(chip) - kernel) / jnp.linalg.norm(kernel))


def test_exact_devices_hold_the_parameters():
    params = {
        "first": {"kernel": jax.random.normal(jax.random.key(0), (4, 5), jnp.bfloat16)},
        "head": {"kernel": 1e-30 * jax.random.normal(jax.random.key(1), (5, 3))},
        "bias": jnp.arange(3.0),
    }
    chip = hic_jax.deploy(params, EXACT, KEY, labels=hic_jax.analog_labels)
    assert isinstance(chip["bias"], optax.MaskedNode)
    assert float(chip["head"]["kernel"].g.max()) == pytest.approx(25.0, rel=1e-6)
    assert chip["first"]["kernel"].scale.shape == ()
    chex.assert_trees_all_close(hic_jax.read_params(params, chip), params, rtol=1e-2)
    labels = {"first": "analog", "head": "digital"}
    params = {name: params[name]["kernel"] for name in labels}
    chip = hic_jax.deploy(params, EXACT, KEY, labels=labels)
    assert isinstance(chip["head"], optax.MaskedNode)
    np.testing.assert_allclose(
        hic_jax.read(chip["first"]), params["first"].astype(jnp.float32), rtol=1e-6
    )


@pytest.mark.parametrize(
    "clip",
    [
        hic_jax.Clip(), hic_jax.Clip(sigmas=2.5), hic_jax.Clip(percentile=99.0),
        hic_jax.Clip(sigmas=2.5, percentile=99.9),
    ],
)  # fmt: skip
def test_nothing_is_lost_but_by_programming_and_clipping(clip):
    kernel = 0.1 * jax.random.normal(jax.random.key(3), (200, 200))
    spec = pcm.nandakumar_2019().only("write_noise")
    chip = hic_jax.deploy(kernel, spec, KEY, labels="analog", clip=clip)
    size = np.abs(kernel)
    limits = [
        clip.sigmas * np.sqrt(np.mean(size**2)),
        np.percentile(size, clip.percentile),
    ]
    assert float(chip.scale) == pytest.approx(25.0 / min(limits), rel=1e-4)
    cut = np.maximum(size - min(limits), 0)
    target = jnp.minimum(jnp.stack([size, 0 * size]) * chip.scale, 25.0)
    noise = programmed.write_std(target, spec) / chip.scale
    # A device that is asked for nothing, or almost, has half of it: none is below zero.
    most = np.sqrt(np.mean(cut**2) + np.mean(np.sum(np.square(noise), 0)))
    error = error_of(chip, kernel) * 0.1
    assert 0.8 * most < error < 1.02 * most


def test_each_part_of_a_stack_has_a_scale():
    """Whether a model told so or not."""
    sizes = jnp.array([0.02, 0.1, 0.5, 2.0])[:, None, None]
    kernels = sizes * jax.random.normal(jax.random.key(0), (4, 32, 32))
    stack = {"k": hic_jax.KernelAxes(stack=(0,), columns=(2,))}
    for axes in (stack, None):
        chip = hic_jax.deploy(
            {"k": kernels}, pcm.nandakumar_2019(), KEY,
            labels={"k": "analog"}, axes=axes,
        )["k"]  # fmt: skip
        assert chip.scale.shape == (4, 1, 1)
        held = hic_jax.read(chip)
        errors = jnp.linalg.norm(held - kernels, axis=(1, 2))
        errors /= jnp.linalg.norm(kernels, axis=(1, 2))
        assert errors.max() < 1.3 * errors.min()  # Their largest weights differ.
    alike = kernels / sizes
    one = hic_jax.deploy(alike, pcm.nandakumar_2019(), KEY, labels="analog")
    assert len(np.unique(one.scale)) == 1


@pytest.mark.parametrize(
    ("params", "options", "message"),
    [
        (
            {"a": jnp.ones((3, 3))},
            {"labels": {"a": "digital"}},
            "no parameter is analog",
        ),
        (
            {"a": jnp.ones((3, 3))},
            {"labels": {"a": "pcm"}},
            "'a'.='pcm': must be one",
        ),
        (
            {"a": jnp.ones((3, 3), int)},
            {"labels": {"a": "analog"}},
            "hold real floating",
        ),
        (
            {"a": jnp.ones((3, 3))},
            {"labels": {"a": "analog"}, "axes": {"b": hic_jax.KernelAxes()}},
            "there is no such parameter",
        ),
    ],
)
def test_parameters_that_cannot_be_deployed(params, options, message):
    with pytest.raises(ValueError, match=message):
        hic_jax.deploy(params, EXACT, KEY, **options)


def test_weights_on_devices_know_what_they_are(weights):
    with pytest.raises(ValueError, match="labels, axes: are for parameters"):
        hic_jax.deploy(weights, EXACT, KEY, labels=hic_jax.analog_labels)


def test_weights_on_devices_are_clipped_as_well(weights):
    chip = hic_jax.deploy(weights, EXACT, KEY, clip=hic_jax.Clip(sigmas=1.0))
    trained, held = (hic_jax.read(w)["first"]["kernel"] for w in (weights, chip))
    limit = jnp.sqrt(jnp.mean(trained**2))
    np.testing.assert_allclose(held, jnp.clip(trained, -limit, limit), rtol=1e-5)


@pytest.mark.parametrize(
    "options", [{"sigmas": 0.0}, {"sigmas": jnp.inf}, {"percentile": 101.0},
                {"percentile": 0.0}],
)  # fmt: skip
def test_a_clip_of_nothing_is_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}=.*: must"):
        hic_jax.Clip(**options)


# What each non-ideality leaves different from exact devices: (after programming, in a
# noisy read, a year later).
EFFECTS = {
    "write_noise": (True, True, True),
    "read_noise": (False, True, False),
    "drift": (False, False, True),
    "drift_spread": (False, False, True),
    "stuck": (True, True, True),
}


@pytest.mark.parametrize("name", EFFECTS)
def test_no_non_ideality_is_bypassed(weights, name):
    exact, chip = (
        hic_jax.deploy(weights, spec, KEY) for spec in (EXACT, STUCK.only(name))
    )
    same = hic_jax.deploy(
        weights, STUCK.without(*(n for n in EFFECTS if n != name)), KEY
    )
    if name != "drift_spread":
        chex.assert_trees_all_equal(hic_jax.read(same), hic_jax.read(chip))

    def differ(read):
        pairs = zip(*map(jax.tree.leaves, (read(exact), read(chip))), strict=True)
        found = {bool(jnp.any(jnp.abs(a - b) > 1e-6)) for a, b in pairs}
        assert len(found) == 1, "one layer is by-passed"
        return found.pop()

    assert EFFECTS[name] == (
        differ(hic_jax.read),
        differ(lambda w: hic_jax.read(w, key=KEY)),
        differ(lambda w: hic_jax.read(hic_jax.drift(w, hic_jax.YEAR))),
    )


def test_programming_leaves_the_spread_of_its_target():
    # A layer of one magnitude: 100,000 weights of full range on one device each.
    params = {"kernel": jnp.ones((400, 250)).at[::2].set(-1.0)}
    weights = hic_jax.analog_weights(hic_jax.hic(TRAINED, 0).init(params))
    held = hic_jax.deploy(weights, pcm.hermes_2(), KEY)["kernel"]
    g = np.asarray(held.g)
    full = np.concatenate([g[0, 1::2].ravel(), g[1, ::2].ravel()])
    # Standard errors of 0.003 and 0.002 uS.
    assert full.mean() == pytest.approx(20.7, abs=0.02)
    assert full.std() == pytest.approx(0.053 * 20.7, rel=0.01)
    zero = np.concatenate([g[1, 1::2].ravel(), g[0, ::2].ravel()])
    # A rectified Gaussian of 0.166 uS.
    assert zero.mean() == pytest.approx(0.166 / np.sqrt(2 * np.pi), rel=0.02)


def test_a_chip_has_one_drift_curve(weights):
    chip = hic_jax.deploy(weights, pcm.nandakumar_2019(), KEY)
    twice = hic_jax.drift(hic_jax.drift(chip, 1e3), 1e5)
    chex.assert_trees_all_equal(twice, hic_jax.drift(chip, 1e3 + 1e5))
    held = chip["first"]["kernel"]
    for seconds in (25.0, hic_jax.DAY, hic_jax.YEAR):
        aged = hic_jax.drift(chip, seconds)["first"]["kernel"]
        np.testing.assert_array_equal(aged.nu, held.nu)
        np.testing.assert_array_equal(aged.g, held.g)
        g = np.asarray(held.g) * ((seconds + 20) / 20) ** -np.asarray(held.nu)
        # float32 power of 1.6e6.
        np.testing.assert_allclose(
            hic_jax.read(aged), (g[0] - g[1]) / held.scale, rtol=1e-4, atol=1e-5
        )


def test_the_key_is_the_chip(weights):
    spec = pcm.nandakumar_2019()
    one, again = (hic_jax.deploy(weights, spec, KEY) for _ in range(2))
    chex.assert_trees_all_equal(one, again)
    other = hic_jax.deploy(weights, spec, jax.random.key(8))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if a.ndim > 1:
            assert jnp.mean(a == b) < 0.5  # Zero where both were cut off.


def test_many_chips_at_once(weights):
    keys = jax.random.split(KEY, 3)
    spec = pcm.hermes_1()
    chips = jax.vmap(lambda key: hic_jax.deploy(weights, spec, key))(keys)
    alone = hic_jax.deploy(weights, spec, keys[1])
    chex.assert_trees_all_close(jax.tree.map(lambda x: x[1], chips), alone, rtol=1e-5)


def test_params_are_read_from_the_chip(weights):
    params = {
        "first": {"kernel": jnp.ones((40, 50), jnp.bfloat16)},
        "head": {"kernel": jnp.ones((50, 7))},
        "bias": jnp.arange(7.0),
    }
    chip = hic_jax.deploy(weights, EXACT, KEY)
    read = hic_jax.read_params(params, chip)
    np.testing.assert_array_equal(read["bias"], params["bias"])
    assert read["first"]["kernel"].dtype == jnp.bfloat16
    expected = hic_jax.read(weights)["head"]["kernel"]
    np.testing.assert_allclose(read["head"]["kernel"], expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(0, 3), (4, 3)])
def test_a_layer_of_nothing_is_deployed(shape):
    params = {"kernel": jnp.zeros(shape)}
    weights = hic_jax.analog_weights(hic_jax.hic(TRAINED, 0).init(params))
    read = hic_jax.read(hic_jax.deploy(weights, EXACT, KEY))["kernel"]
    np.testing.assert_array_equal(read, params["kernel"])


@pytest.mark.parametrize(
    "weights", [{}, {"a": optax.MaskedNode()}, {"a": jnp.ones((3, 3))}]
)
def test_nothing_analog_is_nothing_to_deploy(weights):
    with pytest.raises(ValueError, match="no analog weight"):
        hic_jax.deploy(weights, EXACT, KEY)


def test_devices_of_training_are_no_inference_chip(weights):
    with pytest.raises(ValueError, match=r"spec=.*must be a ProgrammedSpec"):
        hic_jax.deploy(weights, pcm.nandakumar_2018(), KEY)


@pytest.mark.parametrize("seconds", [-1.0, np.float32(-1), jnp.array(-1), jnp.nan])
def test_no_time_is_before_programming(weights, seconds):
    with pytest.raises(ValueError, match=r"seconds=.*must be"):
        hic_jax.drift(hic_jax.deploy(weights, EXACT, KEY), seconds)


def test_another_chip_is_not_a_matter_of_drift(weights):
    with pytest.raises(ValueError, match=r"hic_jax\.deploy with another key"):
        hic_jax.drift(hic_jax.deploy(weights, EXACT, KEY), 1.0, KEY)


def test_a_chip_is_not_deployed_again(weights):
    with pytest.raises(ValueError, match="deployed already"):
        hic_jax.deploy(hic_jax.deploy(weights, EXACT, KEY), EXACT, KEY)


def test_wear_and_size_are_those_of_training(weights):
    chip = hic_jax.deploy(weights, EXACT, KEY)
    with pytest.raises(ValueError, match="weights are deployed"):
        hic_jax.model_size(chip, {"kernel": jnp.zeros((3, 3))})
    with pytest.raises(ValueError, match="weights are deployed"):
        hic_jax.endurance(chip)
    weight = jax.tree.leaves(chip, is_leaf=is_analog)[0]
    for asked in (lambda: weight.reads(1), lambda: weight.set_back(1.0)):
        with pytest.raises(ValueError, match="weights are deployed"):
            asked()
