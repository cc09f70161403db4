"""Runs on disk: found, and read.

A run is a dict of

    folder                   where it is
    config                   fields that its algorithm uses, by their flags, as stored
    algorithm, width, seed   of these
    accuracy                 on the test images, in %
    size_kb                  inference model size in kB of 1000 bytes
    on_devices               whether devices hold its weights
    of_devices               flags of the fields that mean nothing without devices
    drift                    rows of `hic_jax.inference.accuracy_over_time`
    wear                     as of `hic_jax.endurance`; None where it was not tracked
    summary                  of the run folder
    provenance               entries of `experiments.runs.provenance`
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict

from experiments.config import usual_flags
from experiments.parts import flag_of
from experiments.runs import provenance, stored
from hic_jax.inference import TRAINED

Run = dict[str, Any]

# Ends the name of a compensation that compared exact currents.
IDEAL_REFERENCE = ", ideal reference"

# What stands for a field that an older version did not store.
NOT_STORED = "not stored"

# Parts of a configuration that mean nothing without devices.
_OF_DEVICES = ("analog", "hardware", "spec", "crossbar")


class UnreadableRun(ValueError):
    """A run that cannot be reported, and why."""


def find(paths: Iterable[str | Path]) -> list[Path]:
    """Run folders: the paths themselves, or up to two levels below them.

    Raises:
      ValueError: if there is no path, a path is no folder, or no run is there.
    """
    paths = list(paths)
    if not paths:
        raise ValueError("runs=: must name at least one folder")
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            raise ValueError(f"runs={path}: is not a folder")
        mine = folders_in(path)
        if not mine:
            raise ValueError(
                f"runs={path}: holds no run (no config.json, up to two levels deep)"
            )
        for folder in mine:
            found.setdefault(folder.resolve(), folder)
    return list(found.values())


def folders_in(path: Path) -> list[Path]:
    """Run folders: the path itself, or up to two levels below it."""
    levels = [[path] if path.is_dir() else []]
    while levels[-1] and len(levels) < 3:
        levels.append(
            sorted(
                folder
                for parent in levels[-1]
                if not _is_run(parent)
                for folder in parent.iterdir()
                if folder.is_dir()
            )
        )
    return [folder for level in levels for folder in level if _is_run(folder)]


def _is_run(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def read(folder: Path) -> Run:
    """A run.

    Raises:
      UnreadableRun: if it is not finished, or its files are not as they should be.
    """
    try:
        parts, summary = stored.read_fields(folder), stored.read_summary(folder)
    except stored.RunFolderError as error:
        raise UnreadableRun(str(error)) from error
    if not (folder / "summary.json").is_file():
        raise UnreadableRun("has no summary.json: it did not finish")
    if "field" in summary:
        raise UnreadableRun("learnt in the field: it went on from another run")
    config = _by_flag(parts, parts)
    try:
        run = {
            "folder": str(folder),
            "config": config,
            "summary": summary,
            "provenance": _provenance(folder),
            "algorithm": config["algorithm"],
            "width": float(config["width"]),
            "seed": config["seed"],
            "accuracy": 100 * summary["test_accuracy"],
            "size_kb": summary["inference_bits"] / 8000,
            "on_devices": "spec" in parts,
            "of_devices": frozenset(_by_flag(parts, _OF_DEVICES)),
            # What was read without a non-ideality is no claim's business.
            "drift": [
                _reading(row)
                for row in summary.get("drift") or ()
                if not row.get("without")
            ],
            "wear": summary.get("write_erase_cycles"),
        }
        _check_ended(folder, config["epochs"], summary)
    except KeyError as error:
        raise UnreadableRun(f"lacks {error.args[0]}") from error
    except (TypeError, ValueError) as error:
        raise UnreadableRun(stored.short(error)) from error
    return run


# ---- The configuration


def _by_flag(parts: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Fields of some parts of a stored configuration, but where the data lies."""
    algorithm = parts.get("train", {}).get("algorithm", "")
    some = {name: parts[name] for name in names if name in parts}
    fields = {
        flag_of(name, algorithm): value
        for name, value in flatten_dict(some, sep=".").items()
        if value is not None
    }
    fields.pop("data_dir", None)
    return fields


def usual(run: Run) -> dict[str, Any]:
    """Fields that it would have had without flags but the main ones, by their flags.

    Empty if this version does not know its algorithm, or its device.
    """
    config = run["config"]
    try:
        return usual_flags(
            run["algorithm"], config.get("dataset", ""), config.get("preset")
        )
    except ValueError:
        return {}


# ---- The result


def _provenance(folder: Path) -> list[dict[str, Any]]:
    try:
        entries = provenance.read(folder)
    except ValueError as error:
        raise UnreadableRun(f"{provenance.FILE}: {error}") from error
    if any("date" not in entry for entry in entries):
        raise UnreadableRun(f"{provenance.FILE}: an entry lacks its date")
    return entries


def _reading(row: dict[str, Any]) -> dict[str, Any]:
    """A row of drift; compensations with an ideal reference are others."""
    old_versions = {"devices": TRAINED, "ideal_reference": False}
    row = {**old_versions, **row}
    if row["ideal_reference"] and row["compensation"] != "none":
        row["compensation"] += IDEAL_REFERENCE
    return row


def _check_ended(folder: Path, epochs: int, summary: dict[str, Any]) -> None:
    """Raises unless what was logged last, if anything, is the end of the training."""
    rows, faults = stored.read_rows(folder)
    if faults:
        raise UnreadableRun(faults[0])
    if not rows:
        return
    last = rows[-1]
    if last["epoch"] < epochs:
        raise UnreadableRun(f"stopped after {last['epoch']:.3g} of {epochs} epochs")
    if last["step"] > summary.get("steps", math.inf):
        raise UnreadableRun(
            f"was summarised at step {summary['steps']}, and trained on from there"
        )


def read_all(folders: Iterable[Path]) -> tuple[list[Run], dict[str, str]]:
    """Every run that can be reported, each configuration and seed once.

    Returns:
      The runs, and by the folder of those that were left out, why.
    """
    runs: dict[str, Run] = {}
    left_out = {}
    for folder in folders:
        try:
            run = read(folder)
        except UnreadableRun as error:
            left_out[str(folder)] = str(error)
            continue
        same = json.dumps(run["config"], sort_keys=True)
        if same in runs:
            left_out[str(folder)] = (
                f"has the configuration and the seed of {runs[same]['folder']}"
            )
        else:
            runs[same] = run
    return list(runs.values()), left_out
