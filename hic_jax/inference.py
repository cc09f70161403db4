"""Reading a trained network later: accuracy at time t, and AdaBS recalibration."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from hic_jax import checks, data
from hic_jax.training.steps import Arrays, Network, accuracy
from hic_jax.weights import drift

COMPENSATIONS = ("none", "adabs")

# AdaBS as published: 2,600 training images in 13 batches, running statistics kept at
# 0.015 of their old value at the end.
ADABS_BATCHES = 13
ADABS_BATCH_SIZE = 200
ADABS_KEPT = 0.015


def adabs(
    key: jax.Array,
    model: nn.Module,
    network: Network,
    train: Arrays,
    *,
    batches: int = ADABS_BATCHES,
) -> Network:
    r"""Adaptive BatchNorm statistics update, for weights that have drifted.

    Running statistics are updated on a few training images, without labels and
    without augmentation: ``new = p old + (1 - p) batch`` with :math:`p = 0.015^{1/n}`
    over n batches. Only BatchNorm changes; no device is written. Every batch reads the
    devices anew, so the statistics are not those of one noisy read.

    Args:
      key: chooses the images and draws the read noise.
      model: called with ``(images, train=)``, BatchNorm in "batch_stats". Its own
        momentum does not matter.
      network: as it is now, after drift.
      train: training images.
      batches: n; of 200 images, fewer where the set is small.

    Returns:
      The network with new running statistics.

    References:
      Joshi et al., Accurate deep neural network inference using computational
      phase-change memory, Nat. Commun. 11:2473 (2020).
    """
    size = train.labels.shape[0]
    checks.integer("batches", batches, 1, size)
    batch_size = min(ADABS_BATCH_SIZE, size // batches)
    order_key, read_key = jax.random.split(key)
    order = jax.random.permutation(order_key, size)[: batches * batch_size]
    kept = ADABS_KEPT ** (1 / batches)
    for i, indices in enumerate(order.reshape(batches, batch_size)):
        variables = network.variables(jax.random.fold_in(read_key, i))
        batch = _batch_statistics(model, variables, train, indices)
        network = network.replace(
            batch_stats=jax.tree.map(
                lambda old, new: kept * old + (1 - kept) * new,
                network.batch_stats,
                batch,
            )
        )
    return network


@functools.partial(jax.jit, static_argnames="model")
def _batch_statistics(model, variables, train, indices):
    """BatchNorm statistics of one batch of images alone."""
    images = data.normalise(train.images[indices], train.mean, train.std)

    def updated(old):
        _, new = model.apply(
            {**variables, "batch_stats": old},
            images,
            train=True,
            mutable=["batch_stats"],
        )
        return new["batch_stats"]

    # A layer turns old statistics into m old + (1 - m) batch: zeros and ones in the
    # place of the old ones tell its momentum m and the batch's statistics apart.
    zeros = jax.tree.map(jnp.zeros_like, variables["batch_stats"])
    from_zeros = updated(zeros)
    from_ones = updated(jax.tree.map(jnp.ones_like, zeros))
    return jax.tree.map(lambda z, o: z / (1 - (o - z)), from_zeros, from_ones)


@jax.jit
def _aged(key: jax.Array, network: Network, seconds: jax.Array) -> Network:
    """One chip of these conductances, some time after training."""
    return network.replace(weights=drift(network.weights, seconds, key))


def accuracy_over_time(
    key: jax.Array,
    model: nn.Module,
    network: Network,
    test: Arrays,
    train: Arrays,
    *,
    times: Sequence[float],
    chips: int,
    compensations: Sequence[str] = COMPENSATIONS,
) -> list[dict[str, Any]]:
    """Test accuracy of a trained network as its devices drift.

    Every chip has the trained conductances, its own drift exponents (the same at all
    times) and its own read noise.

    Args:
      key: makes the chips.
      model: called with ``(images, train=)``.
      network: as trained, with analog weights.
      test: images to be classified.
      train: images for AdaBS.
      times: seconds after the end of training.
      chips: how many.
      compensations: of `COMPENSATIONS`.

    Returns:
      A row for each time and compensation: ``time`` (s), ``compensation``, ``mean``
      and ``std`` of the accuracy over chips, ``accuracies`` of the chips.

    Raises:
      ValueError: if nothing is analog, or a time, the number of chips or a
        compensation is not allowed.
    """
    check_reading(times, chips, compensations)
    if network.weights is None:
        raise ValueError("network holds no analog weight: there is nothing to drift")
    rows = []
    for seconds in times:
        measured: dict[str, list[float]] = {name: [] for name in compensations}
        for chip in range(chips):
            chip_key, use_key = jax.random.split(jax.random.fold_in(key, chip))
            aged = _aged(chip_key, network, jnp.float32(seconds))
            use_key = jax.random.fold_in(use_key, np.float32(seconds).view(np.uint32))
            adabs_key, read_key = jax.random.split(use_key)
            for name in compensations:
                ready = aged
                if name == "adabs":
                    ready = adabs(adabs_key, model, aged, train)
                measured[name].append(accuracy(read_key, model, ready, test))
        for name, accuracies in measured.items():
            rows.append(
                {
                    "time": seconds,
                    "compensation": name,
                    "mean": float(np.mean(accuracies)),
                    "std": float(np.std(accuracies, ddof=1)) if chips > 1 else 0.0,
                    "accuracies": accuracies,
                }
            )
    return rows


def check_reading(
    times: Sequence[float], chips: int, compensations: Sequence[str]
) -> None:
    """Raises `ValueError` unless a network can be read like that."""
    for name, values in (("times", times), ("compensations", compensations)):
        if not values:
            raise ValueError(f"{name}=[]: must name at least one")
        if len(set(values)) < len(values):
            raise ValueError(f"{name}={list(values)}: names one twice")
    for seconds in times:
        checks.above("times", seconds, 0.0)
    checks.integer("chips", chips, 1)
    for name in compensations:
        checks.one_of("compensation", name, COMPENSATIONS)
