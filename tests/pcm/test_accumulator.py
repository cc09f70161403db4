"""Integer arithmetic of the low-precision accumulator."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hic_jax.pcm import accumulator

accumulate = jax.jit(accumulator.accumulate, static_argnums=(2, 3))


@pytest.mark.parametrize("bits", range(2, 9))
def test_of_every_word_and_update_the_carry_is_the_smallest_that_brings_it_back(bits):
    half = 2 ** (bits - 1)
    word = np.arange(-half, half, dtype=np.int8)[:, None]
    # Sums beyond both ends, by more than a word.
    lsbs = np.arange(-4 * half - 1, 4 * half + 2, dtype=np.int32)
    for steps in 2 ** np.arange(bits):
        step = half // int(steps)
        new, carry = map(np.asarray, accumulate(word, lsbs, bits, int(steps)))
        new, total = new.astype(int), word.astype(int) + lsbs
        np.testing.assert_array_equal(new + carry * step, total)
        assert new.min() == -half and new.max() == half - 1
        inside = (total >= -half) & (total < half)
        assert not carry[inside].any()
        np.testing.assert_array_equal(
            np.sign(carry), np.where(inside, 0, np.sign(total))
        )
        # With a step less it would still be outside.
        less = (new + np.sign(carry) * step)[~inside]
        assert ((less < -half) | (less >= half)).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 8), st.integers(-(2**15), 2**15), st.data())
def test_no_update_of_any_bus_is_lost(bits, lsbs, data):
    half, steps = 2 ** (bits - 1), 2 ** data.draw(st.integers(0, bits - 1))
    word = data.draw(st.integers(-half, half - 1))
    new, carry = map(int, accumulate(np.int8(word), np.int32(lsbs), bits, steps))
    assert new + carry * (half // steps) == word + lsbs
    assert -half <= new < half


@pytest.mark.parametrize(("steps", "pulses"), [(1, 1.0), (2, 1 / 3), (4, 1 / 7)])
def test_updates_that_only_fluctuate_carry_less_often_in_a_word_of_more_steps(
    steps, pulses
):
    # A walk in moves of u that starts a step of eps inside [-n eps, n eps] leaves after
    # (2 n - 1) (eps / u)^2 moves in the mean.
    bits, n, length, update = 8, 4096, 1500, 8
    step = 2 ** (bits - 1) // steps
    signs = jax.random.rademacher(jax.random.key(0), (length, n), jnp.int32)

    def walk(word, sign):
        word, carry = accumulator.accumulate(word, update * sign, bits, steps)
        return word, jnp.sum(jnp.abs(carry))

    start = jnp.zeros(n, jnp.int8)
    word, _ = jax.lax.scan(walk, start, signs)  # Forgets where it started.
    _, carries = jax.lax.scan(walk, word, signs[::-1])
    rate = float(jnp.sum(carries)) / (n * length)
    assert rate / (update / step) ** 2 == pytest.approx(pulses, rel=0.1)


def test_stochastic_rounding_is_right_in_the_mean():
    n = 200_000
    uniform = jax.random.uniform(jax.random.key(0), (n,))
    for wanted in (0.003, -0.4, 2.75):
        passed, _ = accumulator.quantise(jnp.full(n, wanted), uniform, 8)
        assert set(np.unique(passed)) == {np.floor(wanted), np.ceil(wanted)}
        # Five standard errors.
        assert np.mean(passed) == pytest.approx(wanted, abs=5 * 0.5 / np.sqrt(n))


def test_without_a_draw_it_rounds_to_nearest():
    passed, _ = accumulator.quantise(jnp.array([0.4, 0.6, -1.6, 2.5]), None, 8)
    np.testing.assert_array_equal(passed, [0, 1, -2, 2])


@pytest.mark.parametrize("bits", [2, 8, 16])
def test_the_bus_clips_and_tells_how_much(bits):
    half = 2 ** (bits - 1)
    wanted = jnp.array([half + 10.0, -half - 10.0, 0.0])
    passed, clipped = accumulator.quantise(wanted, None, bits)
    np.testing.assert_array_equal(passed, [half - 1, -half, 0])
    np.testing.assert_array_equal(clipped, [11, -10, 0])


def test_of_no_number_nothing_passes_and_of_infinity_the_most():
    passed, clipped = accumulator.quantise(
        jnp.array([jnp.nan, jnp.inf, -jnp.inf, 1e30]), None, 8
    )
    np.testing.assert_array_equal(passed, [0, 127, -128, 127])
    # None of them goes unseen.
    assert (np.abs(np.asarray(clipped)) > 1e9).all()


def test_of_what_no_bus_can_hold_two_to_the_thirty_are_counted():
    lsbs = jnp.array([jnp.nan, jnp.inf, 1e30, 2e9, -2e9, -jnp.inf], jnp.float32)
    passed, cut_off = accumulator.quantise(lsbs, None, 8)
    np.testing.assert_array_equal(passed, [0, 127, 127, 127, -128, -128])
    most = 2**30
    expected = [most, most - 127, most - 127, most - 127, 128 - most, 128 - most]
    np.testing.assert_array_equal(cut_off, expected)
