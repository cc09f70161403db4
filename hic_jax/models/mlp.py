"""A perceptron: dense layers over the pixels of an image."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from hic_jax.crossbar import LayerCrossbars
from hic_jax.models.base import ModelSpec, check_sizes, widened


@dataclasses.dataclass(frozen=True, kw_only=True)
class MLPSpec(ModelSpec):
    """A perceptron, without normalisation.

    Attributes:
      layers: hidden layers of the perceptron.
      units: outputs of each hidden layer at width 1.
    """

    layers: int = 2
    units: int = 128

    def __post_init__(self):
        check_sizes(self, "layers", "units")

    def make(
        self,
        *,
        num_classes: int,
        width: float,
        crossbars: LayerCrossbars,
        dtype: DTypeLike,
    ) -> "MLP":
        """See `ModelSpec.make`."""
        units = widened(self.units, width)
        return MLP(self.layers, units, num_classes, crossbars, dtype)


class MLP(nn.Module):
    """Dense layers with rectifiers between them.

    Attributes:
      layers: hidden layers.
      units: outputs of each.
      num_classes: outputs of the network.
      crossbars: what computes the layers hidden1, hidden2, ... and head.
      dtype: number format of the computation.
    """

    layers: int
    units: int
    num_classes: int
    crossbars: LayerCrossbars = LayerCrossbars()
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(batch, h, w, c) float32 to (batch, num_classes) float32 logits."""
        del train  # Nothing here is different in training.
        x = images.reshape(len(images), -1)
        for number in range(self.layers):
            x = nn.relu(self._dense(f"hidden{number + 1}", self.units)(x))
        return self._dense("head", self.num_classes)(x).astype(jnp.float32)

    def _dense(self, name, features):
        hook = self.crossbars.dot_general((*self.path, name))
        return nn.Dense(features, dtype=self.dtype, dot_general=hook, name=name)
