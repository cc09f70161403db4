"""Whether two specifications are the same, and how a stored state tells its own."""

import dataclasses
import re
import zlib
from typing import Any

from hic_jax.algorithms.pairs import PairSpec


def differences(spec: PairSpec, other: PairSpec) -> list[str]:
    """Fields in which another spec differs, as ``name: mine != its`` each."""
    mine, others = _flat(spec), _flat(other)
    return [
        f"{name}: {mine.get(name)!r} != {others.get(name)!r}"
        for name in mine | others
        if mine.get(name) != others.get(name)
    ]


def made_with(spec: PairSpec) -> tuple[str, ...]:
    """A line for every field, ``name=value``; for devices a name and a checksum.

    A state that has these among its names cannot be restored with another spec:
    whatever stores a pytree refuses one of other names, and says which.
    """
    lines = [f"algorithm={type(spec).__name__}"]
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if dataclasses.is_dataclass(value):
            told = re.sub(r"\W", "_", getattr(value, "name", field.name))
            value = f"{told}-{zlib.crc32(repr(value).encode()):08x}"
        lines.append(f"{field.name}={value}")
    return tuple(lines)


def _flat(spec: PairSpec) -> dict[str, Any]:
    """Every constant by its name, those of devices as ``multilevel.g_max``."""
    flat: dict[str, Any] = {"algorithm": type(spec).__name__}
    for name, value in dataclasses.asdict(spec).items():
        inner = value if isinstance(value, dict) else None
        flat |= {f"{name}.{k}": v for k, v in inner.items()} if inner else {name: value}
    return flat
