"""A trained network, and what its answers come to."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from hic_jax import crossbar
from hic_jax.algorithms import analog_states, analog_weights
from hic_jax.inference.compensation import with_gains
from hic_jax.training.chips import axes_of_chips
from hic_jax.training.mesh import replicate
from hic_jax.training.split import Examples
from hic_jax.training.state import TrainState
from hic_jax.weights import fresh_variances, read_params


class Network(struct.PyTreeNode):
    """What inference needs of a trained network.

    Attributes:
      params: parameters; analog leaves only stand for their shape and dtype.
      batch_stats: running statistics of BatchNorm.
      ranges: running ranges of converters.
      weights: `analog_weights` of the analog leaves, or what `hic_jax.deploy` made of
        them; None if all are digital.
      gains: digital factors on the outputs of analog layers, before the bias: a tree
        like ``weights``, float32, broadcastable to them; None if there are none.
    """

    params: Any
    batch_stats: Any
    ranges: Any
    weights: Any
    gains: Any = None

    @classmethod
    def of(cls, state: TrainState) -> "Network":
        """The network that training has made so far."""
        analog = analog_states(state.opt_state)
        weights = analog_weights(state.opt_state) if analog else None
        return cls(state.params, state.batch_stats, state.ranges, weights)

    def read(self, key: jax.Array, *, fresh: bool = True) -> Any:
        """Parameters as one read of the devices gives them, read noise included.

        Args:
          key: draws the read noise.
          fresh: whether it draws the noise that is new in every product, too; False
            where products add that of `fresh_variances`.
        """
        return self.params if self.weights is None else _read(key, self, fresh)

    def fresh_variances(self) -> Any:
        """What `hic_jax.crossbar.fresh_noise` adds to products; gains included."""
        return None if self.weights is None else _fresh_variances(self)

    def variables(self, key: jax.Array, *, fresh: bool = True) -> dict[str, Any]:
        """All variables of the model, at one read of the devices; see `read`."""
        return {
            "params": self.read(key, fresh=fresh),
            "batch_stats": self.batch_stats,
            crossbar.COLLECTION: self.ranges,
        }


@functools.partial(jax.jit, static_argnames="fresh")
def _read(key: jax.Array, network: Network, fresh: bool) -> Any:
    params = read_params(network.params, network.weights, key=key, fresh=fresh)
    return with_gains(params, network.gains)


@jax.jit
def _fresh_variances(network: Network) -> Any:
    variances = fresh_variances(network.weights)
    if network.gains is None:
        return variances
    return jax.tree.map(
        lambda v, gain: None if v is None else v * gain**2,
        variances,
        network.gains,
        is_leaf=lambda x: x is None,
    )


class Answers(NamedTuple):
    """What the answers of a network to a split came to.

    Attributes:
      correct: () int32, number of correct answers.
      cross_entropy: () float32, sum over answers, nats.
    """

    correct: jax.Array
    cross_entropy: jax.Array


@functools.partial(jax.jit, static_argnames="model")
def _answers(key, model, variables, variances, split, indices, valid):
    inputs, labels = split.batch(indices)
    # Whole before they meet a batch, as in a training step.
    variables, variances = replicate((variables, variances), split.mesh)
    with crossbar.fresh_noise(variances, key):
        logits = model.apply(variables, inputs, train=False, rngs=crossbar.rngs(key))
    valid = jax.lax.expand_dims(valid, range(1, labels.ndim))
    correct = jnp.argmax(logits, axis=-1) == labels
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    return Answers(
        jnp.sum((correct & valid).astype(jnp.int32)),
        jnp.sum(jnp.where(valid, losses, 0.0)),
    )


def answers(
    key: jax.Array,
    model: nn.Module,
    network: Network,
    split: Examples,
    *,
    batch_size: int = 500,
) -> Answers:
    """Answers to a whole split, BatchNorm on running statistics.

    Noise of devices and of converters is new at every read, so every batch of examples
    reads the devices anew; what of it stays for longer, or is new in every product, is
    as ``read_spectrum`` of the devices says. The function can be vmapped, over chips
    for instance.

    Args:
      key: draws the noise.
      model: called with ``(inputs, train=)``.
      network: what was trained.
      split: what is to be answered.
      batch_size: examples per read.
    """
    size = split.size
    batch_size = min(batch_size, size)
    # The devices share a batch equally, if need be with its last example several times.
    devices = split.mesh.size if split.mesh else 1
    places = jnp.arange(-(-batch_size // devices) * devices)
    variances = network.fresh_variances()
    batches = []
    for i, start in enumerate(range(0, size, batch_size)):
        position = start + jnp.minimum(places, batch_size - 1)
        read_key = jax.random.fold_in(key, i)
        batches.append(
            _answers(
                read_key,
                model,
                network.variables(read_key, fresh=False),
                variances,
                split,
                jnp.minimum(position, size - 1),
                (places < batch_size) & (position < size),
            )
        )
    return jax.tree.map(lambda *parts: jnp.sum(jnp.stack(parts)), *batches)


def cross_entropy(
    key: jax.Array,
    model: nn.Module,
    network: Network,
    split: Examples,
    *,
    batch_size: int = 500,
) -> jax.Array:
    """Mean cross-entropy of an answer to a whole split, nats; see `answers`."""
    total = answers(key, model, network, split, batch_size=batch_size).cross_entropy
    return total / split.answers


def accuracy(
    key: jax.Array,
    model: nn.Module,
    network: Network,
    split: Examples,
    *,
    batch_size: int = 500,
) -> float:
    """Share of correct answers on a whole split; see `answers`."""
    correct = answers(key, model, network, split, batch_size=batch_size).correct
    return int(correct) / split.answers


def accuracies(
    keys: jax.Array,
    model: nn.Module,
    states: TrainState,
    split: Examples,
    *,
    batch_size: int = 500,
) -> list[float]:
    """`accuracy` of every chip, on the devices where its state is.

    Args:
      keys: (chips,) keys of the noise.
      model: called with ``(inputs, train=)``.
      states: a state of chips, as `hic_jax.training.chips` has it.
      split: what is to be answered, put there by
        `hic_jax.training.chips.everywhere`.
      batch_size: examples per read.
    """

    def correct(key, state):
        network = Network.of(state)
        return answers(key, model, network, split, batch_size=batch_size).correct

    counts = jax.vmap(correct, in_axes=(0, axes_of_chips(states)))(keys, states)
    return [int(count) / split.answers for count in np.asarray(counts)]
