"""What the writing of pairs leaves: dropped, kept, or made right by chance."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hic_jax
from hic_jax import pcm
from hic_jax.algorithms import ALGORITHMS, PulsedSGDSpec, analog
from hic_jax.pcm import bits, pair
from tests.conformance.trained import (
    REFRESHED,
    arrays_of,
    scale_of,
    spec_of,
    steps_of,
    trainer,
)

COLLECTING = [name for name, cls in ALGORITHMS.items() if cls.collects]
N = 4000
COMMON = {
    "scale": jnp.float32(1.0),
    "time": jnp.float32(0.0),
    "time_rest": jnp.float32(0.0),
    "axes": hic_jax.KernelAxes.plain(1),
}


def made(spec, target, seed=0):
    """Weights that hold conductances in uS, and what happened."""
    told = COMMON
    if spec.by_lines:
        told = COMMON | {"axes": (COMMON["axes"],), "shapes": (target.shape,)}
    init = jax.jit(lambda key: spec.init(key, target, **told))
    return init(jax.random.key(seed))


def collected(name, weight):
    """What an algorithm keeps beside the pairs, uS."""
    if name == "hic":
        return np.asarray(weight.accumulator) * weight.spec.lsb
    if name == "mixed_precision":
        return np.asarray(weight.residual) * weight.spec.step
    return np.asarray(weight.cell)


def of_pairs(weight):
    return np.asarray(
        pair.read(None, weight.multilevel, weight.time, weight.spec.multilevel)
    )


# Words that no residue of these targets leaves, and cells that all of them fit in.
WIDE = {
    "hic": {
        "initial_words": "zero", "lsb_bits": 8, "word_steps": 8, "update_bits": 16
    }
}  # fmt: skip


@pytest.mark.parametrize("name", COLLECTING)
def test_kept_and_pair_are_what_was_wanted(name):
    target = jnp.tile(jnp.array([1.0, -1.0, 2.0, -6.0]), N // 4)
    fields = WIDE.get(name, {})
    dropped, _ = made(spec_of(name, **fields), target)
    weight, events = made(spec_of(name, rewrite_residue="kept", **fields), target)
    np.testing.assert_array_equal(of_pairs(weight), of_pairs(dropped))
    assert not collected(name, dropped).any()
    error = (of_pairs(weight) + collected(name, weight) - target).reshape(-1, 4)
    # A residue is read with a noise of 0.2 to 0.35 uS, and of a cell a step of 5 %.
    np.testing.assert_allclose(error.mean(axis=0), np.zeros(4), atol=0.06)
    assert 0.15 < error.std() < 0.4
    bias = (of_pairs(weight) - target).reshape(-1, 4).mean(axis=0)
    np.testing.assert_allclose(bias, [-1.0, 1.0, 0.4, 0.37], atol=0.2)
    kept = np.abs(collected(name, weight)).sum()
    assert float(events.residue) == pytest.approx(kept, rel=0.02)


# Ten steps of 2 uS, without noise: half a step is what is left at the most.
COARSE = dataclasses.replace(pcm.ideal(), step_offset=2.0)


def test_what_leaves_a_word_is_carried_and_wears_its_cells():
    target = jnp.linspace(-15.0, 15.0, N)
    spec = hic_jax.HICSpec(multilevel=COARSE, word_steps=1, update_bits=6)
    (dropped, _), (kept, events) = (
        made(dataclasses.replace(spec, rewrite_residue=rule), target)
        for rule in ("dropped", "kept")
    )
    # Words begin at random, the same ones: what came in is in them or in the pairs.
    before = of_pairs(dropped) + collected("hic", dropped)
    gained = of_pairs(kept) + collected("hic", kept) - before
    missing = np.asarray(target) - of_pairs(dropped)
    assert np.abs(missing).max() == pytest.approx(1.0, abs=1e-3)
    # 1 uS is 32 LSBs, and the bus takes 31 upwards.
    np.testing.assert_allclose(gained, missing, atol=1.001 * spec.lsb)
    assert 0 < events.clipped_lsbs < 0.01 * events.accepted_lsbs
    sets = [np.sum(w.multilevel.set_pulses, dtype=int) for w in (dropped, kept)]
    # Every fourth of words that are uniform and 128 LSBs wide leaves by 16 on average.
    assert events.set_pulses == pytest.approx(N / 8, rel=0.2)
    assert sets[1] - sets[0] == events.set_pulses
    # Cells whose bit changed were written, and no other.
    codes = [np.asarray(w.accumulator).view(np.uint8) for w in (dropped, kept)]
    changed = np.asarray(bits.unpack(codes[0] ^ codes[1], spec.lsb_bits))
    writes = [np.sum(w.pulses()["binary"], axis=0) for w in (dropped, kept)]
    np.testing.assert_array_equal(writes[1] - writes[0], changed)


def test_what_a_refresh_leaves_goes_into_the_words():
    fields = {"initial_words": "zero", "word_steps": 1, **REFRESHED}
    runs = []
    for rule in ("dropped", "kept"):
        spec = spec_of("hic", COARSE, rewrite_residue=rule, **fields)
        weight, _ = made(spec, jnp.zeros(N))
        g = jnp.stack([jnp.full(N, 8.0), jnp.full(N, 7.4)])
        pairs = weight.multilevel
        pairs = pairs.replace(devices=pairs.devices.replace(g=g))
        step = jax.jit(
            lambda w, s=spec: s.update(jax.random.key(1), w, jnp.zeros(N), 2)
        )
        runs.append(step(weight.replace(multilevel=pairs)))
    (dropped, lost), (kept, events) = runs
    for after, counted in runs:
        assert not of_pairs(after).any()  # 0.6 uS is below half a step.
        assert counted.refreshed_pairs == N
        assert counted.residue == pytest.approx(0.6 * N, rel=1e-4)
    assert not dropped.accumulator.any() and lost.accepted_lsbs == 0
    # Stochastically rounded: 19.2 LSBs.
    assert set(np.unique(kept.accumulator)) == {19, 20}
    found = collected("hic", kept).mean()
    assert found == pytest.approx(0.6, abs=5 * 0.4 * spec.lsb / np.sqrt(N))
    assert events.accepted_lsbs == np.abs(np.asarray(kept.accumulator, int)).sum()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_by_chance_every_algorithm_is_right_in_the_mean(name):
    target = jnp.tile(jnp.array([1.0, -7.0]), N // 2)
    spec = spec_of(name, rewrite_residue="chance")
    weight, events = made(spec, target)
    error = (of_pairs(weight) - target).reshape(-1, 2)
    # Five standard errors of 1.4 and 0.8 uS, and of 4,096 simulated devices.
    np.testing.assert_allclose(error.mean(axis=0), np.zeros(2), atol=0.16 + 0.06)
    assert float(events.residue) / N > 0.5


def test_where_nothing_can_be_kept_it_is_refused():
    with pytest.raises(ValueError, match=r"^rewrite_residue='kept': must be"):
        PulsedSGDSpec(rewrite_residue="kept")


@pytest.mark.parametrize("name", COLLECTING)
def test_training_goes_on_with_what_was_kept(name):
    spec = spec_of(name, rewrite_residue="kept", **REFRESHED)
    train = trainer(spec)
    start = train.start()
    draws = 2 * jax.random.normal(jax.random.key(5), (4, 64, 4))
    run = train.train(start, [steps_of(spec, scale_of(start), d) for d in draws])
    assert run.total("refreshed_pairs") > 0
    left = run.total("residue") / run.total("refreshed_pairs")
    assert 0.2 < left < 2.0  # uS


# ---- stuck devices


@pytest.mark.parametrize("name", ALGORITHMS)
def test_pairs_that_gain_no_room_by_a_reset_are_left_alone(name):
    device = dataclasses.replace(pcm.nandakumar_2018(), stuck_set=0.1)
    spec = spec_of(name, device, **REFRESHED)
    train = trainer(spec)
    start = train.start()
    draws = jnp.array([[2.0], [-2.0]] * 3)
    run = train.train(start, [steps_of(spec, scale_of(start), d) for d in draws])
    pairs = arrays_of(run.weights["kernel"])[-1]  # Of several the one that is pulsed.
    resets = np.asarray(pairs.resets)
    stuck = np.asarray(pairs.stuck) > 0
    assert 0.1 < stuck.mean() < 0.3
    # One of programming; with healthy devices on both sides up to three more.
    np.testing.assert_array_equal(resets[stuck], np.ones(stuck.sum()))
    assert resets[~stuck].mean() > 1.2


def test_a_weight_with_a_stuck_device_comes_as_near_as_the_other_reaches():
    device = dataclasses.replace(pcm.nandakumar_2018(), stuck_set=0.1)
    spec = hic_jax.HICSpec(multilevel=device)
    tx = analog(spec, jax.random.key(0))
    params = {"kernel": 0.2 * jax.random.normal(jax.random.key(1), (40, 40))}

    @jax.jit
    def train(state):
        def step(state, _):
            held = pair.read(None, state.weights.multilevel, state.weights.time, device)
            wanted = -0.2 * held.reshape(40, 40) / state.weights.scale[0]
            _, state = tx.update({"kernel": wanted}, state, params)
            return state, None

        return jax.lax.scan(step, state, length=200)[0]

    pairs = train(tx.init(params)).weights.multilevel
    one_sided = np.isin(np.asarray(pairs.stuck), [1, 2])
    held = np.abs(np.asarray(pairs.g[0] - pairs.g[1]))[one_sided]
    # The other device gets to 10.5 uS, where pulses add nothing in the mean, and by
    # their noise beyond; with a RESET at every look the weight stayed at 19.9 uS.
    assert held.mean() < 10.0
    np.testing.assert_array_equal(pairs.resets[one_sided], np.ones(one_sided.sum()))
