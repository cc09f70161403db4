"""Training algorithms: each is a function that makes an optax transformation.

FP32 and HIC differ here and nowhere else. To add an algorithm, write a function of the
same arguments and enter it in `ALGORITHMS` and, if devices hold its weights, in
`ANALOG_ALGORITHMS`.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import optax

from hic_jax.algorithms import HICSpec, hic
from hic_jax.labels import analog_labels


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """The rule that makes weight updates, before any hardware.

    Attributes:
      schedule: learning rate as a function of the step, of what is held digitally.
      momentum: of the same.
      weight_decay: of the same, coupled to the learning rate; kernels only.
      analog_schedule: learning rate of analog weights.
      analog_trust_ratio: whether the gradient of an analog tensor is brought to the
        norm of its weights first, so that the learning rate is the relative change of
        a step. All crossbars have the same devices: at a common relative change they
        fire their pulses at a common rate, whatever the gradients of their layers.
      analog_norm_decay: with the trust ratio: decay of analog weights in a step, over
        the square of their learning rate. Under normalisation gradients are at right
        angles to the weights, so that a relative step of r makes them r^2 / 2 longer:
        0.5 takes that off again. Without it weights grow until devices saturate.
      analog_momentum: of analog weights. A floating-point momentum buffer would undo
        the memory saving that the low-precision accumulator is for, hence 0.
      analog_weight_decay: of analog weights; its small, steady pull is rounded
        stochastically like any other update.
      digital_layers: paths of layers whose kernels are held digitally.

    References:
      The trust ratio: You et al., Large batch training of convolutional networks,
      arXiv:1708.03888 (2017).
    """

    schedule: optax.Schedule
    momentum: float = 0.9
    weight_decay: float = 0.0
    analog_schedule: optax.Schedule
    analog_trust_ratio: bool = True
    analog_norm_decay: float = 0.5
    analog_momentum: float = 0.0
    analog_weight_decay: float = 0.0
    digital_layers: tuple[str, ...] = ()


def sgd(
    schedule: optax.Schedule,
    momentum: float,
    weight_decay: float,
    *,
    trust_ratio: bool = False,
    norm_decay: float = 0.0,
) -> optax.GradientTransformation:
    """SGD with coupled weight decay on kernels; no momentum buffer at momentum 0."""
    rules: list[optax.GradientTransformation] = [optax.sgd(schedule, momentum or None)]
    if trust_ratio and norm_decay:
        # Multiplied by the learning rate once more, as all that follows.
        decay = optax.add_decayed_weights(lambda count: norm_decay * schedule(count))
        rules.insert(0, decay)
    if trust_ratio:
        rules.insert(0, optax.scale_by_trust_ratio())
    if weight_decay:
        kernels = functools.partial(jax.tree.map, lambda x: x.ndim >= 2)
        rules.insert(0, optax.add_decayed_weights(weight_decay, mask=kernels))
    return optax.chain(*rules)


def fp32(
    optimizer: OptimizerSpec, spec: HICSpec, key: jax.Array
) -> optax.GradientTransformation:
    """The floating-point baseline: everything digital."""
    del spec, key
    return sgd(optimizer.schedule, optimizer.momentum, optimizer.weight_decay)


def hybrid(
    optimizer: OptimizerSpec, spec: HICSpec, key: jax.Array
) -> optax.GradientTransformation:
    """HIC: kernels in hybrid PCM, biases and normalisation digital."""
    analog = sgd(
        optimizer.analog_schedule,
        optimizer.analog_momentum,
        optimizer.analog_weight_decay,
        trust_ratio=optimizer.analog_trust_ratio,
        norm_decay=optimizer.analog_norm_decay,
    )
    digital = sgd(optimizer.schedule, optimizer.momentum, optimizer.weight_decay)
    return optax.partition(
        {"analog": optax.chain(analog, hic(spec, key)), "digital": digital},
        functools.partial(analog_labels, digital=optimizer.digital_layers),
    )


Algorithm = Callable[[OptimizerSpec, HICSpec, jax.Array], optax.GradientTransformation]
ALGORITHMS: dict[str, Algorithm] = {"hic": hybrid, "fp32": fp32}

# Those whose weights are held by devices, and read by crossbars.
ANALOG_ALGORITHMS = ("hic",)
