"""Recipes: how weights are updated, and the one optax transformation that does it.

Training with devices and without differ here and nowhere else: in whether the algorithm
has a spec.
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from hic_jax import algorithms, checks
from hic_jax.algorithms import PairSpec
from hic_jax.labels import analog_labels
from hic_jax.packing import cut_axis, path_name
from hic_jax.path_rules import first_match
from hic_jax.quantisation import quantised
from hic_jax.shards import Shards
from hic_jax.streams import stream
from hic_jax.training.optimizers import OPTIMIZERS, kernels
from hic_jax.training.schedules import SCHEDULES

# Training algorithms by name: the class of the spec, or None for training without
# devices. An entry is all that an algorithm needs to have flags and run folders.
ALGORITHMS: Mapping[str, type[PairSpec] | None] = collections.ChainMap[str, Any](
    {"fp32": None}, algorithms.ALGORITHMS
)

# What goes with AdamW unless something else is given: a tensor whose steps have one
# size anyway needs no trust ratio.
WITH_ADAMW: Mapping[str, Any] = {"learning_rate": 1e-3, "momentum": 0.9}
ANALOG_WITH_ADAMW: Mapping[str, Any] = {
    **WITH_ADAMW,
    "trust_ratio": False,
    "norm_decay": 0.0,
}

# Products of two rates stay in float32, and nothing trains far below it.
_RATE_MAX = 1e6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Updates of parameters that are held digitally, and the shape of all schedules.

    Attributes:
      optimizer: rule of parameters that are held digitally: sgd, or adamw, which
        divides each step by the size that gradients have had.
      learning_rate: highest learning rate of parameters that are held digitally, up to
        1e6.
      schedule: shape of the learning rates over the run, after the warm-up: cosine and
        linear fall to zero, constant stays, staircase falls to a tenth at 1/2 and 3/4.
      warmup: share of the run in which the learning rates rise linearly from zero, 0 to
        1.
      momentum: momentum of parameters that are held digitally, 0 to 1; with adamw,
        what a step keeps of its first moment.
      weight_decay: weight decay of digital kernels, per step and times the learning
        rate, up to 1e6. Like the learning rate it is the best for FP32 of a small grid,
        on held-out images of CIFAR-10 (experiments/results).
      kernel_bits: bits of each weight of digital kernels, 2 to 16, to which training is
        aware that they are rounded (`hic_jax.quantisation`); 32 for float32.
    """

    optimizer: str = "sgd"
    learning_rate: float = 0.2
    schedule: str = "cosine"
    warmup: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    kernel_bits: int = 32

    def __post_init__(self):
        checks.one_of("schedule", self.schedule, SCHEDULES)
        checks.within("warmup", self.warmup, 0.0, 1.0)
        if self.kernel_bits != 32 and self.kernel_bits not in range(2, 17):
            raise ValueError(
                f"kernel_bits={self.kernel_bits!r}: must be an integer in [2, 16], or "
                "32 for float32"
            )
        _check_rule(self)

    def rates(self, highest: float, total_steps: int) -> optax.Schedule:
        """A learning rate as a function of the step.

        Args:
          highest: rate after the warm-up.
          total_steps: steps of the whole training.
        """
        warmup_steps = round(self.warmup * total_steps)
        return SCHEDULES[self.schedule](highest, total_steps, warmup_steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnalogRecipe:
    """Updates of analog weights, before any hardware.

    Attributes:
      optimizer: rule of analog weights: sgd, or adamw, whose two floating-point buffers
        cost the memory that devices save in training.
      learning_rate: highest learning rate of analog weights, up to 1e6; with
        analog_trust_ratio, their relative change in a step. All crossbars have the same
        devices: at a common relative change they fire their pulses at a common rate,
        whatever the gradients of their layers.
      trust_ratio: whether gradients of analog weights are brought to the norm of the
        weights, tensor by tensor.
      norm_decay: decay of analog weights in a step, over the square of their learning
        rate, up to 1e6, with analog_trust_ratio. Under normalisation gradients are at
        right angles to the weights, so that a relative step of r makes them r^2 / 2
        longer: 0.5 takes that off again. Without it weights grow until devices
        saturate.
      momentum: momentum of analog weights, 0 to 1, with adamw that of its first
        moment; other than 0 it costs a floating-point buffer, and with it the memory
        that devices save in training.
      weight_decay: weight decay of analog weights, per step and times the learning
        rate, up to 1e6.

    References:
      The trust ratio: You et al., Large batch training of convolutional networks,
      arXiv:1708.03888 (2017).
    """

    optimizer: str = "sgd"
    learning_rate: float = 0.04
    trust_ratio: bool = True
    norm_decay: float = 0.5
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self):
        checks.boolean("trust_ratio", self.trust_ratio)
        checks.at_least("norm_decay", self.norm_decay, 0.0)
        checks.at_most("norm_decay", self.norm_decay, _RATE_MAX)
        _check_rule(self)


