"""Optimizers by name: how gradients become updates, before any hardware."""

from typing import Any

import jax
import optax

from hic_jax.quantisation import is_kernel


def sgd(
    schedule: optax.Schedule,
    momentum: float,
    weight_decay: float,
    *,
    trust_ratio: bool = False,
    norm_decay: float = 0.0,
) -> optax.GradientTransformation:
    """SGD with coupled weight decay on kernels; no momentum buffer at momentum 0."""
    return optax.chain(
        *_decays(schedule, weight_decay, trust_ratio, norm_decay),
        optax.sgd(schedule, momentum or None),
    )


def adamw(
    schedule: optax.Schedule,
    momentum: float,
    weight_decay: float,
    *,
    trust_ratio: bool = False,
    norm_decay: float = 0.0,
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay on kernels; with a trust ratio it is LAMB.

    References:
      Loshchilov and Hutter, Decoupled weight decay regularization, arXiv:1711.05101
      (2017); You et al., Large batch optimization for deep learning, arXiv:1904.00962
      (2019).
    """
    return optax.chain(
        optax.scale_by_adam(b1=momentum),
        *_decays(schedule, weight_decay, trust_ratio, norm_decay),
        optax.scale_by_learning_rate(schedule),
    )


OPTIMIZERS = {"sgd": sgd, "adamw": adamw}


def _decays(
    schedule: optax.Schedule, weight_decay: float, trust_ratio: bool, norm_decay: float
) -> list[optax.GradientTransformation]:
    """What stands between the direction of a step and its rate."""
    rules: list[optax.GradientTransformation] = []
    if weight_decay:
        rules.append(optax.add_decayed_weights(weight_decay, mask=kernels))
    if trust_ratio:
        rules.append(optax.scale_by_trust_ratio())
    if trust_ratio and norm_decay:
        # Multiplied by the learning rate once more, as all that follows.
        rules.append(
            optax.add_decayed_weights(lambda count: norm_decay * schedule(count))
        )
    return rules


def kernels(params: Any) -> Any:
    """Which of the parameters are kernels: a tree of booleans."""
    return jax.tree.map(is_kernel, params)
