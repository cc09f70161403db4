"""CIFAR ResNets of depth 6n + 2 (He et al. 2016, section 4.2), any width."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from hic_jax import checks
from hic_jax.crossbar import LayerCrossbars
from hic_jax.models.base import WIDEST, ModelSpec

# Channels of the three stages at width 1. "hic" has, with 1x1 projections at the two
# stage changes, the 361,722 weights (kernels and the final bias) that the authors state
# for their ResNet-32 (Joshi et al., Nat. Commun. 11:2473, 2020).
CHANNEL_PLANS: dict[str, tuple[int, int, int]] = {
    "hic": (16, 28, 56),
    "textbook": (16, 32, 64),
}

# What nobody has trained would only be refused by the memory, after a long wait. This
# is the deepest of He et al.
_DEEPEST = 1202


def stage_channels(plan: str, width: float) -> tuple[int, ...]:
    """Channels of the three stages.

    Args:
      plan: of `CHANNEL_PLANS`.
      width: multiplier, rounded to whole channels stage by stage.

    Raises:
      ValueError: if the plan does not exist or a stage is left without a channel.
    """
    checks.one_of("channel_plan", plan, CHANNEL_PLANS)
    checks.above("width", width, 0.0)
    checks.at_most("width", width, WIDEST)
    channels = tuple(round(width * c) for c in CHANNEL_PLANS[plan])
    if min(channels) < 1:
        least = 0.5 / min(CHANNEL_PLANS[plan])
        raise ValueError(
            f"width={width!r}: leaves a stage of {CHANNEL_PLANS[plan]} channels "
            f"without any; must be above {least:g}"
        )
    return channels


def check_depth(depth: int) -> None:
    """Raises `ValueError` unless ``depth`` is 6n + 2, 8 to 1202."""
    checks.integer("depth", depth, 8, _DEEPEST)
    if (depth - 2) % 6:
        raise ValueError(f"depth={depth!r}: must be 6n + 2, as 8, 14, 20, 32, 56 are")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResNetSpec(ModelSpec):
    """A CIFAR ResNet.

    Attributes:
      depth: layers of the ResNet, 6n + 2, 8 to 1202.
      channel_plan: channels of the ResNet's three stages at width 1: hic, which is 16,
        28, 56, or textbook, which is 16, 32, 64.
    """

    depth: int = 8
    channel_plan: str = "hic"

    def __post_init__(self):
        check_depth(self.depth)
        checks.one_of("channel_plan", self.channel_plan, CHANNEL_PLANS)

    def check_width(self, width: float) -> None:
        """Raises `ValueError` if a stage is left without a channel, too."""
        stage_channels(self.channel_plan, width)

    def make(
        self,
        *,
        num_classes: int,
        width: float,
        crossbars: LayerCrossbars,
        dtype: DTypeLike,
    ) -> "ResNet":
        """See `ModelSpec.make`."""
        channels = stage_channels(self.channel_plan, width)
        return ResNet(
            self.depth, channels, num_classes, crossbars=crossbars, dtype=dtype
        )


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, projected where the shape changes.

    Attributes:
      channels: output channels.
      stride: stride of the first convolution and of the projection.
      norm: makes a normalisation layer.
      crossbars: what computes the convolutions.
      dtype: number format of the computation.
    """

    channels: int
    stride: int
    norm: Callable[..., nn.Module]
    crossbars: LayerCrossbars
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, h, w, c) to (batch, h / stride, w / stride, channels)."""
        strides = (self.stride, self.stride)
        y = self._conv("conv1", (3, 3), strides)(x)
        y = nn.relu(self.norm(name="norm1")(y))
        y = self._conv("conv2", (3, 3))(y)
        y = self.norm(name="norm2")(y)
        if x.shape != y.shape:
            x = self._conv("projection", (1, 1), strides)(x)
        return nn.relu(x + y)

    def _conv(self, name, window, strides=(1, 1)):
        hook = self.crossbars.conv_general_dilated((*self.path, name))
        return nn.Conv(
            self.channels, window, strides, use_bias=False,
            dtype=self.dtype, conv_general_dilated=hook, name=name,
        )  # fmt: skip


class ResNet(nn.Module):
    """Three stages of residual blocks, global average pooling, one dense layer.

    Attributes:
      depth: 6n + 2, n blocks a stage.
      channels: one count for each of the three stages, see `stage_channels`.
      num_classes: outputs.
      batchnorm_momentum: share of the old running statistics that one batch keeps.
      crossbars: what computes the convolutions and the dense layer; digitally, by
        default. Their paths: stem, head, and conv1, conv2 and projection of the
        blocks, as in ``stage2_block1/projection``.
      dtype: number format of inputs, products and what is between them. Parameters,
        statistics of BatchNorm and logits are float32 whatever it is.
    """

    depth: int
    channels: Sequence[int]
    num_classes: int
    batchnorm_momentum: float = 0.9
    crossbars: LayerCrossbars = LayerCrossbars()
    dtype: DTypeLike = jnp.float32

    def __post_init__(self):
        check_depth(self.depth)
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Class logits.

        Args:
          images: (batch, h, w, c) float32.
          train: whether BatchNorm uses the batch (and updates its running statistics)
            or the running statistics.

        Returns:
          (batch, num_classes) float32.
        """
        norm = functools.partial(
            nn.BatchNorm,
            use_running_average=not train,
            momentum=self.batchnorm_momentum,
            dtype=self.dtype,
        )
        hook = self.crossbars.conv_general_dilated((*self.path, "stem"))
        x = nn.Conv(
            self.channels[0], (3, 3), use_bias=False,
            dtype=self.dtype, conv_general_dilated=hook, name="stem",
        )(images)  # fmt: skip
        x = nn.relu(norm(name="stem_norm")(x))
        for stage, channels in enumerate(self.channels):
            for number in range((self.depth - 2) // 6):
                stride = 2 if stage > 0 and number == 0 else 1
                name = f"stage{stage + 1}_block{number + 1}"
                block = Block(
                    channels, stride, norm, self.crossbars, self.dtype, name=name
                )
                x = block(x)
        x = jnp.mean(x, axis=(1, 2))
        head = nn.Dense(
            self.num_classes,
            dtype=self.dtype,
            dot_general=self.crossbars.dot_general((*self.path, "head")),
            name="head",
        )
        return head(x).astype(jnp.float32)