def _check_rule(recipe: Recipe | AnalogRecipe) -> None:
    """Raises `ValueError` unless what both recipes have is within its bounds."""
    checks.one_of("optimizer", recipe.optimizer, OPTIMIZERS)
    checks.above("learning_rate", recipe.learning_rate, 0.0)
    checks.at_most("learning_rate", recipe.learning_rate, _RATE_MAX)
    checks.within("momentum", recipe.momentum, 0.0, 1.0)
    if recipe.optimizer == "adamw":  # Whose first moment is divided by 1 - momentum.
        checks.below("momentum", recipe.momentum, 1.0)
    checks.at_least("weight_decay", recipe.weight_decay, 0.0)
    checks.at_most("weight_decay", recipe.weight_decay, _RATE_MAX)


def _check_without_memory(analog: AnalogRecipe) -> None:
    """Raises `ValueError` unless an update is one factor times a gradient."""
    for name, allowed in (("optimizer", "sgd"), ("momentum", 0.0)):
        if (value := getattr(analog, name)) != allowed:
            raise ValueError(
                f"analog_{name}={value}: must be {allowed} with pulse_counts=both, "
                "because single examples fire their own pulses, and no past ones"
            )


def make_tx(
    recipe: Recipe,
    analog: AnalogRecipe | None,
    spec: PairSpec | None,
    total_steps: int,
    key: jax.Array,
    digital_layers: Sequence[str] = (),
    devices_by_layer: Mapping[str, int] | None = None,
    shards: Shards | None = None,
) -> optax.GradientTransformation:
    """The transformation that trains a network, by any of `ALGORITHMS`.

    Args:
      recipe: of what is held digitally: with devices, biases and normalisation.
      analog: recipe of the kernels, which devices hold; None for the usual one.
      spec: of the algorithm; None for training without devices.
      total_steps: steps of the whole training.
      key: of all that the devices draw.
      digital_layers: paths of layers whose kernels are held digitally, too.
      devices_by_layer: devices on each side of a pair, by regular expressions of the
        beginnings of paths (`hic_jax.path_rules`); elsewhere as ``spec`` has it.
      shards: equal parts of the state of devices, which the devices of a mesh share;
        None for one of all. Tensors that they cannot divide stay whole.

    Raises:
      ValueError: if a spec has no such number of devices, or fires the pulses of single
        examples, and the rule of the updates has a memory; of its ``init``, if there is
        no such layer.
    """
    rates = recipe.rates(recipe.learning_rate, total_steps)
    digital = OPTIMIZERS[recipe.optimizer](rates, recipe.momentum, recipe.weight_decay)
    if recipe.kernel_bits != 32:
        rounded = optax.masked(quantised(recipe.kernel_bits), kernels)
        digital = optax.chain(digital, rounded)
    if spec is None:
        return digital
    analog = analog or AnalogRecipe()
    if spec.fires_both:
        _check_without_memory(analog)
    analog_rates = recipe.rates(analog.learning_rate, total_steps)

    def pace(count):
        return analog_rates(count) / analog.learning_rate

    updates = OPTIMIZERS[analog.optimizer](
        analog_rates,
        analog.momentum,
        analog.weight_decay,
        trust_ratio=analog.trust_ratio,
        norm_decay=analog.norm_decay,
    )
    rules = dict(devices_by_layer or {})
    specs = {"analog": (spec, key)}
    for number in set(rules.values()):
        more = dataclasses.replace(spec, devices_per_sign=number)
        specs[_group(number)] = more, jax.random.fold_in(key, number)
    groups = {}
    for name, (one, own_key) in specs.items():
        tx = algorithms.analog(one, own_key, shards=shards, pace=pace)
        groups[name] = optax.chain(updates, tx)
        if shards is not None:
            tx = algorithms.analog(one, stream(own_key, "not divided"))
            groups[name + _WHOLE] = optax.chain(updates, tx)

    def labels(params):
        found = analog_labels(params, digital=digital_layers)
        leaves = jax.tree_util.tree_leaves_with_path(found)
        analog = [path_name(path) for path, label in leaves if label == "analog"]
        numbers = first_match(analog, rules)

        def group(path, label, param):
            if label == "digital":
                return label
            name = path_name(path)
            label = _group(numbers[name]) if name in numbers else label
            whole = shards and cut_axis(jnp.shape(param), shards.count) is None
            return label + _WHOLE if whole else label

        return jax.tree_util.tree_map_with_path(group, found, params)

    return optax.partition(groups | {"digital": digital}, labels)


# What the labels of weights end with that shards cannot divide.
_WHOLE = ", whole"


def _group(devices_per_sign: int) -> str:
    """Label of the weights that have so many devices on a side, by a rule."""
    return f"analog, {devices_per_sign} per sign"
