"""Which crossbars compute which layer of a Linen model."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from flax.core import FrozenDict

from hic_jax import convolution
from hic_jax.crossbar.linen import LinenConvGeneralDilated, LinenDotGeneral
from hic_jax.crossbar.spec import CrossbarSpec


@dataclasses.dataclass(frozen=True)
class LayerCrossbars:
    """A spec for all layers, and others for some.

    Attributes:
      default: crossbars of every layer that is not named; None computes digitally.
      layers: specs (or None) by path of the layer, as ``head`` or
        ``stage1_block1/conv1``.
    """

    default: CrossbarSpec | None = None
    layers: Mapping[str, CrossbarSpec | None] = FrozenDict()

    def __post_init__(self):
        # A dict would leave the model without a hash, which jit asks for.
        object.__setattr__(self, "layers", FrozenDict(self.layers))

    @property
    def specs(self) -> tuple[CrossbarSpec, ...]:
        """All crossbars that there are."""
        every = (self.default, *self.layers.values())
        return tuple(spec for spec in every if spec is not None)

    def of(self, path: Sequence[str]) -> CrossbarSpec | None:
        """The spec of the layer at a path."""
        return self.layers.get("/".join(path), self.default)

    def dot_general(self, path: Sequence[str]) -> Callable | None:
        """For ``nn.Dense(dot_general=...)``."""
        spec = self.of(path)
        return None if spec is None else LinenDotGeneral(spec)

    def conv_general_dilated(self, path: Sequence[str]) -> Callable:
        """For ``nn.Conv(conv_general_dilated=...)``."""
        spec = self.of(path)
        if spec is None:
            return convolution.conv_general_dilated
        return LinenConvGeneralDilated(spec)
