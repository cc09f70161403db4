"""What a network of hybrid weights costs: model size in bits, wear of the devices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hic_jax import checks
from hic_jax.pcm import binary
from hic_jax.weights import HybridWeight, is_analog, is_hybrid

DIGITAL_BITS = 32

# Write-erase cycles that a product-class PCM cell endures: J. Nanomaterials 2013,
# 195325, Table 4. Records are 2e12 (Kim et al., IEDM 2016), tutorials say 1e6 to 1e8.
ENDURANCE_CYCLES = 1e9


def model_size(weights: Any, params: Any) -> dict[str, int]:
    """Bits and devices of a model.

    Args:
      weights: pytree of `HybridWeight` (`hybrid_weights(opt_state)`); an empty tree,
        such as ``{}``, for a model without analog weights.
      params: all parameters of the model, analog and digital.

    Returns:
      A dict:
        analog_weights, digital_weights: how many there are;
        inference_bits: nominal bits of the multi-level part, digital ones at 32;
        training_bits: the same plus the accumulator words;
        fp32_bits: all parameters at 32 bits;
        multilevel_devices, binary_devices: PCM cells.
    """
    tensors = _tensors(weights)
    total = sum(int(np.size(p)) for p in jax.tree.leaves(params))
    analog = sum(w.size for w in tensors)
    digital = total - analog
    multilevel_bits = sum(w.size * w.spec.multilevel_bits for w in tensors)
    lsb_bits = sum(w.size * w.spec.lsb_bits for w in tensors)
    return {
        "analog_weights": analog,
        "digital_weights": digital,
        "inference_bits": multilevel_bits + DIGITAL_BITS * digital,
        "training_bits": multilevel_bits + lsb_bits + DIGITAL_BITS * digital,
        "fp32_bits": DIGITAL_BITS * total,
        "multilevel_devices": 2 * analog,
        "binary_devices": lsb_bits,
    }


def endurance(
    weights: Any, *, endurance_cycles: float = ENDURANCE_CYCLES
) -> dict[str, dict[str, float]]:
    """Write-erase cycles that the devices have seen.

    A cycle is a SET and a RESET; a device whose pulses are uneven is charged the
    larger number of the two, so that a multi-level device pays a whole cycle for every
    partial SET.

    Args:
      weights: pytree of `HybridWeight`.
      endurance_cycles: the limit that ``fraction_of_endurance`` refers to.

    Returns:
      For "multilevel" and "binary": ``max``, ``mean``, ``p99`` cycles per device,
      ``sets`` and ``resets`` (all devices together), ``endurance_cycles`` and
      ``fraction_of_endurance``, that of the most worn device.

    Raises:
      ValueError: if wear was not tracked, or nothing is analog.
    """
    checks.above("endurance_cycles", endurance_cycles, 0.0)
    return {
        kind: _summary(*pulses, endurance_cycles)
        for kind, pulses in device_pulses(weights).items()
    }


def device_pulses(weights: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """SETs and RESETs of every device.

    Args:
      weights: pytree of `HybridWeight` with wear tracked.

    Returns:
      For "multilevel" and "binary", two arrays (SETs, RESETs) with an entry per device.
    """
    tensors = _tensors(weights)
    if not tensors:
        raise ValueError("weights hold no analog weight: there is no wear to count")
    multilevel, cells = [], []
    for w in tensors:
        if w.multilevel.set_pulses is None:
            raise ValueError(
                "track_wear=False: the pulses of the devices are not known"
            )
        sets = w.multilevel.set_pulses
        resets = jnp.broadcast_to(w.multilevel.resets, sets.shape)
        multilevel.append((np.ravel(sets), np.ravel(resets)))
        cells.append(tuple(np.ravel(x) for x in binary.wear(w.binary)))
    return {
        kind: tuple(np.concatenate(x) for x in zip(*pulses, strict=True))
        for kind, pulses in (("multilevel", multilevel), ("binary", cells))
    }


def _summary(
    sets: np.ndarray, resets: np.ndarray, endurance_cycles: float
) -> dict[str, float]:
    cycles = np.maximum(sets, resets)
    return {
        "max": int(cycles.max(initial=0)),
        "mean": float(cycles.mean()) if cycles.size else 0.0,
        "p99": float(np.percentile(cycles, 99)) if cycles.size else 0.0,
        "sets": int(sets.sum(dtype=np.int64)),
        "resets": int(resets.sum(dtype=np.int64)),
        "endurance_cycles": endurance_cycles,
        "fraction_of_endurance": float(cycles.max(initial=0) / endurance_cycles),
    }


def _tensors(weights: Any) -> list[HybridWeight]:
    """The `HybridWeight`s of a tree, digital leaves left out."""
    leaves = jax.tree.leaves(
        weights, is_leaf=lambda x: is_analog(x) or isinstance(x, optax.MaskedNode)
    )
    if any(is_analog(leaf) and not is_hybrid(leaf) for leaf in leaves):
        raise ValueError(
            "weights are deployed: size and wear are counted of the hybrid weights "
            "that were trained"
        )
    return [leaf for leaf in leaves if is_hybrid(leaf)]
