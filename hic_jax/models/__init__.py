"""Networks: flax modules, no hardware in them."""

from hic_jax.models.base import ModelSpec
from hic_jax.models.cnn import CNN, CNNSpec
from hic_jax.models.gpt import GPT, GPTSpec
from hic_jax.models.mlp import MLP, MLPSpec
from hic_jax.models.own import check_own, factory_of, is_own, make_own
from hic_jax.models.resnet import (
    CHANNEL_PLANS,
    ResNet,
    ResNetSpec,
    check_depth,
    stage_channels,
)

# Networks by name: the class of the spec. An entry is all that a network needs to have
# flags and run folders.
MODELS: dict[str, type[ModelSpec]] = {
    "resnet": ResNetSpec,
    "cnn": CNNSpec,
    "mlp": MLPSpec,
    "gpt": GPTSpec,
}

__all__ = [
    "CHANNEL_PLANS",
    "CNN",
    "GPT",
    "MLP",
    "MODELS",
    "CNNSpec",
    "GPTSpec",
    "MLPSpec",
    "ModelSpec",
    "ResNet",
    "ResNetSpec",
    "check_depth",
    "check_own",
    "factory_of",
    "is_own",
    "make_own",
    "stage_channels",
]
