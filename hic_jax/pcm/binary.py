"""Binary PCM cells that hold a signed word: writes, wear, stuck cells.

A word of ``bits`` bits in two's complement sits in as many cells, bit k in cell k. A
cell is either SET (1) or RESET (0). A write touches only the cells whose bit changes;
a change 0 -> 1 is a SET and 1 -> 0 a RESET. A healthy cell therefore alternates,
starting from RESET, so that one counter of writes tells both (`wear`).
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from hic_jax import checks
from hic_jax.pcm.bits import pack, unpack


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
      writes: (bits, *shape) uint32, pulses that each cell has received; None if wear
        is not tracked.
      stuck_set: (*shape) uint8, bit k says that cell k always reads 1; None if no
        cell is stuck.
      stuck_reset: (*shape) uint8, bit k says that cell k always reads 0; None if no
        cell is stuck.
    """

    writes: jax.Array | None
    stuck_set: jax.Array | None
    stuck_reset: jax.Array | None


def init(
    key: jax.Array,
    shape: tuple[int, ...],
    bits: int,
    spec: BinarySpec,
    *,
    track_wear: bool,
) -> tuple[BinaryState, jax.Array]:
    """Cells after RESET.

    Returns:
      The state, and (*shape) int8: the word that they hold, zero unless a cell is
      stuck.
    """
    stuck_set = stuck_reset = None
    if spec.stuck_set or spec.stuck_reset:
        fate = jax.random.uniform(key, (bits, *shape))
        stuck_set = pack(fate < spec.stuck_set)
        stuck_reset = pack(fate < spec.stuck_set + spec.stuck_reset) & ~stuck_set
    state = BinaryState(
        writes=jnp.zeros((bits, *shape), jnp.uint32) if track_wear else None,
        stuck_set=stuck_set,
        stuck_reset=stuck_reset,
    )
    return state, held(state, jnp.zeros(shape, jnp.int8), bits)


def held(state: BinaryState, word: jax.Array, bits: int) -> jax.Array:
    """The word that the cells hold after ``word`` was written to them, int8."""
    if state.stuck_set is None or state.stuck_reset is None:
        return word
    code = (_code(word) | state.stuck_set) & ~state.stuck_reset
    # Sign-extend from ``bits`` to 8 bits.
    shift = 8 - bits
    return jax.lax.bitcast_convert_type(code << shift, jnp.int8) >> shift


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
    if state.writes is not None:
        changed = unpack(_code(word) ^ _code(new_word), bits)
        state = state.replace(writes=state.writes + changed)
    return state, held(state, new_word, bits)


def wear(state: BinaryState) -> tuple[jax.Array, jax.Array]:
    """SETs and RESETs that every cell has received.

    Returns:
      Two uint32 arrays of shape (bits, *shape).
    """
    if state.writes is None:
        raise ValueError("track_wear=False: this run did not count writes")
    resets = state.writes // 2
    if state.stuck_set is not None and state.stuck_reset is not None:
        # A stuck cell never answers, so every pulse to it is of the same kind.
        bits = state.writes.shape[0]
        resets = jnp.where(unpack(state.stuck_set, bits), state.writes, resets)
        resets = jnp.where(unpack(state.stuck_reset, bits), 0, resets)
    return state.writes - resets, resets


def _code(word: jax.Array) -> jax.Array:
    """The two's complement bits of an int8 word, as uint8."""
    return jax.lax.bitcast_convert_type(word, jnp.uint8)
