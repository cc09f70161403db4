"""What a network is to all else."""

import dataclasses
from typing import ClassVar

import flax.linen as nn
from jax.typing import DTypeLike

from hic_jax import checks
from hic_jax.crossbar import LayerCrossbars

# What nobody has trained would only be refused by the memory, after a long wait.
WIDEST = 100.0
_MOST = 10**5


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A network, but for what data and hardware make of it.

    A subclass is a frozen dataclass whose fields are numbers, words and switches, with
    a `make`, and a line in `hic_jax.models.MODELS`.

    Attributes:
      takes: what the network is shown, "images" or "text".
    """

    takes: ClassVar[str] = "images"

    def check_width(self, width: float) -> None:
        """Raises `ValueError` unless the network can be had at a multiplier."""
        checks.above("width", width, 0.0)
        checks.at_most("width", width, WIDEST)

    def check_shown(self, shape: tuple[int, ...]) -> None:
        """Raises `ValueError` unless the network can be shown inputs of a shape."""

    def make(
        self,
        *,
        num_classes: int,
        width: float,
        crossbars: LayerCrossbars,
        dtype: DTypeLike,
    ) -> nn.Module:
        """The network, called with ``(inputs, train=)``.

        Args:
          num_classes: number of logits.
          width: multiplier of all channels between inputs and logits.
          crossbars: what computes the layers that have kernels.
          dtype: number format of products and what is between them. Parameters and
            logits are float32 whatever it is.
        """
        raise NotImplementedError


def check_sizes(spec: ModelSpec, *names: str) -> None:
    """Raises `ValueError` unless fields are whole numbers from 1 to 100,000."""
    for name in names:
        checks.integer(name, getattr(spec, name), 1, _MOST)


def widened(channels: int, width: float, multiple: int = 1) -> int:
    """Channels times a width, to the nearest multiple of a number, at least that."""
    return multiple * max(1, round(channels * width / multiple))
