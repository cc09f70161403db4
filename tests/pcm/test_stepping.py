"""Two-sided devices that hold weights: pulses, first writing, zero-shifting."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hic_jax
from hic_jax import accounting, pcm
from hic_jax.accounting import Operations
from hic_jax.pcm import bits, pair, stepping

N = 2000
NOW = jnp.float32(10.0)
RERAM, IDEAL = pcm.reram_om(), pcm.ideal_two_sided()
# Devices of a pair, or one against a reference.
held = pytest.mark.parametrize("reference", [True, False], ids=["reference", "pair"])

init = jax.jit(
    pair.init,
    static_argnums=(1, 2),
    static_argnames=("per_sign", "reference", "track_wear"),
)
set_pulses = jax.jit(pair.set_pulses, static_argnames="spec")
write = jax.jit(stepping.write_two_sided, static_argnames=("spec", "by_chance"))
shift = jax.jit(stepping.with_symmetric_reference, static_argnums=(2, 4))


def weights(spec, reference, n=N, per_sign=1):
    return init(
        jax.random.key(0), (n,), spec,
        per_sign=per_sign, reference=reference, track_wear=True,
    )  # fmt: skip


def value(state, spec):
    return np.asarray(pair.read(None, state, NOW, spec))


# ---- pulses


@held
def test_a_step_down_undoes_a_step_up(reference):
    state = weights(IDEAL, reference, 5)
    steps = jnp.array([3, -3, 1, 0, -7])
    for sign in (1, -1):
        state, futile = set_pulses(jax.random.key(1), state, sign * steps, NOW, IDEAL)
        expected = 0.625 * steps if sign == 1 else 0 * steps
        np.testing.assert_array_equal(value(state, IDEAL), expected)
        np.testing.assert_array_equal(futile, np.zeros((2, 5)))
    ups, downs = np.asarray(state.set_pulses), np.asarray(state.resets)
    assert ups.shape == downs.shape == ((1 if reference else 2), 5)
    # As many up as down of each device of a reference; of a pair, all together.
    np.testing.assert_array_equal(ups.sum(axis=0), np.abs(steps))
    np.testing.assert_array_equal(downs.sum(axis=0), np.abs(steps))
    touched = np.asarray(state.written_at) == 10
    np.testing.assert_array_equal(touched, (ups + downs) > 0)


def test_all_devices_take_turns_and_those_of_the_other_side_go_the_other_way():
    state = weights(IDEAL, False, 3, per_sign=2)
    steps = jnp.array([6, -6, 1])
    after, _ = set_pulses(jax.random.key(1), state, steps, NOW, IDEAL, turn=1)
    # Devices 1, 2, 3, 0, 1, 2 of four get a pulse; the last two are those of G-.
    ups = np.array([[1, 0, 0], [2, 0, 1], [0, 2, 0], [0, 1, 0]])
    downs = np.array([[0, 1, 0], [0, 2, 0], [2, 0, 0], [1, 0, 0]])
    np.testing.assert_array_equal(after.set_pulses, ups)
    np.testing.assert_array_equal(after.resets, downs)
    # A device is half of its side.
    np.testing.assert_array_equal(value(after, IDEAL), 0.625 / 2 * steps)


@held
def test_pulses_at_either_end_are_futile_and_counted(reference):
    state = weights(IDEAL, reference, 2)
    steps = jnp.array([40, -40])
    after, futile = set_pulses(jax.random.key(1), state, steps, NOW, IDEAL)
    # Sixteen steps lead a device from the middle to an end.
    room = 16 if reference else 32
    np.testing.assert_array_equal(value(after, IDEAL), 0.625 * room * np.sign(steps))
    np.testing.assert_array_equal(futile, (40 - room) * np.eye(2))


@held
def test_stuck_devices_stay_and_others_move(reference):
    spec = dataclasses.replace(RERAM, stuck_set=0.1, stuck_reset=0.2)
    state = weights(spec, reference)
    stuck = np.asarray(bits.unpack(state.stuck, len(state.g))).astype(bool)
    after, futile = set_pulses(jax.random.key(1), state, jnp.full(N, -2), NOW, spec)
    np.testing.assert_array_equal(after.g[stuck], state.g[stuck])
    each = 2 // len(state.g)
    assert (np.asarray(futile[1]) >= each * stuck.sum(axis=0)).all()
    assert not np.any(futile[0])
    moved = np.asarray(after.g != state.g)
    assert moved[~stuck].mean() > 0.95  # A few are noise's, or at their end.


# ---- the first writing


@held
def test_verified_pulses_lead_to_a_difference_from_both_sides(reference):
    wanted = jnp.linspace(-5.0, 5.0, N)
    state, missing = write(
        jax.random.key(1), weights(IDEAL, reference), wanted, NOW, IDEAL
    )
    error = np.asarray(wanted - value(state, IDEAL))
    np.testing.assert_allclose(error, missing, atol=1e-6)
    assert np.abs(error).max() <= 0.625 / 2 + 1e-5  # To the nearest step.
    ups, downs = state.set_pulses.sum(axis=0), state.resets.sum(axis=0)
    fired = np.round(np.abs(value(state, IDEAL)) / 0.625)
    np.testing.assert_array_equal(ups + downs, fired)


def test_what_noise_leads_astray_is_brought_back():
    spec = RERAM.only("nonlinearity", "write_noise")
    wanted = jnp.where(jnp.arange(N) % 2 == 0, 3.0, -3.0)
    state, _ = write(jax.random.key(1), weights(spec, True), wanted, NOW, spec)
    error = np.asarray(wanted - value(state, spec))
    # Within (step^2 + std^2) / 2 step, for a step back of 1.23 uS, the larger one.
    deviation = 0.4158 * spec.step * spec.half_range
    assert np.abs(error).max() < 1.1 * (1.23**2 + deviation**2) / (2 * 1.23)
    turned = (np.asarray(state.set_pulses) > 0) & (np.asarray(state.resets) > 0)
    assert turned.mean() > 0.01


def test_by_chance_it_is_right_in_the_mean():
    wanted = jnp.full(N, 0.2)  # A third of a step.
    near, _ = write(jax.random.key(1), weights(IDEAL, True), wanted, NOW, IDEAL)
    np.testing.assert_array_equal(value(near, IDEAL), np.zeros(N))
    state, _ = write(
        jax.random.key(1), weights(IDEAL, True), wanted, NOW, IDEAL, by_chance=True
    )
    found = value(state, IDEAL)
    assert set(found.tolist()) == {0.0, 0.625}
    assert found.mean() == pytest.approx(0.2, abs=float(5 * found.std() / N**0.5))


# ---- zero-shifting


def test_zero_shifting_finds_the_symmetric_point_of_each_device():
    """w* = (up - down) / (up / top - down / bottom) of soft bounds."""
    spec = dataclasses.replace(RERAM, asymmetry_spread=0.2, step=0.01)
    state = shift(jax.random.key(1), weights(spec, True), 400, NOW, spec)
    own = jax.tree.map(lambda x: np.asarray(x[0]), state.devices)
    up, down = own.step * (1 + own.asymmetry), own.step * (1 - own.asymmetry)
    exact = spec.in_us((up - down) / (up / own.top - down / own.bottom))
    found = np.asarray(state.reference)
    assert exact.std() > 1.5  # uS, from device to device.
    # Alternating pulses fluctuate, 0.4 of a step each, and so does what is read.
    error = (found - exact)[np.abs(own.step) > 0.005]
    assert np.corrcoef(found, exact)[0, 1] > 0.95
    assert np.sqrt(np.mean(error**2)) < 0.25 * exact.std()
    np.testing.assert_array_equal(state.set_pulses, np.full((1, N), 200))
    np.testing.assert_array_equal(state.resets, np.full((1, N), 200))
    # There more of them lead nowhere.
    alternating = state
    for i in range(4):
        steps = jnp.full(N, 1 - 2 * (i % 2))
        key = jax.random.key(10 + i)
        alternating, _ = set_pulses(key, alternating, steps, NOW, spec)
    # After a step down a device is half a step below.
    half = -spec.mean_step / 2
    assert value(alternating, spec).mean() == pytest.approx(half, rel=0.3)


# ---- what it is counted as


def test_a_weight_counts_the_devices_and_pulses_that_there_are():
    def made(**fields):
        spec = hic_jax.PulsedSGDSpec(multilevel=pcm.ideal_two_sided(), **fields)
        state = hic_jax.pulsed_sgd(spec, 0).init([jnp.asarray([1.0, -1.0, 0.5])])
        return hic_jax.analog_weights(state)[0]

    one, shifted = made(), made(zero_shift_pulses=4)
    assert [w.devices()["multilevel"] for w in (one, shifted)] == [3, 6]
    assert [w.devices_in_products for w in (one, shifted)] == [1, 2]
    # Four bits for each of three weights, whatever holds them.
    assert one.bits() == shifted.bits() == {"inference": 12, "training": 12}
    pairs = hic_jax.PulsedSGDSpec(multilevel=IDEAL, arrangement="pair")
    assert pairs.held_by == 2
    assert pairs.reach == 2 * one.spec.reach == 20.0
    # Half of the 10 uS that they reach is 1.5 times the root mean square.
    steps = np.round(5.0 / 1.5 / np.sqrt(0.75) / 0.625 * np.array([1.0, -1.0, 0.5]))
    ups, downs = one.pulses()["multilevel"]
    np.testing.assert_array_equal(ups[0], np.maximum(steps, 0))
    np.testing.assert_array_equal(downs[0], np.maximum(-steps, 0))
    # A read before each pulse, and one that finds it done.
    fired = int(np.abs(steps).sum())
    assert accounting.writes([one], steps=9, carried_pulses=0.0) == Operations(
        multilevel_sets=int(ups.sum()),
        multilevel_resets=int(downs.sum()),
        multilevel_reads=fired + 3,
    )
    # Zero-shifting: four pulses of each, of which two are read, and then as before.
    more = accounting.writes([shifted], steps=9, carried_pulses=0.0)
    fired = more.multilevel_sets + more.multilevel_resets - 3 * 4
    assert more.multilevel_reads == fired + 3 + 3 * 2
    # An up and a down pulse are a cycle, the larger number counts.
    assert accounting.endurance([one])["multilevel"]["max"] == np.abs(steps).max()


@pytest.mark.parametrize(
    ("device", "fields", "message"),
    [
        (
            RERAM,
            {"refresh_every": 5},
            "refresh_every=5: must be left at 10, .* reram_om",
        ),
        (
            RERAM,
            {"refresh_verify": False},
            "refresh_verify=False: must be left at True",
        ),
        (RERAM, {"refresh_pulses": 30}, "refresh_pulses=30: must be left at 20"),
        (RERAM, {"zero_shift_pulses": 3}, "zero_shift_pulses=3: must be even"),
        (
            RERAM,
            {"zero_shift_pulses": 2, "arrangement": "pair"},
            "zero_shift_pulses=2: must be 0, because a pair of reram_om has no ref",
        ),
        (RERAM, {"arrangement": "ring"}, "arrangement='ring': must be one of auto, "),
        (
            pcm.SoftBoundsSpec(
                name="low",
                source="test",
                g_min=1.0,
                g_max=20.0,
                reset_mean=1.0,
                step=0.01,
            ),
            {},
            "reset_mean=1.0: must leave room to pulse low up and down",
        ),
        (pcm.ideal(), {"arrangement": "reference"}, "must be 'auto' or 'pair', bec"),
        (pcm.ideal(), {"zero_shift_pulses": 2}, "must be 0, because a pair of ideal"),
    ],
)
def test_what_makes_no_sense_with_a_device_is_refused(device, fields, message):
    with pytest.raises(ValueError, match=message):
        hic_jax.MixedPrecisionSpec(multilevel=device, **fields)
    assert hic_jax.MixedPrecisionSpec(multilevel=RERAM, refresh_every=0).has_reference
