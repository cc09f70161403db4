"""Where the axes of a parameter lie in a value that is made of it.

An axis of a value is a row of factors, outermost first: several where a reshape merged
axes, one that others have, too, where it cut one. Each knows which axes of the
parameter run along it. Where that cannot be followed, all of them may.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Sequence


@dataclasses.dataclass(frozen=True)
class Factor:
    """A factor of an axis of a value.

    Attributes:
      size: number of its entries.
      axes: axes of the parameter that run along it; none where it is repeated.
      start: first entry that the parameter makes.
      held: number of entries that it makes from there: all, unless others are
        concatenated to it.
    """

    size: int
    axes: frozenset[int]
    start: int
    held: int

    @classmethod
    def whole(cls, size: int, axes: Iterable[int] = ()) -> "Factor":
        """One that the parameter makes from end to end."""
        return cls(size, frozenset(axes), 0, size)

    @property
    def stop(self) -> int:
        """One after the last entry that the parameter makes."""
        return self.start + self.held

    def split(self, outer: int) -> tuple["Factor", "Factor"] | None:
        """Cuts it in two, the first of ``outer`` entries; None if no box is left."""
        inner = self.size // outer
        (first, begin), (last, end) = (
            divmod(self.start, inner),
            divmod(self.stop, inner),
        )
        if begin == end == 0:
            return (
                Factor(outer, self.axes, first, last - first),
                Factor.whole(inner, self.axes),
            )
        if first == (self.stop - 1) // inner:
            return (
                Factor(outer, self.axes, first, 1),
                Factor(inner, self.axes, begin, self.held),
            )
        return None


def joined(factors: Sequence[Factor]) -> Factor:
    """One factor in place of all that make an axis."""
    return functools.reduce(_pair, factors, Factor.whole(1))


def _pair(outer: Factor, inner: Factor) -> Factor:
    size, axes = outer.size * inner.size, outer.axes | inner.axes
    if inner.held == inner.size:
        return Factor(size, axes, outer.start * inner.size, outer.held * inner.size)
    if outer.held == 1:
        return Factor(size, axes, outer.start * inner.size + inner.start, inner.held)
    return Factor.whole(size, axes)


@dataclasses.dataclass(frozen=True)
class Part:
    """What one parameter brings to a value.

    Attributes:
      parameter: path of the parameter.
      axes: factors of every axis of the value.
      loops: leading axes that the scans around it have taken, the outermost first.
    """

    parameter: str
    axes: tuple[tuple[Factor, ...], ...]
    loops: tuple[Factor, ...] = ()

    @classmethod
    def of(cls, parameter: str, shape: Sequence[int]) -> "Part":
        """The parameter itself."""
        axes = tuple((Factor.whole(n, [axis]),) for axis, n in enumerate(shape))
        return cls(parameter, axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value."""
        return tuple(math.prod(f.size for f in factors) for factors in self.axes)

    def placed(self, sources: Sequence[int | None], shape: Sequence[int]) -> "Part":
        """In a result each of whose axes is one of the value's, or new (None).

        An axis that changes its size is cut, if it is not one that is repeated.
        """
        axes: list[tuple[Factor, ...]] = []
        for source, n in zip(sources, shape, strict=True):
            old = () if source is None else self.axes[source]
            size = math.prod(f.size for f in old)
            if source is None or size == 1 < n:
                axes.append((Factor.whole(n),))
            elif size == n:
                axes.append(old)
            else:
                axes.append((Factor.whole(n, joined(old).axes),))
        return dataclasses.replace(self, axes=tuple(axes))

    def spread(self, shape: Sequence[int]) -> "Part":
        """In a result of which nobody can tell what lies where."""
        axes = frozenset().union(*(joined(factors).axes for factors in self.axes))
        return dataclasses.replace(
            self, axes=tuple((Factor.whole(n, axes),) for n in shape)
        )

    def reshaped(self, shape: Sequence[int]) -> "Part":
        """After a reshape; axes of one are lost, as nobody can tell where they go."""
        left = [f for factors in self.axes for f in factors if f.size != 1][::-1]
        axes = []
        for n in shape:
            factors = []
            while n > 1 and left:
                factor = left.pop()
                if factor.size and n % factor.size == 0:
                    factors.append(factor)
                    n //= factor.size
                elif factor.size % n == 0 and (halves := factor.split(n)):
                    factors.append(halves[0])
                    left.append(halves[1])
                    n = 1
                else:
                    return self.spread(shape)
            if n != 1:
                return self.spread(shape)
            axes.append(tuple(factors))
        return dataclasses.replace(self, axes=tuple(axes))

    def within(self, axis: int, size: int, start: int) -> "Part":
        """In a value that begins and ends elsewhere along an axis."""
        own = joined(self.axes[axis])
        return self._with(axis, Factor(size, own.axes, start + own.start, own.held))

    def sliced(self, axis: int, start: int, stop: int, step: int = 1) -> "Part | None":
        """In a slice of the value; None if nothing of it is in there."""
        own = joined(self.axes[axis])
        if (start, stop, step) == (0, own.size, 1):
            return self
        size = -(-(stop - start) // step)
        first = max(0, -((start - own.start) // step))
        last = min(size, -((start - own.stop) // step))
        if first >= last:
            return None
        return self._with(axis, Factor(size, own.axes, first, last - first))

    def into_loop(self, length: int, *, scanned: bool) -> "Part":
        """In a round of a scan, which takes the leading axis, or all of the value."""
        taken = joined(self.axes[0]) if scanned else Factor.whole(length)
        axes = self.axes[1:] if scanned else self.axes
        return dataclasses.replace(self, axes=axes, loops=(*self.loops, taken))

    def out_of_loop(self, *, stacked: bool) -> "Part":
        """After the scan, whose rounds are stacked along a leading axis, or are not."""
        *loops, taken = self.loops
        axes = ((taken,), *self.axes) if stacked else self.axes
        return dataclasses.replace(self, axes=axes, loops=tuple(loops))

    def apart(self, other: "Part") -> bool:
        """Whether they make different entries of one value."""
        pairs = [
            *zip(map(joined, self.axes), map(joined, other.axes), strict=True),
            *zip(self.loops, other.loops, strict=True),
        ]
        return any(a.stop <= b.start or b.stop <= a.start for a, b in pairs)

    def united(self, other: "Part") -> "Part":
        """Both, of one parameter and in a value of one shape."""
        axes = tuple(map(_united, self.axes, other.axes))
        loops = tuple(
            joined(_united((a,), (b,)))
            for a, b in zip(self.loops, other.loops, strict=True)
        )
        return dataclasses.replace(self, axes=axes, loops=loops)

    def _with(self, axis: int, factor: Factor) -> "Part":
        axes = (*self.axes[:axis], (factor,), *self.axes[axis + 1 :])
        return dataclasses.replace(self, axes=axes)


def _united(a: tuple[Factor, ...], b: tuple[Factor, ...]) -> tuple[Factor, ...]:
    one, other = joined(a), joined(b)
    if a == b or not other.axes:
        return a
    if not one.axes:
        return b
    start, stop = min(one.start, other.start), max(one.stop, other.stop)
    both = Factor(one.size, one.axes | other.axes, start, stop - start)
    return a if both == one else (both,)


Parts = tuple[Part, ...]


def united(groups: Iterable[Parts]) -> Parts:
    """What all operands of an operation on single entries bring to its result."""
    first, *others = [*dict.fromkeys(parts for parts in groups if parts)] or [()]
    if not others:
        return first
    found: dict[str, Part] = {}
    for part in (*first, *(p for parts in others for p in parts)):
        known = found.get(part.parameter)
        found[part.parameter] = known.united(part) if known else part
    return tuple(found.values())


def concatenated(groups: Sequence[Parts], axis: int, sizes: Sequence[int]) -> Parts:
    """What is in a concatenation of values of these sizes along an axis."""
    found: list[Part] = []
    start, whole = 0, sum(sizes)
    for parts, size in zip(groups, sizes, strict=True):
        for part in parts:
            part = part.within(axis, whole, start)
            for i, known in enumerate(found):
                if both := _continued(known, part, axis):
                    found[i] = both
                    break
            else:
                found.append(part)
        start += size
    return tuple(found)


def _continued(one: Part, other: Part, axis: int) -> Part | None:
    """Both, if they are of one parameter and the other goes on where the one ends."""
    (a,), (b,) = one.axes[axis], other.axes[axis]
    same = dataclasses.replace(b, start=a.start, held=a.held)
    if a.stop != b.start or other._with(axis, same) != one:
        return None
    return one._with(axis, dataclasses.replace(a, held=a.held + b.held))
