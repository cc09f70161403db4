"""Model size: bits and devices that inference and training take."""

import collections
import math
from typing import Any

import jax
import jax.numpy as jnp

from hic_jax.accounting.tensors import analog_tensors
from hic_jax.algorithms import AnalogState
from hic_jax.packing import path_name
from hic_jax.quantisation import QuantisedState
from hic_jax.releases import as_pure

DIGITAL_BITS = 32


def model_size(
    weights: Any, params: Any, *, kernel_bits: int = DIGITAL_BITS
) -> dict[str, int]:
    """Bits and devices of a model.

    The bits of training are those of the weights: buffers of the optimizer come on top
    in all three schemes (`optimizer_bits`), activations and gradients are not counted.

    Args:
      weights: pytree of weights on devices (`analog_weights(opt_state)`); an empty
        tree, such as ``{}``, for a model without analog weights.
      params: all parameters of the model, analog and digital.
      kernel_bits: bits of each weight of digital kernels at inference; below 32 every
        column has a float32 scale beside them (`hic_jax.quantisation`).

    Returns:
      A dict:
        analog_weights, digital_weights: how many there are;
        inference_bits: nominal bits of the multi-level part, of digital kernels, and 32
          of each other digital parameter;
        training_bits: nominal bits of the multi-level part plus what training needs
          beside it, digital parameters at 32;
        mixed_precision_bits: what training would take with a floating-point
          accumulator (chi, 32 bits per analog weight) in place of the words;
        fp32_bits: all parameters at 32 bits;
        multilevel_devices, binary_devices, and others there are: cells by kind.

    Raises:
      ValueError: if weights are not those of some of the parameters.

    References:
      The floating-point accumulator: Nandakumar et al., Mixed-precision deep learning
      based on computational memory, Front. Neurosci. 14:406 (2020).
    """
    tensors = analog_tensors(as_pure(weights))
    held = tensors.values()
    bits = [weight.bits() for weight in held]
    shapes = _shapes(params)
    for name, weight in tensors.items():
        size = math.prod(shapes[name]) if name in shapes else None
        if size != weight.size:
            found = "is not" if size is None else f"has {size}"
            raise ValueError(
                f"weights: {name} holds {weight.size} weights, but {found} in params; "
                "must be of the same model"
            )
    total = sum(map(math.prod, shapes.values()))
    analog = sum(w.size for w in held)
    digital = total - analog
    analog_bits = sum(b["inference"] for b in bits)
    devices: collections.Counter[str] = collections.Counter(multilevel=0, binary=0)
    for weight in held:
        devices.update(weight.devices())
    return {
        "analog_weights": analog,
        "digital_weights": digital,
        "inference_bits": analog_bits
        + sum(
            _digital_bits(shape, kernel_bits)
            for name, shape in shapes.items()
            if name not in tensors
        ),
        "training_bits": DIGITAL_BITS * digital + sum(b["training"] for b in bits),
        "mixed_precision_bits": DIGITAL_BITS * total + analog_bits,
        "fp32_bits": DIGITAL_BITS * total,
        **{f"{kind}_devices": count for kind, count in devices.items()},
    }


def _shapes(params: Any) -> dict[str, tuple[int, ...]]:
    """Shape of each parameter, by its path."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(as_pure(params))
    return {path_name(path): jnp.shape(leaf) for path, leaf in leaves}


def _digital_bits(shape: tuple[int, ...], kernel_bits: int) -> int:
    """Bits of a digital parameter at inference, with the scales of its columns."""
    size = math.prod(shape)
    if len(shape) < 2 or kernel_bits == DIGITAL_BITS:
        return DIGITAL_BITS * size
    return kernel_bits * size + DIGITAL_BITS * shape[-1]


def optimizer_bits(opt_state: Any) -> int:
    """Bits of the floating-point buffers that an optimizer keeps, momentum for one.

    Args:
      opt_state: state of an optax transformation. The devices in it are not counted,
        nor are counters of steps, nor the exact weights below quantised ones, which
        are the digital weights of training.
    """
    weights = AnalogState, QuantisedState
    leaves = jax.tree.leaves(opt_state, is_leaf=lambda x: isinstance(x, weights))
    buffers = [x for x in leaves if not isinstance(x, weights)]
    return sum(
        8 * x.size * x.dtype.itemsize
        for x in map(jnp.asarray, buffers)
        if jnp.issubdtype(x.dtype, jnp.floating)
    )
