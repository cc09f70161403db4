"""The products with weights in a model, found by tracing it once.

Any function that JAX can trace will do: Linen, nnx through `flax.nnx.split`, or plain
code; layers that are computed by crossbars and layers that are not.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core

from hic_jax.crossbar.geometry import Geometry, Tag, read_tag
from hic_jax.packing import path_name

# What a value is made of: names of parameters, and this for the inputs.
_INPUT = None
# Calls whose inner program runs nobody knows how often, or on parts of its arguments.
_UNCOUNTABLE = ("cond", "while", "shard_map", "pallas_call")
Origin = frozenset[str | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Product:
    """A matrix product or a convolution in a model.

    Attributes:
      parameter: path of its weights; None for a product of activations, as the scores
        of attention are.
      geometry: its sizes.
      tile: rows and columns of the arrays that compute it; None if none do.
      repeats: how often it is computed (in a scan).
      backward_products: products of the same size that bring its error back: one for
        each operand, weights aside, that depends on a parameter. The first layer
        has none.
    """

    parameter: str | None
    geometry: Geometry
    tile: tuple[int, int] | None = None
    repeats: int = 1
    backward_products: int = 0


def products(function: Callable[..., Any], params: Any, *inputs: Any) -> list[Product]:
    """Traces ``function(params, *inputs)`` and lists its products, in their order.

    An operand of a product is its weights if it is made of parameters alone, whatever
    is done to them first; of several parameters, the largest gives its name. Where both
    operands are, the right one is.

    Args:
      function: the model; what it closes over counts as neither parameter nor input.
      params: pytree of arrays, or of `jax.ShapeDtypeStruct`.
      *inputs: pytrees likewise.

    Returns:
      A `Product` for each.

    Raises:
      ValueError: if a product is inside a `jax.lax.cond`, `while_loop` or the like, so
        that nobody can tell how often it is computed.

    Examples:
      >>> import flax.linen as nn, jax.numpy as jnp
      >>> model = nn.Sequential([nn.Dense(4), nn.relu, nn.Dense(2)])
      >>> x = jnp.zeros((5, 3))
      >>> params = model.init(jax.random.key(0), x)
      >>> for p in products(model.apply, params, x):
      ...     print(p.parameter, p.geometry.macs, p.backward_products)
      params/layers_0/kernel 60 0
      params/layers_2/kernel 40 1
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    names = [path_name(path) for path, _ in leaves]
    sizes = {name: leaf.size for name, (_, leaf) in zip(names, leaves, strict=True)}
    jaxpr = jax.make_jaxpr(function)(params, *inputs).jaxpr
    origins: list[Origin] = [frozenset({name}) for name in names]
    origins += [frozenset({_INPUT})] * (len(jaxpr.invars) - len(names))
    trace = _Trace(sizes)
    trace.follow(jaxpr, origins, repeats=1)
    return trace.found


