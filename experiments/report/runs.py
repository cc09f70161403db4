"""Runs on disk: found, read, and put into groups that may be compared."""

import collections
import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict

from experiments.config import flag_of, usual_fields
from experiments.report.estimates import Run
from experiments.runs import provenance, stored
from hic_jax.inference import TRAINED
from hic_jax.training.algorithms import ANALOG_ALGORITHMS

# What the runs of a group have in common. Runs of different tasks are never compared.
TASK = (
    "train.dataset",
    "train.shift",
    "train.depth",
    "train.channel_plan",
    "train.epochs",
)

# What the runs of a group may differ in, and where the data lies.
FREE = ("train.algorithm", "train.width", "train.seed", "train.data_dir")

# What means nothing to an algorithm without devices.
DEVICES = (
    "train.analog_",
    "train.preset",
    "train.converters",
    "train.digital_layers",
    "spec.",
    "crossbar.",
)

# Ends the name of a compensation that compared exact currents.
IDEAL_REFERENCE = ", ideal reference"

# What stands for a field that an older version did not store.
NOT_STORED = "not stored"


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
    """A run as `experiments.report.estimates` describes it, and more.

    Beside that: ``folder``, ``config`` (fields by dotted names, as stored), ``summary``
    and ``provenance``, the entries of `experiments.runs.provenance`.

    Raises:
      UnreadableRun: if it is not finished, or its files are not as they should be.
    """
    try:
        config = flatten_dict(stored.read_fields(folder), sep=".")
        summary = stored.read_summary(folder)
    except stored.RunFolderError as error:
        raise UnreadableRun(str(error)) from error
    if not (folder / "summary.json").is_file():
        raise UnreadableRun("has no summary.json: it did not finish")
    if "field" in summary:
        raise UnreadableRun("learnt in the field: it went on from another run")
    try:
        run = {
            "folder": str(folder),
            "config": config,
            "summary": summary,
            "provenance": _provenance(folder),
            "algorithm": config["train.algorithm"],
            "width": float(config["train.width"]),
            "seed": config["train.seed"],
            "accuracy": 100 * summary["test_accuracy"],
            "size_kb": summary["inference_bits"] / 8000,
            # What was read without a non-ideality is no claim's business.
            "drift": [
                _reading(row)
                for row in summary.get("drift") or ()
                if not row.get("without")
            ],
            "wear": summary.get("write_erase_cycles"),
        }
        defaults(run)
        _check_ended(folder, config["train.epochs"], summary)
    except KeyError as error:
        raise UnreadableRun(f"lacks {error.args[0]}") from error
    except (TypeError, ValueError) as error:
        raise UnreadableRun(stored.short(error)) from error
    return run


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
    row = {"devices": TRAINED, "ideal_reference": False} | row  # As of old versions.
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
        same = json.dumps([recipe(run), *(run["config"][name] for name in FREE[:3])])
        if same in runs:
            left_out[str(folder)] = (
                f"has the configuration and the seed of {runs[same]['folder']}"
            )
        else:
            runs[same] = run
    return list(runs.values()), left_out


