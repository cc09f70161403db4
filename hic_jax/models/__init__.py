"""Networks: flax modules, no hardware in them."""

from hic_jax.models.base import ModelSpec
from hic_jax.models.cnn import CNN, CNNSpec
from hic_jax.models.gpt import GPT, GPTSpec
from hic_jax.models.mlp import MLP, MLPSpec
from hic_jax.models.own import check_own, factory_of, is_own, make_own
from hic_jax.models.registry import MODELS, check_known, check_takes
from hic_jax.models.resnet import (
    CHANNEL_PLANS,
    ResNet,
    ResNetSpec,
    check_depth,
    stage_channels,
)
from hic_jax.models.vit import ViT, ViTSpec

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
    "ViT",
    "ViTSpec",
    "check_depth",
    "check_known",
    "check_own",
    "check_takes",
    "factory_of",
    "is_own",
    "make_own",
    "stage_channels",
]
