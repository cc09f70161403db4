"""Training algorithms: each is a function that makes an optax transformation.

FP32 and HIC differ here and nowhere else. To add an algorithm, write a function of the
same arguments and enter it in `ALGORITHMS`.
"""

import dataclasses
from collections.abc import Callable

import jax
import optax

from hic_jax.spec import HICSpec
from hic_jax.transform import analog_labels, hic


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """The rule that makes weight updates, before any hardware.

    Attributes:
      schedule: learning rate as a function of the step.
      momentum: of the parameters that are held digitally.
      weight_decay: of the same, coupled to the learning rate; kernels only.
      analog_momentum: of analog weights. A floating-point momentum buffer would undo
        the memory saving that the low-precision accumulator is for, hence 0.
      analog_weight_decay: of analog weights; its small, steady pull is rounded
        stochastically like any other update.
    """

    schedule: optax.Schedule
    momentum: float = 0.9
    weight_decay: float = 0.0
    analog_momentum: float = 0.0
    analog_weight_decay: float = 0.0


def sgd(
    schedule: optax.Schedule, momentum: float, weight_decay: float
) -> optax.GradientTransformation:
    """SGD with coupled weight decay on kernels; no momentum buffer at momentum 0."""
    decay = optax.add_decayed_weights(
        weight_decay, mask=lambda p: jax.tree.map(lambda x: x.ndim >= 2, p)
    )
    rule = optax.sgd(schedule, momentum or None)
    return optax.chain(decay, rule) if weight_decay else rule


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
        optimizer.schedule, optimizer.analog_momentum, optimizer.analog_weight_decay
    )
    digital = sgd(optimizer.schedule, optimizer.momentum, optimizer.weight_decay)
    return optax.partition(
        {"analog": optax.chain(analog, hic(spec, key)), "digital": digital},
        analog_labels,
    )


Algorithm = Callable[[OptimizerSpec, HICSpec, jax.Array], optax.GradientTransformation]
ALGORITHMS: dict[str, Algorithm] = {"hic": hybrid, "fp32": fp32}
