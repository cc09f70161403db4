"""Where a value of a model comes from: parameters, inputs, or both."""

import dataclasses
from collections.abc import Callable, Sequence

from hic_jax.tracing.parts import Part, Parts, united


@dataclasses.dataclass(frozen=True)
class Value:
    """Where a value comes from; a constant comes from nowhere.

    Attributes:
      inputs: whether it depends on the inputs of the model.
      trained: whether it depends on a parameter and on the inputs.
      parts: what each parameter brings to it, if they alone do.
    """

    inputs: bool = False
    trained: bool = False
    parts: Parts = ()


def joined(values: Sequence[Value], parts: Parts) -> Value:
    """What is made of all these, and has these parts if no input is among them."""
    if not any(v.inputs for v in values):
        return Value(parts=parts)
    return Value(inputs=True, trained=any(v.trained or v.parts for v in values))


def either(values: Sequence[Value]) -> Value:
    """What is one of these, nobody can tell which."""
    return joined(values, united(value.parts for value in values))


def moved(value: Value, move: Callable[[Part], Part]) -> Value:
    """A value whose parts lie elsewhere."""
    return dataclasses.replace(value, parts=tuple(map(move, value.parts)))


def spread(values: Sequence[Value], shape: tuple[int, ...]) -> Parts:
    """Parts in what is made of these, nobody can tell how."""
    return united(tuple(p.spread(shape) for p in v.parts) for v in values)
