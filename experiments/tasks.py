"""What is learnt of which data: classes of images, or the next characters of a text."""

import abc
import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments.parts import TrainConfig
from hic_jax import data
from hic_jax.inference.generation import generate
from hic_jax.inference.network import Network, cross_entropy
from hic_jax.training import steps
from hic_jax.training.split import Examples, Split, Windows

# Characters that are generated at the end of a training.
SAMPLE = 500

Data = data.Dataset | data.Text


class Task(abc.ABC):
    """A data set, and what of it is shown to a network and asked of it.

    Attributes:
      dataset: in host memory.
    """

    dataset: Data

    @property
    @abc.abstractmethod
    def example(self) -> jax.ShapeDtypeStruct:
        """One input of the network."""

    @property
    @abc.abstractmethod
    def most(self) -> int:
        """Examples of an epoch, which no batch can have more of."""

    @abc.abstractmethod
    def order(self, key: jax.Array, batch_size: int) -> jax.Array:
        """Training examples of an epoch: (steps, batch_size) indices."""

    @abc.abstractmethod
    def split(self, name: str) -> Examples:
        """A split ("train" or "test") on the default device."""

    def summary(
        self, key: jax.Array, model: nn.Module, network: Network, test: Examples
    ) -> dict[str, Any]:
        """What the summary of a run says of a network beside its accuracy."""
        del key, model, network, test
        return {}

    def sample(self, key: jax.Array, model: nn.Module, network: Network) -> str | None:
        """Text that a network makes up; None if it makes none."""
        del key, model, network
        return None


@dataclasses.dataclass(frozen=True)
class Classes(Task):
    """The classes of images.

    Attributes:
      dataset: images and labels in host memory, not shifted.
      shift: of `hic_jax.data.SHIFTS`.
    """

    dataset: data.Dataset
    shift: str

    @property
    def example(self) -> jax.ShapeDtypeStruct:
        """An image."""
        return jax.ShapeDtypeStruct(self.dataset.image_shape, jnp.float32)

    @property
    def most(self) -> int:
        """All images."""
        return len(self.dataset.train_labels)

    def order(self, key: jax.Array, batch_size: int) -> jax.Array:
        """All images, shuffled; those are left out that fill no batch."""
        return steps.epoch_order(key, self.most, batch_size)

    def split(self, name: str) -> Split:
        """Images, shifted."""
        split = Split.of(self.dataset, name)
        if self.shift != "none":
            images = data.shift(np.asarray(split.images), self.shift)
            split = split.replace(images=jnp.asarray(images))
        return split


@dataclasses.dataclass(frozen=True)
class NextCharacters(Task):
    """Each character of a text, by those before it.

    Attributes:
      dataset: the text.
      context: characters that the network is shown at once.
    """

    dataset: data.Text
    context: int

    @property
    def example(self) -> jax.ShapeDtypeStruct:
        """A window."""
        return jax.ShapeDtypeStruct((self.context,), jnp.int32)

    @property
    def most(self) -> int:
        """Windows that have as many characters together as the text."""
        return len(self.dataset.train) // self.context

    def order(self, key: jax.Array, batch_size: int) -> jax.Array:
        """Windows that begin anywhere."""
        starts = len(self.dataset.train) - self.context
        return steps.random_windows(key, starts, self.most // batch_size, batch_size)

    def split(self, name: str) -> Windows:
        """Windows of the text."""
        return Windows.of(self.dataset, name, self.context)

    def summary(
        self, key: jax.Array, model: nn.Module, network: Network, test: Examples
    ) -> dict[str, Any]:
        """Cross-entropy, nats per character, its exponential, what was left out."""
        loss = float(cross_entropy(key, model, network, test))
        return {
            "test_loss": loss,
            "test_perplexity": math.exp(min(loss, 300.0)),  # JSON holds no infinity.
            "unknown_characters": self.dataset.unknown[1],
        }

    def sample(self, key: jax.Array, model: nn.Module, network: Network) -> str:
        """The beginning of the test part, and after it what the network makes up."""
        start = self.dataset.test[: self.context]
        drawn = generate(key, model, network, jnp.asarray(start), SAMPLE)
        return self.dataset.decoded(start) + self.dataset.decoded(np.asarray(drawn))


def load(train: TrainConfig) -> Data:
    """The data set of a configuration.

    Raises:
      ValueError: if it is not there, or does not fit the configuration.
    """
    if data.is_text(train.dataset):
        text = data.load_text(train.dataset, train.data_dir)
        return text.with_validation(train.validation)
    dataset = data.load(train.dataset, train.data_dir)
    dataset = dataset.with_validation(train.validation).downscaled(train.downscale)
    data.shift(dataset.test_images[:1], train.shift)  # Whether it can be.
    return dataset


def task_of(train: TrainConfig, dataset: Data, model: nn.Module) -> Task:
    """What a network learns of a data set.

    Raises:
      ValueError: if it cannot be learnt, or there is not a batch of it.
    """
    task: Task
    if isinstance(dataset, data.Text):
        context = getattr(model, "context", None)
        if not isinstance(context, int) or context < 1:
            raise ValueError(
                f"model={train.model}: has context={context}; must have a number of "
                f"characters there, with dataset={train.dataset!r}, which holds text"
            )
        dataset.check_context(context)
        task, what = NextCharacters(dataset, context), "windows of training text"
    else:
        task, what = Classes(dataset, train.shift), "training images"
    if train.batch_size > task.most:
        raise ValueError(
            f"batch_size={train.batch_size}: must be at most {task.most}, the number "
            f"of {what} of {train.dataset}"
        )
    return task
