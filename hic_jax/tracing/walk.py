"""Tracing of a model: every value is followed from where it comes to where it goes.

Any function that JAX can trace will do: Linen, nnx through `flax.nnx.split`, or plain
code; layers that are computed by crossbars and layers that are not.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.extend import core

from hic_jax.array_leaves import is_array, parted
from hic_jax.crossbar.geometry import (
    Geometry,
    Tag,
    convolution_roles,
    matrix_roles,
    read_tag,
)
from hic_jax.kernel_axes import KernelAxes
from hic_jax.packing import path_name
from hic_jax.releases import sizes_of_scan
from hic_jax.tracing import rules
from hic_jax.tracing.parts import Part, Parts
from hic_jax.tracing.products import Product, shared
from hic_jax.tracing.programs import called, crossbar_notes
from hic_jax.tracing.values import Value, either, joined, moved, spread

# Calls whose inner program runs nobody knows how often, or on parts of its arguments.
_UNCOUNTABLE = ("cond", "while", "shard_map", "pallas_call")


@dataclasses.dataclass(frozen=True)
class Trace:
    """What a trace of a model found.

    Attributes:
      products: all, in their order.
      tables: paths of parameters in which something is looked up by the inputs, as an
        embedding is.
      uncounted: a call, as "while", of which nobody can tell how often it computes the
        products inside, which count once; None if there is none.
    """

    products: list[Product]
    tables: frozenset[str]
    uncounted: str | None = None


def trace(function: Callable[..., Any], params: Any, *inputs: Any) -> Trace:
    """Traces ``function(params, *inputs)``; see `products`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    shapes = {path_name(path): tuple(x.shape) for path, x in leaves if is_array(x)}
    arrays, rebuilt = parted((params, inputs))

    def of_arrays(*arrays):
        params, inputs = rebuilt(arrays)
        return parted(function(params, *inputs))[0]

    return trace_jaxpr(jax.make_jaxpr(of_arrays)(*arrays).jaxpr, shapes)


def trace_jaxpr(jaxpr: core.Jaxpr, shapes: Mapping[str, tuple[int, ...]]) -> Trace:
    """What is in a jaxpr whose first arguments are parameters of these shapes."""
    values = [Value(parts=(Part.of(*item),)) for item in shapes.items()]
    values += [Value(inputs=True)] * (len(jaxpr.invars) - len(values))
    walk = _Walk(shapes)
    walk.follow(jaxpr, values, repeats=1)
    return Trace(walk.products, frozenset(walk.tables), walk.uncounted)


