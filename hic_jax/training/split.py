"""A data split on the devices that compute."""

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh

from hic_jax import data
from hic_jax.training.mesh import replicate, share


class Split(struct.PyTreeNode):
    """A data split on the device.

    Attributes:
      images: (n, h, w, c) uint8.
      labels: (n,) int32.
      mean: (c,) float32, per channel of the training images on the 0..1 scale.
      std: (c,) float32, per channel of the training images on the 0..1 scale.
      mesh: devices that share each batch, static; None leaves it where the arrays are.
    """

    images: jax.Array
    labels: jax.Array
    mean: jax.Array
    std: jax.Array
    mesh: Mesh | None = struct.field(pytree_node=False, default=None)

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

    def over(self, mesh: Mesh) -> "Split":
        """The same split, a copy on every device; those share what is taken of it."""
        return replicate(self, mesh).replace(mesh=mesh)

    def batch(self, indices: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Images and labels of these indices, as they are stored."""
        indices = share(indices, self.mesh)
        images, labels = self.images[indices], self.labels[indices]
        return share(images, self.mesh), share(labels, self.mesh)
