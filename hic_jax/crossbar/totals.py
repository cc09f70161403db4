"""What single examples ask of a weight: sums of absolute values, beside gradients.

A gradient is a sum over examples (and, of a convolution, over patches), X^T D, in which
those that ask for more and those that ask for less cancel. Hardware without gradients
fires the pulses of one after the other, and how many these are is

    |X|^T |D|

`gradient_totals` makes the backward pass of every product on crossbars compute it, too:
one product more, of the size of that of the gradient.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
from flax.core.tracers import current_trace

from hic_jax.packing import path_name


@dataclasses.dataclass
class _Running:
    """The layer that runs now; whether a product on crossbars has taken its zeros."""

    path: str
    zeros: jax.Array
    trace: Any
    taken: bool = False


_running: contextvars.ContextVar[_Running | None] = contextvars.ContextVar(
    "running", default=None
)


def take(shape: tuple[int, ...]) -> jax.Array | None:
    """Zeros of the layer that runs now, for the product that asks; or None.

    Args:
      shape: of the weights that the product multiplies by.

    Raises:
      ValueError: if the zeros have another shape.
    """
    running = _running.get()
    # What JAX traces once, and keeps, as `jnp.einsum`, must not depend on more than its
    # arguments.
    if running is None or running.trace != current_trace():
        return None
    if running.zeros.shape != shape:
        raise ValueError(
            f"zeros: {running.path} has the shape {running.zeros.shape}; must have "
            f"that of the weights in the product, {shape}"
        )
    running.taken = True
    return running.zeros


@contextlib.contextmanager
def gradient_totals(zeros: Any) -> Iterator[None]:
    """Makes gradients with respect to zeros sums of absolute values over the examples.

    It acts on the products on crossbars of the Linen layers that run inside, where a
    model is traced: inside of `jax.grad` and `jax.jit`, not around them. A layer that
    runs several times adds up what it is asked for. Results stay as they are.

    Inputs and errors are those that converters let through, as in the gradient: no
    total is less than the absolute value of the gradient, but for rounding.

    Args:
      zeros: a tree like the model's parameters, of zeros of the shapes of kernels;
        None, or with None in it, where totals are not wanted.

    Raises:
      ValueError: if a layer has zeros of another shape than its kernel, or no layer of
        their path runs inside, or one that no crossbar computes by itself: in
        `jnp.einsum`, and under `hic_jax.on_crossbars`, none does.

    Examples:
      >>> import flax.linen as nn, jax, jax.numpy as jnp
      >>> from hic_jax import crossbar
      >>> spec = crossbar.CrossbarSpec()
      >>> layer = nn.Dense(1, use_bias=False, dot_general=crossbar.dot_general(spec))
      >>> params, x = {"kernel": jnp.ones((1, 1))}, jnp.array([[1.0], [-1.0]])
      >>> def loss(params, zeros):
      ...     with crossbar.gradient_totals(zeros):
      ...         return layer.apply({"params": params}, x).sum()
      >>> zeros = {"kernel": jnp.zeros((1, 1))}
      >>> grads, totals = jax.grad(loss, (0, 1))(params, zeros)
      >>> print(grads["kernel"], totals["kernel"])
      [[0.]] [[2.]]
    """
    leaves = jax.tree_util.tree_leaves_with_path(zeros)
    of_kernel = {path_name(path): leaf for path, leaf in leaves}
    if not of_kernel:
        yield
        return
    missing = set(of_kernel)

    def intercept(next_fun, args, kwargs, context):
        path = "/".join((*context.module.path, "kernel"))
        if context.method_name != "__call__" or path not in of_kernel:
            return next_fun(*args, **kwargs)
        running = _Running(path, of_kernel[path], current_trace())
        token = _running.set(running)
        try:
            y = next_fun(*args, **kwargs)
        finally:
            _running.reset(token)
        if running.taken:
            missing.discard(path)
        return y

    with nn.intercept_methods(intercept):
        yield
    if missing:
        raise ValueError(
            f"zeros: {min(missing)} is to have totals, and no layer of that path has "
            "multiplied on crossbars; must be a kernel of a Linen layer with hooks"
        )
