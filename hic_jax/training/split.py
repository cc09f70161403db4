"""A part of the data on the devices that compute: of images, or of text."""

from typing import Self

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh

from hic_jax import data
from hic_jax.training.mesh import replicate, share


class Examples(struct.PyTreeNode, kw_only=True):
    """Examples of what a network is to answer, on the device.

    Attributes:
      mesh: devices that share each batch, static; None leaves it where the arrays are.
    """

    mesh: Mesh | None = struct.field(pytree_node=False, default=None)

    @property
    def size(self) -> int:
        """How many examples there are."""
        raise NotImplementedError

    @property
    def answers(self) -> int:
        """How many answers there are to all examples."""
        raise NotImplementedError

    def batch(
        self,
        indices: jax.Array,
        key: jax.Array | None = None,
        augmentation: str = "none",
    ) -> tuple[jax.Array, jax.Array]:
        """What a network is shown of these examples, and the right answers.

        Args:
          indices: (batch,) numbers of examples.
          key: draws the augmentation; not needed for "none".
          augmentation: of `hic_jax.data.POLICIES`.
        """
        raise NotImplementedError

    def first(self, examples: int) -> Self:
        """So many of them, at most, from the beginning."""
        raise NotImplementedError

    def over(self, mesh: Mesh) -> Self:
        """The same part, a copy on every device; those share what is taken of it."""
        return replicate(self, mesh).replace(mesh=mesh)


class Split(Examples, kw_only=True):
    """Images, each of one class.

    Attributes:
      images: (n, h, w, c) uint8.
      labels: (n,) int32.
      mean: (c,) float32, per channel of the training images on the 0..1 scale.
      std: (c,) float32, per channel of the training images on the 0..1 scale.
    """

    images: jax.Array
    labels: jax.Array
    mean: jax.Array
    std: jax.Array

    @classmethod
    def of(cls, dataset: data.Dataset, split: str) -> "Split":
        """Puts one split ("train" or "test") of a data set on the default device."""
        images, labels = {
            "train": (dataset.train_images, dataset.train_labels),
            "test": (dataset.test_images, dataset.test_labels),
        }[split]
        return cls(
            images=jnp.asarray(images),
            labels=jnp.asarray(labels),
            mean=jnp.asarray(dataset.mean),
            std=jnp.asarray(dataset.std),
        )

    @property
    def size(self) -> int:
        """How many images there are."""
        return self.labels.shape[0]

    @property
    def answers(self) -> int:
        """One for each image."""
        return self.size

    def batch(
        self,
        indices: jax.Array,
        key: jax.Array | None = None,
        augmentation: str = "none",
    ) -> tuple[jax.Array, jax.Array]:
        """Images, augmented and normalised, (batch, h, w, c), and their labels."""
        indices = share(indices, self.mesh)
        images, labels = self.images[indices], self.labels[indices]
        images, labels = share(images, self.mesh), share(labels, self.mesh)
        if key is not None:
            images = data.augment(key, images, augmentation)
        return data.normalise(images, self.mean, self.std), labels

    def first(self, examples: int) -> Self:
        """So many of the images, at most, from the beginning."""
        return self.replace(
            images=self.images[:examples], labels=self.labels[:examples]
        )


class Windows(Examples, kw_only=True):
    """Windows of a text, each character of which is to be answered with the next one.

    Attributes:
      characters: (n,) uint8 or int32.
      context: characters of a window, static.
      stride: characters from one window to the next, static.
    """

    characters: jax.Array
    context: int = struct.field(pytree_node=False)
    stride: int = struct.field(pytree_node=False)

    @classmethod
    def of(cls, text: data.Text, split: str, context: int) -> "Windows":
        """Puts one split of a text on the default device.

        Args:
          text: which.
          split: "train", whose windows begin at every character, or "test", whose
            windows follow each other: what is left at its end, and is shorter than a
            window, is no part of it.
          context: characters of a window.
        """
        characters = {"train": text.train, "test": text.test}[split]
        stride = {"train": 1, "test": context}[split]
        return cls(characters=jnp.asarray(characters), context=context, stride=stride)

    @property
    def size(self) -> int:
        """How many windows there are, with a character after each."""
        return (self.characters.shape[0] - 1 - self.context) // self.stride + 1

    @property
    def answers(self) -> int:
        """One for each character of each window."""
        return self.size * self.context

    def batch(
        self,
        indices: jax.Array,
        key: jax.Array | None = None,
        augmentation: str = "none",
    ) -> tuple[jax.Array, jax.Array]:
        """Characters, and those that follow each: (batch, context) int32 both."""
        del key, augmentation  # A text is as it is.
        starts = share(indices, self.mesh) * self.stride
        places = starts[:, None] + jnp.arange(self.context + 1)
        windows = share(self.characters[places].astype(jnp.int32), self.mesh)
        return windows[:, :-1], windows[:, 1:]

    def first(self, examples: int) -> Self:
        """So many of the windows, at most, from the beginning."""
        end = (examples - 1) * self.stride + self.context + 1
        return self.replace(characters=self.characters[:end])
