"""The blocks of which transformers are made, of text and of images."""

import flax.linen as nn
import jax
from jax.typing import DTypeLike

from hic_jax.crossbar import LayerCrossbars


class Block(nn.Module):
    """Attention, then a perceptron, each normalised before and added to what comes in.

    What attention multiplies are no weights: scores and sums of values are digital.

    Attributes:
      heads: heads of attention; must divide the channels.
      causal: whether nothing is seen of what comes later.
      crossbars: what computes query, key, value, out, up and down.
      dtype: number format of the computation.
    """

    heads: int
    causal: bool
    crossbars: LayerCrossbars
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, length, features) to the same."""
        batch, length, features = x.shape
        y = nn.LayerNorm(dtype=self.dtype, name="norm1")(x)
        query, key, value = (
            self._dense(name, features)(y).reshape(batch, length, self.heads, -1)
            for name in ("query", "key", "value")
        )
        y = jax.nn.dot_product_attention(query, key, value, is_causal=self.causal)
        x = x + self._dense("out", features)(y.reshape(x.shape))
        y = nn.LayerNorm(dtype=self.dtype, name="norm2")(x)
        y = nn.gelu(self._dense("up", 4 * features)(y))
        return x + self._dense("down", features)(y)

    def _dense(self, name, features):
        hook = self.crossbars.dot_general((*self.path, name))
        return nn.Dense(features, dtype=self.dtype, dot_general=hook, name=name)


def through_blocks(
    x: jax.Array,
    *,
    layers: int,
    heads: int,
    causal: bool,
    crossbars: LayerCrossbars,
    dtype: DTypeLike,
) -> jax.Array:
    """Blocks, one after the other, and a last normalisation: (batch, length, features).

    They are block1, block2, ... and norm of the module in whose ``__call__`` this is.

    Args:
      x: (batch, length, features).
      layers: number of blocks.
      heads: as of `Block`, like all that follows.
      causal: of each block.
      crossbars: of each block.
      dtype: of each block, and of the normalisation.
    """
    for number in range(layers):
        block = Block(heads, causal, crossbars, dtype, name=f"block{number + 1}")
        x = block(x)
    return nn.LayerNorm(dtype=dtype, name="norm")(x)
