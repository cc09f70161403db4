"""Compensations of drift by name, for the networks that the launchers train.

Each is a function (key, model, network, reference, train) that returns the network as
it then infers. To add one, write it and enter it in `COMPENSATIONS`. What they compute
is in `hic_jax.inference.compensation`, for any model.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from flax import struct

from hic_jax import checks, crossbar
from hic_jax.inference import compensation
from hic_jax.inference.network import Network
from hic_jax.streams import stream
from hic_jax.training.mesh import replicate
from hic_jax.training.split import Examples

# AdaBS as published: 2,600 training images in 13 batches.
ADABS_BATCHES = 13
ADABS_BATCH_SIZE = 200


class Reference(struct.PyTreeNode):
    """The chip when it was new, and the one read of it that was stored.

    Attributes:
      weights: the devices at that time.
      key: draws the noise of that read. None is an ideal reference: exact, and
        compared with exact reads later.
    """

    weights: Any
    key: jax.Array | None


def none(
    key: jax.Array,
    model: nn.Module,
    network: Network,
    reference: Reference,
    train: Examples | None,
) -> Network:
    """The network as its devices are."""
    del key, model, reference, train
    return network


def gdc(
    key: jax.Array,
    model: nn.Module,
    network: Network,
    reference: Reference,
    train: Examples | None = None,
) -> Network:
    """Global drift compensation: one digital gain for each layer.

    Args:
      key: draws the read noise now; unused with an ideal reference.
      model: not used.
      network: as it is now.
      reference: the same chip when it was new.
      train: not used.

    Returns:
      The network with these gains in the place of others.
    """
    del model, train
    return network.replace(gains=_gains(key, network.weights, reference, "layer"))


def column(
    key: jax.Array,
    model: nn.Module,
    network: Network,
    reference: Reference,
    train: Examples | None = None,
) -> Network:
    """Drift compensation with a digital gain for each column; otherwise as `gdc`."""
    del model, train
    return network.replace(gains=_gains(key, network.weights, reference, "column"))


@functools.partial(jax.jit, static_argnames="per")
def _gains(key: jax.Array, weights: Any, reference: Reference, per: str) -> Any:
    before = compensation.column_currents(reference.weights, key=reference.key)
    now_key = None if reference.key is None else key
    return compensation.gains(weights, before, per=per, key=now_key)


def adabs(
    key: jax.Array,
    model: nn.Module,
    network: Network,
    train: Examples | None,
    *,
    batches: int = ADABS_BATCHES,
) -> Network:
    """`hic_jax.inference.compensation.adabs` on training images, without augmentation.

    Args:
      key: chooses the images and draws the noise of devices and converters.
      model: called with ``(images, train=)``, BatchNorm in "batch_stats".
      network: as it is now, after drift.
      train: training images.
      batches: how many; of 200 images, fewer where the set is small.

    Returns:
      The network with new running statistics.

    Raises:
      ValueError: if the network has no BatchNorm, or there are too few images.
    """
    train = _training_images(network, train)
    size = train.size
    checks.integer("batches", batches, 1, size)
    batch_size = min(ADABS_BATCH_SIZE, size // batches)
    order_key, read_key = jax.random.split(stream(key, "images of adabs"))
    order = jax.random.permutation(order_key, size)[: batches * batch_size]
    variances = network.fresh_variances()
    batch_stats = compensation.adabs(
        _update_of(model),
        network.params,
        network.batch_stats,
        network.weights,
        [
            (jax.random.fold_in(read_key, i), network.ranges, variances, train, indices)
            for i, indices in enumerate(order.reshape(batches, batch_size))
        ],
        key=read_key,
        gains=network.gains,
        fresh=False,
    )
    return network.replace(batch_stats=batch_stats)


@functools.cache  # One function for each model, so that it is compiled once.
def _update_of(model: nn.Module) -> compensation.Update:
    def update(params, stats, batch):
        key, ranges, variances, train, indices = batch
        images, _ = train.batch(indices)  # As they are, without augmentation.
        variables = {
            "params": params,
            "batch_stats": stats,
            crossbar.COLLECTION: ranges,
        }
        variables, variances = replicate((variables, variances), train.mesh)
        with crossbar.fresh_noise(variances, key):
            _, new = model.apply(
                variables,
                images,
                train=True,
                mutable=["batch_stats"],
                rngs=crossbar.rngs(key),
            )
        return new["batch_stats"]

    return update


def gdc_and_adabs(
    key: jax.Array,
    model: nn.Module,
    network: Network,
    reference: Reference,
    train: Examples | None,
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
    [jax.Array, nn.Module, Network, Reference, Examples | None], Network
]
COMPENSATIONS: dict[str, Compensation] = {
    "none": none,
    "gdc": gdc,
    "column": column,
    "adabs": gdc_and_adabs,
}


def check_possible(name: str, network: Network, train: Examples | None) -> None:
    """Raises `ValueError` unless a network can be compensated like that.

    Args:
      name: of `COMPENSATIONS`.
      network: what is to be compensated.
      train: images to calibrate with, if there are any.
    """
    checks.one_of("compensation", name, COMPENSATIONS)
    if name == "adabs":
        _training_images(network, train)


def _training_images(network: Network, train: Examples | None) -> Examples:
    """The images to recalibrate BatchNorm with; `ValueError` without one of the two."""
    if not jax.tree.leaves(network.batch_stats):
        others = [name for name in COMPENSATIONS if name != "adabs"]
        raise ValueError(
            "compensation='adabs': recalibrates BatchNorm, and the network has none; "
            f"must be {checks.names(others)}"
        )
    if train is None or not train.size:
        raise ValueError("train: adabs needs training images, and there are none")
    return train
