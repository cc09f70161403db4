"""Reading a trained network later: accuracy at time t, and AdaBS recalibration."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from hic_jax import checks, data
from hic_jax.training.steps import Arrays, TrainState, accuracy
from hic_jax.transform import hybrid_weights
from hic_jax.weights import drift, read_params

COMPENSATIONS = ("none", "adabs")

# AdaBS as published: 2,600 training images in 13 batches, running statistics kept at
# 0.015 of their old value at the end.
ADABS_BATCHES = 13
ADABS_BATCH_SIZE = 200
ADABS_KEPT = 0.015


def adabs(
    key: jax.Array,
    model: nn.Module,
    params: Any,
    batch_stats: Any,
    train: Arrays,
    *,
    batches: int = ADABS_BATCHES,
) -> Any:
    r"""Adaptive BatchNorm statistics update, for weights that have drifted.

    Running statistics are updated on a few training images, without labels and
    without augmentation: ``new = p old + (1 - p) batch`` with :math:`p = 0.015^{1/n}`
    over n batches. Only BatchNorm changes; no device is written.

    Args:
      key: chooses the images.
      model: called with ``(images, train=)``, BatchNorm in "batch_stats". Its own
        momentum does not matter.
      params: as the devices read now.
      batch_stats: running statistics from training.
      train: training images.
      batches: n; of 200 images, fewer where the set is small.

    Returns:
      New running statistics.

    References:
      Joshi et al., Accurate deep neural network inference using computational
      phase-change memory, Nat. Commun. 11:2473 (2020).
    """
    size = train.labels.shape[0]
    batch_size = min(ADABS_BATCH_SIZE, size // batches)
    order = jax.random.permutation(key, size)[: batches * batch_size]
    kept = ADABS_KEPT ** (1 / batches)
    for indices in order.reshape(batches, batch_size):
        batch = _batch_statistics(model, params, batch_stats, train, indices)
        batch_stats = jax.tree.map(
            lambda old, new: kept * old + (1 - kept) * new, batch_stats, batch
        )
    return batch_stats


@functools.partial(jax.jit, static_argnames="model")
def _batch_statistics(model, params, batch_stats, train, indices):
    """BatchNorm statistics of one batch of images alone."""
    images = data.normalise(train.images[indices], train.mean, train.std)

    def updated(old):
        variables = {"params": params, "batch_stats": old}
        _, new = model.apply(variables, images, train=True, mutable=["batch_stats"])
        return new["batch_stats"]

    # A layer turns old statistics into m old + (1 - m) batch: zeros and ones in the
    # place of the old ones tell its momentum m and the batch's statistics apart.
    from_zeros = updated(jax.tree.map(jnp.zeros_like, batch_stats))
    from_ones = updated(jax.tree.map(jnp.ones_like, batch_stats))
    return jax.tree.map(lambda z, o: z / (1 - (o - z)), from_zeros, from_ones)


@jax.jit
def _aged_params(chip_key, state, seconds):
    """Parameters as a chip reads them some time after training."""
    exponent_key, read_key = jax.random.split(chip_key)
    aged = drift(hybrid_weights(state.opt_state), seconds, exponent_key)
    read_key = jax.random.fold_in(read_key, seconds.astype(jnp.uint32))
    return read_params(state.params, aged, key=read_key)


def accuracy_over_time(
    key: jax.Array,
    model: nn.Module,
    state: TrainState,
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
      model: the network.
      state: as trained, with `hic_jax.hic` in its optimizer state.
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
    hybrid_weights(state.opt_state)  # Raises where nothing is analog.
    image_key, key = jax.random.split(key)
    rows = []
    for seconds in times:
        measured: dict[str, list[float]] = {name: [] for name in compensations}
        for chip in range(chips):
            chip_key = jax.random.fold_in(key, chip)
            params = _aged_params(chip_key, state, jnp.float32(seconds))
            for name in compensations:
                stats = state.batch_stats
                if name == "adabs":
                    stats = adabs(image_key, model, params, stats, train)
                measured[name].append(accuracy(model, params, stats, test))
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
    if not times:
        raise ValueError("times=[]: must name at least one time")
    for seconds in times:
        checks.above("times", seconds, 0.0)
    checks.integer("chips", chips, 1)
    for name in compensations:
        checks.one_of("compensation", name, COMPENSATIONS)
