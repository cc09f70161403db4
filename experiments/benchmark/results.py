"""What was measured as JSON, as tables, and beside what was measured before."""

import importlib.metadata
import json
import os
import platform
import shlex
from pathlib import Path
from typing import Any

import jax

from experiments import provenance

FORMAT = 1
PACKAGES = ("hic-jax", "jax", "jaxlib", "flax", "optax", "numpy")
# Of a program that are compared.
FIGURES = ("median", "of_fp32", "compile_cold", "compile_warm", "memory")


class ResultError(ValueError):
    """A file does not hold what `experiments.benchmark` writes."""


def circumstances(words: list[str], repeats: int) -> dict[str, Any]:
    """What the figures depend on besides the sizes."""
    return {
        "format": FORMAT,
        "command": shlex.join(["python", "-m", "experiments.benchmark", *words]),
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
        "repeats": repeats,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model n")]
    return names[0] if names else platform.machine()


def report(result: dict[str, Any]) -> str:
    """All of it, as text."""
    hardware, peak = result["hardware"], result["peak_memory"]
    lines = [
        f"{hardware['devices']} x {hardware['device']}, {hardware['processor']}, "
        f"{hardware['cores']} cores, jax {result['versions']['jax']}, "
        f"{result['repeats']} turns"
    ]
    for size, measured in result["sizes"].items():
        lines += ["", size, table(measured["programs"])]
    if len(result["sizes"]) > 1:
        lines += ["", growth(result["sizes"])]
    lines += ["", "bytes of device state per weight"]
    lines += [f"  {name:<26} {b:>6.1f}" for name, b in result["device_bytes"].items()]
    lines += ["", f"peak memory {_megabytes(peak['bytes'])} ({peak['source']})"]
    return "\n".join(lines)


def table(programs: dict[str, dict]) -> str:
    """A row for each program of a size."""
    lines = [
        f"  {'':<26} {'median':>11} {'quartiles':>21} {'of FP32':>8} "
        f"{'compile cold, warm':>19} {'memory':>9}"
    ]
    for name, row in programs.items():
        of_fp32 = "" if row["of_fp32"] is None else f"{row['of_fp32']:.3f}"
        low, median, high = (1e3 * row[x] for x in ("low", "median", "high"))
        lines.append(
            f"  {name:<26} {median:>8.1f} ms {low:>8.1f} .. {high:>6.1f} ms "
            f"{of_fp32:>8} {row['compile_cold']:>8.2f} s {row['compile_warm']:>6.2f} s "
            f"{_megabytes(row['memory']):>9}"
        )
    return "\n".join(lines)


def growth(sizes: dict[str, dict]) -> str:
    """Medians of every program, relative to the first size that has it."""
    names = list(dict.fromkeys(n for size in sizes.values() for n in size["programs"]))
    lines = ["time, relative to the first size"]
    lines += [f"  ({i}) {size}" for i, size in enumerate(sizes, start=1)]
    lines.append(
        f"  {'':<26}" + "".join(f"{f'({i + 1})':>9}" for i in range(len(sizes)))
    )
    for name in names:
        rows = [size["programs"].get(name) for size in sizes.values()]
        first = next(row["median"] for row in rows if row)
        cells = (f"{row['median'] / first:.2f}" if row else "" for row in rows)
        lines.append(f"  {name:<26}" + "".join(f"{cell:>9}" for cell in cells))
    return "\n".join(lines)


def compare(old: dict[str, Any], new: dict[str, Any]) -> str:
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
    lines = differences(old, new)
    lines.append(f"{'':<60} {'old':>12} {'new':>12} {'new/old':>8}")
    size = None
    for name in (name for name in old_figures if name in new_figures):
        if name[0] != size:
            size = name[0]
            lines.append(size)
        before, after = old_figures[name], new_figures[name]
        quotient = f"{after / before:>8.3f}" if before else ""
        label = "  " + ", ".join(name[1:])
        lines.append(f"{label:<60} {before:>12.5g} {after:>12.5g} {quotient}")
    return "\n".join(lines)


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
    figures = {
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