class _Trace:
    """Follows where every value of a jaxpr comes from."""

    def __init__(self, sizes: dict[str, int]):
        self.sizes = sizes
        self.found: list[Product] = []

    def follow(
        self, jaxpr: core.Jaxpr, origins: list[Origin], repeats: int
    ) -> list[Origin]:
        """Origins of the results, from those of the arguments."""
        known = dict(zip(jaxpr.invars, origins, strict=True))

        def origin(atom) -> Origin:
            if isinstance(atom, core.Literal):
                return frozenset()
            return known.get(atom, frozenset())  # A constant of the closure.

        tags = _tags(jaxpr)
        for equation in jaxpr.eqns:
            given = [origin(atom) for atom in equation.invars]
            tag = tags.get(equation.outvars[0]) if equation.outvars else None
            made = self._made(equation, given, tag, repeats)
            known.update(zip(equation.outvars, made, strict=True))
        return [origin(atom) for atom in jaxpr.outvars]

    def _made(self, equation, given, tag: Tag | None, repeats: int) -> list[Origin]:
        """Origins of an equation's results; notes the products in it."""
        kind, fields = equation.primitive.name, equation.params
        if tag is not None:
            self._note_crossbar(equation, given, tag, repeats)
        elif kind == "dot_general":
            self._note_matrices(equation, *given, repeats)
        elif kind == "conv_general_dilated":
            shapes = [v.aval.shape for v in (*equation.invars, *equation.outvars)]
            geometry = Geometry.of_convolution(
                *shapes, fields["dimension_numbers"], fields["feature_group_count"]
            )
            self._note(*given, geometry, repeats)
        elif inner := _called(fields):
            return self._inside(equation, inner, given, repeats)
        return [frozenset().union(*given)] * len(equation.outvars)

    def _inside(self, equation, inner, given, repeats) -> list[Origin]:
        """The same of an equation that calls others."""
        kind, anything = equation.primitive.name, frozenset().union(*given)
        if kind == "scan":
            consts = equation.params["num_consts"]
            carried = slice(consts, consts + equation.params["num_carry"])
            # What a round hands on may hold anything after it.
            given[carried] = [anything] * len(given[carried])
            repeats *= equation.params["length"]
        if kind not in _UNCOUNTABLE and len(inner[0].invars) == len(given):
            return self.follow(inner[0], given, repeats)
        before = len(self.found)
        for jaxpr in inner:
            self.follow(jaxpr, [anything] * len(jaxpr.invars), repeats)
        if len(self.found) > before:
            raise ValueError(
                f"function: has a product inside {kind!r}; how often it is computed "
                "cannot be told"
            )
        return [anything] * len(equation.outvars)

    def _note_crossbar(self, equation, given, tag, repeats) -> None:
        if equation.primitive.name != "custom_vjp_call":
            raise ValueError("function: must be a forward pass, without its gradient")
        geometry = tag.geometry
        one = geometry.groups * geometry.positions * geometry.columns
        repeats *= equation.outvars[0].aval.size // max(one, 1)  # Inside vmap.
        operands = given[equation.params["num_consts"] :][:2]
        tile = (tag.tile_rows, tag.tile_columns)
        self._note(*operands, geometry, repeats, tile)

    def _note_matrices(self, equation, lhs, rhs, repeats) -> None:
        shapes = [atom.aval.shape for atom in equation.invars]
        rows, batch = equation.params["dimension_numbers"]
        if not self._is_weights(rhs) and self._is_weights(lhs):
            lhs, rhs = rhs, lhs
            shapes, rows, batch = shapes[::-1], rows[::-1], batch[::-1]
        self._note(lhs, rhs, Geometry.of_matrices(*shapes, (rows, batch)), repeats)

    def _note(self, lhs, rhs, geometry, repeats, tile=None) -> None:
        weights = self._is_weights(rhs)
        parameter = (
            max(rhs, key=lambda name: (self.sizes[name], name)) if weights else None
        )
        errors = [lhs] if weights else [lhs, rhs]
        self.found.append(
            Product(
                parameter=parameter,
                geometry=geometry,
                tile=tile,
                repeats=repeats,
                backward_products=sum(bool(origin - {_INPUT}) for origin in errors),
            )
        )

    def _size_and_name(self, name: str) -> tuple[int, str]:
        return self.sizes[name], name

    @staticmethod
    def _is_weights(origin: Origin) -> bool:
        return bool(origin) and _INPUT not in origin


def _called(fields: dict[str, Any]) -> list[core.Jaxpr]:
    """The programs among the fields of an equation."""
    found = []
    for field in fields.values():
        for x in field if isinstance(field, tuple | list) else (field,):
            x = x.jaxpr if isinstance(x, core.ClosedJaxpr) else x
            found += [x] if isinstance(x, core.Jaxpr) else []
    return found


def _tags(jaxpr: core.Jaxpr) -> dict[Any, Tag]:
    """Notes of crossbars, by the variable that they are about."""
    named = [e for e in jaxpr.eqns if e.primitive.name == "name"]
    tags = {e.invars[0]: read_tag(e.params["name"]) for e in named}
    return {variable: tag for variable, tag in tags.items() if tag is not None}
