"""One training step, an evaluation, and how many of them run at once."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import Mesh

from hic_jax import crossbar, data
from hic_jax.training.mesh import replicate, share
from hic_jax.transform import HICState, hybrid_weights
from hic_jax.weights import read_params


@struct.dataclass
class TrainState:
    """All that training changes.

    Attributes:
      step: () int32, updates so far.
      params: parameters of the model; analog leaves as the devices were last read.
      batch_stats: running statistics of BatchNorm.
      ranges: running ranges of converters; empty where they are not used.
      opt_state: state of the optax transformation, device state included.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    ranges: Any
    opt_state: Any


@struct.dataclass
class Arrays:
    """A data split on the device.

    Attributes:
      images: (n, h, w, c) uint8.
      labels: (n,) int32.
      mean: (c,) float32, per channel of the training images on the 0..1 scale.
      std: (c,) float32, likewise.
      mesh: devices that share each batch, static; None leaves it where the arrays are.
    """

    images: jax.Array
    labels: jax.Array
    mean: jax.Array
    std: jax.Array
    mesh: Mesh | None = struct.field(pytree_node=False, default=None)

    def over(self, mesh: Mesh) -> "Arrays":
        """The same split, a copy on every device; those share what is taken of it."""
        return replicate(self, mesh).replace(mesh=mesh)

    def batch(self, indices: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Images and labels of these indices, as they are stored."""
        indices = share(indices, self.mesh)
        return tuple(share(x[indices], self.mesh) for x in (self.images, self.labels))


def arrays(dataset: data.Dataset, split: str) -> Arrays:
    """Puts one split ("train" or "test") of a data set on the default device."""
    images, labels = {
        "train": (dataset.train_images, dataset.train_labels),
        "test": (dataset.test_images, dataset.test_labels),
    }[split]
    return Arrays(*map(jnp.asarray, (images, labels, dataset.mean, dataset.std)))


def init_state(
    key: jax.Array,
    model: nn.Module,
    tx: optax.GradientTransformation,
    image_shape: tuple[int, ...],
) -> TrainState:
    """Initial parameters, programmed onto devices where the transformation has any."""
    variables = _compiled_draws()(key, model, image_shape)
    return _programmed(variables, tx)


def state_shapes(
    key: jax.Array,
    model: nn.Module,
    tx: optax.GradientTransformation,
    image_shape: tuple[int, ...],
) -> TrainState:
    """`jax.ShapeDtypeStruct`s of what `init_state` makes: traced, but not drawn."""
    variables = _compiled_draws().eval_shape(key, model, image_shape)
    return _programmed.eval_shape(variables, tx)


@functools.cache
def _compiled_draws():
    return jit_once(initial_variables, static_argnames=("model", "image_shape"))


def jit_once(function: Callable, **options: Any) -> Callable:
    """`jax.jit` of draws that are made once.

    On the CPU, LLVM takes longer to optimise the draws of all kernels than anything
    else before the first step (10 s for a ResNet-8, 2 s without).
    """
    quick = {"xla_backend_optimization_level": 0}
    on_cpu = jax.default_backend() == "cpu"
    return jax.jit(function, **options, compiler_options=quick if on_cpu else None)


def initial_variables(
    key: jax.Array, model: nn.Module, image_shape: tuple[int, ...]
) -> Any:
    """Variables of the model, drawn, before any device holds them."""
    return model.init(key, jnp.zeros((1, *image_shape)), train=False)


def programmed(variables: Any, tx: optax.GradientTransformation) -> TrainState:
    """The state before the first step, from the variables of a model."""
    params = variables["params"]
    opt_state = tx.init(params)
    if find_hic(opt_state) is not None:
        # Devices are programmed with noise: train from what they hold.
        params = read_params(params, hybrid_weights(opt_state))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        ranges=variables.get(crossbar.COLLECTION, {}),
        opt_state=opt_state,
    )


# A program of its own: all devices are one array, whose pulses it pays to optimise.
_programmed = jax.jit(programmed, static_argnames="tx")


def find_hic(opt_state: Any) -> HICState | None:
    """The state of `hic_jax.hic` inside an optimizer state; None if it has none."""
    leaves = jax.tree.leaves(opt_state, is_leaf=lambda x: isinstance(x, HICState))
    return next((leaf for leaf in leaves if isinstance(leaf, HICState)), None)


StepFn = Callable[[TrainState, Arrays, jax.Array], tuple[TrainState, dict]]


def make_step(
    model: nn.Module,
    tx: optax.GradientTransformation,
    key: jax.Array,
    *,
    augmentation: str,
    label_smoothing: float,
) -> StepFn:
    """A pure training step, the same for every algorithm.

    Args:
      model: called with ``(images, train=)``, BatchNorm in "batch_stats".
      tx: makes the updates.
      key: augmentation draws; each step folds in its number.
      augmentation: of `hic_jax.data.POLICIES`.
      label_smoothing: share of the target that is spread over all classes.

    Returns:
      ``step(state, train_arrays, indices)``, which trains on the images of those
      indices and returns the new state and a dict of () float32 metrics.
    """

    def step(state, train, indices):
        images, labels = train.batch(indices)
        images = data.augment(jax.random.fold_in(key, state.step), images, augmentation)
        images = data.normalise(images, train.mean, train.std)

        def loss_fn(params):
            logits, updated = model.apply(
                {
                    "params": params,
                    "batch_stats": state.batch_stats,
                    crossbar.COLLECTION: state.ranges,
                },
                images,
                train=True,
                mutable=["batch_stats", crossbar.COLLECTION],
            )
            targets = optax.smooth_labels(
                jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing
            )
            loss = jnp.mean(optax.softmax_cross_entropy(logits, targets))
            return loss, (logits, updated)

        (loss, (logits, updated)), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            state.params
        )
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        metrics = {
            "loss": loss,
            "accuracy": jnp.mean(jnp.argmax(logits, axis=-1) == labels),
            **_device_events(opt_state),
        }
        state = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=updated.get("batch_stats", {}),
            ranges=updated.get(crossbar.COLLECTION, {}),
            opt_state=opt_state,
        )
        return replicate(state, train.mesh), metrics

    return step


def _device_events(opt_state: Any) -> dict[str, jax.Array]:
    hic_state = find_hic(opt_state)
    if hic_state is None:
        return {}
    return {name: jnp.sum(x) for name, x in vars(hic_state.events).items()}


@dataclasses.dataclass(frozen=True)
class Runner:
    """Runs many steps: a scan where there is an accelerator, a loop on the CPU.

    XLA runs the gradient of a convolution inside `lax.scan` 30 times slower on the CPU
    (jax-ml/jax#12868); on GPU and TPU a scan spares the dispatch of every step.

    Attributes:
      program: what is compiled: one step, or a scan of steps.
      scan: which of the two.
    """

    program: Any
    scan: bool

    def __call__(
        self, state: TrainState, train: Arrays, indices: jax.Array
    ) -> tuple[TrainState, dict]:
        """Trains k steps.

        Args:
          state: consumed (donated).
          train: training images.
          indices: (k, batch) of the images of every step.

        Returns:
          The state after k steps and the metrics, each (k,).
        """
        if self.scan:
            return self.program(state, train, indices)
        rows = []
        for batch in indices:
            state, metrics = self.program(state, train, batch)
            rows.append(metrics)
        return state, jax.tree.map(lambda *x: jnp.stack(x), *rows)

    def compile(self, state: TrainState, train: Arrays, indices: jax.Array) -> None:
        """Compiles what a call with such arguments runs, which then starts at once.

        Args:
          state: shapes, with shardings, are enough.
          train: likewise.
          indices: likewise.
        """
        batch = indices if self.scan else indices[0]
        self.program.lower(state, train, batch).compile()


def make_runner(step: StepFn, *, scan: bool | None = None) -> Runner:
    """A `Runner` of steps.

    Args:
      step: from `make_step`.
      scan: overrides the choice by platform.
    """
    if scan is None:
        scan = jax.default_backend() != "cpu"

    def scan_steps(state, train, indices):
        return jax.lax.scan(lambda s, i: step(s, train, i), state, indices)

    return Runner(jax.jit(scan_steps if scan else step, donate_argnums=0), scan)


@functools.partial(jax.jit, static_argnames=("size", "batch_size"))
def epoch_order(key: jax.Array, size: int, batch_size: int) -> jax.Array:
    """A random order of a data set: (steps, batch_size) indices, the rest dropped."""
    steps = size // batch_size
    order = jax.random.permutation(key, size)[: steps * batch_size]
    return order.reshape(steps, batch_size)


@struct.dataclass
class Network:
    """What inference needs of a trained network.

    Attributes:
      params: parameters; analog leaves only stand for their shape and dtype.
      batch_stats: running statistics of BatchNorm.
      ranges: running ranges of converters.
      weights: `hybrid_weights` of the analog leaves, or what `hic_jax.deploy` made of
        them; None if all are digital.
      gains: digital factors on the outputs of analog layers, before the bias: a tree
        like ``weights``, () or (columns,) float32 each; None if there are none.
    """

    params: Any
    batch_stats: Any
    ranges: Any
    weights: Any
    gains: Any = None

    @classmethod
    def of(cls, state: TrainState) -> "Network":
        """The network that training has made so far."""
        analog = find_hic(state.opt_state) is not None
        weights = hybrid_weights(state.opt_state) if analog else None
        return cls(state.params, state.batch_stats, state.ranges, weights)

    def read(self, key: jax.Array) -> Any:
        """Parameters as one read of the devices gives them, read noise included."""
        return self.params if self.weights is None else _read(key, self)

    def variables(self, key: jax.Array) -> dict[str, Any]:
        """All variables of the model, at one read of the devices."""
        return {
            "params": self.read(key),
            "batch_stats": self.batch_stats,
            crossbar.COLLECTION: self.ranges,
        }


@jax.jit
def _read(key: jax.Array, network: Network) -> Any:
    params = read_params(network.params, network.weights, key=key)
    if network.gains is None:
        return params
    # A factor on an output is one on the column of weights that makes it (but for where
    # between two codes an ADC then finds it).
    return jax.tree.map(
        lambda gain, p: (
            p if isinstance(gain, optax.MaskedNode) else p * gain.astype(p.dtype)
        ),
        network.gains,
        params,
        is_leaf=lambda x: isinstance(x, optax.MaskedNode),
    )


@functools.partial(jax.jit, static_argnames="model")
def _count_correct(model, variables, split, indices, valid):
    images, labels = split.batch(indices)
    images = data.normalise(images, split.mean, split.std)
    logits = model.apply(variables, images, train=False)
    return jnp.sum((jnp.argmax(logits, axis=-1) == labels) & valid)


def correct_answers(
    key: jax.Array,
    model: nn.Module,
    network: Network,
    split: Arrays,
    *,
    batch_size: int = 500,
) -> jax.Array:
    """Number of correct answers on a whole split, BatchNorm on running statistics.

    Read noise is new at every read, so every batch of images reads the devices anew.
    The function can be vmapped, over chips for instance.

    Args:
      key: draws the read noise.
      model: called with ``(images, train=)``.
      network: what was trained.
      split: images and labels.
      batch_size: images per read.

    Returns:
      () int32.
    """
    size = split.labels.shape[0]
    batch_size = min(batch_size, size)
    # The devices share a batch equally, if need be with its last image several times.
    devices = split.mesh.size if split.mesh else 1
    places = jnp.arange(-(-batch_size // devices) * devices)
    correct = []
    for i, start in enumerate(range(0, size, batch_size)):
        position = start + jnp.minimum(places, batch_size - 1)
        correct.append(
            _count_correct(
                model,
                network.variables(jax.random.fold_in(key, i)),
                split,
                jnp.minimum(position, size - 1),
                (places < batch_size) & (position < size),
            )
        )
    return jnp.sum(jnp.stack(correct))


def accuracy(
    key: jax.Array,
    model: nn.Module,
    network: Network,
    split: Arrays,
    *,
    batch_size: int = 500,
) -> float:
    """Share of correct answers on a whole split; see `correct_answers`."""
    correct = correct_answers(key, model, network, split, batch_size=batch_size)
    return int(correct) / split.labels.shape[0]
