"""Sides of a pair with one or more devices: their means, and whose turn a pulse is.

An axis of d holds the devices of G+, then as many of G-. One counter, which all weights
share, says which device of a side the next pulse goes to, as in Boybat et al. (Nat.
Commun. 9:2514, 2018). Two-sided devices, which all can move a weight both ways, take
turns as one side.
"""

import jax
import jax.numpy as jnp


def means(g: jax.Array) -> jax.Array:
    """(d, *shape) of all devices to (2, *shape), the means of the sides."""
    return jnp.mean(g.reshape(2, g.shape[0] // 2, *g.shape[1:]), axis=1)


def on_all(sides: jax.Array, per_sign: int) -> jax.Array:
    """(2, *shape) of the sides to (d, *shape), the same for each device of a side."""
    return jnp.repeat(sides, per_sign, axis=0)


def turns(sides: jax.Array, per_side: int, turn: jax.Array | int) -> jax.Array:
    """(s, *shape) bool to (d, *shape): of each side the device whose turn it is."""
    if per_side == 1:
        return sides
    its_turn = jnp.arange(len(sides) * per_side) % per_side == turn % per_side
    return on_all(sides, per_side) & its_turn.reshape(-1, *[1] * (sides.ndim - 1))


def shares(sides: jax.Array, per_side: int, turn: jax.Array | int) -> jax.Array:
    """(s, *shape) pulses on the sides to (d, *shape), those that each device gets."""
    if per_side == 1:
        return sides
    place = (jnp.arange(len(sides) * per_side) - turn) % per_side
    place = place.reshape(-1, *[1] * (sides.ndim - 1))  # In the order of the pulses.
    # Of pulses 0, 1, ... those whose number has this remainder.
    return (on_all(sides, per_side) - place + per_side - 1) // per_side
