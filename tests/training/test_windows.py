"""Windows of a text: what is shown, what is to be answered, on any mesh."""

import jax
import jax.numpy as jnp
import numpy as np

from hic_jax import data
from hic_jax.training import steps
from hic_jax.training.mesh import make_mesh
from hic_jax.training.split import Windows
from tests import virtual_devices

CONTEXT, LENGTH = 5, 43
NUMBERS = np.random.default_rng(0).integers(0, 7, LENGTH).astype(np.uint8)
TEXT = data.Text("made", "abcdefg", NUMBERS, NUMBERS[:9], NUMBERS)


def test_each_character_is_to_be_answered_with_the_next():
    windows = Windows.of(TEXT, "train", CONTEXT)
    assert windows.size == LENGTH - CONTEXT
    starts = [0, 17, windows.size - 1]
    shown, answers = windows.batch(jnp.array(starts))
    for row, start in enumerate(starts):
        np.testing.assert_array_equal(shown[row], NUMBERS[start : start + CONTEXT])
        after = NUMBERS[start + 1 : start + CONTEXT + 1]
        np.testing.assert_array_equal(answers[row], after)
    assert shown.dtype == answers.dtype == jnp.int32


def test_windows_of_the_test_ask_for_each_character_once():
    windows = Windows.of(TEXT, "test", CONTEXT)
    _, answers = windows.batch(jnp.arange(windows.size))
    assert windows.answers == answers.size
    # All but the first, and the last two, that fill no window.
    np.testing.assert_array_equal(answers.reshape(-1), NUMBERS[1:-2])


def test_the_first_windows():
    windows = Windows.of(TEXT, "test", CONTEXT)
    few = windows.first(3)
    assert few.size == 3
    places = jnp.arange(3)
    np.testing.assert_array_equal(few.batch(places)[1], windows.batch(places)[1])
    assert windows.first(100).size == windows.size


def test_windows_begin_everywhere_and_follow_their_key():
    draws = [
        np.asarray(steps.random_windows(jax.random.key(key), 6, 30, 20))
        for key in (0, 0, 1)
    ]
    assert draws[0].shape == (30, 20)
    # Of 600 draws, 100 are expected of each place: 51 would be 5 standard deviations
    # less.
    counts = np.bincount(draws[0].reshape(-1))
    assert len(counts) == 6
    assert min(counts) > 51
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


def _batches():
    """Where the windows of a batch are, and their characters."""
    windows = Windows.of(TEXT, "train", CONTEXT).over(make_mesh(8))
    starts = steps.random_windows(jax.random.key(0), windows.size, 2, 8)
    shown, answers = jax.jit(Windows.batch)(windows, starts[1])
    return len(shown.sharding.device_set), shown.tolist(), answers.tolist()


def test_a_mesh_does_not_change_the_windows():
    devices, *there = virtual_devices.call(__file__, "_batches", devices=4)
    _, *here = _batches()
    assert devices == 4
    assert there == here
