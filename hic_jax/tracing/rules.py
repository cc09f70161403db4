"""What the operations of JAX do to the axes of parameters."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from jax.extend import core
from jax.lax import GatherDimensionNumbers

from hic_jax.tracing.parts import Part, Parts, concatenated, united

# Operations with several results, each of the operand in its place.
_ONE_TO_ONE = ("optimization_barrier", "device_put")
# Operations whose operands but for the first only say where.
LOOKUPS = ("gather", "dynamic_slice")

Shape = tuple[int, ...]


def shapes_of(atoms: Iterable[core.Var | core.Literal]) -> list[Shape]:
    """Shapes of arrays in a jaxpr, which JAX types as if they might have none."""
    arrays: list[Any] = [atom.aval for atom in atoms]
    return [array.shape for array in arrays]


def results(equation: core.JaxprEqn, given: Sequence[Parts]) -> list[Parts]:
    """What parameters bring to the results of an equation that calls no other program.

    Args:
      equation: of a jaxpr.
      given: what they bring to its operands.
    """
    kind, fields = equation.primitive.name, equation.params
    shapes, sizes = shapes_of(equation.outvars), shapes_of(equation.invars)
    if kind in _ONE_TO_ONE:
        return list(given)
    if kind in ("split", "unstack"):
        return _pieces(given[0], kind, fields, sizes[0], shapes)
    if kind in LOOKUPS:
        given = given[:1]
    found = []
    for shape in shapes:
        if kind == "concatenate":
            axis = fields["dimension"]
            found.append(concatenated(given, axis, [s[axis] for s in sizes]))
        elif kind == "stack":
            axis = fields["axis"]
            sources = [*range(axis), None, *range(axis, len(shape) - 1)]
            one = (*shape[:axis], 1, *shape[axis + 1 :])
            layers = [tuple(p.placed(sources, one) for p in parts) for parts in given]
            found.append(concatenated(layers, axis, [1] * len(given)))
        elif kind == "dot_general":
            found.append(_product(fields["dimension_numbers"], given, sizes, shape))
        else:
            moved = [
                tuple(q for p in parts if (q := _moved(equation, p, shape)))
                for parts in given
            ]
            found.append(united(moved))
    return found


def _moved(equation: core.JaxprEqn, part: Part, shape: Shape) -> Part | None:
    """A part of an operand in the result of an operation."""
    kind, fields = equation.primitive.name, equation.params
    ndim = len(part.axes)
    every = range(ndim)
    if kind == "transpose":
        return part.placed(fields["permutation"], shape)
    if kind == "squeeze":
        return part.placed([a for a in every if a not in fields["dimensions"]], shape)
    if kind == "broadcast_in_dim":
        kept = fields["broadcast_dimensions"]
        sources = [kept.index(a) if a in kept else None for a in range(len(shape))]
        return part.placed(sources, shape)
    if kind.startswith(("reduce_", "argm")) and "axes" in fields:
        return part.placed([a for a in every if a not in fields["axes"]], shape)
    if kind == "reshape":
        order = fields["dimensions"] or every
        return part.placed(order, [part.shape[a] for a in order]).reshaped(shape)
    if kind == "slice":
        steps = fields["strides"] or [1] * ndim
        starts, stops = fields["start_indices"], fields["limit_indices"]
        for cut in zip(every, starts, stops, steps, strict=True):
            kept = part.sliced(*cut)
            if kept is None:
                return None
            part = kept
        return part
    if kind == "pad":
        for axis, (low, high, between) in enumerate(fields["padding_config"]):
            if between or low < 0 or high < 0:
                return part.placed(every, shape)
            part = part.within(axis, shape[axis], low)
        return part
    if kind == "gather":
        return _gathered(part, fields["dimension_numbers"], shape)
    if ndim == len(shape):  # On single entries, or along an axis that stays one.
        return part.placed(every, shape)
    return part.spread(shape)


def _pieces(
    parts: Parts,
    kind: str,
    fields: dict[str, Any],
    size: Shape,
    shapes: Sequence[Shape],
) -> list[Parts]:
    axis = fields["axis"]
    widths = fields["sizes"] if kind == "split" else [1] * len(shapes)
    ends = list(itertools.accumulate(map(int, widths)))
    found = []
    for shape, end, width in zip(shapes, ends, widths, strict=True):
        cut = [p.sliced(axis, end - int(width), end) for p in parts]
        sources = [
            a for a in range(len(size)) if kind == "split" or a != axis % len(size)
        ]
        found.append(tuple(p.placed(sources, shape) for p in cut if p))
    return found


def _product(
    numbers: Any, given: Sequence[Parts], sizes: Sequence[Shape], shape: Shape
) -> Parts:
    """Parts in a matrix product of values that are both made of parameters."""
    rows, batches = numbers
    frees = [
        [a for a in range(len(size)) if a not in (*rows[i], *batches[i])]
        for i, size in enumerate(sizes)
    ]
    new = [[None] * len(free) for free in frees]
    sources = (
        [*batches[0], *frees[0], *new[1]],
        [*batches[1], *new[0], *frees[1]],
    )
    return united(
        tuple(p.placed(source, shape) for p in parts)
        for source, parts in zip(sources, given, strict=True)
    )


def _gathered(part: Part, numbers: GatherDimensionNumbers, shape: Shape) -> Part:
    """What a gather takes: slices of the value, along axes of the indices."""
    dropped = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    kept = iter([a for a in range(len(part.axes)) if a not in dropped])
    sources = [
        next(kept) if a in numbers.offset_dims else None for a in range(len(shape))
    ]
    indexed = tuple(part.axes[a] for a in numbers.start_index_map)
    picked = Part(part.parameter, indexed).spread(shape)
    axes = part.placed(sources, shape).axes
    axes = tuple(
        where if source is None else own
        for source, own, where in zip(sources, axes, picked.axes, strict=True)
    )
    return Part(part.parameter, axes, part.loops)
