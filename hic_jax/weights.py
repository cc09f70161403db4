"""Weights on devices: what any of them answers, and how they are read and aged.

`read` and `drift` never change their argument. What holds the weights, and how it is
written, is the business of `hic_jax.algorithms` and of `hic_jax.inference.deployment`;
what is asked of them is the same.
"""

import numbers
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from hic_jax import checks, packing

# Streams of their own: one key may be given to a read and to a drift.
_READ, _CHIP = 0, 1

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
MONTH, YEAR = 30 * DAY, 365 * DAY

# SETs and RESETs of every device: two arrays, the first axis one for each device or
# cell of a weight, the last one flat.
Pulses = tuple[np.ndarray, np.ndarray]


class AnalogWeight(struct.PyTreeNode):
    """A tensor of weights that devices hold, and what it answers of itself.

    A kind of weight is a subclass: a pytree that adds what its devices hold.

    Attributes:
      scale: float32, uS per unit of weight, broadcastable to the tensor: (), or one
        for each part of a tensor that is a stack.
      time: () float32, s, the clock of the devices now.
      time_rest: () float32, s, what ages have added to ``time`` and rounding has left
        out: half a step of a year's float32 is a second.
      spec: what made it, static, with the device as ``multilevel`` where it has one.
      axes: `hic_jax.KernelAxes` of the tensor: which axes are rows of an array, and
        which columns, static.
    """

    scale: Any
    time: jax.Array
    time_rest: jax.Array
    spec: Any = struct.field(pytree_node=False)
    axes: Any = struct.field(pytree_node=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight tensor."""
        raise NotImplementedError

    @property
    def read_shape(self) -> tuple[int, ...]:
        """Shape of the standard normal draws that a noisy read takes."""
        raise NotImplementedError

    @property
    def chip_shape(self) -> tuple[int, ...]:
        """Shape of the draws that another chip of the same conductances takes."""
        raise NotImplementedError

    @property
    def size(self) -> int:
        """Number of weights."""
        return int(np.prod(self.shape))

    def conductance(self, normal: jax.Array | None, *, fresh: bool = True) -> jax.Array:
        """Signed conductances at ``time``, uS; exact without draws.

        Args:
          normal: standard normal draws of ``read_shape``.
          fresh: whether to add what is new in every product, too.
        """
        raise NotImplementedError

    def read(self, normal: jax.Array | None, *, fresh: bool = True) -> jax.Array:
        """Float32 weights at ``time``; see `conductance`."""
        return self.conductance(normal, fresh=fresh) / self.scale

    def fresh_variance(self) -> jax.Array | None:
        """Variance of the weights that is new in every product; None without any."""
        raise NotImplementedError

    def on_another_chip(self, normal: jax.Array) -> Self:
        """The same conductances on devices that age otherwise."""
        raise NotImplementedError

    def without(self, *names: str) -> Self:
        """The same devices, as if they had never had some of their non-idealities.

        What these have done to the conductances in training stays.
        """
        raise NotImplementedError

    def aged(self, seconds: jax.Array | float) -> Self:
        """The devices ``seconds`` later, if nothing is written."""
        # A number of Python has digits that float32 has not.
        whole = jnp.asarray(seconds, jnp.float32)
        exact = isinstance(seconds, numbers.Real)
        left = float(seconds) - float(np.float32(seconds)) if exact else 0.0
        time, rest = _two_sum(self.time, whole)
        time, rest = _two_sum(time, rest + (self.time_rest + jnp.float32(left)))
        return self.replace(time=time, time_rest=rest)

    def set_back(self, seconds: jax.Array | float) -> Self:
        """The devices ``seconds`` older at the same time: writes lie further back.

        A clock that counts training steps is a float32: after a year on it, a step of
        0.1 s would be lost.
        """
        raise NotImplementedError

    def bits(self) -> dict[str, int]:
        """Nominal bits that ``inference`` and ``training`` take."""
        raise NotImplementedError

    def devices(self) -> dict[str, int]:
        """Number of devices by kind, as ``multilevel`` and ``binary``."""
        raise NotImplementedError

    @property
    def devices_in_products(self) -> int:
        """Multi-level devices of each weight that a product reads."""
        raise NotImplementedError

    def pulses(self) -> dict[str, Pulses]:
        """Pulses that each device has received, by kind.

        Of two-sided devices up pulses are SETs, and down pulses RESETs.

        Raises:
          ValueError: if wear was not tracked.
        """
        raise NotImplementedError

    def full_counters(self) -> jax.Array | float:
        """Number of counters of pulses that have stopped at their largest value."""
        return 0.0

    def reads(self, steps: int) -> dict[str, int]:
        """Reads of devices by themselves that so many training steps took, by kind.

        Those of products, and those that verify a write, come on top.
        """
        raise NotImplementedError


def _two_sum(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A sum, and what rounding has left out of it (Knuth)."""
    total = a + b
    second = total - a
    return total, (a - (total - second)) + (b - second)


def is_analog(x: Any) -> bool:
    """Whether ``x`` is an `AnalogWeight` of any kind."""
    return isinstance(x, AnalogWeight)


def read(weights: Any, *, key: jax.Array | None = None, fresh: bool = True) -> Any:
    """Reads the weights from their devices, drifted to their time.

    Args:
      weights: an `AnalogWeight` of any kind, or any pytree of them.
      key: draws the read noise; without one the read is exact.
      fresh: whether it draws the noise that is new in every product, too: once for all
        products of what was read. False where these add it themselves
        (`hic_jax.crossbar.fresh_noise`).

    Returns:
      The same tree with float32 weights in place of the devices.

    Raises:
      ValueError: at what holds no devices.
    """
    leaves, treedef = _flatten(weights)
    if key is None:
        return treedef.unflatten([w.read(None) for w in leaves])
    read_key = jax.random.fold_in(key, _READ)
    normal = packing.normals(read_key, [w.read_shape for w in leaves])
    return treedef.unflatten(
        [w.read(z, fresh=fresh) for z, w in zip(normal, leaves, strict=True)]
    )


def fresh_variances(weights: Any) -> Any:
    """Variances of the weights that are new in every product.

    Args:
      weights: an `AnalogWeight` of any kind, or any pytree of them.

    Returns:
      The same tree with float32 arrays in the shape of the weights, in their squared
      unit, or None where all noise lasts longer.

    Raises:
      ValueError: at what holds no devices.
    """
    leaves, treedef = _flatten(weights)
    return treedef.unflatten([w.fresh_variance() for w in leaves])


def _flatten(weights: Any) -> tuple[list[AnalogWeight], Any]:
    """The weights on devices in a pytree, and its structure."""
    leaves, treedef = jax.tree.flatten(weights, is_leaf=is_analog)
    for leaf in leaves:
        if not is_analog(leaf):
            raise ValueError(
                f"weights: holds {type(leaf).__name__}; must hold weights on devices, "
                "as analog_weights(opt_state) or deploy gives them"
            )
    return leaves, treedef


def drift(
    weights: Any, seconds: jax.Array | float, key: jax.Array | None = None
) -> Any:
    """Ages the devices: what the hardware is ``seconds`` later, if nothing is written.

    A pure function: it jits, vmaps over times and chips, never changes its argument,
    and ``drift(drift(w, a), b) == drift(w, a + b)``, to the rounding of ``b`` to
    float32, whatever the age: time is kept as two numbers.

    Args:
      weights: an `AnalogWeight` of any kind, or any pytree of them.
      seconds: s, not negative.
      key: makes another chip of the same conductances: each device's own drift
        exponent is drawn from it, and its slow noise, where there is any. The same key
        is the same chip, at whatever time. Without a key the devices keep what they
        have; of slow noise that is none in training, and then every read draws it. A
        deployed chip is made by `hic_jax.deploy`, and takes no key here.

    Returns:
      The same tree of devices, ``seconds`` older.

    Raises:
      ValueError: at negative seconds, several of them, what holds no devices, or a key
        for a deployed chip.

    Examples:
      >>> import jax, jax.numpy as jnp, hic_jax
      >>> tx = hic_jax.hic(hic_jax.HICSpec(), jax.random.key(0))
      >>> state = tx.init({"kernel": jnp.ones((3, 3)).at[0].set(-1.0)})
      >>> weights = hic_jax.analog_weights(state)
      >>> aged = hic_jax.drift(weights, seconds=hic_jax.YEAR)
      >>> ratio = hic_jax.read(aged)["kernel"] / hic_jax.read(weights)["kernel"]
      >>> print(f"{ratio[0, 0]:.3f}")  # (1 year / 38.6 s) ** -0.04
      0.580
    """
    checks.seconds(seconds)
    leaves, treedef = _flatten(weights)
    if key is not None:
        chip_key = jax.random.fold_in(key, _CHIP)
        normal = packing.normals(chip_key, [w.chip_shape for w in leaves])
        leaves = [w.on_another_chip(z) for z, w in zip(normal, leaves, strict=True)]
    return treedef.unflatten([w.aged(seconds) for w in leaves])


def read_params(
    params: Any, weights: Any, *, key: jax.Array | None = None, fresh: bool = True
) -> Any:
    """Parameters of a model whose analog leaves are what the devices hold now.

    Args:
      params: the model's parameters.
      weights: `analog_weights(opt_state)`, or what `hic_jax.deploy` made of it: of the
        same structure, with `MaskedNode` where a leaf is digital.
      key: draws the read noise; without one the read is exact.
      fresh: see `read`.

    Returns:
      ``params`` with its analog leaves replaced, dtypes kept.

    Raises:
      ValueError: if a weight has another shape than the parameter in its place.
    """

    def replaced(path, weight, param):
        if isinstance(weight, optax.MaskedNode):
            return param
        if weight.shape != jnp.shape(param):
            raise ValueError(
                f"weights{jax.tree_util.keystr(path)}={list(weight.shape)}: must have "
                f"the shape of the parameter, {list(jnp.shape(param))}"
            )
        return weight.astype(jnp.result_type(param))

    return jax.tree_util.tree_map_with_path(
        replaced,
        read(weights, key=key, fresh=fresh),
        params,
        is_leaf=lambda x: isinstance(x, optax.MaskedNode),
    )
