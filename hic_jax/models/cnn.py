"""A plain convolutional network: no shortcuts."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from hic_jax.crossbar import LayerCrossbars
from hic_jax.models.base import ModelSpec, check_sizes, widened


@dataclasses.dataclass(frozen=True, kw_only=True)
class CNNSpec(ModelSpec):
    """Convolutions, each over half as many pixels with twice as many channels.

    Attributes:
      layers: convolutions, 1 to 8.
      channels: output channels of the first one at width 1; each further one has twice
        as many.
    """

    layers: int = 3
    channels: int = 16

    def __post_init__(self):
        check_sizes(self, "layers", "channels")
        if self.layers > 8:
            raise ValueError(f"layers={self.layers}: must be at most 8")

    def make(
        self,
        *,
        num_classes: int,
        width: float,
        crossbars: LayerCrossbars,
        dtype: DTypeLike,
    ) -> "CNN":
        """See `ModelSpec.make`."""
        channels = tuple(
            widened(self.channels * 2**number, width) for number in range(self.layers)
        )
        return CNN(channels, num_classes, crossbars, dtype)


class CNN(nn.Module):
    """3x3 convolutions with BatchNorm, global average pooling, one dense layer.

    Attributes:
      channels: output channels of each convolution; all but the first have stride 2.
      num_classes: outputs of the network.
      crossbars: what computes the layers conv1, conv2, ... and head.
      dtype: number format of the computation.
    """

    channels: tuple[int, ...]
    num_classes: int
    crossbars: LayerCrossbars = LayerCrossbars()
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(batch, h, w, c) float32 to (batch, num_classes) float32 logits."""
        x = images
        for number, channels in enumerate(self.channels, 1):
            hook = self.crossbars.conv_general_dilated((*self.path, f"conv{number}"))
            x = nn.Conv(
                channels, (3, 3), strides=1 if number == 1 else 2, use_bias=False,
                dtype=self.dtype, conv_general_dilated=hook, name=f"conv{number}",
            )(x)  # fmt: skip
            x = nn.relu(
                nn.BatchNorm(
                    use_running_average=not train,
                    momentum=0.9,
                    dtype=self.dtype,
                    name=f"norm{number}",
                )(x)
            )
        head = nn.Dense(
            self.num_classes,
            dtype=self.dtype,
            dot_general=self.crossbars.dot_general((*self.path, "head")),
            name="head",
        )
        return head(jnp.mean(x, axis=(1, 2))).astype(jnp.float32)
