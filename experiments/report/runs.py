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
    rounded                  whether its kernels were rounded after the training of
                             another run, which then is one, too
    summary                  of the run folder
    provenance               entries of `experiments.runs.provenance`
"""

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict

from experiments.config import usual_flags
from experiments.devices.fitted import Fitted, restored
from experiments.parts import TrainConfig, flag_of
from experiments.runs import provenance, stored
from hic_jax.inference import TRAINED

Run = dict[str, Any]

# Ends the name of a compensation that compared exact currents.
IDEAL_REFERENCE = ", ideal reference"

# What stands for a field that an older version did not store.
NOT_STORED = "not stored"

# Parts of a configuration that mean nothing without devices.
_OF_DEVICES = ("analog", "hardware", "spec", "crossbar")


def find(paths: Iterable[str | Path]) -> list[Path]:
    """Run folders: the paths themselves, or up to two levels below them.

    Raises:
      ValueError: if there is no path, a path is no folder, or no run is there.
    """
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
    if not found:
        raise ValueError("runs=: must name at least one folder")
    return list(found.values())


def folders_in(path: Path) -> list[Path]:
    """Run folders: the path itself, or up to two levels below it."""
    found: list[Path] = []
    for depth in range(3):
        configs = filter(Path.is_file, sorted(path.glob("*/" * depth + "config.json")))
        # What lies in a run is no other run.
        found += [c.parent for c in configs if not {*c.parent.parents} & {*found}]
    return found


def read_all(folders: Iterable[Path]) -> tuple[list[Run], dict[str, str]]:
    """Every run that can be reported, each configuration and seed once.

    Returns:
      The runs, and by the folder of those that were left out, why.
    """
    runs: dict[str, Run] = {}
    left_out = {}
    for folder in folders:
        try:
            run = _read(folder)
        except KeyError as error:
            left_out[str(folder)] = f"lacks {error.args[0]}"
            continue
        except (TypeError, ValueError) as error:
            left_out[str(folder)] = stored.short(error)
            continue
        same = runs.setdefault(json.dumps(run["config"], sort_keys=True), run)
        if same is not run:
            reason = f"has the configuration and the seed of {same['folder']}"
            left_out[str(folder)] = reason
    found = list(runs.values())
    return found + [rounded for run in found for rounded in _rounded(run)], left_out


def _read(folder: Path) -> Run:
    """A run.

    Raises:
      ValueError, TypeError, KeyError: if it is not finished, or its files are not as
        they should be.
    """
    parts, summary = stored.read_fields(folder), stored.read_summary(folder)
    if not (folder / "summary.json").is_file():
        raise ValueError("has no summary.json: it did not finish")
    if "field" in summary:
        raise ValueError("learnt in the field: it went on from another run")
    config = _by_flag(parts, parts)
    _check_ended(folder, config, summary)
    return {
        "folder": str(folder),
        "config": config,
        "summary": summary,
        "provenance": _provenance(folder),
        "algorithm": _algorithm(config),
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
        "rounded": False,
    }


def _algorithm(config: dict[str, Any]) -> str:
    """The algorithm; of a digital network of few bits, how many it was trained with."""
    bits = config.get("kernel_bits", 32)
    digital = config["algorithm"] == "fp32" and bits < 32
    return f"int{bits}_aware" if digital else config["algorithm"]


def _rounded(run: Run) -> Iterator[Run]:
    """A run as it is with its kernels rounded afterwards, by widths of these."""
    for name, after in run["summary"].get("post_training", {}).items():
        yield run | {
            "config": run["config"] | {"algorithm": name},
            "summary": {"num_classes": run["summary"].get("num_classes")},
            "algorithm": name,
            "accuracy": 100 * after["test_accuracy"],
            "size_kb": after["inference_bits"] / 8000,
            "rounded": True,
        }


# ---- The configuration


def _by_flag(parts: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Fields of some parts of a stored configuration, but where the data lies."""
    train = parts.get("train", {})
    algorithm, model = train.get("algorithm", ""), train.get("model", TrainConfig.model)
    some = {name: parts[name] for name in names if name in parts and name != "device"}
    fields = {
        flag_of(name, algorithm, model): value
        for name, value in flatten_dict(some, sep=".").items()
        if value is not None
    }
    fields.pop("data_dir", None)
    if "preset" in fields and "device" in parts:
        fields["preset"] = Fitted(restored(parts["device"]))
    return fields


def usual(run: Run) -> dict[str, Any]:
    """Fields that it would have had without flags but the main ones, by their flags.

    Empty if this version does not know its algorithm, or its device.
    """
    config = run["config"]
    model = config.get("model", TrainConfig.model)
    try:
        return usual_flags(
            config["algorithm"], config.get("dataset", ""), config.get("preset"), model
        )
    except ValueError:
        return {}


# ---- The result


def _provenance(folder: Path) -> list[dict[str, Any]]:
    try:
        entries = provenance.read(folder)
    except ValueError as error:
        raise ValueError(f"{provenance.FILE}: {error}") from error
    if any("date" not in entry for entry in entries):
        raise ValueError(f"{provenance.FILE}: an entry lacks its date")
    return entries


def _reading(row: dict[str, Any]) -> dict[str, Any]:
    """A row of drift; compensations with an ideal reference are others."""
    old_versions = {"devices": TRAINED, "ideal_reference": False}
    row = {**old_versions, **row}
    if row["ideal_reference"] and row["compensation"] != "none":
        row["compensation"] += IDEAL_REFERENCE
    return row


def _check_ended(folder: Path, config: dict[str, Any], summary: dict[str, Any]) -> None:
    """Raises unless what was logged last, if anything, is the end of the training."""
    rows, faults = stored.read_rows(folder)
    if faults:
        raise ValueError(faults[0])
    if not rows:
        return
    last, epochs = rows[-1], config["epochs"]
    if last["epoch"] < epochs:
        raise ValueError(f"stopped after {last['epoch']:.3g} of {epochs} epochs")
    if last["step"] > summary.get("steps", math.inf):
        raise ValueError(
            f"was summarised at step {summary['steps']}, and trained on from there"
        )
