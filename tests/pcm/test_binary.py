"""Binary cells against words counted bit by bit in Python."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hic_jax import pcm
from hic_jax.pcm import binary

HEALTHY = pcm.BinarySpec()


def cells(bits, spec=HEALTHY, shape=(1,), track_wear=True):
    return binary.init(jax.random.key(0), shape, bits, spec, track_wear=track_wear)


@st.composite
def words(draw):
    bits = draw(st.integers(2, 8))
    word = st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return bits, draw(st.lists(word, min_size=1, max_size=12))


@settings(max_examples=40, deadline=None)
@given(words())
def test_only_changed_bits_are_written_and_sets_told_from_resets(case):
    bits, sequence = case
    state, word = cells(bits)
    sets, resets = np.zeros(bits, int), np.zeros(bits, int)
    held = 0
    for target in sequence:
        for k in range(bits):
            was, now = held >> k & 1, target >> k & 1
            sets[k] += now > was
            resets[k] += now < was
        held = target
        state, word = binary.write(state, word, jnp.full((1,), target, jnp.int8), bits)
        assert int(word[0]) == target
    measured = binary.wear(state)
    np.testing.assert_array_equal(measured[0][:, 0], sets)
    np.testing.assert_array_equal(measured[1][:, 0], resets)


@pytest.mark.parametrize("bits", range(2, 9))
def test_all_cells_stuck_hold_one_word(bits):
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    every = jnp.arange(low, high + 1, dtype=jnp.int8)
    for spec, word in (
        (pcm.BinarySpec(stuck_set=1.0), -1),
        (pcm.BinarySpec(stuck_reset=1.0), 0),
    ):
        state, held = cells(bits, spec, every.shape)
        assert (np.asarray(held) == word).all()
        assert (np.asarray(binary.write(state, held, every, bits)[1]) == word).all()


def test_stuck_cells_come_in_the_asked_share():
    state, _ = cells(7, pcm.BinarySpec(stuck_set=0.2, stuck_reset=0.1), (20_000,))
    shares = [
        np.unpackbits(np.asarray(mask)).sum() / (7 * 20_000)
        for mask in (state.stuck_set, state.stuck_reset)
    ]
    # Standard error 0.001.
    np.testing.assert_allclose(shares, [0.2, 0.1], atol=0.005)
    assert not (state.stuck_set & state.stuck_reset).any()


def test_a_stuck_cell_takes_only_one_kind_of_pulse():
    state, word = cells(3, pcm.BinarySpec(stuck_set=1.0))
    for target in (0, 1, 0):
        state, word = binary.write(state, word, jnp.full((1,), target, jnp.int8), 3)
    sets, resets = binary.wear(state)
    assert not sets.any()
    np.testing.assert_array_equal(resets[:, 0], [2, 3, 3])


def test_wear_that_was_not_tracked_is_not_zero_but_an_error():
    state, word = cells(7, track_wear=False)
    state, _ = binary.write(state, word, word + 1, 7)
    with pytest.raises(ValueError, match="track_wear"):
        binary.wear(state)


def test_more_stuck_cells_than_cells():
    with pytest.raises(ValueError, match=r"stuck_set \+ stuck_reset=1.2"):
        pcm.BinarySpec(stuck_set=0.6, stuck_reset=0.6)


@pytest.mark.parametrize("bits", [2, 5, 7, 8])
def test_stuck_cells_change_their_own_bits_and_no_others(bits):
    words = np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1)).astype(np.int8)
    every = np.tile(words, 40)
    state, _ = cells(bits, pcm.BinarySpec(stuck_set=0.2, stuck_reset=0.2), every.shape)
    for k in range(bits):
        ones, zeros = ((np.asarray(m) >> k) & 1 for m in (
            state.stuck_set, state.stuck_reset
        ))  # fmt: skip
        assert ones.any() and zeros.any()
        held = np.asarray(binary.held(state, jnp.asarray(every), bits)).astype(int)
        wanted = ((every.astype(int) >> k) & 1 | ones) & ~zeros & 1
        np.testing.assert_array_equal((held >> k) & 1, wanted)
    assert held.min() >= words[0] and held.max() <= words[-1]


def test_healthy_cells_beside_stuck_ones_alternate():
    state, word = cells(4, pcm.BinarySpec(stuck_reset=0.3), (500,))
    for target in (5, 0, 5, 2, 7):
        goal = jnp.full((500,), target, jnp.int8)
        state, word = binary.write(state, word, goal, 4)
    sets, resets = (np.asarray(x).astype(int) for x in binary.wear(state))
    stuck = np.stack([(np.asarray(state.stuck_reset) >> k) & 1 for k in range(4)]) > 0
    # Bits 0 and 2 go 0 1 0 1 0 1, bit 1 goes 0 0 0 0 1 1, and bit 3 stays.
    for k, (up, down) in enumerate([(3, 2), (1, 0), (3, 2), (0, 0)]):
        np.testing.assert_array_equal(sets[k][~stuck[k]], up)
        np.testing.assert_array_equal(resets[k][~stuck[k]], down)
    assert not resets[stuck].any()  # A cell that stays RESET is only ever SET again.
    assert sets[0][stuck[0]].min() == 3
