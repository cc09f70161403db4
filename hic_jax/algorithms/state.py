"""The state of weights on devices inside of an optimizer's: found, read, aged."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from hic_jax import checks
from hic_jax.algorithms.events import Events
from hic_jax.packing import Layout
from hic_jax.releases import as_pure
from hic_jax.weights import AnalogWeight


class AnalogState(NamedTuple):
    """State of `analog`: the devices, a step count and a key.

    Attributes:
      weights: all tensors in one `AnalogWeight` of flat arrays, whose last axis is that
        of the weights, after one of parts if there are any; ``scale`` and ``axes`` have
        one entry per tensor. `analog_weights` gives them one by one.
      count: () int32, updates so far.
      clock_error: () float32, s, what rounding has added to the devices' time so far.
      key: uint32, the data of a random key, the same throughout; each step folds in
        its count.
      events: what the last update did.
      answered: (tensors, 2) float32, fingerprint of the parameters that the devices
        answered with; NaN where they are not known.
      made_with: () int8 zeros, named by the fields of the specification: a stored state
        cannot be restored with another one (`hic_jax.algorithms.identity.made_with`).
      layout: where each tensor lies, static.

    It is a pytree for jit, vmap, Orbax, pickle, `flax.serialization` and optax's tools.
    No part of it has the structure of the parameters, so `optax.tree.map_params` hands
    it over as a whole. An update inside `jax.shard_map` needs ``check_vma=False``.
    """

    weights: AnalogWeight
    count: jax.Array  # type: ignore[assignment]  # As in optax: hides tuple.count.
    clock_error: jax.Array
    key: jax.Array
    events: Events
    answered: jax.Array
    made_with: dict[str, jax.Array]
    layout: Layout


def analog_states(opt_state: Any) -> list[AnalogState]:
    """All states of `analog` in an optimizer state; none in a digital one."""
    leaves = jax.tree.leaves(opt_state, is_leaf=lambda x: isinstance(x, AnalogState))
    return [leaf for leaf in leaves if isinstance(leaf, AnalogState)]


def zeros_for_totals(opt_state: Any) -> Any:
    """What `hic_jax.crossbar.gradient_totals` takes for the weights that need totals.

    Args:
      opt_state: as `analog_weights` takes it.

    Returns:
      A pytree of the structure of the parameters, with zeros where an algorithm fires
      the pulses of single examples, and `optax.MaskedNode()` elsewhere; None if there
      are none.
    """
    layouts = [s.layout for s in analog_states(opt_state) if s.weights.spec.fires_both]
    trees = [x.treedef.unflatten(map(jnp.zeros, x.shapes)) for x in layouts if x.shapes]
    return functools.reduce(_merged, trees) if trees else None


def analog_weights(opt_state: Any) -> Any:
    """The weights on devices in an optimizer state, whatever the algorithm.

    Args:
      opt_state: state of any optax transformation that contains `analog`, once or, for
        different leaves, several times; that of an `nnx.Optimizer`, too.

    Returns:
      A pytree of the structure of the parameters: an `AnalogWeight` for every analog
      leaf, `optax.MaskedNode()` for every digital one.

    Raises:
      ValueError: if there is none in it, no leaf is analog, or several are not over
        leaves of one tree.
    """
    states = analog_states(opt_state)
    if not states:
        raise ValueError(
            "opt_state holds no analog weight: chain hic_jax.hic(...) or another "
            "algorithm on devices into the optimizer, over at least one leaf"
        )
    trees = [_unpack(s.weights, s.layout) for s in map(as_pure, states)]
    return functools.reduce(_merged, trees)


@functools.partial(jax.jit, static_argnames="layout")
def _unpack(packed: AnalogWeight, layout: Layout) -> Any:
    """One weight of flat arrays as a pytree of one per tensor."""
    # The scales are one by one already, and what has no axis all tensors share.
    leaves, treedef = jax.tree.flatten(packed.replace(scale=None))
    tensors = len(layout.shapes)
    split = [layout.unpack(x) if x.ndim else [x] * tensors for x in leaves]
    weights = [
        jax.tree.unflatten(treedef, parts).replace(scale=scale, axes=axes)
        for *parts, scale, axes in zip(*split, packed.scale, packed.axes, strict=True)
    ]
    return layout.treedef.unflatten(weights)


def _merged(one: Any, other: Any) -> Any:
    """Two trees that leave out what the other may have: a leaf, or all below a node."""
    if isinstance(one, optax.MaskedNode):
        return other
    if isinstance(other, optax.MaskedNode) or isinstance(one, AnalogWeight):
        return one
    children, treedef = _children(one)
    others, other_treedef = _children(other)
    if treedef != other_treedef:
        raise ValueError(
            f"opt_state holds devices over trees of different structures, {treedef} "
            f"and {other_treedef}: ask for the weights of each by itself"
        )
    return treedef.unflatten(map(_merged, children, others))


def _children(node: Any) -> tuple[list[Any], Any]:
    """What a node of a tree holds, and its structure."""
    return jax.tree.flatten(node, is_leaf=lambda x: x is not node)


def age(opt_state: Any, seconds: jax.Array | float) -> Any:
    """An optimizer state whose devices drift for a while, unused, and then train on.

    `hic_jax.drift` is for reading; this is for going on: what is written afterwards is
    young, what is not stays old.

    Args:
      opt_state: state of any optax transformation that contains `analog`.
      seconds: s, not negative.

    Returns:
      The state ``seconds`` later. What the devices then read is not in ``params`` yet:
      ``read_params(params, analog_weights(opt_state), key=key)``.

    Raises:
      ValueError: at negative seconds, or if nothing in it ages.
    """
    checks.seconds(seconds)
    if not analog_states(opt_state):
        raise ValueError("opt_state holds no analog weight: there is nothing to age")

    def older(state):
        if not isinstance(state, AnalogState):
            return state
        return state._replace(
            weights=state.weights.set_back(seconds),
            # A map, because an nnx.Optimizer holds variables instead of arrays.
            answered=jax.tree.map(lambda x: x * jnp.nan, state.answered),
        )

    return jax.tree.map(older, opt_state, is_leaf=lambda x: isinstance(x, AnalogState))
