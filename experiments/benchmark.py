"""What the devices cost: times of a training step, as ratios measured in one run.

    python -m experiments.benchmark --depth=32 --batch_size=100

Two cores, ResNet-32, batch 100: two minutes.
"""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

import hic_jax
from experiments import launch
from hic_jax import models
from hic_jax.crossbar import CrossbarSpec, LayerCrossbars
from hic_jax.training import steps
from hic_jax.training.algorithms import ALGORITHMS, OptimizerSpec

IMAGE_SHAPE = (32, 32, 3)
CLASSES = 10


def measure(
    *, depth: int, width: float, channel_plan: str, batch_size: int, repeats: int
) -> dict[str, np.ndarray]:
    """Seconds of an FP32 step, HIC steps and the device update alone.

    They take turns, so that whatever else the machine does meets all of them.
    Pairs are refreshed every tenth time.

    Returns:
      (repeats,) seconds each, by name.
    """
    channels = models.stage_channels(channel_plan, width)
    train, batch = random_images(batch_size)
    runs: dict[str, Callable[[], None]] = {}
    for name, algorithm, crossbar in (
        ("fp32 step", "fp32", None),
        ("hic step, no converters", "hic", None),
        ("hic step", "hic", CrossbarSpec()),
    ):
        model = models.ResNet(
            depth, channels, CLASSES, crossbars=LayerCrossbars(crossbar)
        )
        tx = ALGORITHMS[algorithm](
            OptimizerSpec(schedule=lambda _: 0.1, analog_schedule=lambda _: 0.02),
            hic_jax.HICSpec(),
            jax.random.key(0),
        )
        state = steps.init_state(jax.random.key(1), model, tx, IMAGE_SHAPE)
        step = steps.make_step(
            model, tx, jax.random.key(2), augmentation="crop_flip", label_smoothing=0.0
        )
        runs[name] = repeated(jax.jit(step, donate_argnums=0), state, train, batch)
    runs["device update"] = device_update(model)
    for run in runs.values():
        run()  # Compiles.
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return {name: np.array(times) for name, times in seconds.items()}


def random_images(batch_size: int) -> tuple[steps.Arrays, jax.Array]:
    """A set of one batch, and the indices of that batch."""
    image_key, label_key = jax.random.split(jax.random.key(3))
    shape = (batch_size, *IMAGE_SHAPE)
    train = steps.Arrays(
        images=jax.random.randint(image_key, shape, 0, 256).astype(jnp.uint8),
        labels=jax.random.randint(label_key, (batch_size,), 0, CLASSES),
        mean=jnp.full(3, 0.5),
        std=jnp.full(3, 0.25),
    )
    return train, jnp.arange(batch_size)


def device_update(model) -> Callable[[], None]:
    """`hic_jax.hic` alone: quantise, accumulate, carry, refresh, read.

    The updates are of the size that training makes, a hundredth of a weight, so that
    the usual share of words overflows.
    """
    variables = model.init(jax.random.key(1), jnp.zeros((1, *IMAGE_SHAPE)), train=False)
    params = jax.tree.leaves(variables["params"])
    params = [x for x in params if hic_jax.analog_labels(x) == "analog"]
    tx = hic_jax.hic(hic_jax.HICSpec(), jax.random.key(0))
    keys = jax.random.split(jax.random.key(4), len(params))
    updates = [
        0.01 * jnp.std(x) * jax.random.normal(k, x.shape)
        for x, k in zip(params, keys, strict=True)
    ]
    update = jax.jit(
        lambda state, params, updates: tx.update(updates, state, params)[::-1],
        donate_argnums=0,
    )
    return repeated(update, tx.init(params), params, updates)


def repeated(function: Callable, state, *arguments) -> Callable[[], None]:
    """Calls ``function`` with the state that it returned last, and waits for it."""

    def run():
        nonlocal state
        state, _ = jax.block_until_ready(function(state, *arguments))

    return run


def table(seconds: dict[str, np.ndarray]) -> str:
    """Mean, spread, and the ratio of means, which refreshes count in."""
    baseline = np.mean(seconds["fp32 step"])
    lines = [f"{'':<24} {'mean':>9} {'quartiles':>19} {'of FP32':>8}"]
    for name, times in seconds.items():
        low, high = 1e3 * np.percentile(times, (25, 75))
        mean = np.mean(times)
        lines.append(
            f"{name:<24} {1e3 * mean:>6.1f} ms {low:>7.1f} .. {high:>7.1f} ms "
            f"{mean / baseline:>8.3f}"
        )
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Measures as the flags say."""
    launch.start(argv)
    options = flags.FLAGS
    with launch.clear_errors(ValueError):
        seconds = measure(
            depth=options.depth,
            width=options.width,
            channel_plan=options.channel_plan,
            batch_size=options.batch_size,
            repeats=options.repeats,
        )
    device = jax.devices()[0]
    print(
        f"ResNet-{options.depth}, width {options.width:g}, batch "
        f"{options.batch_size}, {jax.device_count()} x {device.device_kind}\n"
        f"{table(seconds)}"
    )


def define_flags() -> None:
    """Flags of this launcher."""
    flags.DEFINE_integer("depth", 32, "Of the ResNet, 6n + 2.")
    flags.DEFINE_float("width", 1.0, "Multiplier of the ResNet's channels.")
    flags.DEFINE_string("channel_plan", "hic", "hic or textbook.")
    flags.DEFINE_integer("batch_size", 100, "Images per step.", lower_bound=1)
    flags.DEFINE_integer("repeats", 30, "Times that each is measured.", lower_bound=1)


if __name__ == "__main__":
    define_flags()
    app.run(main)
