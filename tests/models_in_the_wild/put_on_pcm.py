"""What PCM does to each of these models: when new, a year later, and at what energy.

    python -m tests.models_in_the_wild.put_on_pcm [--text=tiny_shakespeare] [--only=VAE]

Run by hand. The models know nothing of crossbars; `on_pcm` and `a_year_later` are all
that puts one there. Adam trains them, in floating point and in front of the devices, at
a rate that falls to zero; where it begins is chosen for each of the two on validation
data.
"""

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

import hic_jax
from hic_jax import accounting, compensation, data
from hic_jax.array_leaves import parted
from tests.models_in_the_wild import models

_TEXT = flags.DEFINE_string("text", "tiny_shakespeare", "what the decoder reads")
_ONLY = flags.DEFINE_string("only", "", "rows whose names hold this")

SPEC = hic_jax.HICSpec()
CROSSBAR = hic_jax.crossbar.CrossbarSpec()
RATES = (1e-3, 3e-3, 1e-2, 3e-2)
SEEDS = 3
STEPS, BATCH = 1000, 64
WIDTH = 4


def in_floating_point(function, params, inputs):
    """A function as it is, and what trains its parameters."""
    return function, lambda rate, key: optax.adam(rate)


def on_pcm(function, params, inputs):
    """Crossbars under a function, and what trains its parameters on PCM."""
    apply = hic_jax.on_crossbars(function, CROSSBAR)
    labels = hic_jax.analog_labels(params, model=function, inputs=inputs)
    axes = hic_jax.find_kernel_axes(apply, params, *inputs)

    def transformation(rate, key):
        hardware = hic_jax.hic(SPEC, key, axes=axes)
        parts = {
            "analog": optax.chain(optax.adam(rate), hardware),
            "digital": optax.adam(rate),
        }
        return optax.partition(parts, labels)

    return apply, transformation


def a_year_later(params, weights, key):
    """Parameters as they are read after a year, with one gain for each layer."""
    new, ageing, later, now = jax.random.split(key, 4)
    reference = compensation.column_currents(weights, key=new)
    aged = hic_jax.drift(weights, hic_jax.YEAR, key=ageing)
    gains = compensation.gains(aged, reference, key=later)
    read = hic_jax.read_params(params, aged, key=now)
    return read, compensation.with_gains(read, gains)


@dataclasses.dataclass
class Task:
    """What a model is trained to do, in three parts: training, validation, test.

    Attributes:
      name: of the model, in the table.
      make: one of `models.MODELS`, of inputs.
      inputs: for each part, an array of examples.
      targets: for each part.
      loss: mean of a batch, of results and targets.
      right: share of right answers, of results and targets; None if there are none.
      others: inputs besides the examples.
    """

    name: str
    make: Callable[..., models.Model]
    inputs: list[np.ndarray]
    targets: list[np.ndarray]
    loss: Callable[[jax.Array, jax.Array], jax.Array]
    right: Callable[[jax.Array, jax.Array], jax.Array] | None = None
    others: tuple[Any, ...] = ()

    def batch(self, part: int, chosen: Any) -> tuple[tuple[Any, ...], np.ndarray]:
        """Inputs and targets of the chosen examples of a part."""
        return (self.inputs[part][chosen], *self.others), self.targets[part][chosen]


