"""`HICState`: the devices inside an optimizer state, and how to find and age them."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx, struct

from hic_jax import checks
from hic_jax.packing import Layout
from hic_jax.weights import HybridWeight, unpack_weights


@struct.dataclass
class Events:
    """What happened to all devices in the last update, or at first; () float32 each.

    Nothing is dropped on the way to the devices without a count here.

    Attributes:
      undefined_weights: initial weights that were no finite numbers, written as zero.
      saturated_weights: initial weights that lie a SET step or more beyond what pulses
        reach, and are written as less.
      parted_tensors: tensors of parameters that were not what the devices had answered
        with: something after or around this transformation had changed them.
      accepted_lsbs: absolute LSBs that reached the accumulators.
      clipped_lsbs: absolute LSBs that the update bus cut off; 2^30 for a NaN.
      faulty_lsbs: absolute LSBs by which stuck binary cells changed words.
      set_pulses: SET pulses that carries fired.
      futile_pulses: (2,) those of them that met a device (G+, G-) at ``g_max``, or a
        stuck one.
      refreshed_pairs: pairs that were RESET and rewritten.
      refresh_error: summed absolute change of their differences, uS: what blind,
        noisy rewriting made of them.
    """

    undefined_weights: jax.Array
    saturated_weights: jax.Array
    parted_tensors: jax.Array
    accepted_lsbs: jax.Array
    clipped_lsbs: jax.Array
    faulty_lsbs: jax.Array
    set_pulses: jax.Array
    futile_pulses: jax.Array
    refreshed_pairs: jax.Array
    refresh_error: jax.Array

    @classmethod
    def of(cls, **counts: jax.Array) -> "Events":
        """These counts, and zero for all others."""
        zeros = dict.fromkeys((f.name for f in dataclasses.fields(cls)), 0.0)
        zeros["futile_pulses"] = jnp.zeros((2,), jnp.float32)
        return cls(
            **{k: jnp.asarray(v, jnp.float32) for k, v in (zeros | counts).items()}
        )


class HICState(NamedTuple):
    """State of `hic`: the devices, a step count and a key.

    Attributes:
      weights: all tensors in one `HybridWeight` of flat arrays, (n,) and (2, n);
        ``scale`` has one entry per tensor. `hybrid_weights` gives them one by one.
      count: () int32, updates so far.
      clock_error: () float32, s, what rounding has added to the devices' time so far.
      key: uint32, the data of a random key, the same throughout; each step folds in
        its count.
      events: what the last update did.
      answered: (tensors, 2) float32, fingerprint of the parameters that the devices
        answered with; NaN where they are not known.
      made_with: () int8 zeros, named by the fields of the specification: a stored state
        cannot be restored with another one (`HICSpec.made_with`).
      layout: where each tensor lies, static.

    It is a pytree for jit, vmap, Orbax, pickle, `flax.serialization` and optax's tools.
    No part of it has the structure of the parameters, so `optax.tree.map_params` hands
    it over as a whole. An update inside `jax.shard_map` needs ``check_vma=False``.
    """

    weights: HybridWeight
    count: jax.Array
    clock_error: jax.Array
    key: jax.Array
    events: Events
    answered: jax.Array
    made_with: dict[str, jax.Array]
    layout: Layout


def hybrid_weights(opt_state: Any) -> Any:
    """The `HybridWeight`s in an optimizer state, wherever `hic` sits in it.

    Args:
      opt_state: state of any optax transformation that contains `hic`, once or, for
        different leaves, several times; that of an `nnx.Optimizer`, too.

    Returns:
      A pytree of the structure of the parameters: a `HybridWeight` for every analog
      leaf, `optax.MaskedNode()` for every digital one.

    Raises:
      ValueError: if there is no `hic` in it, no leaf is analog, or several are not over
        leaves of one tree.
    """
    states = [
        s
        for s in jax.tree.leaves(opt_state, is_leaf=lambda x: isinstance(x, HICState))
        if isinstance(s, HICState)
    ]
    states = [nnx.as_pure(s) for s in states if s.layout.shapes]
    if not states:
        raise ValueError(
            "opt_state holds no analog weight: chain hic_jax.hic(...) into the "
            "optimizer, over at least one leaf"
        )
    trees = [unpack_weights(s.weights, s.layout) for s in states]
    return functools.reduce(_merged, trees)


def _merged(one: Any, other: Any) -> Any:
    """Two trees that leave out what the other may have: a leaf, or all below a node."""
    if isinstance(one, optax.MaskedNode):
        return other
    if isinstance(other, optax.MaskedNode) or isinstance(one, HybridWeight):
        return one
    children, treedef = jax.tree.flatten(one, is_leaf=lambda x: x is not one)
    others, other_treedef = jax.tree.flatten(other, is_leaf=lambda x: x is not other)
    if treedef != other_treedef:
        raise ValueError(
            f"opt_state holds hic over trees of different structures, {treedef} and "
            f"{other_treedef}: ask for the weights of each by itself"
        )
    return treedef.unflatten(map(_merged, children, others))


def age(opt_state: Any, seconds: jax.Array | float) -> Any:
    """An optimizer state whose devices drift for a while, unused, and then train on.

    `drift` is for reading; this is for going on: what is written afterwards is young,
    what is not stays old.

    Args:
      opt_state: state of any optax transformation that contains `hic`.
      seconds: s, not negative.

    Returns:
      The state ``seconds`` later. What the devices then read is not in ``params`` yet:
      ``read_params(params, hybrid_weights(opt_state), key=key)``.

    Raises:
      ValueError: at negative seconds.
    """
    checks.seconds(seconds)

    def older(state):
        if not isinstance(state, HICState):
            return state
        # The clock is a float32 that counts steps: after a year on it, a step of 0.1 s
        # would be lost. So the writes move into the past instead.
        pairs = state.weights.multilevel
        # Maps, because an nnx.Optimizer holds variables instead of arrays.
        written_at = jax.tree.map(lambda x: x - seconds, pairs.written_at)
        pairs = pairs.replace(written_at=written_at)
        return state._replace(
            weights=state.weights.replace(multilevel=pairs),
            answered=jax.tree.map(lambda x: x * jnp.nan, state.answered),
        )

    return jax.tree.map(older, opt_state, is_leaf=lambda x: isinstance(x, HICState))
