"""Training steps beside those of PyTorch and of IBM's aihwkit, in turns.

Run by hand, in an environment of its own that has aihwkit as well as hic_jax, on a
machine that does nothing else:

    python -m experiments.benchmark.peers.steps [--turns=5] [--depth=32] [--batch=100]

All train the same ResNet on the same number of threads: here in floating point and with
`mixed_precision`, `pulsed_sgd` and `hic` on crossbars; there in floating point, and
with the presets of a PCM pair that digital gradients or pulses train. Converters are
those of the defaults here and of the presets there.
"""

import os
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from absl import app, flags
from aihwkit.nn.conversion import convert_to_analog
from aihwkit.optim import AnalogSGD
from aihwkit.simulator import presets
from torch import nn

from experiments.benchmark.programs import CLASSES, IMAGE_SHAPE, Size, training_step
from hic_jax import models
from hic_jax.crossbar import CrossbarSpec

_TURNS = flags.DEFINE_integer("turns", 5, "How often each takes a step.", lower_bound=1)
_DEPTH = flags.DEFINE_integer("depth", 32, "Layers of the ResNet, 6n + 2.")
_BATCH = flags.DEFINE_integer("batch", 100, "Images of a step.", lower_bound=1)

PEERS: dict[str, Callable | None] = {
    "torch, FP32": None,
    "aihwkit, mixed precision": presets.MixedPrecisionPCMPreset,
    "aihwkit, pulses in situ": presets.PCMPreset,
}
OURS = {
    "JAX, FP32": ("fp32", None),
    "hic_jax, mixed precision": ("mixed_precision", CrossbarSpec()),
    "hic_jax, pulsed SGD": ("pulsed_sgd", CrossbarSpec()),
    "hic_jax, HIC": ("hic", CrossbarSpec()),
}
# What each of the others is divided by.
RIVALS = {
    "torch, FP32": "JAX, FP32",
    "aihwkit, mixed precision": "hic_jax, mixed precision",
    "aihwkit, pulses in situ": "hic_jax, pulsed SGD",
}


class Block(nn.Module):
    """Two convolutions around which the input is added."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.shortcut: nn.Module = nn.Identity()
        if before != after or stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, before, height, width) to (n, after, ...), smaller by the stride."""
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def resnet(depth: int, channels: Sequence[int]) -> nn.Module:
    """The network of `hic_jax.models.ResNet` at the same depth and channels."""
    before = channels[0]
    layers: list[nn.Module] = [
        nn.Conv2d(IMAGE_SHAPE[-1], before, 3, 1, 1, bias=False),
        nn.BatchNorm2d(before),
        nn.ReLU(),
    ]
    for stage, after in enumerate(channels):
        for block in range((depth - 2) // 6):
            stride = 2 if stage and not block else 1
            layers.append(Block(before, after, stride))
            before = after
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, CLASSES)]
    return nn.Sequential(*layers)


def their_step(config: Callable | None, size: Size) -> Callable[[], None]:
    """A step of torch, on devices of aihwkit where there is a configuration."""
    model = resnet(size.depth, models.stage_channels(size.channel_plan, size.width))
    if config:
        model = convert_to_analog(model, config())
    optimizer = (AnalogSGD if config else torch.optim.SGD)(model.parameters(), lr=0.1)
    if config:
        optimizer.regroup_param_groups(model)
    height, width, channels = IMAGE_SHAPE
    images = torch.randn(size.batch_size, channels, height, width)
    labels = torch.randint(CLASSES, (size.batch_size,))
    model.train()

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return step


def our_step(algorithm: str, crossbar: CrossbarSpec | None, size: Size) -> Callable:
    """A step of ours, compiled."""
    program = training_step(size, algorithm, crossbar)
    compiled = program.traced().lower().compile()
    return lambda: program.run(compiled)


def main(_: list[str]) -> None:
    """Prints a table of all steps."""
    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    size = Size(depth=_DEPTH.value, batch_size=_BATCH.value)
    steps = {name: our_step(*how, size) for name, how in OURS.items()}
    steps |= {name: their_step(config, size) for name, config in PEERS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(_TURNS.value + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if turn:  # The first one warms up.
                seconds[name].append(time.perf_counter() - started)
    print(f"{size}, {torch.get_num_threads()} threads, {_TURNS.value} turns")
    print(f"{'step':26}{'median':>10}{'quartiles':>22}{'of ours':>9}")
    for name, times in seconds.items():
        low, median, high = np.percentile(times, (25, 50, 75))
        of_ours = ""
        if name in RIVALS:
            ratios = np.array(times) / np.array(seconds[RIVALS[name]])
            of_ours = f"{np.median(ratios):.2f}"
        quartiles = f"{low:.3f} .. {high:.3f} s"
        print(f"{name:26}{median:8.3f} s{quartiles:>22}{of_ours:>9}")


if __name__ == "__main__":
    app.run(main)
