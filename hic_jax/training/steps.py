"""One training step, and how many of them run at once."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from hic_jax import crossbar
from hic_jax.algorithms import analog_states, zeros_for_totals
from hic_jax.training.mesh import place, replicate
from hic_jax.training.split import Examples
from hic_jax.training.state import TrainState

StepFn = Callable[[TrainState, Examples, jax.Array, jax.Array], tuple[TrainState, dict]]


def make_step(
    model: nn.Module,
    tx: optax.GradientTransformation,
    *,
    augmentation: str,
    label_smoothing: float,
) -> StepFn:
    """A pure training step, the same for every algorithm and every seed.

    Args:
      model: called with ``(inputs, train=)``, BatchNorm in "batch_stats". Its logits
        have the classes as the last axis; the loss is the mean over all others.
      tx: makes the updates; what it was made with, such as its key, is in the state.
      augmentation: of `hic_jax.data.POLICIES`.
      label_smoothing: share of the target that is spread over all classes.

    Returns:
      ``step(state, train, indices, key)``, which trains on the examples of those
      indices and returns the new state and a dict of () float32 metrics. The key draws
      the augmentation and the noise of converters; each step folds in its number.
    """

    def step(state, train, indices, key):
        step_key = jax.random.fold_in(key, state.step)
        inputs, labels = train.batch(indices, step_key, augmentation)

        def loss_fn(params, zeros):
            # Whole on every device of a mesh before they meet a batch: what is held in
            # slices would have the compiler cut products, and send activations.
            params = replicate(params, train.mesh)
            with crossbar.gradient_totals(zeros):
                logits, updated = model.apply(
                    {
                        "params": params,
                        "batch_stats": state.batch_stats,
                        crossbar.COLLECTION: state.ranges,
                    },
                    inputs,
                    train=True,
                    mutable=["batch_stats", crossbar.COLLECTION],
                    rngs=crossbar.rngs(step_key),
                )
            targets = optax.smooth_labels(
                jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing
            )
            loss = jnp.mean(optax.softmax_cross_entropy(logits, targets))
            return loss, (logits, updated)

        zeros = zeros_for_totals(state.opt_state)
        differentiated = jax.value_and_grad(loss_fn, argnums=(0, 1), has_aux=True)
        (loss, (logits, updated)), (grads, totals) = differentiated(state.params, zeros)
        of_examples = (
            {} if zeros is None else {"gradients": grads, "gradient_totals": totals}
        )
        updates, opt_state = tx.update(
            grads, state.opt_state, state.params, **of_examples
        )
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
        return place(state, train.mesh), metrics

    return step


def _device_events(opt_state: Any) -> dict[str, jax.Array]:
    """What happened to all devices, whatever writes them; () float32 each."""
    counts: dict[str, jax.Array] = {}
    for state in analog_states(opt_state):
        for name, x in vars(state.events).items():
            counts[name] = counts.get(name, 0.0) + jnp.sum(x)
    return counts


@dataclasses.dataclass(frozen=True, eq=False)
class Runner:
    """Runs many steps: a scan where there is an accelerator, a loop on the CPU.

    XLA runs the gradient of a convolution inside `lax.scan` 30 times slower on the CPU
    (jax-ml/jax#12868); on GPU and TPU a scan spares the dispatch of every step.

    Attributes:
      program: what is compiled: one step, or a scan of steps.
      key: argument of every step. A constant in the program would have it compiled anew
        for every seed.
      scan: whether the program is a scan.
    """

    program: Any
    key: jax.Array
    scan: bool

    def __call__(
        self,
        state: TrainState,
        train: Examples,
        indices: jax.Array,
        done: Callable[[int], Any] | None = None,
    ) -> tuple[TrainState, dict]:
        """Trains k steps.

        Args:
          state: consumed (donated).
          train: training examples.
          indices: (k, batch) of the examples of every step.
          done: called with the number of steps whenever some are done: after each in
            a loop, once after a scan.

        Returns:
          The state after k steps and the metrics, each (k,).
        """
        if self.scan:
            state, metrics = self.program(state, train, indices, self.key)
            if done:
                jax.block_until_ready(metrics)
                done(len(indices))
            return state, metrics
        rows = []
        for batch in indices:
            state, metrics = self.program(state, train, batch, self.key)
            rows.append(metrics)
            if done:
                jax.block_until_ready(metrics)
                done(1)
        return state, jax.tree.map(lambda *x: jnp.stack(x), *rows)

    def compile(self, state: TrainState, train: Examples, indices: jax.Array) -> None:
        """Compiles what a call with such arguments runs, which then starts at once.

        Args:
          state: training state; of all three, shapes with shardings are enough.
          train: training examples.
          indices: (k, batch) of the examples of every step.
        """
        batch = indices if self.scan else indices[0]
        self.program.lower(state, train, batch, self.key).compile()


def make_runner(step: StepFn, key: jax.Array, *, scan: bool | None = None) -> Runner:
    """A `Runner` of steps.

    Args:
      step: from `make_step`.
      key: what the steps draw from.
      scan: overrides the choice by platform.
    """
    if scan is None:
        scan = jax.default_backend() != "cpu"

    def scan_steps(state, train, indices, key):
        return jax.lax.scan(lambda s, i: step(s, train, i, key), state, indices)

    program = jax.jit(scan_steps if scan else step, donate_argnums=0)
    return Runner(program, key, scan)


@functools.partial(jax.jit, static_argnames=("size", "batch_size"))
def epoch_order(key: jax.Array, size: int, batch_size: int) -> jax.Array:
    """A random order of a data set: (steps, batch_size) indices, the rest dropped."""
    steps = size // batch_size
    order = jax.random.permutation(key, size)[: steps * batch_size]
    return order.reshape(steps, batch_size)


@functools.partial(jax.jit, static_argnames=("size", "steps", "batch_size"))
def random_windows(key: jax.Array, size: int, steps: int, batch_size: int) -> jax.Array:
    """Windows of a text, drawn one by one: (steps, batch_size) indices below a size."""
    return jax.random.randint(key, (steps, batch_size), 0, size)
