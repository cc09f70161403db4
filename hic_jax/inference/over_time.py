"""Reading a trained network later: accuracy at time t, on several chips."""

import dataclasses
import functools
import itertools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from hic_jax import checks
from hic_jax.inference.compensations import COMPENSATIONS, Reference, check_possible
from hic_jax.inference.deployment import deploy, is_deployed
from hic_jax.inference.network import Answers, Network, answers
from hic_jax.pcm import ProgrammedSpec
from hic_jax.training.chips import (
    check_at_once,
    default_at_once,
    everywhere,
    filled,
    make_mesh,
    spread,
)
from hic_jax.training.split import Examples
from hic_jax.weights import drift, is_analog

# What ``devices`` says of a network that is read from those it was trained on.
TRAINED = "trained"
CONFIDENCE = 0.95

# More would only be noticed after days: their keys alone take minutes.
CHIPS_MAX = 10**6

# Non-idealities that act when a network is read, whatever it was written with.
OF_READING = ("read_noise", "drift", "drift_spread")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """How a trained network is read later: when, on what, compensated by what.

    Attributes:
      times: seconds after the end of training, or of programming.
      chips: how many.
      compensations: names in `hic_jax.inference.compensations.COMPENSATIONS`.
      deploy_spec: devices of fresh inference chips that get the trained weights; None
        reads the devices as trained.
      without: names in `OF_READING` of what is switched off, to see what it costs.
      ideal_reference: whether the compensations that compare column currents read
        them exactly, or with read noise, each chip once when it is new and again
        every time.
    """

    times: Sequence[float]
    chips: int
    compensations: Sequence[str] = ("none", "adabs")
    deploy_spec: ProgrammedSpec | None = None
    without: Sequence[str] = ()
    ideal_reference: bool = False

    def __post_init__(self):
        """Raises `ValueError` unless a network can be read like that."""
        for name in ("times", "compensations"):
            values = getattr(self, name)
            if not values:
                raise ValueError(f"{name}=[]: must name at least one")
            if len(set(values)) < len(values):
                raise ValueError(f"{name}={list(values)}: names one twice")
        for name in self.without:
            checks.one_of("without", name, OF_READING)
        for seconds in self.times:
            checks.above("times", seconds, 0.0)
            checks.at_most("times", seconds, checks.SECONDS_MAX)
        checks.integer("chips", self.chips, 1, CHIPS_MAX)
        for name in self.compensations:
            checks.one_of("compensation", name, COMPENSATIONS)

    @property
    def devices(self) -> str:
        """What is read: `TRAINED`, or the name of the devices of inference chips."""
        return TRAINED if self.deploy_spec is None else self.deploy_spec.name


@functools.partial(jax.jit, static_argnames="deploy_spec")
def make_chip(
    key: jax.Array, network: Network, deploy_spec: ProgrammedSpec | None
) -> Network:
    """A chip that holds a trained network.

    Args:
      key: the chip.
      network: what was trained.
      deploy_spec: the devices of a fresh inference chip, programmed with the trained
        weights. None for chips of the trained conductances, with drift exponents of
        their own; weights that are deployed are a chip already.
    """
    if deploy_spec is None and is_deployed(network.weights):
        return network
    if deploy_spec is None:
        return dataclasses.replace(network, weights=drift(network.weights, 0.0, key))
    return dataclasses.replace(
        network, weights=deploy(network.weights, deploy_spec, key)
    )


@jax.jit
def _aged(network: Network, seconds: jax.Array) -> Network:
    return dataclasses.replace(network, weights=drift(network.weights, seconds))


