"""A sweep on disk: which runs it has, and how far they are.

manifest.json    the runs: name, folder, what was swept, steps of the whole training
NAME/            a run folder each
jobs/NAME/       of the process that trains it: logs, a lock, the error it ended with
"""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from experiments.config import Config, differences
from experiments.grid import Run
from experiments.run_folder import (
    PART,
    RunFolderError,
    check_unused_or_same,
    read_summary,
    write_whole,
)


@dataclasses.dataclass(frozen=True)
class RunPaths:
    """Where a run of a sweep is.

    Attributes:
      run: its run folder.
      job: folder of the process that trains it.
    """

    run: Path
    job: Path

    @classmethod
    def of(cls, workdir: Path, name: str) -> "RunPaths":
        """Those of the run of this name."""
        return cls(workdir / name, workdir / "jobs" / name)

    def is_finished(self, steps: int) -> bool:
        """Whether a training of so many steps has come to its end."""
        return read_summary(self.run).get("steps", 0) >= steps

    def step(self) -> int:
        """The last step that was logged."""
        path = self.run / "metrics.jsonl"
        text = path.read_text() if path.exists() else ""
        # What follows the last end of a line is being written.
        lines = text[: text.rfind("\n") + 1].splitlines()
        return json.loads(lines[-1])["step"] if lines else 0

    def error(self) -> str | None:
        """What the last attempt at it failed with; None if it did not."""
        path = self.job / "error.txt"
        return path.read_text().strip() if path.exists() else None

    def set_error(self, text: str | None) -> None:
        """Marks the run as failed, or as not failed."""
        path = self.job / "error.txt"
        if text is None:
            path.unlink(missing_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, text)


def prepare(workdir: Path, base: Config, runs: Iterable[Run]) -> None:
    """Makes the folder of a sweep, or adds runs to one that is there.

    Args:
      workdir: the folder.
      base: what all runs have in common.
      runs: those asked for; runs of earlier grids stay in the manifest.

    Raises:
      RunFolderError: if one of them cannot go there. Then nothing is written.
    """
    runs = list(runs)
    manifest = {"configuration": dataclasses.asdict(base), "runs": []}
    if is_sweep(workdir):
        manifest = read_manifest(workdir)
        different = differences(manifest["configuration"], base)
        if different:
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
        check_unused_or_same(str(workdir / run.name), run.config)
    entries = {entry["name"]: entry for entry in manifest["runs"]}
    entries |= {
        run.name: {
            "name": run.name,
            "folder": run.name,
            "swept": run.swept,
            "steps": run.steps,
        }
        for run in runs
    }
    manifest["runs"] = list(entries.values())
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        write_whole(workdir / "manifest.json", json.dumps(manifest, indent=2) + "\n")
    except OSError as error:
        raise RunFolderError(f"workdir={workdir}: {error}") from error


def is_sweep(workdir: str | Path) -> bool:
    """Whether a folder holds a sweep."""
    return (Path(workdir) / "manifest.json").is_file()


def read_manifest(workdir: str | Path) -> dict[str, Any]:
    """The manifest of a sweep, or `RunFolderError`."""
    path = Path(workdir) / "manifest.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RunFolderError(f"workdir={workdir}: manifest.json: {error}") from error


def finished_folders(workdir: str | Path) -> list[Path]:
    """Run folders of a sweep whose trainings have come to their ends."""
    workdir = Path(workdir)
    return [
        workdir / entry["folder"]
        for entry in read_manifest(workdir)["runs"]
        if RunPaths.of(workdir, entry["name"]).is_finished(entry["steps"])
    ]
