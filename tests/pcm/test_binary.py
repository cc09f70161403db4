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


def cells(bits, spec=HEALTHY, shape=(1,), counter_bits=16):
    return binary.init(jax.random.key(0), shape, bits, spec, counter_bits=counter_bits)


def stuck_masks(state, word):
    """Cells that always read 1, and that always read 0, of a word as bits."""
    stuck, code = np.asarray(state.stuck), np.asarray(word).view(np.uint8)
    return stuck & code, stuck & ~code


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
    measured = binary.wear(state, word, bits)
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
    state, word = cells(7, pcm.BinarySpec(stuck_set=0.2, stuck_reset=0.1), (20_000,))
    ones, zeros = stuck_masks(state, word)
    shares = [np.unpackbits(mask & 127).sum() / (7 * 20_000) for mask in (ones, zeros)]
    # Standard error 0.001.
    np.testing.assert_allclose(shares, [0.2, 0.1], atol=0.005)


def test_a_stuck_cell_takes_only_one_kind_of_pulse():
    state, word = cells(3, pcm.BinarySpec(stuck_set=1.0))
    for target in (0, 1, 0):
        state, word = binary.write(state, word, jnp.full((1,), target, jnp.int8), 3)
    sets, resets = binary.wear(state, word, 3)
    assert not sets.any()
    np.testing.assert_array_equal(resets[:, 0], [2, 3, 3])


def test_wear_that_was_not_tracked_is_not_zero_but_an_error():
    state, word = cells(7, counter_bits=None)
    state, _ = binary.write(state, word, word + 1, 7)
    with pytest.raises(ValueError, match="track_wear"):
        binary.wear(state, word, 7)


def test_more_stuck_cells_than_cells():
    with pytest.raises(ValueError, match=r"stuck_set \+ stuck_reset=1.2"):
        pcm.BinarySpec(stuck_set=0.6, stuck_reset=0.6)


@pytest.mark.parametrize("bits", [2, 5, 7, 8])
def test_stuck_cells_change_their_own_bits_and_no_others(bits):
    words = np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1)).astype(np.int8)
    every = np.tile(words, 40)
    spec = pcm.BinarySpec(stuck_set=0.2, stuck_reset=0.2)
    state, word = cells(bits, spec, every.shape)
    masks = stuck_masks(state, word)
    _, held = binary.write(state, word, jnp.asarray(every), bits)
    held = np.asarray(held).astype(int)
    for k in range(bits):
        ones, zeros = ((mask >> k) & 1 for mask in masks)
        assert ones.any() and zeros.any()
        wanted = ((every.astype(int) >> k) & 1 | ones) & ~zeros & 1
        np.testing.assert_array_equal((held >> k) & 1, wanted)
    assert held.min() >= words[0] and held.max() <= words[-1]


def test_healthy_cells_beside_stuck_ones_alternate():
    state, word = cells(4, pcm.BinarySpec(stuck_reset=0.3), (500,))
    for target in (5, 0, 5, 2, 7):
        goal = jnp.full((500,), target, jnp.int8)
        state, word = binary.write(state, word, goal, 4)
    sets, resets = (np.asarray(x).astype(int) for x in binary.wear(state, word, 4))
    stuck = np.stack([(np.asarray(state.stuck) >> k) & 1 for k in range(4)]) > 0
    # Bits 0 and 2 go 0 1 0 1 0 1, bit 1 goes 0 0 0 0 1 1, and bit 3 stays.
    for k, (up, down) in enumerate([(3, 2), (1, 0), (3, 2), (0, 0)]):
        np.testing.assert_array_equal(sets[k][~stuck[k]], up)
        np.testing.assert_array_equal(resets[k][~stuck[k]], down)
    assert not resets[stuck].any()  # A cell that stays RESET is only ever SET again.
    assert sets[0][stuck[0]].min() == 3


@pytest.mark.parametrize("counter_bits", [1, 11, 16, 30])
def test_a_counter_that_is_full_stops_and_says_so(counter_bits):
    state, word = cells(2, counter_bits=counter_bits)
    # From one below the largest number of cell 0, and of cell 1 none.
    most = 2**counter_bits - 1
    planes = np.array([0] + [1] * (counter_bits - 1), np.uint8)[:, None]
    state = state.replace(cycles=jnp.asarray(planes))
    full, resets = [], []
    for target in (1, 0, 1, 0, -2):
        state, word = binary.write(state, word, jnp.full((1,), target, jnp.int8), 2)
        full.append(float(binary.full_counters(state)))
        resets.append(binary.wear(state, word, 2)[1][:, 0].tolist())
    assert resets == [[most - 1, 0], [most, 0], [most, 0], [most, 0], [most, 0]]
    assert full == [0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("spec", "writes"), [(HEALTHY, 14), (pcm.BinarySpec(stuck_reset=1.0), 7)]
)
def test_counters_of_three_bits_are_exact_for_so_many_writes(spec, writes):
    state, word = cells(2, spec, counter_bits=3)
    pulses = []
    for _ in range(writes + 2):
        state, word = binary.write(state, word, word ^ 1, 2)
        pulses.append(int(sum(binary.wear(state, word, 2))[0, 0]))
    assert pulses[:writes] == list(range(1, writes + 1))
    assert pulses[-1] < writes + 2 and binary.full_counters(state) == 1


def test_counters_are_exact_over_many_writes():
    rng = np.random.default_rng(0)
    targets = rng.integers(-64, 64, (300, 50))
    state, word = cells(7, shape=(50,))
    write = jax.jit(binary.write, static_argnames="bits")
    for row in targets:
        state, word = write(state, word, jnp.asarray(row, jnp.int8), bits=7)
    held = np.concatenate([np.zeros((1, 50), int), targets])
    cell_bits = (held[None] >> np.arange(7)[:, None, None]) & 1
    steps = np.diff(cell_bits, axis=1)
    sets, resets = binary.wear(state, word, 7)
    np.testing.assert_array_equal(sets, (steps > 0).sum(axis=1))
    np.testing.assert_array_equal(resets, (steps < 0).sum(axis=1))
