"""Networks: flax modules, no hardware in them."""

from hic_jax.models.resnet import CHANNEL_PLANS, ResNet, check_depth, stage_channels

__all__ = ["CHANNEL_PLANS", "ResNet", "check_depth", "stage_channels"]
