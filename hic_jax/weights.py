"""`HybridWeight`: a tensor of weights held by hybrid PCM, and how it is read and aged.

A weight tensor is programmed once and then only changed by the transformation
(`hic_jax.transform`); `read` and `drift` never change their argument, and take any
`AnalogWeight`.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from hic_jax import checks, packing
from hic_jax.pcm import binary, multilevel, pair
from hic_jax.spec import HICSpec

# Streams of their own: one key may be given to a read and to a drift.
_READ, _CHIP = 0, 1

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
MONTH, YEAR = 30 * DAY, 365 * DAY


class AnalogWeight:
    """Weights that devices hold: what `read` and `drift` need of them.

    Attributes:
      time: () float32, s, the clock of the devices now.
      read_shape: of the standard normal draws that a noisy read takes.
      chip_shape: of those that another chip of the same conductances takes.
    """

    time: jax.Array
    read_shape: tuple[int, ...]
    chip_shape: tuple[int, ...]

    def read(self, normal: jax.Array | None) -> jax.Array:
        """Float32 weights at ``time``; exact without draws."""
        raise NotImplementedError

    def on_another_chip(self, normal: jax.Array) -> "AnalogWeight":
        """The same conductances on devices with drift exponents of their own."""
        raise NotImplementedError


@struct.dataclass
class HybridWeight(AnalogWeight):
    """Weights in (multi-level PCM, binary PCM, accumulator word) form.

    The following holds, for a weight tensor of shape S:
      * weight = (G+ - G-) / scale, with G drifted to ``time``; the multi-level pairs
        alone are the weight, the word below them never counts in a read.
      * -2^(lsb_bits - 1) <= accumulator < 2^(lsb_bits - 1)
      * the device arrays are authoritative: float weights are a view of them.

    Attributes:
      multilevel: pairs of multi-level devices, shape S.
      binary: wear and faults of the binary cells, shape S.
      accumulator: S int8, the word that the binary cells hold, LSBs.
      scale: float32, uS per unit of weight, broadcastable to S: (), or one for each
        part of a tensor that is a stack. (Packed weights hold a tuple, one of these for
        each tensor.)
      time: () float32, s, hardware time now; devices were made at 0.
      spec: the hardware, static.
      axes: which axes of S are rows of an array, and which columns, static. (A tuple of
        these in packed weights.)
    """

    multilevel: pair.PairState
    binary: binary.BinaryState
    accumulator: jax.Array
    scale: Any
    time: jax.Array
    spec: HICSpec = struct.field(pytree_node=False)
    axes: Any = struct.field(pytree_node=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight tensor."""
        return self.accumulator.shape

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.accumulator.size

    @property
    def read_shape(self) -> tuple[int, ...]:
        """A draw for each pair: two Gaussian read errors are one."""
        return self.shape

    @property
    def chip_shape(self) -> tuple[int, ...]:
        """A draw for each device."""
        return self.multilevel.g.shape

    def read(self, normal: jax.Array | None) -> jax.Array:
        """Weights that the multi-level pairs hold at ``time``."""
        conductance = pair.read(
            normal, self.multilevel, self.time, self.spec.multilevel
        )
        return conductance / self.scale

    def on_another_chip(self, normal: jax.Array) -> "HybridWeight":
        """Other drift exponents, where the devices differ in them."""
        spec = self.spec.multilevel
        if not spec.drift_nu_std:
            return self
        nu = multilevel.drift_exponents(normal, spec)
        return self.replace(multilevel=self.multilevel.replace(nu=nu))

    def without(self, *names: str) -> "HybridWeight":
        """The same devices, as if they had never had some of `NON_IDEALITIES`.

        What these have done to the conductances in training stays.
        """
        device = self.spec.multilevel.without(*names)
        nu = self.multilevel.nu if device.drift_nu_std else None
        return self.replace(
            multilevel=self.multilevel.replace(nu=nu),
            spec=dataclasses.replace(self.spec, multilevel=device),
        )


@functools.partial(jax.jit, static_argnames="spec")
def program(key: jax.Array, conductance: jax.Array, spec: HICSpec) -> tuple:
    """Makes devices and writes signed conductances onto their pairs, at time 0.

    The word below each pair is written, too, where the spec asks for words of its own.

    Args:
      key: device variation, programming noise, initial words.
      conductance: S float32, wanted G+ - G-, uS.
      spec: the hardware.

    Returns:
      The fields (multilevel, binary, accumulator) of a `HybridWeight`.
    """
    make_key, write_key, cell_key, word_key = jax.random.split(key, 4)
    pairs = pair.init(
        make_key, conductance.shape, spec.multilevel, track_wear=spec.track_wear
    )
    pairs = pair.write_difference(
        write_key,
        pairs,
        conductance,
        jnp.float32(0.0),
        spec.multilevel,
        max_pulses=spec.refresh_pulses,
        verify=spec.refresh_verify,
    )
    cells, word = binary.init(
        cell_key,
        conductance.shape,
        spec.lsb_bits,
        spec.binary,
        track_wear=spec.track_wear,
    )
    if spec.initial_words == "uniform":
        half = 2 ** (spec.lsb_bits - 1)
        drawn = jax.random.randint(word_key, word.shape, -half, half, jnp.int32)
        cells, word = binary.write(cells, word, drawn.astype(jnp.int8), spec.lsb_bits)
    return pairs, cells, word