def cross_entropy(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def share_right(logits, labels):
    return jnp.mean(logits.argmax(-1) == labels)


def squared_error(y, target):
    """Of what the mean of all pixels leaves."""
    return jnp.mean((y - target) ** 2) / jnp.var(target)


def thirds(x: np.ndarray, of_tests: np.ndarray) -> list[np.ndarray]:
    return [x[:-300], x[-300:], of_tests]


def tasks(text: str) -> Iterator[Task]:
    """Digits to be told, drawn again or freed of noise; characters to be foretold."""
    digits = data.load("digits")
    images = thirds(digits.train_images / 255.0, digits.test_images / 255.0)
    images = [x.astype(np.float32) for x in images]
    labels = thirds(digits.train_labels, digits.test_labels)
    rows, flat = (
        [x.reshape(*shape) for x in images] for shape in ((-1, 8, 8), (-1, 64))
    )
    noise = np.random.default_rng(0)
    noisy = [x + 0.3 * noise.standard_normal(x.shape, np.float32) for x in images]
    first = [np.moveaxis(x, -1, 1) for x in noisy]

    for name, make, inputs in (
        ("CNN (Linen)", models.cnn, images),
        ("ResNet, BatchNorm", models.resnet, images),
        ("ViT", models.vit, images),
        ("MLP-mixer", models.mixer, images),
        ("CNN (Haiku)", models.haiku_cnn, images),
        ("LSTM over rows", models.lstm, rows),
        ("LSTM, fused gates", models.fused_lstm, rows),
        ("GRU over rows", models.gru, rows),
        ("perceptron, a pytree", models.module_as_pytree, flat),
    ):
        sized = functools.partial(make, width=WIDTH, outputs=10)
        yield Task(name, sized, inputs, labels, cross_entropy, share_right)
    for name, make, inputs, targets, others in (
        ("VAE", models.vae, flat, flat, (jax.random.key(0),)),
        ("U-Net (Linen)", models.unet, noisy, images, ()),
        (
            "U-Net (Equinox)",
            models.equinox_unet,
            first,
            [np.moveaxis(x, -1, 1) for x in images],
            (),
        ),
        (
            "grouped queries (nnx)",
            models.grouped_queries,
            [x[..., 0] for x in noisy],
            rows,
            (),
        ),
    ):
        sized = functools.partial(make, width=WIDTH)
        yield Task(name, sized, inputs, targets, squared_error, others=others)

    characters = data.load_text(text)
    parts = (characters.train, characters.validation, characters.test)
    windows = [x[: len(x) // 33 * 33].reshape(-1, 33).astype(np.int32) for x in parts]
    windows = [windows[0], windows[1][:300], windows[2][:1000]]
    sized = functools.partial(
        models.decoder, width=2 * WIDTH, characters=characters.num_classes
    )
    before, after = [x[:, :-1] for x in windows], [x[:, 1:] for x in windows]
    yield Task(
        "decoder, scanned, tied", sized, before, after, cross_entropy, share_right
    )


class Trained:
    """A task with its model, in floating point or on PCM.

    Attributes:
      task: what is trained.
      apply: the function of parameters and inputs that learns it.
    """

    def __init__(self, task: Task, put: Callable[..., Any]):
        """Puts the model of a task where it is trained.

        Args:
          task: what is trained.
          put: `on_pcm` or `in_floating_point`.
        """
        few, _ = task.batch(0, slice(2))
        model = task.make(*few)
        arrays, rebuilt = parted(model.params)

        def function(arrays, *inputs):
            return model.function(rebuilt(arrays), *inputs)

        apply, transformation = put(function, arrays, few)
        self.task, self.apply = task, apply

        @jax.jit
        def start(key):
            first, devices = jax.random.split(key)
            arrays, _ = parted(model.init(first))
            return arrays, transformation(0.0, devices).init(arrays)

        @jax.jit
        def step(arrays, state, batch, rate, key):
            def loss(arrays):
                inputs, targets = batch
                return task.loss(apply(arrays, *inputs), targets)

            _, devices = jax.random.split(key)
            tx = transformation(rate, devices)
            updates, state = tx.update(jax.grad(loss)(arrays), state, arrays)
            return optax.apply_updates(arrays, updates), state

        @jax.jit
        def judged(arrays, batch):
            inputs, targets = batch
            y = apply(arrays, *inputs)
            right = task.right(y, targets) if task.right else jnp.nan
            return jnp.stack([task.loss(y, targets), right])

        self._start, self._step, self._judged = start, step, judged

    def train(self, rate: float, seed: int) -> tuple[Any, Any]:
        """Parameters and the state of the optimizer."""
        key, order = jax.random.key(seed), np.random.default_rng(seed)
        arrays, state = self._start(key)
        for i in range(STEPS):
            batch = self.task.batch(
                0, order.integers(len(self.task.inputs[0]), size=BATCH)
            )
            now = rate * (1 - i / STEPS)
            arrays, state = self._step(arrays, state, batch, now, key)
        return arrays, state

    def judged(self, arrays: Any, part: int) -> np.ndarray:
        """Loss and share of right answers on validation data (1) or test data (2)."""
        return np.asarray(self._judged(arrays, self.task.batch(part, slice(None))))

    def best_rate(self) -> float:
        """The rate with the smallest loss on validation data, seed 0."""
        return min(RATES, key=lambda rate: self.judged(self.train(rate, 0)[0], 1)[0])


def energy(trained: Trained, arrays: Any, weights: Any) -> float:
    """Of one inference, J."""
    one, _ = trained.task.batch(0, slice(1))
    products = accounting.products(trained.apply, arrays, *one)
    inference = accounting.passes(products, weights, CROSSBAR).forward
    return accounting.energy(inference, accounting.EnergyTable())["total"]


def told(values: list[np.ndarray]) -> str:
    """Mean and standard deviation of seeds: of the loss, then of right answers."""
    (loss, right), (spread, off) = np.mean(values, 0), np.std(values, 0, ddof=1)
    text = f"{loss:.3f} +- {spread:.3f}"
    return (
        text if np.isnan(right) else f"{text}, {100 * right:.1f} +- {100 * off:.1f} %"
    )


def row(task: Task) -> str:
    """A row of the table: trains everything that stands in it."""
    columns: list[list[np.ndarray]] = [[], [], [], []]
    digital, analog = Trained(task, in_floating_point), Trained(task, on_pcm)
    rates = digital.best_rate(), analog.best_rate()
    for seed in range(SEEDS):
        columns[0].append(digital.judged(digital.train(rates[0], seed)[0], 2))
        arrays, state = analog.train(rates[1], seed)
        weights = hic_jax.analog_weights(state)
        aged = a_year_later(arrays, weights, jax.random.key(1000 + seed))
        for column, read in zip(columns[1:], (arrays, *aged), strict=True):
            column.append(analog.judged(read, 2))
    on_devices = jax.tree.leaves(weights, is_leaf=hic_jax.weights.is_analog)
    held = sum(math.prod(w.shape) for w in on_devices)
    cells = [
        task.name,
        f"{held:,} of {sum(x.size for x in jax.tree.leaves(arrays)):,}",
        *map(told, columns),
        f"{1e9 * energy(analog, arrays, weights):.3g} nJ",
        "{:g}, {:g}".format(*rates),
    ]
    return "| " + " | ".join(cells) + " |"


def main(_: list[str]) -> None:
    # The embedding of the decoder, which is its head, too.
    warnings.filterwarnings("ignore", "digital, as tables")
    head = [
        "model", "analog", "floating point", "PCM", "a year, no gain", "a year, GDC",
        "energy of an inference", "rates",
    ]  # fmt: skip
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|", flush=True)
    for task in tasks(_TEXT.value):
        if _ONLY.value in task.name:
            print(row(task), flush=True)


if __name__ == "__main__":
    app.run(main)
