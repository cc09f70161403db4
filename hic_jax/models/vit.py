"""A small vision transformer: an image as rows of patches (Dosovitskiy et al. 2021)."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from hic_jax.crossbar import LayerCrossbars
from hic_jax.models.base import ModelSpec, check_sizes, widened
from hic_jax.models.transformer import through_blocks


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViTSpec(ModelSpec):
    """A transformer of images, normalised before each part, with learned positions.

    Attributes:
      patch: pixels, each way, of a patch; must divide the images.
      layers: blocks of attention and perceptron.
      heads: heads of attention in each block.
      features: channels of each patch at width 1, rounded to a multiple of the number
        of heads.
    """

    patch: int = 4
    layers: int = 4
    heads: int = 4
    features: int = 128

    def __post_init__(self):
        check_sizes(self, "patch", "layers", "heads", "features")

    def check_shown(self, shape: tuple[int, ...]) -> None:
        """Raises `ValueError` unless images can be cut into patches."""
        height, width = shape[:2]
        if height % self.patch or width % self.patch:
            raise ValueError(
                f"patch={self.patch}: must divide the images' {height}x{width} pixels"
            )

    def make(
        self,
        *,
        num_classes: int,
        width: float,
        crossbars: LayerCrossbars,
        dtype: DTypeLike,
    ) -> "ViT":
        """See `ModelSpec.make`."""
        features = widened(self.features, width, multiple=self.heads)
        return ViT(
            self.patch, self.layers, self.heads, features, num_classes, crossbars, dtype
        )


class ViT(nn.Module):
    """Patches and positions, blocks, the mean over patches, one dense layer.

    Attributes:
      patch: pixels, each way, of a patch; must divide the images.
      layers: blocks.
      heads: heads of attention in each.
      features: channels of a patch; a multiple of the heads.
      num_classes: outputs of the network.
      crossbars: what computes patches, head, and query, key, value, out, up and down of
        the blocks, as in ``block1/query``.
      dtype: number format of the computation.
    """

    patch: int
    layers: int
    heads: int
    features: int
    num_classes: int
    crossbars: LayerCrossbars = LayerCrossbars()
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(batch, h, w, c) float32 to (batch, num_classes) float32 logits."""
        del train  # Nothing here is different in training.
        sides = (self.patch, self.patch)
        hook = self.crossbars.conv_general_dilated((*self.path, "patches"))
        x = nn.Conv(
            self.features, sides, sides, padding="VALID",
            dtype=self.dtype, conv_general_dilated=hook, name="patches",
        )(images)  # fmt: skip
        x = x.reshape(len(images), -1, self.features)
        count = x.shape[1]
        places = nn.Embed(count, self.features, dtype=self.dtype, name="positions")
        x = x + places(jnp.arange(count))
        x = through_blocks(
            x, layers=self.layers, heads=self.heads, causal=False,
            crossbars=self.crossbars, dtype=self.dtype,
        )  # fmt: skip
        head = nn.Dense(
            self.num_classes,
            dtype=self.dtype,
            dot_general=self.crossbars.dot_general((*self.path, "head")),
            name="head",
        )
        return head(jnp.mean(x, axis=1)).astype(jnp.float32)