def accuracy_over_time(
    key: jax.Array,
    model: nn.Module,
    network: Network,
    test: Examples,
    train: Examples | None = None,
    *,
    reading: Reading,
    chips_at_once: int | None = None,
    done: Callable[[int], Any] | None = None,
) -> list[dict[str, Any]]:
    """Test accuracy of a trained network as its devices drift.

    The network is read as trained, or as deployed. As trained, every chip has the
    trained conductances, its own drift exponents and its own read noise. As deployed,
    every chip is programmed once with the trained weights. Either way it is the same
    chip at all times and under all compensations. A network whose weights are deployed
    already, as those of `hic_jax.load_chip`, is one chip, on which "chips" are reads,
    and ages from its own time on.

    Args:
      key: makes the chips.
      model: called with ``(inputs, train=)``.
      network: what was trained, with analog weights.
      test: what is to be answered.
      train: images that AdaBS calibrates with; None if there are none.
      reading: when it is read, on how many chips, and how.
      chips_at_once: how many are computed at once, spread over the devices of this
        process; None for one on the CPU and, on accelerators, as many as
        `hic_jax.training.chips.default_at_once` says.
      done: called with the number of chips whenever some have been read.

    Returns:
      A row for each time and compensation: ``time`` (s), ``devices`` (of
      `Reading`), ``without``, ``compensation``, ``ideal_reference``,
      ``mean`` and ``std`` of the accuracy over chips, ``interval``, the 95 % Student-t
      interval (low, high) of the mean (None for one chip), ``accuracies`` of the chips;
      ``losses`` of the chips, the mean cross-entropy of an answer, nats.

    Raises:
      ValueError: if nothing is analog, a compensation lacks what it needs, or so many
        chips cannot be computed at once.
    """
    check_at_once("chips_at_once", chips_at_once)
    if network.weights is None:
        raise ValueError("network holds no analog weight: there is nothing to drift")
    for name in reading.compensations:
        check_possible(name, network, train)
    deploy_spec, devices = reading.deploy_spec, reading.devices
    if is_deployed(network.weights):
        first, *_ = jax.tree.leaves(network.weights, is_leaf=is_analog)
        devices = first.spec.name
    if deploy_spec is not None:
        deploy_spec = deploy_spec.without(*reading.without)
    elif reading.without:
        network = dataclasses.replace(
            network,
            weights=jax.tree.map(
                lambda w: w.without(*reading.without),
                network.weights,
                is_leaf=is_analog,
            ),
        )

    def life_of(chip_key, network, test, train):
        """Answers of one chip, each (times * compensations,)."""
        make_key, use_key = jax.random.split(chip_key)
        chip = make_chip(make_key, network, deploy_spec)
        reference_key = None if reading.ideal_reference else _at_time(use_key, 0.0)
        reference = Reference(chip.weights, reference_key)
        lived = []
        for seconds in reading.times:
            aged = _aged(chip, jnp.float32(seconds))
            compensate_key, read_key = jax.random.split(_at_time(use_key, seconds))
            for name in reading.compensations:
                compensate = COMPENSATIONS[name]
                ready = compensate(compensate_key, model, aged, reference, train)
                lived.append(answers(read_key, model, ready, test))
        return jax.tree.map(lambda *parts: jnp.stack(parts), *lived)

    chip_keys = [jax.random.fold_in(key, chip) for chip in range(reading.chips)]
    shared = network, test, train
    lives: Answers = over_chips(life_of, chip_keys, shared, chips_at_once, done)
    accuracies, losses = ((np.asarray(x) / test.answers).T for x in lives)
    rows = itertools.product(reading.times, reading.compensations)
    return [
        {
            "time": time,
            "devices": devices,
            "without": list(reading.without),
            "compensation": name,
            "ideal_reference": reading.ideal_reference,
            **_summary(row),
            "losses": of_chips.tolist(),
        }
        for (time, name), row, of_chips in zip(rows, accuracies, losses, strict=True)
    ]


def over_chips(
    function: Callable[..., Any],
    chip_keys: Sequence[jax.Array],
    shared: tuple[Any, ...],
    at_once: int | None = None,
    done: Callable[[int], Any] | None = None,
) -> Any:
    """A function of each chip's key: (chips, ...), one group of chips at a time.

    Args:
      function: of a key and of what is shared; a pytree of arrays.
      chip_keys: a key for each chip.
      shared: what the function computes with of any chip.
      at_once: at most so many in a group, which is spread over the devices of this
        process; None for `hic_jax.training.chips.default_at_once`.
      done: called with the number of chips of every group that has been computed.
    """
    chips, results = len(chip_keys), []
    # Groups of one size, so that they are compiled once.
    groups = math.ceil(chips / (at_once or default_at_once()))
    size = math.ceil(chips / groups)
    mesh = make_mesh(size)
    if size > 1:
        shared = everywhere(shared, mesh)
    for start in range(0, chips, size):
        group = chip_keys[start : start + size]
        if size == 1:
            result = jax.tree.map(lambda x: x[None], function(group[0], *shared))
        else:
            keys = spread(jnp.stack(filled(group, mesh, at_least=size)), mesh)
            result = jax.vmap(lambda key: function(key, *shared))(keys)
            result = jax.tree.map(operator.itemgetter(slice(len(group))), result)
        results.append(jax.block_until_ready(result))
        if done:
            done(len(group))
    return jax.tree.map(lambda *groups: jnp.concatenate(groups), *results)


def _at_time(key: jax.Array, seconds: float) -> jax.Array:
    """The key of a chip's reads at a time: the same whatever other times are read."""
    return jax.random.fold_in(key, np.float32(seconds).view(np.uint32))


def _summary(accuracies: np.ndarray) -> dict[str, Any]:
    """Statistics over chips."""
    chips = len(accuracies)
    return {
        "mean": float(np.mean(accuracies)),
        "std": float(np.std(accuracies, ddof=1)) if chips > 1 else 0.0,
        "interval": interval_of_mean(accuracies) if chips > 1 else None,
        "accuracies": accuracies.tolist(),
    }


def interval_of_mean(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """The 95 % Student-t interval (low, high) of the mean of two values or more."""
    import scipy.special  # Not before: a twelfth of the time of all imports.

    mean, chips = float(np.mean(values)), len(values)
    quantile = scipy.special.stdtrit(chips - 1, (1 + CONFIDENCE) / 2)
    half = float(quantile * np.std(values, ddof=1) / np.sqrt(chips))
    return mean - half, mean + half