def products(function: Callable[..., Any], params: Any, *inputs: Any) -> list[Product]:
    """Traces ``function(params, *inputs)`` and lists its products, in their order.

    An operand of a product is its weights if it is made of parameters alone, whatever
    is done to them first. Where both operands are, the right one is. Of several
    parameters each has a product, if they were concatenated, and the largest has it
    all, if they make the same entries.

    Args:
      function: the model; what it closes over counts as neither parameter nor input.
      params: pytree of arrays, or of `jax.ShapeDtypeStruct`; other leaves, as the
        functions in a module of Equinox, are no parameters.
      *inputs: pytrees of arrays, or of `jax.ShapeDtypeStruct`; other leaves, as flags,
        are handed on as they are.

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
    traced = trace(function, params, *inputs)
    if traced.uncounted:
        raise ValueError(
            f"function: has a product inside {traced.uncounted!r}; how often it is "
            "computed cannot be told"
        )
    return traced.products


def find_kernel_axes(
    function: Callable[..., Any], params: Any, *inputs: Any
) -> dict[str, KernelAxes]:
    """Which axes of each kernel of a model are rows, columns, and a stack.

    Rows are the axes that a product contracts. Axes of a stack are batch axes of a
    product, those that a scan takes one after the other, and those that are indexed
    away. Where the first product with a parameter and the inputs does not tell, because
    a reshape has cut across the axes, the last is the columns: `KernelAxes.plain`.

    Args:
      function: as of `products`.
      params: as of `products`.
      *inputs: as of `products`.

    Returns:
      The axes by path of the parameter; parameters that are the weights of no product
      are left out.

    Examples:
      >>> import flax.linen as nn, jax.numpy as jnp
      >>> model, x = nn.MultiHeadAttention(2), jnp.zeros((5, 8))
      >>> params = model.init(jax.random.key(0), x)["params"]
      >>> apply = lambda params, x: model.apply({"params": params}, x)
      >>> find_kernel_axes(apply, params, x)["query/kernel"]
      KernelAxes(stack=(), columns=(1, 2))
    """
    found = trace(function, params, *inputs).products
    first = [p for p in found if p.of_inputs] + [p for p in found if not p.of_inputs]
    axes: dict[str, KernelAxes] = {}
    for p in first:
        if p.parameter is not None and p.axes is not None:
            axes.setdefault(p.parameter, p.axes)
    return axes


class _Walk:
    """Follows where every value of a jaxpr comes from."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]):
        self.shapes = shapes
        self.products: list[Product] = []
        self.tables: set[str] = set()
        self.uncounted: str | None = None

    def follow(
        self, jaxpr: core.Jaxpr, given: Sequence[Value], repeats: int
    ) -> list[Value]:
        """The results, from the arguments."""
        known = dict(zip(jaxpr.invars, given, strict=True))

        def value(atom: core.Var | core.Literal) -> Value:
            if isinstance(atom, core.Literal):
                return Value()
            return known.get(atom, Value())  # A constant of the closure.

        notes = crossbar_notes(jaxpr)
        for equation in jaxpr.eqns:
            operands = [value(atom) for atom in equation.invars]
            note = notes.get(equation.outvars[0]) if equation.outvars else None
            tag = read_tag(note) if note else None
            made = self._made(equation, operands, tag, repeats)
            known.update(zip(equation.outvars, made, strict=True))
        return [value(atom) for atom in jaxpr.outvars]

    def _made(
        self,
        equation: core.JaxprEqn,
        given: list[Value],
        tag: Tag | None,
        repeats: int,
    ) -> list[Value]:
        """The results of an equation; notes the products in it."""
        kind, fields = equation.primitive.name, equation.params
        if tag is not None:
            self._note_crossbar(equation, given, tag, repeats)
        elif kind in ("dot_general", "ragged_dot_general"):
            self._note_matrices(equation, given, repeats)
        elif kind == "conv_general_dilated":
            self._note_convolution(equation, given, repeats)
        elif kind in rules.LOOKUPS and any(index.inputs for index in given[1:]):
            self.tables.update(part.parameter for part in given[0].parts)
        elif kind == "scan":
            return self._scan(fields, given, repeats)
        elif inner := called(fields):
            return self._inside(equation, inner, given, repeats)
        parts: list[Parts] = [()] * len(equation.outvars)
        if not any(value.inputs for value in given):
            parts = rules.results(equation, [value.parts for value in given])
        return [joined(given, p) for p in parts]

    def _inside(
        self,
        equation: core.JaxprEqn,
        inner: list[core.Jaxpr],
        given: list[Value],
        repeats: int,
    ) -> list[Value]:
        """The results of an equation that calls others."""
        kind, fields = equation.primitive.name, equation.params
        before = len(self.products)
        if kind == "cond":
            branches = [self.follow(jaxpr, given[1:], repeats) for jaxpr in inner]
            made = [
                either([Value(inputs=given[0].inputs), *values])
                for values in zip(*branches, strict=True)
            ]
        elif kind == "while":
            made = self._while(fields, given, repeats)
        else:
            sizes = rules.shapes_of(equation.invars)
            within = [rules.shapes_of(jaxpr.invars) for jaxpr in inner]
            if kind not in _UNCOUNTABLE and within[0] == sizes:
                return self.follow(inner[0], given, repeats)
            for jaxpr, shapes in zip(inner, within, strict=True):
                anything = [joined(given, spread(given, shape)) for shape in shapes]
                self.follow(jaxpr, anything, repeats)
            shapes = rules.shapes_of(equation.outvars)
            made = [joined(given, spread(given, shape)) for shape in shapes]
        if len(self.products) > before:
            self.uncounted = self.uncounted or kind
        return made

    def _scan(
        self, fields: dict[str, Any], given: list[Value], repeats: int
    ) -> list[Value]:
        """The results of a scan, whose rounds hand on what depends on more and more."""
        length, jaxpr = fields["length"], fields["jaxpr"].jaxpr
        consts, handed_on = sizes_of_scan(fields)
        carried = slice(consts, consts + handed_on)
        given = [
            moved(
                value,
                functools.partial(
                    Part.into_loop, length=length, scanned=i >= carried.stop
                ),
            )
            for i, value in enumerate(given)
        ]
        made = self._repeated(jaxpr, given, carried, repeats * length)
        return [
            moved(
                value,
                functools.partial(Part.out_of_loop, stacked=i >= handed_on),
            )
            for i, value in enumerate(made)
        ]

    def _while(
        self, fields: dict[str, Any], given: list[Value], repeats: int
    ) -> list[Value]:
        """The results of a while loop, which also go into its condition."""
        consts = fields["cond_nconsts"], fields["body_nconsts"]
        body = given[consts[0] :]
        carried = slice(consts[1], len(body))
        self._repeated(fields["body_jaxpr"].jaxpr, body, carried, repeats)
        looked_at = [*given[: consts[0]], *body[carried]]
        self.follow(fields["cond_jaxpr"].jaxpr, looked_at, repeats)
        return body[carried]

    def _repeated(
        self, jaxpr: core.Jaxpr, given: list[Value], carried: slice, repeats: int
    ) -> list[Value]:
        """The results of rounds that hand on some of ``given``, which it updates."""
        noted = len(self.products)
        while True:
            made = self.follow(jaxpr, given, repeats)
            before = given[carried]
            given[carried] = [either(pair) for pair in zip(before, made, strict=False)]
            if given[carried] == before:
                return made
            del self.products[noted:]

    def _note_crossbar(
        self, equation: core.JaxprEqn, given: list[Value], tag: Tag, repeats: int
    ) -> None:
        if equation.primitive.name != "custom_vjp_call":
            raise ValueError("function: must be a forward pass, without its gradient")
        geometry = tag.geometry
        one = geometry.groups * geometry.positions * geometry.columns
        (result, *_) = rules.shapes_of(equation.outvars)
        repeats *= math.prod(result) // max(one, 1)  # Inside vmap.
        consts = equation.params["num_consts"]
        shape = rules.shapes_of(equation.invars)[consts + 1]
        roles = _mapped(tag.roles, tag.weights, shape)
        tile = (tag.tile_rows, tag.tile_columns)
        lhs, rhs = given[consts : consts + 2]
        self._note(lhs, rhs, geometry, roles, repeats, tile)

    def _note_matrices(
        self, equation: core.JaxprEqn, given: list[Value], repeats: int
    ) -> None:
        """Notes a matrix product.

        In a ragged one each row of the left operand multiplies the matrix of one group:
        those of all groups together are as many as the rows of one product.
        """
        lhs, rhs = given[:2]
        fields, shapes = equation.params, rules.shapes_of(equation.invars[:2])
        groups = ()
        if equation.primitive.name == "ragged_dot_general":
            ragged = fields["ragged_dot_dimension_numbers"]
            rows, batch = ragged.dot_dimension_numbers
            groups = ragged.rhs_group_dimensions
        else:
            rows, batch = fields["dimension_numbers"]
            if not rhs.parts and lhs.parts:
                lhs, rhs = rhs, lhs
                shapes, rows, batch = shapes[::-1], rows[::-1], batch[::-1]
        roles = matrix_roles(len(shapes[1]), rows[1], batch[1], groups)
        shapes[1] = tuple(1 if a in groups else n for a, n in enumerate(shapes[1]))
        geometry = Geometry.of_matrices(shapes[0], shapes[1], (rows, batch))
        self._note(lhs, rhs, geometry, roles, repeats)

    def _note_convolution(
        self, equation: core.JaxprEqn, given: list[Value], repeats: int
    ) -> None:
        lhs, rhs = given
        fields = equation.params
        inputs, kernel = rules.shapes_of(equation.invars)
        (result,) = rules.shapes_of(equation.outvars)
        numbers = fields["dimension_numbers"]
        geometry = Geometry.of_convolution(
            inputs,
            kernel,
            result,
            numbers,
            fields["feature_group_count"],
            window_strides=fields["window_strides"],
            padding=fields["padding"],
            lhs_dilation=fields["lhs_dilation"],
            rhs_dilation=fields["rhs_dilation"],
        )
        self._note(lhs, rhs, geometry, convolution_roles(numbers), repeats)

    def _note(
        self,
        lhs: Value,
        rhs: Value,
        geometry: Geometry,
        roles: Sequence[str],
        repeats: int,
        tile: tuple[int, int] | None = None,
    ) -> None:
        errors = [lhs] if rhs.parts else [lhs, rhs]
        whole = Product(
            parameter=None,
            geometry=geometry,
            tile=tile,
            repeats=repeats,
            of_inputs=any(value.inputs for value in errors),
            backward_products=sum(bool(v.trained or v.parts) for v in errors),
        )
        if rhs.parts:
            self.products += shared(whole, rhs.parts, roles, self.shapes)
        else:
            self.products.append(whole)


def _mapped(
    roles: Sequence[str], weights: Sequence[int], shape: Sequence[int]
) -> list[str]:
    """Roles of the axes of weights to which `jax.vmap` added some, rather in front."""
    added = len(shape) - len(weights)
    for axes in itertools.combinations(range(len(shape)), added):
        if [n for a, n in enumerate(shape) if a not in axes] == list(weights):
            own = iter(roles)
            return ["repeats" if a in axes else next(own) for a in range(len(shape))]
    raise AssertionError(f"weights of {shape}, tagged as of {weights}")
