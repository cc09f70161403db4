"""Noise of devices that is new in every product, added to the sums of Linen layers.

A device whose conductance is another one in every product need not be drawn for each:
the sum of a column over its rows i then has independent Gaussian noise, of variance

    sum_i x_i^2 Var(W_i)

which is a second product, of squares. `fresh_noise` makes every layer whose kernel has
a variance compute it, whatever computes the layer: crossbars add the noise before their
ADCs read the sums, and without crossbars it is added to what the layer returns.
"""

import collections
import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from hic_jax.packing import path_name
from hic_jax.streams import stream


class Fresh(NamedTuple):
    """What is new in every product.

    Attributes:
      variance: of the weights, in their shape.
      key: draws the noise of the sums.
    """

    variance: jax.Array
    key: jax.Array


@dataclasses.dataclass
class _Running:
    """The layer that runs now; whether a crossbar has taken its noise."""

    fresh: Fresh
    taken: bool = False


_running: contextvars.ContextVar[_Running | None] = contextvars.ContextVar(
    "running", default=None
)


@dataclasses.dataclass
class Source:
    """Where the noise of products comes from, while `fresh_noise` acts.

    Attributes:
      variances: of the kernels, by path.
      key: of all noise.
      calls: products that have taken noise so far, by path.
    """

    variances: dict[str, jax.Array]
    key: jax.Array
    calls: collections.Counter[str] = dataclasses.field(
        default_factory=collections.Counter
    )

    def call(self, path: str) -> Fresh:
        """The noise of the next product of a kernel."""
        number = list(self.variances).index(path)
        key = jax.random.fold_in(self.key, number)
        key = jax.random.fold_in(key, self.calls[path])
        self.calls[path] += 1
        return Fresh(self.variances[path], key)


_source: contextvars.ContextVar[Source | None] = contextvars.ContextVar(
    "source", default=None
)

# Whether a function is traced by `hic_jax.on_crossbars`, which itself adds the noise of
# layers without hooks, where the products are that these call.
_rewriting: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "rewriting", default=False
)


def acting() -> Source | None:
    """Where noise comes from now; None without `fresh_noise`."""
    return _source.get()


@contextlib.contextmanager
def left_to_rewriting() -> Iterator[None]:
    """Has layers without hooks add no noise; `fresh_noise` may not begin inside."""
    token = _rewriting.set(True)
    try:
        yield
    finally:
        _rewriting.reset(token)


@contextlib.contextmanager
def for_a_product(fresh: Fresh | None) -> Iterator[None]:
    """Has the next product on crossbars take this noise, whatever layer runs."""
    token = _running.set(None if fresh is None else _Running(fresh))
    try:
        yield
    finally:
        _running.reset(token)


def take() -> Fresh | None:
    """The noise of the layer that runs now, for the product that asks; or None."""
    running = _running.get()
    if running is None:
        return None
    if running.taken:
        raise ValueError(
            "fresh_noise: a layer multiplies by its kernel twice; must be once"
        )
    running.taken = True
    return running.fresh


@contextlib.contextmanager
def fresh_noise(variances: Any, key: jax.Array) -> Iterator[None]:
    """Adds noise to each product of the Linen layers that run inside.

    So it does to each product that `hic_jax.on_crossbars` finds inside, whatever layer,
    or none, it is of.

    It acts where a model is traced: inside of `jax.jit`, not around it. Only what is
    computed forward is noisy; errors go back through the weights that were read.

    Args:
      variances: `hic_jax.fresh_variances` of the weights, a tree like the model's
        parameters; None, or with None in it, where there is no such noise.
      key: a new one for every batch.

    Raises:
      ValueError: if a kernel has such noise, and no layer of its path has run, or one
        that multiplies by it in another way than `flax.linen.Dense`, `DenseGeneral`,
        `Conv` and `ConvTranspose`; inside of a function that `hic_jax.on_crossbars`
        computes, around which it may be.

    Examples:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, hic_jax
      >>> from hic_jax import crossbar, pcm
      >>> model, images = nn.Dense(1), jnp.ones((10000, 9))
      >>> params = {"kernel": jnp.zeros((9, 1)), "bias": jnp.zeros(1)}
      >>> variances = {"kernel": jnp.full((9, 1), 4.0), "bias": None}
      >>> with crossbar.fresh_noise(variances, jax.random.key(0)):
      ...     y = model.apply({"params": params}, images)
      >>> print(f"{y.std():.0f}")  # The root of 9 times 4.
      6
    """
    leaves = jax.tree_util.tree_leaves_with_path(variances)
    of_kernel = {path_name(path): variance for path, variance in leaves}
    if of_kernel and _rewriting.get():
        raise ValueError(
            "fresh_noise: begins inside a function that on_crossbars computes; must be "
            "around it"
        )
    source = Source(of_kernel, stream(key, "fresh noise"))
    squaring = False

    def intercept(next_fun, args, kwargs, context):
        nonlocal squaring
        if squaring or context.method_name != "__call__":
            return next_fun(*args, **kwargs)
        module = context.module
        path = "/".join((*module.path, "kernel"))
        if path not in of_kernel:
            return next_fun(*args, **kwargs)
        running = _Running(source.call(path))
        token = _running.set(running)
        try:
            y = next_fun(*args, **kwargs)
        finally:
            _running.reset(token)
        if running.taken:
            return y
        if _rewriting.get():
            source.calls[path] -= 1
            return y
        squaring = True
        try:
            variance = _of_squares(module, path, running.fresh.variance, args, kwargs)
        finally:
            squaring = False
        return with_noise(y, variance, running.fresh.key)

    token = _source.set(source if of_kernel else _source.get())
    try:
        with nn.intercept_methods(intercept):
            yield
    finally:
        _source.reset(token)
    if missing := sorted(path for path in of_kernel if not source.calls[path]):
        raise ValueError(
            f"variances: {missing[0]} has noise that is new in every product, and no "
            "Linen layer of that path has run inside fresh_noise, nor on_crossbars a "
            "product with it"
        )


def with_noise(sums: jax.Array, variance: jax.Array, key: jax.Array) -> jax.Array:
    """Sums with independent Gaussian noise of a variance."""
    normal = jax.random.normal(key, sums.shape, sums.dtype)
    # Rounding may leave a sum of squares below zero where a convolution is fast.
    std = jnp.sqrt(jnp.maximum(variance, 0.0)).astype(sums.dtype)
    return sums + jax.lax.stop_gradient(std) * normal


def _of_squares(
    module: nn.Module,
    path: str,
    variance: jax.Array,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> jax.Array:
    """What a layer makes of squared inputs and variances: those of its sums."""
    if not isinstance(module, nn.Dense | nn.DenseGeneral | nn.Conv | nn.ConvTranspose):
        raise ValueError(
            f"{path}: has noise that is new in every product, and belongs to a "
            f"{type(module).__name__}; must be of a Dense, DenseGeneral, Conv or "
            "ConvTranspose"
        )
    fields = {field.name for field in dataclasses.fields(module)}
    exact = fields & {"dot_general", "dot_general_cls", "conv_general_dilated"}
    changes: dict[str, Any] = {"parent": None, "name": None, "use_bias": False}
    layer: Any = module.clone(**changes | dict.fromkeys(exact))
    (inputs,) = (*args, *kwargs.values())
    return layer.apply({"params": {"kernel": variance}}, jnp.square(inputs))
