"""Networks whose steps are planned: the paper's, a GPT of GPT-2's size, a ResNet-50."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from hic_jax.crossbar import LayerCrossbars
from hic_jax.models import GPTSpec, ResNetSpec
from hic_jax.training.split import Examples, Split, Windows


@dataclasses.dataclass(frozen=True)
class LargeNetwork:
    """A network and what it is shown, as shapes.

    Attributes:
      make: makes the network from what computes its layers.
      examples: shapes of what it is trained on, so many examples.
      shape: that of one input.
      dtype: type of the inputs.
      batch_size: examples of a step, unless something else is asked for.
      augmentation: of `hic_jax.data.POLICIES`.
    """

    make: Callable[[LayerCrossbars], nn.Module]
    examples: Callable[[int], Examples]
    shape: tuple[int, ...]
    dtype: str
    batch_size: int
    augmentation: str = "none"


def gpt(
    context: int, layers: int, heads: int, features: int, tokens: int
) -> LargeNetwork:
    """A GPT; its context counts tokens of a vocabulary."""

    def make(crossbars: LayerCrossbars) -> nn.Module:
        spec = GPTSpec(context=context, layers=layers, heads=heads, features=features)
        return spec.make(
            num_classes=tokens, width=1.0, crossbars=crossbars, dtype=jnp.float32
        )

    def examples(count: int) -> Windows:
        text = _shape((count + context,), jnp.int32)
        return Windows(characters=text, context=context, stride=1)

    return LargeNetwork(make, examples, (context,), "int32", batch_size=8)


class Bottleneck(nn.Module):
    """Convolutions of 1x1, 3x3 and 1x1, and a shortcut, projected where shapes change.

    Attributes:
      channels: channels of the first two; the last has four times as many.
      stride: stride of the 3x3 one and of a projection.
      crossbars: what computes the convolutions.
      train: whether BatchNorm uses the batch.
    """

    channels: int
    stride: int
    crossbars: LayerCrossbars
    train: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, h, w, c) to (batch, h / stride, w / stride, 4 * channels)."""
        y = self._conv("conv1", self.channels, 1, 1, x)
        y = self._conv("conv2", self.channels, 3, self.stride, nn.relu(y))
        y = self._conv("conv3", 4 * self.channels, 1, 1, nn.relu(y))
        if x.shape != y.shape:
            x = self._conv("projection", 4 * self.channels, 1, self.stride, x)
        return nn.relu(x + y)

    def _conv(self, name, channels, window, stride, x):
        hook = self.crossbars.conv_general_dilated((*self.path, name))
        x = nn.Conv(
            channels, (window, window), (stride, stride), use_bias=False,
            conv_general_dilated=hook, name=name,
        )(x)  # fmt: skip
        return nn.BatchNorm(not self.train, name=f"{name}_norm")(x)


class ResNet50(nn.Module):
    """The ResNet-50 of ImageNet: 25.5 million weights.

    From He et al., Deep residual learning for image recognition, arXiv:1512.03385,
    Table 1; strides are those of the 3x3 convolutions, as in today's libraries.

    Attributes:
      crossbars: what computes the convolutions and the dense layer.
      channels: channels of the stem, and of the first stage's bottlenecks.
      blocks: bottlenecks of each stage.
    """

    crossbars: LayerCrossbars
    channels: int = 64
    blocks: tuple[int, ...] = (3, 4, 6, 3)

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(batch, h, w, 3) to logits of 1,000 classes."""
        hook = self.crossbars.conv_general_dilated((*self.path, "stem"))
        x = nn.Conv(
            self.channels, (7, 7), (2, 2), use_bias=False,
            conv_general_dilated=hook, name="stem",
        )(images)  # fmt: skip
        x = nn.relu(nn.BatchNorm(not train, name="stem_norm")(x))
        x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
        for stage, count in enumerate(self.blocks):
            for number in range(count):
                x = Bottleneck(
                    self.channels * 2**stage,
                    2 if stage > 0 and number == 0 else 1,
                    self.crossbars,
                    train,
                    name=f"stage{stage + 1}_block{number + 1}",
                )(x)
        dot_general = self.crossbars.dot_general((*self.path, "head"))
        head = nn.Dense(1000, dot_general=dot_general, name="head")
        return head(jnp.mean(x, axis=(1, 2)))


def resnet32(crossbars: LayerCrossbars) -> nn.Module:
    """The paper's ResNet-32 of CIFAR-10."""
    return ResNetSpec(depth=32).make(
        num_classes=10, width=1.0, crossbars=crossbars, dtype=jnp.float32
    )


def images(side: int, count: int) -> Split:
    """Shapes of square images of three colours."""
    return Split(
        images=_shape((count, side, side, 3), jnp.uint8),
        labels=_shape((count,), jnp.int32),
        mean=_shape((3,), jnp.float32),
        std=_shape((3,), jnp.float32),
    )


def _shape(shape: tuple[int, ...], dtype: Any) -> Any:
    """In the place of an array that need not be there."""
    return jax.ShapeDtypeStruct(shape, dtype)


def _of_images(
    make: Callable[[LayerCrossbars], nn.Module], side: int, batch_size: int
) -> LargeNetwork:
    return LargeNetwork(
        make, functools.partial(images, side), (side, side, 3), "float32", batch_size,
        augmentation="crop_flip",
    )  # fmt: skip


NETWORKS = {
    "resnet32": _of_images(resnet32, 32, batch_size=128),
    "gpt_124m": gpt(context=1024, layers=12, heads=12, features=768, tokens=50_257),
    "resnet50": _of_images(ResNet50, 224, batch_size=64),
}
