"""A network of the user's own, by the name of the function that makes it."""

import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
from flax.traverse_util import flatten_dict
from jax.typing import DTypeLike

from hic_jax import crossbar
from hic_jax.crossbar import LayerCrossbars
from hic_jax.labels import analog_labels
from hic_jax.rewriting import on_crossbars

_NAME = re.compile(r"[\w.]+:\w+")


def is_own(name: str) -> bool:
    """Whether a name is that of a function in a module, as package.module:factory."""
    return _NAME.fullmatch(name) is not None


def factory_of(name: str) -> Callable[..., nn.Module]:
    """The function that a name as package.module:factory means.

    Raises:
      ValueError: if there is no such module, or nothing of that name in it that can be
        called.
    """
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # Whatever the user's module raises.
        kind = type(error).__name__
        raise ValueError(
            f"model={name}: {module_name} cannot be imported ({kind}: {error}); must "
            "be package.module:factory"
        ) from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        there = "is no function" if hasattr(module, attribute) else "is not there"
        raise ValueError(
            f"model={name}: {attribute} {there} in {module_name}; must be a function "
            "that returns a flax.linen.Module"
        )
    return factory


class Rewritten(nn.Module):
    """A network that knows nothing of crossbars, whose layers they compute.

    It has the parameters and the other variables of the network. Analog is what
    `hic_jax.analog_labels` calls so by name and shape, as in training.

    Attributes:
      model: the network.
      crossbars: what computes its layers, by their paths.
    """

    model: nn.Module
    crossbars: LayerCrossbars

    @nn.nowrap
    def init(self, *arguments: Any, **options: Any) -> Any:
        """Variables of the network, which no crossbar is needed for."""
        return self.model.init(*arguments, **options)

    @nn.nowrap
    def apply(
        self, variables: Mapping[str, Any], *arguments: Any, **options: Any
    ) -> Any:
        """What the network makes of its variables and inputs, on crossbars."""
        labels = {"params": analog_labels(variables["params"])}
        leaves = flatten_dict(variables["params"], sep="/")
        rules = {
            f"params/{re.escape(layer)}/": spec
            for layer, spec in self.crossbars.layers.items()
            if any(leaf.startswith(f"{layer}/") for leaf in leaves)
        }
        computed = on_crossbars(
            self.model.apply, self.crossbars.default, rules=rules, analog=labels
        )
        return computed(variables, *arguments, **options)

    @property
    def context(self) -> Any:
        """Characters that a network of text is shown at once; None for images."""
        return getattr(self.model, "context", None)


def make_own(
    name: str,
    *,
    num_classes: int,
    width: float,
    crossbars: LayerCrossbars,
    dtype: DTypeLike,
) -> nn.Module:
    """A network of the user's own.

    Args:
      name: as package.module:factory. The factory is given those of the other
        arguments that it takes. It has to take ``num_classes``, and what of width and
        dtype is not as usual.
      num_classes: number of logits.
      width: multiplier of channels, 1 as usual.
      crossbars: what computes the layers, all of them digitally as usual. They are put
        under the network of a factory that does not take them; see `Rewritten`.
      dtype: number format of the computation, float32 as usual.

    Raises:
      ValueError: if there is no such factory, it does not take what it has to, or
        returns something else than a Linen module; for crossbars that need hooks, if
        it does not take them.
    """
    factory = factory_of(name)
    parameters = inspect.signature(factory).parameters.values()
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    taken = {parameter.name for parameter in parameters}
    for argument, unusual, instead in (
        ("num_classes", True, ""),
        ("width", width != 1, f" for width={width:g}"),
        ("dtype", dtype != "float32", f" for compute_dtype={dtype}"),
    ):
        if unusual and not (takes_all or argument in taken):
            raise ValueError(f"model={name}: must take an argument {argument}{instead}")
    arguments = {
        "num_classes": num_classes,
        "width": width,
        "crossbars": crossbars,
        "dtype": dtype,
    }
    given = {k: v for k, v in arguments.items() if takes_all or k in taken}
    model = factory(**given)
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"model={name}: returns a {type(model).__name__}; must return a "
            "flax.linen.Module"
        )
    if "crossbars" in given or not crossbars.specs:
        return model
    try:
        for spec in crossbars.specs:
            on_crossbars(model.apply, spec)  # Whether it can be.
    except ValueError as error:
        raise ValueError(
            f"model={name}: must take an argument crossbars, for {error}"
        ) from error
    return Rewritten(model, crossbars)


def check_own(
    name: str, model: nn.Module, example: jax.ShapeDtypeStruct, num_classes: int
) -> None:
    """Raises `ValueError` unless a network can be trained on examples.

    Args:
      name: of its factory.
      model: the network.
      example: one input.
      num_classes: number of logits that it is to give: one set for an image, one for
        each character of a text.
    """

    def initialised(key, x):
        variables = model.init(key, x, train=False)
        params = variables.get("params", {})
        if "analog" not in jax.tree.leaves(analog_labels(params)):
            return None, params  # Crossbars would have nothing to compute.
        logits = model.apply(variables, x, train=False, rngs=crossbar.rngs(key))
        return logits, params

    one = jax.ShapeDtypeStruct((1, *example.shape), example.dtype)
    try:
        logits, params = jax.eval_shape(initialised, jax.random.key(0), one)
    except Exception as error:  # Whatever the user's module raises.
        raise ValueError(
            f"model={name}: cannot be called with inputs of {one.shape} {one.dtype} "
            f"and train=False ({type(error).__name__}: {str(error).splitlines()[0]})"
        ) from error
    if "analog" not in jax.tree.leaves(analog_labels(params)):
        raise ValueError(f"model={name}: has no kernel; must have one")
    places = example.shape if len(example.shape) == 1 else ()
    wanted = (1, *places, num_classes)
    if getattr(logits, "shape", None) != wanted:
        raise ValueError(
            f"model={name}: gives logits of {getattr(logits, 'shape', logits)}; must "
            f"give {wanted}"
        )
