"""Imports point one way: a room of the house knows only those below."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# From the ground up. A module is in the room with the longest name that its own begins
# with: what is not listed is in "hic_jax", above all rooms of the library.
ROOMS = (
    "hic_jax.releases",
    "hic_jax.checks",
    "hic_jax.streams",
    "hic_jax.array_leaves",
    "hic_jax.packing",
    "hic_jax.path_rules",
    "hic_jax.sharding",
    "hic_jax.shards",
    "hic_jax.kernel_axes",
    "hic_jax.quantisation",
    "hic_jax.convolution",
    "hic_jax.pcm",
    "hic_jax.fitting",
    "hic_jax.weights",
    "hic_jax.algorithms",
    "hic_jax.crossbar",
    "hic_jax.tracing",
    "hic_jax.labels",
    "hic_jax.rewriting",
    "hic_jax.accounting",
    "hic_jax.data",
    "hic_jax.models",
    "hic_jax.training",
    "hic_jax.inference",
    "hic_jax",
    "experiments",
    "tests",
)


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {
    _name(path): path.read_text()
    for top in ("hic_jax", "experiments")
    for path in (ROOT / top).rglob("*.py")
}


def _floor(module: str) -> int | None:
    """Which of `ROOMS` a module is in; None for one of another house."""
    parts = module.split(".")
    beginnings = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((ROOMS.index(name) for name in beginnings if name in ROOMS), None)


def _imported(source: str) -> Iterator[str]:
    """Modules that any line of a source imports, inside functions, too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in SOURCES else str(node.module)


def upward(module: str, source: str) -> list[str]:
    """What a module imports from above."""
    own = _floor(module)
    floors = ((name, _floor(name)) for name in _imported(source))
    return [name for name, floor in floors if floor is not None and floor > own]


def test_no_module_imports_from_above():
    assert {_floor(module) for module in SOURCES} == set(range(len(ROOMS) - 1))
    found = {module: upward(module, source) for module, source in SOURCES.items()}
    assert {module: names for module, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("module", "source", "names"),
    [
        (
            "hic_jax.training.chips",
            "from hic_jax.inference.network import Network",
            ["hic_jax.inference.network"],
        ),
        (
            "hic_jax.pcm.pair",
            "def f():\n    from hic_jax import checks, weights",
            ["hic_jax.weights"],
        ),
        ("hic_jax.inference", "import jax, hic_jax", ["hic_jax"]),
        ("hic_jax.data", "from hic_jax import YEAR", ["hic_jax"]),
        ("hic_jax", "import experiments.drift", ["experiments.drift"]),
        ("hic_jax.inference.network", "from hic_jax.training import chips", []),
    ],
)
def test_an_import_from_above_is_seen(module, source, names):
    assert upward(module, source) == names
