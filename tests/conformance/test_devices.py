"""What every device keeps to: an entry in `pcm.PRESETS` is enough to be tested."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hic_jax import pcm
from hic_jax.pcm import bits, pair, stepping, writing
from hic_jax.weights import YEAR

DEVICES = {name: make() for name, make in pcm.PRESETS.items()}
# No preset differs from chip to chip unless it is told to.
DEVICES["spread"] = pcm.nandakumar_2018(drift_nu_std=0.008)
DEVICES["spread by conductance"] = pcm.nandakumar_2018(
    drift_nu_std=pcm.nandakumar_2019().drift_nu_std
)
DEVICES["flicker"] = dataclasses.replace(
    DEVICES["spread by conductance"], read_spectrum="flicker"
)
DEVICES["unequal steps"] = dataclasses.replace(pcm.nandakumar_2018(), step_spread=0.3)
TABLE = {
    "name": "table",
    "source": "this test",
    "g_min": 2.0,
    "g_max": 12.0,
    "reset_mean": 2.5,
    "reset_std": 0.2,
    "at": (2.0, 4.0, 12.0),
    "up_mean": (0.8, 0.6, 0.1),
    "up_std": (0.3, 0.2, 0.1),
}
DEVICES["table"] = pcm.TableSpec(**TABLE, step_spread=0.2, drift_nu=0.03)
DEVICES["two-sided table"] = pcm.TwoSidedTableSpec(
    **TABLE, down_mean=(0.1, 0.4, 0.9), down_std=(0.1, 0.3, 0.2)
)

# Without a formula of its own a device is judged by so many simulated ones.
SIMULATED = 4096
MANY, PULSES = 20_000, 20
PAIRS = 4000

every_device = pytest.mark.parametrize("spec", DEVICES.values(), ids=DEVICES)
every_preset = pytest.mark.parametrize(
    "spec", [DEVICES[name] for name in pcm.PRESETS], ids=pcm.PRESETS
)
# Two-sided ones hold weights in another way: `tests/pcm/test_stepping.py`.
ONE_SIDED = [name for name in pcm.PRESETS if not DEVICES[name].TWO_SIDED]
# Those whose pairs are tested here: constants make no difference to what they are.
IN_PAIRS = {n: d for n, d in DEVICES.items() if not d.TWO_SIDED or n == "reram_om"}
every_one_in_pairs = pytest.mark.parametrize("spec", IN_PAIRS.values(), ids=IN_PAIRS)
every_one_sided = pytest.mark.parametrize(
    "spec", [DEVICES[name] for name in ONE_SIDED], ids=ONE_SIDED
)


# Compiled once for a device and a shape.
WRITTEN = ("spec", "max_pulses", "verify")
set_pulses = jax.jit(pair.set_pulses, static_argnames="spec")
add_difference = jax.jit(stepping.add_difference, static_argnames=WRITTEN[:2])
write_difference = jax.jit(writing.write_difference, static_argnames=WRITTEN)
refresh = jax.jit(writing.refresh, static_argnames=WRITTEN)
init_pairs = jax.jit(
    pair.init, static_argnums=(1, 2), static_argnames=("reference", "track_wear")
)


def normals(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


@functools.cache
def fresh(spec, n=MANY):
    """Devices after a RESET."""
    return spec.reset(spec.init(jax.random.key(0), (n,)), normals(1, n))


@functools.cache
def fired(spec, n=MANY, pulses=PULSES):
    """Devices after 0, 1, ... SET pulses: their states, stacked."""

    @jax.jit
    def all_of(state):
        def fire(state, key):
            state = spec.pulse(state, jax.random.normal(key, (n,)))
            return state, state

        return jax.lax.scan(fire, state, jax.random.split(jax.random.key(2), pulses))

    start = fresh(spec, n)
    return jax.tree.map(
        lambda first, rest: np.concatenate([first[None], rest]),
        start,
        all_of(start)[1],
    )


def state_at(states, pulse):
    return jax.tree.map(lambda x: x[pulse], states)


def pairs_of(spec, track_wear=True):
    return init_pairs(
        jax.random.key(3), (PAIRS,), spec,
        reference=spec.TWO_SIDED, track_wear=track_wear,
    )  # fmt: skip


def devices_that_get(steps, spec):
    """(d, n) bool: those of `pairs_of` that steps fire pulses at."""
    if spec.TWO_SIDED:
        return np.stack([steps != 0])
    return np.stack([steps > 0, steps < 0])


def alike(spec):
    """Devices without what a controller does not know of each."""
    name = "device_spread"
    return spec.without(name) if name in spec.NON_IDEALITIES else spec


def ends(spec):
    """Lowest and highest conductance of the mean device."""
    if spec.TWO_SIDED:
        return spec.in_us(spec.bottom), spec.in_us(spec.top)
    return spec.g_min, spec.g_max


def same(one, two):
    jax.tree.map(np.testing.assert_array_equal, one, two)


# ---- what pulses do


@every_device
def test_the_mean_trajectory_is_that_of_its_devices(spec):
    g = np.asarray(fired(spec).g, np.float64)
    expected = spec.mean_trajectory(PULSES)
    assert expected.shape == (PULSES + 1,)
    assert (np.diff(expected) >= 0).all()
    # Five standard errors of what is drawn here and of what a device may have drawn,
    # and half a per cent of the range: a recursion takes distributions for Gaussian,
    # which they are not any more where the range ends.
    error = 5 * g.std(axis=1) * np.hypot(MANY**-0.5, SIMULATED**-0.5)
    below = (g >= spec.g_max).mean(axis=1) < 0.01
    off = np.abs(g.mean(axis=1) - expected)
    np.testing.assert_array_less(off[below], (error + 0.005 * spec.g_max)[below])
    assert below.sum() > 10
    if not spec.TWO_SIDED:  # Of these it is that in the middle.
        assert spec.mean_step == pytest.approx((expected[10] - expected[0]) / 10)
    assert spec.mean_step > 0


@every_preset
def test_a_controller_expects_the_steps_that_pulses_make(spec):
    """Mean and standard deviation of the step, where it meets no end of the range."""
    spec = alike(spec)
    states, (low, high) = fired(spec), ends(spec)
    found, expected, variance = [], [], []
    for pulse in range(PULSES):
        before = state_at(states, pulse)
        mean, std = spec.expected_step(jnp.asarray(before.g), before)
        inside = (before.g + mean - 4 * std > low) & (before.g + mean + 4 * std < high)
        found.append((states.g[pulse + 1] - before.g)[inside])
        expected.append(np.broadcast_to(mean, inside.shape)[inside])
        variance.append(np.broadcast_to(std, inside.shape)[inside] ** 2)
    found, expected, variance = map(np.concatenate, (found, expected, variance))
    assert found.size >= MANY
    # Of the devices a controller knows what it has done to them, or only what it has
    # read: a tenth of a step and of its deviation is for what it does not know.
    error = 5 * found.std() / np.sqrt(found.size)
    assert found.mean() == pytest.approx(
        expected.mean(), abs=error + 0.1 * spec.mean_step
    )
    deviation = np.sqrt(expected.var() + variance.mean())
    assert found.std() == pytest.approx(deviation, rel=0.1, abs=1e-5)


@every_preset
def test_the_deviation_of_a_step_is_that_of_devices_that_stand_there(spec):
    spec = alike(spec)
    g = fired(spec).g
    # Of two-sided ones some are soon at their ends.
    before, after = (g[1], g[2]) if spec.TWO_SIDED else (g[-2], g[-1])
    near = np.abs(before - before.mean()) <= 0.25 * before.std() + 1e-6
    # 4,000 devices: five standard errors are 6 per cent; a simulation is not exact.
    assert (after - before)[near].std() == pytest.approx(
        spec.step_std(float(before.mean())), rel=0.15, abs=1e-5
    )


@every_preset
def test_no_pulse_leaves_the_range(spec):
    n = 512
    state = state_at(fired(spec, n, 300), 300)
    g = np.asarray(fired(spec, n, 300).g)[1:]
    for size in (10.0, 1e4):  # Standard deviations.
        for sign in (-1.0, 1.0):
            end = spec.pulse(state, jnp.full(n, sign * size)).g
            g = np.concatenate([g, np.asarray(end)[None]])
    assert g.min() >= np.float32(spec.g_min)
    assert g.max() <= np.float32(spec.g_max)
    assert np.isfinite(g).all()


@every_device
def test_a_reset_leaves_its_mean_whatever_was_before(spec):
    g = np.asarray(fresh(spec).g, np.float64)
    error = 5 * g.std() / np.sqrt(MANY) + 1e-6 * spec.g_max  # float32
    assert g.mean() == pytest.approx(spec.reset_mean, abs=error)
    used = state_at(fired(spec), PULSES)
    again, z = spec.reset(used, normals(1, MANY)), normals(4, MANY)
    np.testing.assert_array_equal(again.g, fresh(spec).g)
    np.testing.assert_array_equal(spec.pulse(again, z).g, spec.pulse(fresh(spec), z).g)


@every_device
def test_new_devices_are_as_after_a_reset_without_noise(spec):
    new = spec.init(jax.random.key(0), (3, 5))
    assert all(x.shape == (3, 5) for x in jax.tree.leaves(new))
    np.testing.assert_array_equal(new.g, np.full((3, 5), np.float32(spec.reset_mean)))
    same(new, spec.reset(new, jnp.zeros((3, 5))))


@every_preset
def test_planned_pulses_are_the_inverse_of_the_mean_trajectory(spec):
    mean = spec.mean_trajectory(PULSES)
    pulses = spec.pulses_for(jnp.asarray(mean, jnp.float32), PULSES)
    assert pulses.dtype == jnp.int32
    # Where it rises at all: one pulse is as good as another where none adds anything.
    rises = np.diff(mean, prepend=-np.inf) > 1e-4
    np.testing.assert_array_equal(pulses[rises], np.arange(PULSES + 1)[rises])
    wanted = np.linspace(-1, 1.2 * mean[-1], 200)
    planned = mean[spec.pulses_for(jnp.asarray(wanted, jnp.float32), PULSES)]
    nearest = np.abs(wanted[:, None] - mean).min(axis=1)
    np.testing.assert_allclose(np.abs(planned - wanted), nearest, atol=1e-4)


# ---- drift and reads


@every_device
def test_conductance_drifts_from_the_last_write_on(spec):
    state = state_at(fired(spec), PULSES)
    np.testing.assert_allclose(spec.conductance(state, jnp.float32(0)), state.g)
    old = np.asarray(spec.conductance(state, jnp.float32(YEAR)))
    assert np.isfinite(old).all()
    assert old.min() >= 0


@every_one_in_pairs
def test_the_clock_restarts_for_what_was_written_and_for_nothing_else(spec):
    steps = jnp.arange(PAIRS) % 3 - 1
    # Powers of two, which stamps of 16 bits hold as they are.
    now, later = jnp.float32(2.0**20), jnp.float32(2.0**21)
    before = pairs_of(spec)
    after, _ = set_pulses(jax.random.key(0), before, steps, now, spec)
    hit = devices_that_get(steps, spec)
    np.testing.assert_array_equal(after.written_at, np.where(hit, now, 0.0))
    found = pair.conductances(after, later, spec)
    young = spec.conductance(after.devices, later - now)
    old = spec.conductance(before.devices, later)
    np.testing.assert_allclose(found, np.where(hit, young, old), rtol=1e-6)


@every_one_in_pairs
def test_a_read_has_the_noise_that_it_says(spec):
    steps, time = jnp.full(PAIRS, 10), jnp.float32(0)
    state, _ = set_pulses(jax.random.key(0), pairs_of(spec), steps, time, spec)
    exact = pair.read(None, state, time, spec)
    minus = spec.reset_mean if spec.TWO_SIDED else state.g[1]
    np.testing.assert_allclose(exact, state.g[0] - minus, rtol=1e-6)
    noise = np.asarray(pair.read(normals(5, PAIRS), state, time, spec) - exact)
    variance = np.asarray(spec.read_std(state.g)) ** 2
    std = np.sqrt(np.mean(variance) * len(variance))
    # Five standard errors of each, and float32.
    assert noise.mean() == pytest.approx(0, abs=5 * std / np.sqrt(PAIRS) + 1e-6)
    assert noise.std() == pytest.approx(std, rel=5 / np.sqrt(2 * PAIRS), abs=1e-6)


@every_device
def test_another_chip_ages_otherwise_where_chips_differ(spec):
    state = state_at(fired(spec), PULSES)
    one, two = (
        spec.on_another_chip(state, normals(seed, spec.chip_draws, MANY))
        for seed in (10, 11)
    )
    np.testing.assert_array_equal(one.g, state.g)
    at = functools.partial(spec.conductance, age=jnp.float32(0))
    np.testing.assert_allclose(at(one), at(state))
    year = functools.partial(spec.conductance, age=jnp.float32(YEAR))
    if not spec.chip_draws:
        same(one, state)
        np.testing.assert_array_equal(year(one), year(state))
        return
    if spec.slow_draws(one) is not None:
        slow = [np.asarray(spec.slow_draws(x)) for x in (one, two)]
        assert abs(np.corrcoef(slow)[0, 1]) < 5 / np.sqrt(MANY)
    if spec.chip_draws == (spec.slow_draws(one) is not None):
        same(year(one), year(state))  # All drift alike.
        return
    ratios = np.stack([np.asarray(year(x)) / state.g for x in (state, one, two)])
    assert ratios.std(axis=1).min() > 0.01  # Of about a half after a year.
    correlation = np.corrcoef(ratios) - np.eye(3)
    assert np.abs(correlation).max() < 5 / np.sqrt(MANY)


# ---- what holds for every device alike


@every_one_sided
def test_stuck_devices_never_move(spec):
    spec = dataclasses.replace(spec, stuck_set=0.1, stuck_reset=0.2)
    state = pairs_of(spec)
    stuck = np.asarray(bits.unpack(state.stuck, 2)).astype(bool)
    held = np.asarray(state.g)[stuck]
    for end, share in ((spec.g_max, 0.1), (spec.reset_mean, 0.2)):
        error = np.sqrt(share * (1 - share) / stuck.size)
        end = np.asarray(end, spec.g_dtype)  # As pairs hold it.
        found = (held == end).sum() / stuck.size
        assert found == pytest.approx(share, abs=5 * error)
    steps, now = jnp.arange(PAIRS) % 3 - 1, jnp.float32(10)
    hit = np.stack([steps > 0, steps < 0])
    pulsed, futile = set_pulses(jax.random.key(1), state, steps, now, spec)
    np.testing.assert_array_equal(futile, hit & stuck)  # No other is at its end yet.
    wanted = jnp.where(steps > 0, 2.0, -2.0)
    added, _, _ = add_difference(
        jax.random.key(2), state, wanted, now, spec, max_pulses=8
    )
    rewritten, _ = refresh(
        jax.random.key(3), pulsed, steps != 0, now, spec, max_pulses=8, verify=True
    )
    for after in (pulsed, added, rewritten):
        np.testing.assert_array_equal(np.asarray(after.g)[stuck], held)
        year = np.asarray(pair.conductances(after, now + YEAR, spec))
        np.testing.assert_array_equal(year[stuck], held)
    # The others have moved, but for steps that noise has taken to the end of the range.
    moved = np.asarray(pulsed.g != state.g)
    assert moved[hit & ~stuck].mean() > 0.8
    assert not moved[~hit].any()


@every_one_sided
def test_every_pulse_is_counted_on_the_device_that_got_it(spec):
    state = pairs_of(spec)
    sets = np.zeros((2, PAIRS), int)
    for seed in range(4):
        steps = jax.random.randint(jax.random.key(seed), (PAIRS,), -3, 4)
        state, _ = set_pulses(
            jax.random.key(10 + seed), state, steps, jnp.float32(seed), spec
        )
        sets += np.maximum([steps, -steps], 0)
        np.testing.assert_array_equal(state.set_pulses, sets)
    np.testing.assert_array_equal(state.resets, np.zeros(PAIRS))
    wanted = pair.read(None, state, jnp.float32(4), spec)
    after, _ = write_difference(
        jax.random.key(4), state, wanted, jnp.float32(4), spec,
        max_pulses=PULSES, verify=False,
    )  # fmt: skip
    np.testing.assert_array_equal(after.resets, np.ones(PAIRS))
    # Blind: as many as planned, on the side of the sign.
    planned = spec.pulses_for(jnp.abs(wanted) + spec.reset_mean, PULSES)
    sides = np.stack([wanted > 0, wanted < 0])
    np.testing.assert_array_equal(after.set_pulses, sets + np.where(sides, planned, 0))


@every_one_in_pairs
def test_what_is_not_counted_is_written_alike(spec):
    steps, time = jnp.full(PAIRS, 2), jnp.float32(1)
    counted, uncounted = (
        set_pulses(jax.random.key(0), pairs_of(spec, t), steps, time, spec)[0]
        for t in (True, False)
    )
    assert uncounted.set_pulses is uncounted.resets is None
    same(counted.devices, uncounted.devices)


# ---- pure functions of arrays


def _life(spec, key, z):
    """A bit of everything: devices, what they hold after a year, what is expected."""
    state = spec.reset(spec.init(key, z.shape[1:]), z[0])
    for normal in z[1:4]:
        state = spec.pulse(state, normal)
    old = spec.conductance(state, jnp.float32(YEAR))
    other = spec.on_another_chip(state, z[4 : 4 + spec.chip_draws])
    return state, old, spec.read_std(old), spec.expected_step(state.g, state), other


@every_device
def test_mapped_is_looped_and_compiled_is_eager(spec):
    keys, z = jax.random.split(jax.random.key(0), 3), normals(1, 3, 8, 64)
    life = functools.partial(_life, spec)
    looped = [life(key, normal) for key, normal in zip(keys, z, strict=True)]
    looped = jax.tree.map(lambda *x: np.stack(x), *looped)
    same(jax.vmap(life)(keys, z), looped)
    compiled = jax.jit(jax.vmap(life))(keys, z)
    # A compiler fuses products and sums, and has powers of its own: a few roundings.
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
        compiled,
        looped,
    )


# ---- non-idealities by name

NAMES = [(d, n) for d in pcm.PRESETS for n in DEVICES[d].NON_IDEALITIES]


def _constants(spec):
    """Every constant that a name switches off."""
    names = {c for names in spec.NON_IDEALITIES.values() for c in names}
    return {name: getattr(spec, name) for name in names}


@pytest.mark.parametrize(("device", "name"), NAMES)
def test_a_non_ideality_is_off_alone_or_on_alone(device, name):
    spec = dataclasses.replace(DEVICES[device], stuck_set=0.1, stuck_reset=0.1)
    mine = spec.NON_IDEALITIES[name]
    off, on = spec.without(name), spec.only(name)
    assert type(off) is type(on) is type(spec)
    before, without, only = map(_constants, (spec, off, on))
    assert without == before | dict.fromkeys(mine, 0.0)
    assert {c: only[c] for c in mine} == {c: before[c] for c in mine}
    # What shares a constant with it may stay: no spread of drift without drift.
    kin = {
        c for names in spec.NON_IDEALITIES.values() if {*names} & {*mine} for c in names
    }
    assert all(not value for c, value in only.items() if c not in kin)
    assert off.without(name) == off
    assert on.only(name) == on
    for one in (off, on):
        state = one.pulse(fresh(one, 64), normals(0, 64))
        assert (state.g >= np.float32(one.g_min)).all()
        assert (state.g <= np.float32(one.g_max)).all()
        assert one.mean_step > 0


@every_device
def test_what_is_off_by_a_known_name_does_nothing(spec):
    spec = dataclasses.replace(spec, stuck_set=0.3)
    state = state_at(fired(spec, 64, 3), 3)
    z, other = normals(0, 64), normals(1, 64)

    def steps(device):
        g = [state.g * 0 + device.reset_mean]
        now = device.reset(state, jnp.zeros(64))
        for _ in range(3):
            now = device.pulse(now, jnp.zeros(64))
            g.append(now.g)
        inside = ~np.asarray(device.is_at_end(now))
        return np.diff(np.stack(g), axis=0)[:, inside]

    def drifted(device, on=state):
        return device.conductance(on, jnp.float32(YEAR))

    off = {
        "stuck": lambda d: pairs_of(d).stuck is None,
        "drift": lambda d: (drifted(d) == state.g).all(),
        "drift_spread": lambda d: (
            drifted(d) == drifted(d, d.on_another_chip(state, normals(2, 2, 64)))
        ).all(),
        "read_noise": lambda d: not d.read_std(jnp.asarray(state.g)).any(),
        "write_noise": lambda d: (
            (d.pulse(state, z).g == d.pulse(state, other).g).all()
            and (d.reset(state, z).g == d.reset(state, other).g).all()
        ),
        "nonlinearity": lambda d: np.ptp(steps(d), axis=0).max() < 1e-5 * d.g_max,
    }
    for name in spec.NON_IDEALITIES:
        if name in off:
            assert off[name](spec.without(name)), name
    bare = spec.only()
    for name in spec.NON_IDEALITIES:
        if name in off:
            assert off[name](bare), name
    with pytest.raises(ValueError, match="non-ideality='heat'"):
        spec.without("heat")


@every_preset
@pytest.mark.parametrize(
    ("constants", "message"),
    [
        ({"g_max": float("nan")}, "g_max=nan"),
        ({"stuck_set": 0.7, "stuck_reset": 0.7}, "stuck_set"),
        ({"g_max": 0.0}, "g_max=0"),
        ({"reset_mean": 1e5}, "reset_mean=100000.0"),
    ],
)
def test_constants_of_no_device_are_refused(spec, constants, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(spec, **constants)
