"""A small GPT: a transformer that predicts the next character (Radford et al. 2019)."""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from hic_jax import checks
from hic_jax.crossbar import LayerCrossbars
from hic_jax.models.base import ModelSpec, check_sizes, widened
from hic_jax.models.transformer import through_blocks


@dataclasses.dataclass(frozen=True, kw_only=True)
class GPTSpec(ModelSpec):
    """A transformer of text, normalised before each part, with learned positions.

    Attributes:
      context: characters of the text that the GPT is shown at once, 2 to 100,000.
      layers: blocks of attention and perceptron.
      heads: heads of attention in each block.
      features: channels of each character at width 1, rounded to a multiple of the
        number of heads.
    """

    takes: ClassVar[str] = "text"

    context: int = 64
    layers: int = 4
    heads: int = 4
    features: int = 128

    def __post_init__(self):
        check_sizes(self, "context", "layers", "heads", "features")
        checks.at_least("context", self.context, 2)

    def make(
        self,
        *,
        num_classes: int,
        width: float,
        crossbars: LayerCrossbars,
        dtype: DTypeLike,
    ) -> "GPT":
        """See `ModelSpec.make`."""
        features = widened(self.features, width, multiple=self.heads)
        return GPT(
            self.context, self.layers, self.heads, features, num_classes, crossbars,
            dtype,
        )  # fmt: skip


class GPT(nn.Module):
    """Embeddings of characters and positions, blocks, one dense layer.

    Embeddings are digital, as tables are; the last layer has a kernel of its own.

    Attributes:
      context: most characters that it is shown at once.
      layers: blocks.
      heads: heads of attention in each.
      features: channels of a character; a multiple of the heads.
      num_classes: characters of the vocabulary.
      crossbars: what computes head, and query, key, value, out, up and down of the
        blocks, as in ``block1/query``.
      dtype: number format of the computation.
    """

    context: int
    layers: int
    heads: int
    features: int
    num_classes: int
    crossbars: LayerCrossbars = LayerCrossbars()
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, characters: jax.Array, *, train: bool) -> jax.Array:
        """Logits of the character after each of some.

        Args:
          characters: (batch, length) integers below ``num_classes``, of a length up to
            ``context``.
          train: of no consequence.

        Returns:
          (batch, length, num_classes) float32.
        """
        del train  # Nothing here is different in training.
        table = nn.Embed(
            self.num_classes, self.features, dtype=self.dtype,
            # Of the size of what blocks add, beside which it would be lost.
            embedding_init=nn.initializers.normal(1.0), name="characters",
        )  # fmt: skip
        places = nn.Embed(
            self.context, self.features, dtype=self.dtype, name="positions"
        )
        x = table(characters) + places(jnp.arange(characters.shape[1]))
        x = through_blocks(
            x, layers=self.layers, heads=self.heads, causal=True,
            crossbars=self.crossbars, dtype=self.dtype,
        )  # fmt: skip
        head = nn.Dense(
            self.num_classes,
            dtype=self.dtype,
            dot_general=self.crossbars.dot_general((*self.path, "head")),
            name="head",
        )
        return head(x).astype(jnp.float32)
