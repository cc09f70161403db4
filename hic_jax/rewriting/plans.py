"""Which products of a jaxpr crossbars compute, before anything is changed."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from flax.core import FrozenDict
from jax.extend import core

from hic_jax.crossbar import CrossbarSpec
from hic_jax.releases import sizes_of_scan
from hic_jax.rewriting import equations
from hic_jax.rewriting.origins import ACTIVATION, Origin, either, results
from hic_jax.tracing.programs import called, crossbar_notes


@dataclasses.dataclass(frozen=True)
class Changed:
    """A product with weights on devices, which is computed in another way.

    Attributes:
      spec: arrays and converters; None where it is digital, and noisy.
      weights: which of its operands are the weights, 0 or 1.
      noisy: what the variance of the weights is called, if they have noise that is new
        in every product.
      moved: how these weights were moved on their way to the product.
    """

    spec: CrossbarSpec | None
    weights: int
    noisy: str | None = None
    moved: Callable[[Any], Any] | None = None


# By the number of an equation; for one that calls others, the plans of these.
Plan = dict[int, "Changed | tuple[Plan, ...]"]


class Planner:
    """Follows analog weights through a jaxpr, into the programs that it calls.

    Args:
      specs: crossbars of every analog weight, by its path; None where products with it
        are digital, and noisy.
      noisy: of those whose noise is new in every product, what their variances are
        called.

    Attributes:
      seen: paths of the weights that go into any operation.
      multiplied: paths of those that a product on crossbars multiplies by.
    """

    def __init__(
        self,
        specs: Mapping[str, CrossbarSpec | None],
        noisy: Mapping[str, str] = FrozenDict(),
    ):
        self.seen: set[str] = set()
        self.multiplied: set[str] = set()
        self._specs = specs
        self._noisy = noisy

    def plan(
        self, jaxpr: core.Jaxpr, given: Sequence[Origin], derivative: bool = False
    ) -> tuple[Plan, list[Origin]]:
        """What is to be changed, and the origins of the results.

        Args:
          jaxpr: the program.
          given: origins of its arguments; its constants have none.
          derivative: whether it is called by what `jax.grad` and the like have made.

        Raises:
          ValueError: for a product with an analog weight that crossbars cannot compute.
        """
        known = dict(zip(jaxpr.invars, given, strict=True))

        def origin(atom: core.Var | core.Literal) -> Origin:
            if isinstance(atom, core.Literal):
                return Origin(zero=bool(np.all(atom.val == 0)))
            return known.get(atom, Origin())

        notes = crossbar_notes(jaxpr)
        found: Plan = {}
        for number, equation in enumerate(jaxpr.eqns):
            operands = [origin(atom) for atom in equation.invars]
            self.seen.update(path for o in operands for path in o.held)
            if equation.outvars and equation.outvars[0] in notes:  # By a hook already.
                made = [ACTIVATION] * len(equation.outvars)
                self.multiplied.update(path for o in operands for path in o.held)
            else:
                inside = derivative or equations.of_derivative(equation)
                change, made = self._equation(equation, operands, inside)
                if change:
                    found[number] = change
            known.update(zip(equation.outvars, made, strict=True))
        return found, [origin(atom) for atom in jaxpr.outvars]

    def _equation(
        self, equation: core.JaxprEqn, given: list[Origin], derivative: bool
    ) -> tuple[Any, list[Origin]]:
        kind, fields = equation.primitive.name, equation.params
        inner = called(fields)

        def plan(jaxpr, given):
            return self.plan(jaxpr, given, derivative)

        if kind in equations.PRODUCTS:
            return self._product(equation, given, derivative)
        if kind in equations.CALLS:
            plans, made = _one(plan(inner[0], given))
        elif kind == "scan":
            given = [origin.unmoved for origin in given]
            consts, handed_on = sizes_of_scan(fields)
            carried = slice(consts, consts + handed_on)
            plans, made = _one(_rounds(plan, inner[0], given, carried, kind))
        elif kind == "while":
            given = [origin.unmoved for origin in given]
            plans, made = _while(plan, fields, given)
        elif kind == "cond" and not fields.get("branches_platforms"):
            # Those of `jax.lax.platform_dependent` cannot be made anew.
            plans, made = _cond(plan, inner, given)
        else:
            weights = sorted(path for origin in given for path in origin.held)
            if weights and any(map(_multiplies, inner)):
                raise ValueError(
                    f"{weights[0]}: goes into a {kind!r} with a product inside, in "
                    f"which no crossbar can be put; {_REMEDY}"
                )
            return None, results(equation, given)
        return plans if any(plans) else None, made

    def _product(
        self, equation: core.JaxprEqn, given: list[Origin], derivative: bool
    ) -> tuple[Changed | None, list[Origin]]:
        kind = equation.primitive.name
        intact = [i for i in (0, 1) if given[i].intact]
        if len(intact) == 1:
            (side,) = intact
            other = given[1 - side]
            if other.inputs or not other.held:
                return self._changed(given[side], kind, side, derivative), [ACTIVATION]
        elif not intact and any(origin.inputs for origin in given[:2]):
            for origin in given[:2]:
                _refuse_changed(origin)
        return None, results(equation, given)  # Arithmetic on weights, or on none.

    def _changed(
        self, weights: Origin, kind: str, side: int, derivative: bool
    ) -> Changed:
        """How a product is computed; raises if it cannot be."""
        first, *others = sorted(weights.held)
        if derivative:
            raise ValueError(
                f"function: takes a derivative, with {first} in a product; must be a "
                "forward pass, of which derivatives are taken from outside"
            )
        if kind not in (equations.MATRICES, equations.CONVOLUTION):
            raise ValueError(
                f"{first}: is multiplied by {kind!r}, which crossbars do not compute; "
                f"{_REMEDY}"
            )
        if kind == equations.CONVOLUTION and side == 0:
            raise ValueError(
                f"{first}: is the image of a convolution; must be a kernel, or digital"
            )
        spec = self._specs[first]
        for path in others:
            if self._specs[path] != spec:
                raise ValueError(
                    f"{first}, {path}: are weights of one product, and have different "
                    "crossbars; must have the same"
                )
        self.multiplied.update(weights.held)
        noisy = [path for path in weights.held if path in self._noisy]
        if noisy and weights.moved is None:
            raise ValueError(
                f"{noisy[0]}: has noise that is new in every product, and is multiplied"
                " in a loop, or beside other weights; must be multiplied by itself"
            )
        if noisy:
            return Changed(spec, side, self._noisy[first], weights.moved)
        return Changed(spec, side)


_REMEDY = "must be multiplied as it is, or be digital"


def _refuse_changed(origin: Origin) -> None:
    for path, kind in sorted(origin.held.items()):
        raise ValueError(
            f"{path}: reaches a product after {kind!r} has changed it, and devices "
            f"hold weights as they are; {_REMEDY}"
        )


def _multiplies(jaxpr: core.Jaxpr) -> bool:
    """Whether there is a product in a program."""
    return any(
        equation.primitive.name in equations.PRODUCTS
        or any(map(_multiplies, called(equation.params)))
        for equation in jaxpr.eqns
    )


def _one(planned: tuple[Plan, list[Origin]]) -> tuple[tuple[Plan, ...], list[Origin]]:
    found, made = planned
    return (found,), made


_PlanFunction = Callable[[core.Jaxpr, Sequence[Origin]], tuple[Plan, list[Origin]]]


def _rounds(
    plan: _PlanFunction,
    jaxpr: core.Jaxpr,
    given: list[Origin],
    carried: slice,
    kind: str,
) -> tuple[Plan, list[Origin]]:
    """The plan of rounds that hand on some of ``given``, which it updates."""
    while True:
        found, made = plan(jaxpr, given)
        before = given[carried]
        given[carried] = [
            either(old, new, kind) for old, new in zip(before, made, strict=False)
        ]
        if given[carried] == before:
            return found, [*before, *made[len(before) :]]


def _while(
    plan: _PlanFunction, fields: dict[str, Any], given: list[Origin]
) -> tuple[tuple[Plan, ...], list[Origin]]:
    ends, goes = fields["cond_nconsts"], fields["body_nconsts"]
    body = given[ends:]
    carried = slice(goes, len(body))
    found, _ = _rounds(plan, fields["body_jaxpr"].jaxpr, body, carried, "while")
    condition, _ = plan(fields["cond_jaxpr"].jaxpr, [*given[:ends], *body[carried]])
    return (condition, found), body[carried]


def _cond(
    plan: _PlanFunction, branches: list[core.Jaxpr], given: list[Origin]
) -> tuple[tuple[Plan, ...], list[Origin]]:
    planned = [plan(branch, given[1:]) for branch in branches]
    made = planned[0][1]
    for _, others in planned[1:]:
        made = [either(*pair, "cond") for pair in zip(made, others, strict=True)]
    return tuple(found for found, _ in planned), made
