"""What of analog weights is in a value: themselves, or something made of them.

Devices hold weights as they are. A value of nothing else, transposed, cut or put
together, is still what crossbars multiply by; one that an operation has changed is not.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from flax.core import FrozenDict
from jax.extend import core

from hic_jax.rewriting.equations import REARRANGEMENTS
from hic_jax.tracing.rules import LOOKUPS

_ONE_TO_ONE = ("optimization_barrier", "device_put")


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a value comes from, as far as analog weights are concerned.

    Attributes:
      inputs: whether it depends on what is no analog weight: arguments, digital
        parameters, results of crossbars.
      held: for each analog weight in it, by its path, the operation that changed its
        entries; None where all are as the devices hold them.
      zero: whether it is nothing but zeros, which cells of any array may hold.
      moved: of what is one analog weight, moved about as a whole: how, as a function of
        an array in its shape; None of all else.
    """

    inputs: bool = False
    held: Mapping[str, str | None] = FrozenDict()
    zero: bool = False
    moved: Callable[[Any], Any] | None = dataclasses.field(default=None, compare=False)

    @classmethod
    def of_weight(cls, path: str) -> "Origin":
        """An analog weight itself."""
        return cls(held={path: None}, moved=lambda x: x)

    @property
    def unmoved(self) -> "Origin":
        """The same, as if nobody knew how it was moved: of a loop, a part at a time."""
        return dataclasses.replace(self, moved=None)

    @property
    def intact(self) -> bool:
        """Whether it is made of analog weights that nothing has changed."""
        return bool(self.held) and not any(self.held.values())

    def changed(self, kind: str) -> "Origin":
        """After an operation that changes entries, if none did before."""
        held = {path: before or kind for path, before in self.held.items()}
        return dataclasses.replace(self, held=FrozenDict(held))


# What a crossbar computes, and whatever else is no weight.
ACTIVATION = Origin(inputs=True)


def united(origins: Sequence[Origin]) -> Origin:
    """What goes into one operation; of what is intact in one place, it says so."""
    held: dict[str, str | None] = {}
    for origin in origins:
        for path, change in origin.held.items():
            held[path] = change and held.get(path, change)
    return Origin(any(o.inputs for o in origins), FrozenDict(held))


def either(one: Origin, other: Origin, kind: str) -> Origin:
    """What is one of both, nobody can tell which; ``kind`` is the call that chooses."""
    both = united([one, other])
    return both if one.held == other.held else both.changed(kind)


def results(equation: core.JaxprEqn, given: Sequence[Origin]) -> list[Origin]:
    """Origins of the results of an equation that calls no other program."""
    kind, count = equation.primitive.name, len(equation.outvars)
    if kind in _ONE_TO_ONE:
        return list(given)
    if kind in LOOKUPS:
        if any(where.inputs for where in given[1:]):
            return [ACTIVATION] * count  # A digital read of some entries.
        return [given[0].unmoved] * count
    made = united(given)
    if not (_rearranges(equation) and all(o.intact or o.zero for o in given)):
        return [made.changed(kind)] * count
    return [
        dataclasses.replace(
            made, zero=not made.held, moved=_moved(equation, given, number)
        )
        for number in range(count)
    ]


def _moved(
    equation: core.JaxprEqn, given: Sequence[Origin], number: int
) -> Callable[[Any], Any] | None:
    """How a result is moved, where one operand alone is."""
    if len(given) != 1 or given[0].moved is None:
        return None
    before, primitive = given[0].moved, equation.primitive

    def after(x):
        made = primitive.bind(before(x), **equation.params)
        return made[number] if primitive.multiple_results else made

    return after


def _rearranges(equation: core.JaxprEqn) -> bool:
    """Whether the entries of its results are those of its operands."""
    kind = equation.primitive.name
    if kind == "convert_element_type":
        return jnp.issubdtype(equation.params["new_dtype"], jnp.inexact)
    return kind in REARRANGEMENTS
