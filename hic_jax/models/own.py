"""A network of the user's own, by the name of the function that makes it."""

import importlib
import inspect
import re
from collections.abc import Callable

import flax.linen as nn
import jax
from jax.typing import DTypeLike

from hic_jax.crossbar import LayerCrossbars
from hic_jax.labels import analog_labels

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
        arguments that it takes. It has to take ``num_classes``, and what of the rest is
        not as usual.
      num_classes: number of logits.
      width: multiplier of channels, 1 as usual.
      crossbars: what computes the layers, all of them digitally as usual.
      dtype: number format of the computation, float32 as usual.

    Raises:
      ValueError: if there is no such factory, it does not take what it has to, or
        returns something else than a Linen module.
    """
    factory = factory_of(name)
    parameters = inspect.signature(factory).parameters.values()
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    taken = {parameter.name for parameter in parameters}
    for argument, unusual, instead in (
        ("num_classes", True, ""),
        ("width", width != 1, f" for width={width:g}"),
        ("crossbars", crossbars.default is not None, " for converters (--noconverters"
         " does without)"),
        ("dtype", dtype != "float32", f" for compute_dtype={dtype}"),
    ):  # fmt: skip
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
    return model


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
        logits, variables = model.init_with_output(key, x, train=False)
        return logits, variables.get("params", {})

    one = jax.ShapeDtypeStruct((1, *example.shape), example.dtype)
    try:
        logits, params = jax.eval_shape(initialised, jax.random.key(0), one)
    except Exception as error:  # Whatever the user's module raises.
        raise ValueError(
            f"model={name}: cannot be called with inputs of {one.shape} {one.dtype} "
            f"and train=False ({type(error).__name__}: {str(error).splitlines()[0]})"
        ) from error
    places = example.shape if len(example.shape) == 1 else ()
    wanted = (1, *places, num_classes)
    if getattr(logits, "shape", None) != wanted:
        raise ValueError(
            f"model={name}: gives logits of {getattr(logits, 'shape', logits)}; must "
            f"give {wanted}"
        )
    if "analog" not in jax.tree.leaves(analog_labels(params)):
        raise ValueError(f"model={name}: has no kernel; must have one")
