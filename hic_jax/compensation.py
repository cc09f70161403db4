"""Compensations of drift: what a chip may do without writing a device.

Each is a function (key, model, network, reference, train) that returns the network as
it then infers. To add one, write it and enter it in `COMPENSATIONS`.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from hic_jax import checks, data
from hic_jax.training.arrays import Arrays
from hic_jax.training.evaluation import Network
from hic_jax.weights import read

# AdaBS as published: 2,600 training images in 13 batches, running statistics kept at
# 0.015 of their old value at the end.
ADABS_BATCHES = 13
ADABS_BATCH_SIZE = 200
ADABS_KEPT = 0.015


@struct.dataclass
class Reference:
    """The chip when it was new, and the one read of it that was stored.

    Attributes:
      weights: the devices at that time.
      key: draws the noise of that read. None is an ideal reference: exact, and
        compared with exact reads later.
    """

    weights: Any
    key: jax.Array | None


def column_currents(weights: Any, *, key: jax.Array | None = None) -> Any:
    """Summed absolute current of every column, its rows driven one at a time.

    One row driven alone makes each column's current the weight between them, so this
    is the sum of what a read of the weights finds.

    Args:
      weights: pytree of weights on devices; the last axis of a kernel is the columns.
      key: draws the read noise; without one the read is exact.

    Returns:
      The same tree with (columns,) float32, in units of weight.
    """
    return jax.tree.map(
        lambda w: jnp.sum(jnp.abs(w), axis=tuple(range(w.ndim - 1))),
        read(weights, key=key),
    )


def none(
    key: jax.Array,
    model: nn.Module,
    network: Network,
    reference: Reference,
    train: Arrays | None,
) -> Network:
    """The network as its devices are."""
    del key, model, reference, train
    return network


def gdc(
    key: jax.Array,
    model: nn.Module,
    network: Network,
    reference: Reference,
    train: Arrays | None = None,
) -> Network:
    r"""Global drift compensation: one digital gain for each layer.

    .. math::
      \alpha = \sum_{ij} |W_{ij}(t_{ref})| / \sum_{ij} |W_{ij}(t)|

    Args:
      key: draws the read noise now; unused with an ideal reference.
      model: not used.
      network: as it is now.
      reference: the same chip when it was new.
      train: not used.

    Returns:
      The network with these gains in the place of others.

    References:
      Joshi et al., Accurate deep neural network inference using computational
      phase-change memory, Nat. Commun. 11:2473 (2020).
    """
    del model, train
    return network.replace(gains=_gains(key, network.weights, reference, jnp.sum))


def column(
    key: jax.Array,
    model: nn.Module,
    network: Network,
    reference: Reference,
    train: Arrays | None = None,
) -> Network:
    """Drift compensation with a digital gain for each column; otherwise as `gdc`."""
    del model, train
    return network.replace(gains=_gains(key, network.weights, reference, _each))


def _each(currents: jax.Array) -> jax.Array:
    return currents


@functools.partial(jax.jit, static_argnames="total")
def _gains(key: jax.Array, weights: Any, reference: Reference, total: Callable) -> Any:
    """Reference over present currents, added up by ``total``; 1 without a current."""
    before = column_currents(reference.weights, key=reference.key)
    now = column_currents(weights, key=None if reference.key is None else key)

    def gain(before, now):
        before, now = total(before), total(now)
        return jnp.where(now > 0, before / jnp.where(now > 0, now, 1.0), 1.0)

    return jax.tree.map(gain, before, now)


def adabs(
    key: jax.Array,
    model: nn.Module,
    network: Network,
    train: Arrays | None,
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

    Raises:
      ValueError: if the network has no BatchNorm, or there are too few images.

    References:
      Joshi et al., Accurate deep neural network inference using computational
      phase-change memory, Nat. Commun. 11:2473 (2020).
    """
    check_possible("adabs", network, train)
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
    images, _ = train.batch(indices)
    images = data.normalise(images, train.mean, train.std)

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


def gdc_and_adabs(
    key: jax.Array,
    model: nn.Module,
    network: Network,
    reference: Reference,
    train: Arrays | None,
) -> Network:
    """`adabs` on top of `gdc`.

    BatchNorm can undo only what happens before it: the logits of a classifier, which
    none follows, would shrink beside a digital bias that does not (on CIFAR-10 that
    costs 5 points in a year). There the gain of the layer acts; everywhere else
    BatchNorm takes it out again.
    """
    gain_key, key = jax.random.split(key)
    return adabs(key, model, gdc(gain_key, model, network, reference), train)


Compensation = Callable[
    [jax.Array, nn.Module, Network, Reference, Arrays | None], Network
]
COMPENSATIONS: dict[str, Compensation] = {
    "none": none,
    "gdc": gdc,
    "column": column,
    "adabs": gdc_and_adabs,
}


def check_possible(name: str, network: Network, train: Arrays | None) -> None:
    """Raises `ValueError` unless a network can be compensated like that.

    Args:
      name: of `COMPENSATIONS`.
      network: what is to be compensated.
      train: images to calibrate with, if there are any.
    """
    checks.one_of("compensation", name, COMPENSATIONS)
    if name != "adabs":
        return
    if not jax.tree.leaves(network.batch_stats):
        raise ValueError(
            "batch_stats={}: adabs recalibrates BatchNorm, and the network has none"
        )
    if train is None or not train.labels.shape[0]:
        raise ValueError("train: adabs needs training images, and there are none")
