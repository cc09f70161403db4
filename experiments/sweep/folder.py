"""A sweep on disk: which runs it has, and how far they are.

manifest.json    the runs: name, folder, what was swept, steps of the whole training
NAME/            a run folder each
jobs/NAME/       of the process that trains it: logs, a lock, the error it ended with
"""

import dataclasses
import json
import re
import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from absl import logging

from experiments.config import differences, flat
from experiments.runs.files import PART, write_text
from experiments.runs.run_folder import check_unused_or_same
from experiments.runs.stored import RunFolderError, read_rows, read_summary
from experiments.sweep.grid import Run

_MANIFEST = "manifest.json"
# Names of runs and their folders, as `grid.name_of` makes them: none leads elsewhere.
_NAME = re.compile(r"(?!\.)[\w.,+=-]+")
_LONGEST = 255  # Bytes of a name, in any file system of today.
_MOST_STEPS = 2**31 - 1  # Steps are counted in int32.


@dataclasses.dataclass(frozen=True)
class RunPaths:
    """Where a run of a sweep is.

    Attributes:
      run: run folder.
      job: folder of the process that trains it.
    """

    run: Path
    job: Path

    @classmethod
    def of(cls, workdir: Path, name: str) -> "RunPaths":
        """Those of the run of this name."""
        return cls(workdir / name, workdir / "jobs" / name)

    def check(self) -> None:
        """Raises `RunFolderError` if one of them is a link, which may lead anywhere."""
        for path in (self.run, self.job.parent, self.job):
            if path.is_symlink():
                raise RunFolderError(
                    f"workdir={self.run.parent}: {path.relative_to(self.run.parent)} "
                    "in it is a link; must be a folder of the sweep itself"
                )

    def result(self) -> dict[str, Any]:
        """The summary of the run; empty before its end."""
        summary = read_summary(self.run)
        shown = {"steps", "test_accuracy", "inference_bits"}
        return summary if summary.keys() >= shown else {}

    def is_finished(self, steps: int) -> bool:
        """Whether a training of so many steps has come to its end.

        Of a summary that cannot be read that is not known: no, until it was tried.
        """
        try:
            return self.result().get("steps", 0) >= steps
        except RunFolderError:
            return False

    def step(self) -> int:
        """The last step that was logged; 0 without one that can be read."""
        try:
            rows, _ = read_rows(self.run)
        except RunFolderError:
            return 0
        return rows[-1]["step"] if rows else 0

    def error(self) -> str | None:
        """What the last attempt at it failed with; None if it did not."""
        path = self.job / "error.txt"
        return path.read_text(errors="replace").strip() if path.exists() else None

    def set_error(self, text: str | None) -> None:
        """Marks the run as failed, or as not failed."""
        path = self.job / "error.txt"
        if text is None:
            path.unlink(missing_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A run in a manifest.

    Attributes:
      name: the run's name.
      folder: name of the run folder, in that of the sweep.
      swept: what distinguishes it from the others, by flag.
      steps: number of steps of the whole training.
    """

    name: str
    folder: str
    swept: dict[str, Any]
    steps: int

    @classmethod
    def of(cls, stored: Any) -> "Entry":
        """A run as the JSON says it; `ValueError` names a field that is wrong."""
        if not isinstance(stored, dict):
            raise ValueError(f"={reprlib.repr(stored)}: must be an object")
        allowed = {
            "name": (_is_name, "a plain name"),
            "folder": (_is_name, "the plain name of a folder in the sweep"),
            "swept": (lambda value: isinstance(value, dict), "an object"),
            "steps": (_is_steps, f"an integer in [1, {_MOST_STEPS}]"),
        }
        for field, (is_allowed, words) in allowed.items():
            value = stored.get(field)
            if not is_allowed(value):
                raise ValueError(f".{field}={reprlib.repr(value)}: must be {words}")
        return cls(**{field: stored[field] for field in allowed})


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What the manifest of a sweep says.

    Attributes:
      configuration: what all runs have in common, by flag.
      runs: runs that are described as they should be.
      left_out: a line about each of the others.
    """

    configuration: dict[str, Any]
    runs: list[Entry]
    left_out: list[str]

    @classmethod
    def read(cls, workdir: str | Path) -> "Manifest":
        """The manifest of a sweep; `RunFolderError` if nothing of it can be used."""
        workdir = Path(workdir)
        where = f"workdir={workdir}: {_MANIFEST}"
        try:
            content = json.loads((workdir / _MANIFEST).read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise ValueError("must be an object")
            if not isinstance(content.get("configuration", {}), dict):
                raise ValueError("configuration: must be an object")
            configuration = flat(content.get("configuration", {}))
            if not isinstance(content.get("runs"), list):
                raise ValueError("runs: must be a list")
        except (OSError, ValueError, RecursionError) as error:
            raise RunFolderError(f"{where}: {error}") from error
        runs: dict[str, Entry] = {}
        left_out = []
        for number, stored in enumerate(content["runs"]):
            try:
                entry = Entry.of(stored)
                if entry.name in runs:
                    raise ValueError(f".name={entry.name!r}: stands there twice")
                runs[entry.name] = entry
            except ValueError as error:
                left_out.append(f"{where}: runs[{number}]{error}")
        return cls(configuration, list(runs.values()), left_out)

    def write(self, workdir: Path) -> None:
        """Writes the manifest, whole or not at all."""
        content = dataclasses.asdict(self)
        del content["left_out"]
        write_text(workdir / _MANIFEST, json.dumps(content, indent=2) + "\n")


def _is_name(value: Any) -> bool:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        return False
    return len(value.encode()) <= _LONGEST


def _is_steps(value: Any) -> bool:
    return type(value) is int and 1 <= value <= _MOST_STEPS


def prepare(workdir: Path, shared: dict[str, Any], runs: Iterable[Run]) -> None:
    """Makes the folder of a sweep, or adds runs to those of earlier grids.

    Args:
      workdir: the folder.
      shared: what all runs have in common, by flag; other algorithms may have more.
      runs: those asked for.

    Raises:
      RunFolderError: if one of them cannot go there. Then nothing is written.
    """
    entries: dict[str, Entry] = {}
    configuration: dict[str, Any] = {}
    if is_sweep(workdir):
        manifest = Manifest.read(workdir)
        if manifest.left_out:
            raise RunFolderError(manifest.left_out[0])
        entries = {entry.name: entry for entry in manifest.runs}
        configuration = manifest.configuration
        asked = {name: shared[name] for name in configuration if name in shared}
        if different := differences(
            {name: configuration[name] for name in asked}, asked
        ):
            raise RunFolderError(
                f"workdir={workdir}: holds a sweep with other flags (stored != asked): "
                f"{'; '.join(different)}. Choose another folder, or the stored "
                "values to go on with it"
            )
    elif workdir.exists() and not workdir.is_dir():
        raise RunFolderError(f"workdir={workdir}: is a file; must be a folder")
    elif workdir.is_dir() and any(p.suffix != PART for p in workdir.iterdir()):
        raise RunFolderError(
            f"workdir={workdir}: holds files but no manifest.json; choose an empty or "
            "a new folder"
        )
    for run in runs:
        RunPaths.of(workdir, run.name).check()
        check_unused_or_same(str(workdir / run.name), run.config)
        entries[run.name] = Entry(run.name, run.name, run.swept, run.steps)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        Manifest(configuration | shared, list(entries.values()), []).write(workdir)
    except OSError as error:
        raise RunFolderError(f"workdir={workdir}: {error}") from error


def is_sweep(workdir: str | Path) -> bool:
    """Whether a folder holds a sweep."""
    return (Path(workdir) / _MANIFEST).is_file()


def finished_folders(workdir: str | Path) -> list[Path]:
    """Run folders of finished runs; what cannot be read is left out, with a warning."""
    workdir = Path(workdir)
    manifest = Manifest.read(workdir)
    finished, left_out = [], list(manifest.left_out)
    for entry in manifest.runs:
        paths = RunPaths(workdir / entry.folder, workdir / "jobs" / entry.name)
        try:
            paths.check()
            if paths.result().get("steps", 0) >= entry.steps:
                finished.append(paths.run)
        except RunFolderError as error:
            left_out.append(str(error))
    for line in left_out:
        logging.warning("left out: %s", line)
    return finished
