"""Model size: bits and devices that inference and training take."""

import collections
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from hic_jax.accounting.tensors import analog_tensors
from hic_jax.algorithms import AnalogState
from hic_jax.packing import path_name

DIGITAL_BITS = 32


def model_size(weights: Any, params: Any) -> dict[str, int]:
    """Bits and devices of a model.

    The bits of training are those of the weights: buffers of the optimizer come on top
    in all three schemes (`optimizer_bits`), activations and gradients are not counted.

    Args:
      weights: pytree of weights on devices (`analog_weights(opt_state)`); an empty
        tree, such as ``{}``, for a model without analog weights.
      params: all parameters of the model, analog and digital.

    Returns:
      A dict:
        analog_weights, digital_weights: how many there are;
        inference_bits: nominal bits of the multi-level part, digital ones at 32;
        training_bits: the same plus what training needs beside it;
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
    tensors = analog_tensors(nnx.as_pure(weights))
    bits = [weight.bits() for weight in tensors.values()]
    sizes = _sizes(params)
    for name, weight in tensors.items():
        if sizes.get(name) != weight.size:
            found = f"has {sizes[name]}" if name in sizes else "is not"
            raise ValueError(
                f"weights: {name} holds {weight.size} weights, but {found} in params; "
                "must be of the same model"
            )
    held = tensors.values()
    total = sum(sizes.values())
    analog = sum(w.size for w in held)
    digital = total - analog
    digital_bits = DIGITAL_BITS * digital
    inference_bits = digital_bits + sum(b["inference"] for b in bits)
    devices: collections.Counter[str] = collections.Counter(multilevel=0, binary=0)
    for weight in held:
        devices.update(weight.devices())
    return {
        "analog_weights": analog,
        "digital_weights": digital,
        "inference_bits": inference_bits,
        "training_bits": digital_bits + sum(b["training"] for b in bits),
        "mixed_precision_bits": inference_bits + DIGITAL_BITS * analog,
        "fp32_bits": DIGITAL_BITS * total,
        **{f"{kind}_devices": count for kind, count in devices.items()},
    }


def _sizes(params: Any) -> dict[str, int]:
    """Number of values of each parameter, by its path."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(nnx.as_pure(params))
    return {path_name(path): int(np.size(leaf)) for path, leaf in leaves}


def optimizer_bits(opt_state: Any) -> int:
    """Bits of the floating-point buffers that an optimizer keeps, momentum for one.

    Args:
      opt_state: state of an optax transformation. The devices in it are not counted,
        nor are counters of steps.
    """
    leaves = jax.tree.leaves(opt_state, is_leaf=lambda x: isinstance(x, AnalogState))
    buffers = [x for x in leaves if not isinstance(x, AnalogState)]
    return sum(
        8 * x.size * x.dtype.itemsize
        for x in map(jnp.asarray, buffers)
        if jnp.issubdtype(x.dtype, jnp.floating)
    )
