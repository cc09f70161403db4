"""A product in a model: its sizes, and the parameters that are its weights."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

from hic_jax.crossbar.geometry import Geometry
from hic_jax.kernel_axes import KernelAxes
from hic_jax.tracing.parts import Part, Parts, joined

# What the axes of weights are, as axes of a kernel.
_KINDS = {
    "repeats": "stack",
    "groups": "stack",
    "features": "rows",
    "taps": "rows",
    "columns": "columns",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Product:
    """A matrix product or a convolution in a model.

    Attributes:
      parameter: path of the weights; None for a product of activations, as the scores
        of attention are.
      geometry: sizes of the product.
      axes: which axes of the parameter are rows, and which columns; None without one.
      others: paths of parameters that go into the weights without a place of their own,
        as the scale of weight normalisation does.
      tile: rows and columns of the arrays that compute it; None if none do.
      repeats: how often it is computed (in a scan).
      of_inputs: whether what it multiplies depends on the inputs of the model.
      backward_products: how many products of its size bring its error back: one for
        each operand, weights aside, that depends on a parameter. The first layer
        has none.
    """

    parameter: str | None
    geometry: Geometry
    axes: KernelAxes | None = None
    others: tuple[str, ...] = ()
    tile: tuple[int, int] | None = None
    repeats: int = 1
    of_inputs: bool = False
    backward_products: int = 0


def shared(
    product: Product,
    parts: Parts,
    roles: Sequence[str],
    shapes: Mapping[str, tuple[int, ...]],
) -> list[Product]:
    """A product for each of the parameters that are its weights, together the whole.

    Parameters that were concatenated, as the gates of an LSTM are, have their own rows
    or columns each. Of those that make the same entries, the largest counts as the
    weights. Entries that no parameter makes are in no product.

    Args:
      product: the whole, without a parameter.
      parts: what is in its weights.
      roles: what each axis of the weights is: "groups", "features", "taps", "columns",
        or "repeats" for weights of their own each time.
      shapes: of all parameters.
    """
    by_size = sorted(
        parts, key=lambda p: (math.prod(shapes[p.parameter]), p.parameter), reverse=True
    )
    holders: list[Part] = []
    for part in by_size:
        if all(part.apart(other) for other in holders):
            holders.append(part)
    holders = [part for part in dict.fromkeys(parts) if part in holders]
    shares = [s for part in holders if (s := _share(product, part, roles))]
    if len(shares) < len(holders):
        holders, shares = by_size[:1], [product]
    names = {part.parameter for part in holders}
    others = tuple(sorted({part.parameter for part in parts} - names))
    return [
        dataclasses.replace(
            share,
            parameter=part.parameter,
            axes=_kernel_axes(part, roles, product.geometry, shapes[part.parameter]),
            others=others,
        )
        for part, share in zip(holders, shares, strict=True)
    ]


def _share(product: Product, part: Part, roles: Sequence[str]) -> Product | None:
    """The product with a part of its weights; None if that is none by itself."""
    geometry = product.geometry
    names = ("repeats", "groups", "features", "taps", "columns")
    kept = dict.fromkeys(names, Fraction(1))
    held = [*zip(roles, map(joined, part.axes), strict=True)]
    held += [("repeats", loop) for loop in part.loops]
    for role, factor in held:
        kept[role] *= Fraction(factor.held, max(1, factor.size))
    if "groups" not in roles and (geometry.groups * kept["columns"]) % 1 == 0:
        # The outputs of a convolution's groups lie along one axis: whole groups.
        kept["groups"], kept["columns"] = kept["columns"], Fraction(1)
    repeats = product.repeats * kept.pop("repeats")
    sizes = {name: getattr(geometry, name) * share for name, share in kept.items()}
    if any(n % 1 for n in (repeats, *sizes.values())):
        return None
    if geometry.zeros and kept["taps"] != 1:
        return None
    whole = {name: int(n) for name, n in sizes.items()}
    return dataclasses.replace(
        product, geometry=dataclasses.replace(geometry, **whole), repeats=int(repeats)
    )


def _kernel_axes(
    part: Part, roles: Sequence[str], geometry: Geometry, shape: tuple[int, ...]
) -> KernelAxes:
    """Axes of a parameter, from where they lie in the weights of a product."""
    seen: list[set[str]] = [set() for _ in shape]
    along = [*zip(roles, part.axes, strict=True)]
    along += [("repeats", (loop,)) for loop in part.loops]
    for role, factors in along:
        outer = 1
        for i, factor in enumerate(factors):
            outer *= factor.size
            # Convolutions side by side, as `jax.vmap` makes of one.
            groups = i < len(factors) - 1 and geometry.groups % outer == 0
            kind = "stack" if role == "columns" and groups else _KINDS[role]
            for axis in factor.axes:
                seen[axis].add(kind)
    if any(len(kinds) > 1 for kinds in seen):
        return KernelAxes.plain(len(shape))
    for kinds, n in zip(seen, shape, strict=True):
        if not kinds and n > 1:  # Indexed away: matrices of their own.
            kinds.add("stack")
    # An axis of one may be lost, and may then be anything.
    if seen and not seen[-1] and not any("columns" in kinds for kinds in seen):
        seen[-1].add("columns")
    return KernelAxes(
        **{
            name: tuple(a for a, kinds in enumerate(seen) if name in kinds)
            for name in ("stack", "columns")
        }
    )
