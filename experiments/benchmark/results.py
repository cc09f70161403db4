"""What was measured as JSON, as tables, and beside what was measured before."""

import importlib.metadata
import json
import os
import platform
import shlex
from pathlib import Path
from typing import Any

import jax
import rich.table

from experiments import terminal
from experiments.runs import provenance

FORMAT = 1
PACKAGES = ("hic-jax", "jax", "jaxlib", "flax", "optax", "numpy")
# Of a program that are compared.
FIGURES = ("median", "of_fp32", "compile_cold", "compile_warm", "memory")


class ResultError(ValueError):
    """A file does not hold what `experiments.benchmark` writes."""


def circumstances(module: str, words: list[str]) -> dict[str, Any]:
    """What the figures of a launcher depend on besides the sizes."""
    return {
        "format": FORMAT,
        "command": shlex.join(["python", "-m", module, *words]),
        "commit": provenance.commit(),
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
        "hardware": {
            "device": jax.devices()[0].device_kind,
            "devices": jax.device_count(),
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count(),
        },
    }


def check_writable(path: Path) -> None:
    """Raises `ValueError` unless a file can be written there; nothing is."""
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(f"--json={path}: must be a file in a folder that is writable")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model n")]
    return names[0] if names else platform.machine()


def report(result: dict[str, Any]) -> list[str | rich.table.Table]:
    """All of it, as lines and tables."""
    hardware, peak = result["hardware"], result["peak_memory"]
    parts: list[str | rich.table.Table] = [
        f"{hardware['devices']} x {hardware['device']}, {hardware['processor']}, "
        f"{hardware['cores']} cores, jax {result['versions']['jax']}, "
        f"{result['repeats']} turns",
        *(
            table(size, measured["programs"])
            for size, measured in result["sizes"].items()
        ),
    ]
    if len(result["sizes"]) > 1:
        parts.append(growth(result["sizes"]))
    rows = [(name, f"{size:.1f}") for name, size in result["device_bytes"].items()]
    title = "bytes of device state per weight"
    parts.append(terminal.table(("", ""), rows, title=title))
    parts.append(f"peak memory {_megabytes(peak['bytes'])} ({peak['source']})")
    return parts


def table(size: str, programs: dict[str, dict]) -> rich.table.Table:
    """A row for each program of a size."""
    rows = []
    for name, row in programs.items():
        low, median, high = (1e3 * row[x] for x in ("low", "median", "high"))
        rows.append(
            (
                name,
                f"{median:.1f} ms",
                f"{low:.1f} .. {high:.1f} ms",
                "" if row["of_fp32"] is None else f"{row['of_fp32']:.3f}",
                f"{row['compile_cold']:.2f} s",
                f"{row['compile_warm']:.2f} s",
                _megabytes(row["memory"]),
            )
        )
    heads = ("", "median", "quartiles", "of FP32", "compile cold", "warm", "memory")
    return terminal.table(heads, rows, title=size)


def growth(sizes: dict[str, dict]) -> rich.table.Table:
    """Medians of every program, relative to the first size that has it."""
    names = list(dict.fromkeys(n for size in sizes.values() for n in size["programs"]))
    rows = []
    for name in names:
        of_sizes = [size["programs"].get(name) for size in sizes.values()]
        first = next(row["median"] for row in of_sizes if row)
        cells = (f"{row['median'] / first:.2f}" if row else "" for row in of_sizes)
        rows.append((name, *cells))
    title = "time, relative to the first size"
    return terminal.table(("", *sizes), rows, title=title)


def compare(old: dict[str, Any], new: dict[str, Any]) -> list[str | rich.table.Table]:
    """Every figure of both, and new / old; what makes them hard to compare comes first.

    Raises:
      ResultError: if they have no figure in common.
    """
    if not set(old["sizes"]) & set(new["sizes"]):
        raise ResultError(
            "nothing to compare: the files have no size in common: "
            f"{'; '.join(old['sizes'])} against {'; '.join(new['sizes'])}"
        )
    old_figures, new_figures = flat(old), flat(new)
    tables: dict[str, list[tuple[str, ...]]] = {}
    for name in (name for name in old_figures if name in new_figures):
        before, after = old_figures[name], new_figures[name]
        quotient = f"{after / before:.3f}" if before else ""
        row = (", ".join(name[1:]), f"{before:.5g}", f"{after:.5g}", quotient)
        tables.setdefault(name[0], []).append(row)
    heads = ("", "old", "new", "new/old")
    return differences(old, new) + [
        terminal.table(heads, rows, title=size) for size, rows in tables.items()
    ]


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What is not alike but the figures: hardware, versions, sizes, repeats."""
    lines = []
    for part, warning in (
        ("hardware", "OTHER HARDWARE"),
        ("versions", "other versions"),
    ):
        names = dict.fromkeys([*old[part], *new[part]])
        lines += [
            f"{warning}: {name}: {old[part].get(name)} -> {new[part].get(name)}"
            for name in names
            if old[part].get(name) != new[part].get(name)
        ]
    if old["repeats"] != new["repeats"]:
        lines.append(f"other repeats: {old['repeats']} -> {new['repeats']}")
    for one, other, which in ((old, new, "old"), (new, old, "new")):
        lines += [
            f"OTHER CONFIGURATION: only in the {which} file: {size}"
            for size in one["sizes"]
            if size not in other["sizes"]
        ]
    return lines


def flat(result: dict[str, Any]) -> dict[tuple[str, ...], float]:
    """Figures by (size, program, figure), and those of the whole run."""
    figures: dict[tuple[str, ...], float] = {
        (size, program, figure): row[figure]
        for size, measured in result["sizes"].items()
        for program, row in measured["programs"].items()
        for figure in FIGURES
        if row[figure] is not None
    }
    for name, value in result["device_bytes"].items():
        figures["the run", "bytes per weight", name] = value
    peak = result["peak_memory"]
    figures["the run", "peak memory", peak["source"]] = peak["bytes"]
    return figures


def read(path: str) -> dict[str, Any]:
    """A file that ``--json`` wrote.

    Raises:
      ResultError: if it is none.
    """
    try:
        result = json.loads(Path(path).read_text())
        if result["format"] != FORMAT:
            raise ResultError(
                f"{path}: has format {result['format']!r}, must have {FORMAT}"
            )
        flat(result), differences(result, result)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ResultError):
            raise
        raise ResultError(
            f"{path}: is not a result of experiments.benchmark: {error!r}"
        ) from error
    return result


def _megabytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:.0f} MB"