# ---- Groups


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs whose claims are judged together: those of each side differ in width, seed.

    Attributes:
      title: what all of them have in common.
      distinction: how the recipes differ from those of other groups; may be empty.
      fp32: runs without devices, of one recipe; may be empty.
      hic: runs with devices, of one recipe; may be empty.
    """

    title: str
    distinction: str
    fp32: tuple[Run, ...]
    hic: tuple[Run, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        """Both sides."""
        return self.fp32 + self.hic

    @property
    def unequal(self) -> list[str]:
        """Fields that both sides use, but not alike."""
        if not self.fp32 or not self.hic:
            return []
        fp32, hic = self.fp32[0], self.hic[0]
        return [
            f"{flag_of(name)}: FP32 {_stored(fp32, name)}, HIC {_stored(hic, name)}"
            for name in _unequal(fp32, hic)
        ]


def group(runs: Sequence[Run]) -> list[Group]:
    """Puts runs together that may be compared.

    All runs of a group have one task: data set, what its images become, depth, channel
    plan and epochs. Seeds are pooled only if every other field is the same, but for
    what means nothing to FP32: the fields of devices and converters. Each recipe of HIC
    is compared with the FP32 recipe whose digital fields are the same; if there is
    none, with each FP32 recipe of the task, and `Group.unequal` says what differs. FP32
    recipes that remain stand alone.
    """
    tasks: dict[str, dict[bool, dict[str, list[Run]]]] = {}
    for run in runs:
        task = json.dumps(_task(run))
        sides = tasks.setdefault(task, {False: {}, True: {}})
        sides[is_analog(run)].setdefault(json.dumps(recipe(run)), []).append(run)
    groups = []
    for sides in tasks.values():
        fp32s, hics = ([tuple(r) for r in sides[s].values()] for s in (False, True))
        pairs = []
        for hic in hics:
            alike = [fp32 for fp32 in fp32s if not _unequal(fp32[0], hic[0])]
            pairs += [(fp32, hic) for fp32 in alike or fp32s or [()]]
        compared = [id(fp32) for fp32, _ in pairs]
        pairs += [(fp32, ()) for fp32 in fp32s if id(fp32) not in compared]
        groups += [
            Group(_title((fp32 + hic)[0]), _distinction((fp32, hic), pairs), fp32, hic)
            for fp32, hic in pairs
        ]
    return groups


def is_analog(run: Run) -> bool:
    """Whether its weights are held in devices."""
    return run["algorithm"] in ANALOG_ALGORITHMS


def recipe(run: Run) -> dict[str, Any]:
    """Fields that runs must share to be seeds of one another, beside the width."""
    return {
        name: value
        for name, value in sorted(run["config"].items())
        if name not in FREE and (is_analog(run) or not name.startswith(DEVICES))
    }


def _unequal(fp32: Run, hic: Run) -> list[str]:
    """Digital fields that an FP32 recipe and a HIC recipe do not have alike."""
    digital = {k: v for k, v in recipe(hic).items() if not k.startswith(DEVICES)}
    return _varying([recipe(fp32), digital])


def _task(run: Run) -> list[Any]:
    """Values of `TASK`; versions without shifts had none."""
    config = {"train.shift": "none"} | run["config"]
    return [config.get(name) for name in TASK]


def _title(run: Run) -> str:
    dataset, shift, depth, plan, epochs = _task(run)
    network = f"ResNet-{depth}" + ("" if plan == "hic" else f" ({plan} channels)")
    images = dataset if shift == "none" else f"{dataset} ({shift})"
    return f"{images}, {network}, {epochs} epoch{'' if epochs == 1 else 's'}"


def _distinction(
    pair: tuple[Sequence[Run], ...], pairs: Sequence[tuple[Sequence[Run], ...]]
) -> str:
    """Values of this pair in the fields that vary among all pairs of a task."""
    words = []
    for name, side, others in zip(
        ("FP32", "HIC"), pair, zip(*pairs, strict=True), strict=True
    ):
        varying = _varying([recipe(other[0]) for other in others if other])
        varying.sort(key=lambda field: not field.startswith("train."))
        if side and varying:
            values = [f"{flag_of(f)}={_stored(side[0], f)}" for f in varying[:4]]
            if more := len(varying[4:]):
                values.append(f"{more} more field{'' if more == 1 else 's'}")
            words.append(f"{name} with {', '.join(values)}")
    return "; ".join(words)


def _stored(run: Run, name: str) -> str:
    """The value of a field as it is shown."""
    return str(run["config"].get(name, NOT_STORED)) or "''"


def _varying(configs: Sequence[dict[str, Any]]) -> list[str]:
    """Fields in which configurations differ; an absent one differs from all values."""
    fields = dict.fromkeys(name for config in configs for name in config)
    return [
        name
        for name in fields
        if any(
            config.get(name, NOT_STORED) != configs[0].get(name, NOT_STORED)
            for config in configs
        )
    ]


def differing_fields(runs: Sequence[Run]) -> list[tuple[str, list[tuple[str, int]]]]:
    """Fields in which runs differ: by flag, each value and how many runs have it.

    Analog fields are those of the runs with devices.
    """
    rows = []
    for analog_field in (False, True):
        sides = [run for run in runs if is_analog(run) or not analog_field]
        for name in _varying([run["config"] for run in sides]):
            if name.startswith(DEVICES) == analog_field and name != "train.data_dir":
                counts = collections.Counter(_stored(run, name) for run in sides)
                rows.append((flag_of(name), sorted(counts.items())))
    return rows


def defaults(run: Run) -> dict[str, Any]:
    """The configuration that a run would have had without flags but the main ones.

    Raises:
      ValueError: if there is no such algorithm, or preset.
    """
    names = ("algorithm", "dataset", "preset")
    return usual_fields(*(run["config"][f"train.{name}"] for name in names))
