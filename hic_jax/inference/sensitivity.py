"""Where a year costs: what each layer's drift alone does to a network, and a remedy.

More devices on a side average their independent exponents and read errors out: a layer
with N of them has a variance N times smaller, and what a small variance costs falls by
the same factor. So the layers that lose most for their size get more devices.
"""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import numpy as np

from hic_jax import checks
from hic_jax.algorithms.pairs import DEVICES_PER_SIGN
from hic_jax.inference.compensations import COMPENSATIONS, Reference, check_possible
from hic_jax.inference.network import Network, cross_entropy
from hic_jax.inference.over_time import make_chip
from hic_jax.packing import path_name
from hic_jax.training.split import Examples
from hic_jax.weights import is_analog


def sensitivities(
    key: jax.Array,
    model: nn.Module,
    network: Network,
    images: Examples,
    train: Examples | None = None,
    *,
    seconds: float,
    chips: int = 3,
    compensation: str = "adabs",
) -> dict[str, list[float]]:
    """Rise of the cross-entropy when the devices of one layer alone grow old.

    Every chip is read new, and then with one layer after the other aged and all others
    new, by the same keys, so that what differs is the age. Compensation is done anew
    each time.

    Args:
      key: makes the chips.
      model: called with ``(images, train=)``.
      network: what was trained, with analog weights.
      images: images to be classified.
      train: images that AdaBS calibrates with.
      seconds: age, s.
      chips: how many.
      compensation: of `hic_jax.inference.compensations.COMPENSATIONS`.

    Returns:
      By the path of each analog kernel the rise of the mean cross-entropy, nats, on
      every chip; under "" that of all layers together.

    Raises:
      ValueError: if nothing is analog, or what the compensation needs is not there.
    """
    if network.weights is None:
        raise ValueError("network holds no analog weight: there is nothing to drift")
    checks.integer("chips", chips, 1)
    checks.seconds(seconds)
    check_possible(compensation, network, train)
    leaves = jax.tree_util.tree_leaves_with_path(network.weights, is_leaf=is_analog)
    paths = [path_name(path) for path, leaf in leaves if is_analog(leaf)]

    def rises_of(chip_key: jax.Array) -> list[float]:
        make_key, use_key = jax.random.split(chip_key)
        reference_key, compensate_key, read_key = jax.random.split(use_key, 3)
        chip = make_chip(make_key, network, None)
        reference = Reference(chip.weights, reference_key)

        def loss(aged: Sequence[str]) -> float:
            old = _aged(chip, aged, seconds)
            compensate = COMPENSATIONS[compensation]
            ready = compensate(compensate_key, model, old, reference, train)
            return float(cross_entropy(read_key, model, ready, images))

        new = loss([])
        return [loss(aged) - new for aged in (*([path] for path in paths), paths)]

    found = [rises_of(jax.random.fold_in(key, chip)) for chip in range(chips)]
    return {
        path: list(rises)
        for path, rises in zip((*paths, ""), zip(*found, strict=True), strict=True)
    }


def _aged(network: Network, paths: Sequence[str], seconds: float) -> Network:
    """The network with the devices of some kernels older, and all others as new."""

    def aged(path, weight):
        # A number for all of them, so that all networks are compiled once.
        older = seconds if path_name(path) in paths else 0.0
        return weight.aged(older) if is_analog(weight) else weight

    weights = jax.tree_util.tree_map_with_path(aged, network.weights, is_leaf=is_analog)
    return network.replace(weights=weights)


def allocated(
    rises: Mapping[str, float], weights: Mapping[str, int], budget: float
) -> dict[str, int]:
    """Devices on each side of a pair, by layer, that lose least for their number.

    Step by step, the layer whose loss falls most for each device gets twice as many,
    as long as the budget allows.

    Args:
      rises: what a layer costs with one device on a side; what is below zero counts
        as nothing.
      weights: number of weights of each layer.
      budget: devices in all, over those with one on each side, at least 1.

    Returns:
      1, 2, 4 or 8 for each layer.

    Raises:
      ValueError: for layers that are not in both, or a budget below 1.

    Examples:
      >>> allocated({"stem": 0.016, "body": 0.01}, {"stem": 100, "body": 2000}, 1.5)
      {'stem': 8, 'body': 1}
    """
    checks.at_least("budget", budget, 1.0)
    if rises.keys() != weights.keys():
        raise ValueError(
            f"rises={', '.join(rises)}: must be of the layers {', '.join(weights)}"
        )
    numbers = dict.fromkeys(weights, 1)
    left = (budget - 1) * sum(weights.values())

    def saved(layer: str) -> float:
        """Loss that twice as many devices save, for each further device on a side."""
        return max(rises[layer], 0.0) / (2 * numbers[layer] ** 2 * weights[layer])

    while True:
        able = [
            layer
            for layer, number in numbers.items()
            if number < max(DEVICES_PER_SIGN)
            and number * weights[layer] <= left
            and saved(layer) > 0
        ]
        if not able:
            return numbers
        best = max(able, key=saved)
        left -= numbers[best] * weights[best]
        numbers[best] *= 2


def expected_rise(rises: Mapping[str, float], numbers: Mapping[str, int]) -> float:
    """Rise of the cross-entropy with so many devices, as variances fall by them."""
    return float(np.sum([rises[layer] / numbers[layer] for layer in rises]))