def is_hybrid(x: Any) -> bool:
    """Whether ``x`` is a `HybridWeight` (to stop a tree traversal there)."""
    return isinstance(x, HybridWeight)


def is_analog(x: Any) -> bool:
    """Whether ``x`` is an `AnalogWeight` of any kind."""
    return isinstance(x, AnalogWeight)


def read(weights: Any, *, key: jax.Array | None = None) -> Any:
    """Reads the weights from their devices, drifted to their time.

    Args:
      weights: a `HybridWeight` or a `DeployedWeight`, or any pytree of them.
      key: draws the read noise; without one the read is exact.

    Returns:
      The same tree with float32 weights in place of the devices.

    Raises:
      ValueError: at what holds no devices.
    """
    leaves, treedef = _flatten(weights)
    normal = [None] * len(leaves)
    if key is not None:
        read_key = jax.random.fold_in(key, _READ)
        normal = packing.normals(read_key, [w.read_shape for w in leaves])
    return treedef.unflatten([w.read(z) for z, w in zip(normal, leaves, strict=True)])


def _flatten(weights: Any) -> tuple[list[AnalogWeight], Any]:
    """The weights on devices in a pytree, and its structure."""
    leaves, treedef = jax.tree.flatten(weights, is_leaf=is_analog)
    for leaf in leaves:
        if not is_analog(leaf):
            raise ValueError(
                f"weights: holds {type(leaf).__name__}; must hold weights on devices, "
                "as hybrid_weights(opt_state) or deploy gives them"
            )
    return leaves, treedef


def drift(
    weights: Any, seconds: jax.Array | float, key: jax.Array | None = None
) -> Any:
    """Ages the devices: what the hardware is ``seconds`` later, if nothing is written.

    A pure function: it jits, vmaps over times and chips, never changes its argument,
    and ``drift(drift(w, a), b) == drift(w, a + b)``.

    Args:
      weights: a `HybridWeight` or a `DeployedWeight`, or any pytree of them.
      seconds: s, not negative.
      key: makes another chip of the same conductances: each device's own drift
        exponent is drawn from it. The same key is the same chip, at whatever time.
        Without a key the devices keep the exponents that they have. A deployed chip
        is made by `hic_jax.deploy`, and takes no key here.

    Returns:
      The same tree of devices, ``seconds`` older.

    Raises:
      ValueError: at negative seconds, several of them, what holds no devices, or a key
        for a deployed chip.

    Examples:
      >>> import jax, jax.numpy as jnp, hic_jax
      >>> tx = hic_jax.hic(hic_jax.HICSpec(), jax.random.key(0))
      >>> state = tx.init({"kernel": jnp.ones((3, 3)).at[0].set(-1.0)})
      >>> weights = hic_jax.hybrid_weights(state)
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
    seconds = jnp.asarray(seconds, jnp.float32)
    return treedef.unflatten([w.replace(time=w.time + seconds) for w in leaves])


@functools.partial(jax.jit, static_argnames="layout")
def unpack_weights(packed: HybridWeight, layout: packing.Layout) -> Any:
    """One `HybridWeight` of flat arrays as a pytree of one per tensor."""
    parts = (packed.multilevel, packed.binary, packed.accumulator)
    leaves, treedef = jax.tree.flatten(parts)
    split = [layout.unpack(leaf) for leaf in leaves]
    tensors = []
    for i in range(len(layout.shapes)):
        pairs, cells, word = treedef.unflatten([leaf[i] for leaf in split])
        tensors.append(
            packed.replace(
                multilevel=pairs,
                binary=cells,
                accumulator=word,
                scale=packed.scale[i],
                axes=packed.axes[i],
            )
        )
    return layout.treedef.unflatten(tensors)


def read_params(params: Any, weights: Any, *, key: jax.Array | None = None) -> Any:
    """Parameters of a model whose analog leaves are what the devices hold now.

    Args:
      params: the model's parameters.
      weights: `hybrid_weights(opt_state)`, or what `hic_jax.deploy` made of it: of the
        same structure, with `MaskedNode` where a leaf is digital.
      key: draws the read noise; without one the read is exact.

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
        read(weights, key=key),
        params,
        is_leaf=lambda x: isinstance(x, optax.MaskedNode),
    )
