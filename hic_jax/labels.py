"""`analog_labels`: which parameters PCM crossbars hold, and which stay digital."""

import math
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax

from hic_jax import checks
from hic_jax.array_leaves import is_array
from hic_jax.packing import path_name
from hic_jax.tracing import Trace, trace

# What leaves are called that are not multiplied, or entry by entry.
_NO_KERNELS = frozenset(
    "bias scale offset gamma beta layer_scale temperature logit_scale "
    "cls cls_token class_token probe pos_embed".split()
)
# What else is called so is a kernel, even of a single row.
_KERNELS = ("kernel", "weight", "w")


def analog_labels(
    params: Any,
    *,
    model: Callable[..., Any] | None = None,
    inputs: Sequence[Any] = (),
    digital: Sequence[str] = (),
) -> Any:
    """Labels for `optax.partition`: which leaves PCM crossbars hold.

    With a model, those are analog that are the weights of a product with its inputs.
    Other leaves of two or more dimensions are digital, and a warning names them. So are
    tables in which the inputs look something up, even if they are multiplied elsewhere,
    as by `flax.linen.Embed.attend`: a crossbar is not read row by row.

    Without one, names and shapes have to do. Analog are leaves of two or more
    dimensions but for tables (``embedding``, the weight of an ``Embedding`` module),
    biases, scales and the like, tokens, position embeddings, and what is one vector
    (all dimensions 1 but the last), unless it is called a kernel or a weight.

    Args:
      params: a model's parameters (flax Linen, nnx state, any pytree, of which leaves
        that are no arrays are digital).
      model: a function of ``params`` and the inputs, as that which
        `hic_jax.accounting.products` takes.
      inputs: its inputs: arrays, or pytrees of them, or of `jax.ShapeDtypeStruct`.
      digital: paths of layers or leaves that are digital nevertheless, as ``head`` or
        ``stage1_block1/conv1``.

    Returns:
      The same tree with "analog" or "digital" for each leaf.

    Raises:
      ValueError: if there is nothing at one of the paths, or if the model multiplies no
        leaf with its inputs.

    Examples:
      >>> import functools, jax, jax.numpy as jnp
      >>> params = {"a": jnp.ones((3, 4)), "query": jnp.ones((2, 4))}
      >>> model = lambda params, x: x @ params["a"] + params["query"]
      >>> analog_labels(params, model=model, inputs=[jnp.ones((2, 3))])
      {'a': 'analog', 'query': 'digital'}
      >>> labels = functools.partial(analog_labels, digital=["query"])  # For optax
      >>> labels(params)
      {'a': 'analog', 'query': 'digital'}
    """
    leaves, treedef = jax.tree_util.tree_flatten_with_path(params)
    shapes = {
        path_name(path): leaf.shape if is_array(leaf) else () for path, leaf in leaves
    }
    kept = _below(digital, shapes)
    if model is None:
        if len(inputs):
            raise ValueError("inputs: are of no use without a model")
        tables = _tables(params)
        analog = {n for n, shape in shapes.items() if _is_kernel(n, shape, tables)}
    else:
        analog = _multiplied(params, model, inputs)
        left = [n for n in shapes if len(shapes[n]) >= 2 and n not in analog | kept]
        if left:
            listed = ", ".join(f"{n}{list(shapes[n])}" for n in left)
            warnings.warn(
                f"digital, as tables or not multiplied with the inputs: {listed}",
                stacklevel=1,  # Python shows it once, however often optax asks.
            )
    labels = ["analog" if n in analog - kept else "digital" for n in shapes]
    return jax.tree.unflatten(treedef, labels)


def told(labels: Any, params: Any) -> Any:
    """Labels of parameters, if need be as a function tells them.

    Args:
      labels: a tree of labels, which may be a module that can be called; or a function
        of the parameters.
      params: a model's parameters.

    Raises:
      ValueError: for a label that is neither "analog" nor "digital".
    """
    leaves = jax.tree.leaves(labels)
    if callable(labels) and not all(isinstance(x, str) for x in leaves):
        labels = labels(params)
    for path, label in jax.tree_util.tree_leaves_with_path(labels):
        checks.one_of(f"labels[{path_name(path)!r}]", label, ("analog", "digital"))
    return labels


def _below(digital: Sequence[str], names: Collection[str]) -> set[str]:
    """The leaves at these paths, or below them."""
    if isinstance(digital, str):
        raise ValueError(f"digital={digital!r}: must be a sequence of paths")
    found = {
        path: {n for n in names if f"{n}/".startswith(f"{path}/")} for path in digital
    }
    unseen = [path for path, leaves in found.items() if not leaves]
    if unseen:
        raise ValueError(f"digital={min(unseen)!r}: there is no parameter of that path")
    return set().union(*found.values())


def _multiplied(params: Any, model: Callable[..., Any], inputs: Any) -> set[str]:
    """Leaves that are weights of a product with the inputs, and no tables."""
    if not isinstance(inputs, list | tuple):
        raise ValueError(f"inputs={type(inputs).__name__}: must be a list or a tuple")
    # Optax asks with updates, too, which may be tracers.
    params = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype) if is_array(x) else x, params
    )
    traced = trace(model, params, *inputs)
    ndims = {
        path_name(path): leaf.ndim
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if is_array(leaf)
    }
    found = kernels(traced, ndims)
    if not found:
        raise ValueError(
            "model: multiplies none of params with its inputs; what it closes over "
            "counts as neither"
        )
    return found - traced.tables


def kernels(traced: Trace, ndims: Mapping[str, int]) -> set[str]:
    """Parameters, of so many dimensions, that are multiplied with the inputs."""
    return {
        p.parameter
        for p in traced.products
        if p.of_inputs
        and p.parameter is not None
        and p.axes is not None
        and p.axes.rows(ndims[p.parameter])
    }


def _is_kernel(name: str, shape: tuple[int, ...], tables: set[str]) -> bool:
    """Whether a leaf is one that is multiplied, as far as its name and shape tell."""
    # The leaf of an nnx.State is the value of what has a name.
    own = name.lower().removesuffix("/value").split("/")[-1].rstrip("_0123456789")
    if len(shape) < 2 or name in tables or "embedding" in own or own in _NO_KERNELS:
        return False
    return own in _KERNELS or math.prod(shape[:-1]) != 1


def _tables(params: Any) -> set[str]:
    """Leaves of modules that are called Embedding, as those of Equinox are."""

    def is_table(node):
        return type(node).__name__ == "Embedding"

    nodes = jax.tree_util.tree_leaves_with_path(params, is_leaf=is_table)
    return {
        path_name((*above, *below))
        for above, node in nodes
        if is_table(node)
        for below, _ in jax.tree_util.tree_leaves_with_path(node)
    }
