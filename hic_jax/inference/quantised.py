"""A network that was trained in floating point, held in few bits."""

import flax.linen as nn
import jax

from hic_jax.inference.compensations import adabs
from hic_jax.inference.network import Network
from hic_jax.quantisation import quantise_kernels
from hic_jax.training.split import Examples


def quantised(
    key: jax.Array, model: nn.Module, network: Network, train: Examples, *, bits: int
) -> Network:
    """Post-training quantisation: kernels of few bits, and BatchNorm estimated anew.

    Args:
      key: chooses the images that BatchNorm is estimated with.
      model: called with ``(images, train=)``, BatchNorm in "batch_stats".
      network: without analog weights.
      train: training images.
      bits: of each weight, see `hic_jax.quantisation`.

    Raises:
      ValueError: if the network has analog weights.
    """
    if network.weights is not None:
        raise ValueError("network: must have no analog weights, whose bits are theirs")
    network = network.replace(params=quantise_kernels(network.params, bits))
    if not jax.tree.leaves(network.batch_stats):
        return network
    return adabs(key, model, network, train)
