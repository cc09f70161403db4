"""Binary PCM cells that hold a signed word: writes, wear, stuck cells.

A word of ``bits`` bits in two's complement sits in as many cells, bit k in cell k. A
cell is either SET (1) or RESET (0). A write touches only the cells whose bit changes;
a change 0 -> 1 is a SET and 1 -> 0 a RESET. A healthy cell therefore alternates,
starting from RESET, so that its RESETs and the word tell its SETs (`wear`).
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import struct

from hic_jax import checks
from hic_jax.pcm import bits as flags


@dataclasses.dataclass(frozen=True, kw_only=True)
class BinarySpec:
    """Faults of binary cells.

    Attributes:
      stuck_set: fraction of binary cells that always read 1, 0 to 1.
      stuck_reset: fraction of binary cells that always read 0, 0 to 1.
    """

    stuck_set: float = 0.0
    stuck_reset: float = 0.0

    def __post_init__(self):
        checks.within("stuck_set", self.stuck_set, 0.0, 1.0)
        checks.within("stuck_reset", self.stuck_reset, 0.0, 1.0)
        checks.within(
            "stuck_set + stuck_reset", self.stuck_set + self.stuck_reset, 0, 1
        )


class BinaryState(struct.PyTreeNode):
    """What is known of the cells besides the word that they hold.

    Attributes:
      cycles: (counter_bits, *shape) uint8, RESETs that each healthy cell has received,
        and all pulses of a stuck one: counters of `hic_jax.pcm.bits`, which stop at
        their largest value; None if wear is not tracked.
      stuck: (*shape) uint8, bit k says that cell k keeps what it holds; None if no cell
        does.
    """

    cycles: jax.Array | None
    stuck: jax.Array | None


def init(
    key: jax.Array,
    shape: tuple[int, ...],
    bits: int,
    spec: BinarySpec,
    *,
    counter_bits: int | None,
) -> tuple[BinaryState, jax.Array]:
    """Cells after RESET.

    Args:
      key: which cells are stuck.
      shape: shape of the words.
      bits: cells per word.
      spec: the cells.
      counter_bits: bits of the counter of each cell; None if wear is not tracked.

    Returns:
      The state, and (*shape) int8: the word that they hold, zero unless a cell is
      stuck.
    """
    stuck, word = None, jnp.zeros(shape, jnp.int8)
    if spec.stuck_set or spec.stuck_reset:
        fate = jax.random.uniform(key, (bits, *shape))
        stuck = flags.pack(fate < spec.stuck_set + spec.stuck_reset)
        word = _word(flags.pack(fate < spec.stuck_set), bits)
    cycles = None
    if counter_bits is not None:
        cycles = jnp.zeros((counter_bits, *shape), jnp.uint8)
    return BinaryState(cycles=cycles, stuck=stuck), word


def write(
    state: BinaryState, word: jax.Array, new_word: jax.Array, bits: int
) -> tuple[BinaryState, jax.Array]:
    """Writes ``new_word`` over ``word``, pulsing only the cells that differ.

    Args:
      state: the cells.
      word: int8, what they hold.
      new_word: int8, what they are to hold.
      bits: cells per word.

    Returns:
      The new state and the word now held (``new_word`` unless a cell is stuck).
    """
    before, after = _code(word), _code(new_word)
    if state.cycles is not None:
        counted = before if state.stuck is None else before | state.stuck
        hit = (before ^ after) & counted & jnp.uint8(2**bits - 1)
        state = state.replace(cycles=flags.count(state.cycles, hit))
    if state.stuck is None:
        return state, new_word
    return state, _word((after & ~state.stuck) | (before & state.stuck), bits)


@functools.partial(jax.jit, static_argnames="bits")
def wear(state: BinaryState, word: jax.Array, bits: int) -> tuple[jax.Array, jax.Array]:
    """SETs and RESETs that every cell has received.

    Args:
      state: the cells.
      word: int8, what they hold.
      bits: cells per word.

    Returns:
      Two int32 arrays of shape (bits, *shape).
    """
    if state.cycles is None:
        raise ValueError("track_wear=False: this run did not count writes")
    cycles = flags.counts(state.cycles, bits)
    holds = flags.unpack(_code(word), bits).astype(jnp.int32)
    if state.stuck is None:
        return cycles + holds, cycles
    # A stuck cell never answers, so every pulse to it is of the same kind.
    stuck = flags.unpack(state.stuck, bits) > 0
    sets = jnp.where(stuck, jnp.where(holds > 0, 0, cycles), cycles + holds)
    return sets, jnp.where(stuck & (holds == 0), 0, cycles)


def full_counters(state: BinaryState) -> jax.Array:
    """Number of counters that have stopped, () float32."""
    return jnp.float32(0.0) if state.cycles is None else flags.full(state.cycles)


def _code(word: jax.Array) -> jax.Array:
    """The two's complement bits of an int8 word, as uint8."""
    return jax.lax.bitcast_convert_type(word, jnp.uint8)


def _word(code: jax.Array, bits: int) -> jax.Array:
    """The int8 word of so many bits, sign-extended to 8."""
    shift = 8 - bits
    return jax.lax.bitcast_convert_type(code << shift, jnp.int8) >> shift
