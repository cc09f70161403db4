"""Checkpoints of a run: written beside the training, checked before they are read.

Orbax writes a checkpoint under another name and renames it when all of it is there, so
one that was cut off is none. But neither Orbax nor TensorStore sees a bit of the data
that has flipped on the disk since, or a folder that was given another name. So each
checkpoint holds two files more, renamed into place with the data:

record.json    its step, and what else whoever saves it wants to find again
SHA256SUMS     of all its files, which ``sha256sum -c`` reads, too

By them this program knows its own: nothing else in the folder is removed or renamed.
What is removed gets a hidden name first, so that a removal that was cut off leaves no
part of a checkpoint, and is finished when a training opens the folder again.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging

from experiments.runs import files, stored
from experiments.runs.writing import by_first

SUMS = "SHA256SUMS"
RECORD = "record.json"
ITEM = "default"  # What Orbax calls the only thing that it is given.
# What Orbax writes beside it, and needs for nothing.
OTHERS = {"_CHECKPOINT_METADATA", "commit_success.txt"}

_REMOVED = re.compile(r"\.\d+\.removed")


class CheckpointError(OSError):
    """A checkpoint can neither be written nor read."""


class Checkpoints:
    """The checkpoints of one run, by their steps.

    Attributes:
      path: folder of them.
    """

    def __init__(self, path: Path, *, keep: int | None = None):
        """Opens a folder, which need not exist.

        Args:
          path: folder of the checkpoints.
          keep: how many of the newest stay, beside the best; None to read only.
        """
        self.path = path.absolute()
        self._writable = keep is not None
        self._keep = keep
        self._tidy = True  # No older ones are there than are to be kept.
        self._saving = 0
        self._record: dict[str, Any] = {}  # Of what is being saved.
        if self._writable:
            by_first(self.path, self._finish_removals)
        self._manager = ocp.CheckpointManager(
            self.path,
            options=ocp.CheckpointManagerOptions(
                create=self._writable,
                cleanup_tmp_directories=self._writable,
                # It would stumble over metadata that is damaged.
                lightweight_initialize=True,
                async_options=ocp.AsyncOptions(
                    # Finalized are the files; the checkpoint is renamed after it.
                    post_finalization_callback=self._write_sums,
                    # Its threads would wait for minutes for a folder that one of them
                    # cannot make.
                    create_directories_asynchronously=False,
                ),
            ),
        )

    def steps(self) -> list[int]:
        """Steps of all checkpoints, in their order, when all is written."""
        self.wait()
        return self._found()

    def save(
        self,
        step: int,
        tree: Any,
        record: dict[str, Any] | None = None,
        *,
        score: float | None = None,
    ) -> None:
        """Begins to write a checkpoint, unless there is one of this step.

        The arrays may be donated at once. Waits for the checkpoint before this one.

        Args:
          step: names it.
          tree: of arrays.
          record: what JSON can hold, for `restore`.
          score: the higher the better; None without.

        Raises:
          CheckpointError: if this or that cannot be written; those before stay.
        """
        if step in self.steps():
            return
        self._saving = step
        self._record = (record or {}) | {"step": step, "score": score}
        self._tidy = False
        try:
            if (self.path / str(step)).exists():
                raise FileExistsError(f"{self.path / str(step)} is no checkpoint")
            # Unless it is forced to, Orbax silently saves none below the highest step.
            if not self._manager.save(
                step, args=ocp.args.StandardSave(tree), force=True
            ):
                raise RuntimeError("Orbax has skipped it")
        except Exception as error:
            raise self._not_written(error) from error

    def check(self) -> None:
        """Raises `CheckpointError` if what was being written has failed."""
        if not self._manager.is_saving_in_progress():
            self.wait()

    def wait(self) -> None:
        """Waits until all is written, or raises `CheckpointError`."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._not_written(error) from error
        if self._keep is not None and not self._tidy:
            self._tidy = True
            if jax.process_index() == 0:
                self._remove_old(self._keep)

    def restore(
        self,
        template: Any,
        check: Callable[[dict[str, Any]], None] = lambda record: None,
    ) -> tuple[Any, dict[str, Any]]:
        """The newest checkpoint that is intact, like a template.

        Those that are damaged are reported, and set aside where training goes on.

        Args:
          template: a tree of arrays, or of their shapes.
          check: called with the record before the arrays are read; what it raises is
            passed on.

        Returns:
          The tree, and its record: empty for one of an earlier version, without any.

        Raises:
          CheckpointError: if there are checkpoints, but none is intact, or the newest
            has the name of another step.
        """
        faults: dict[int, str] = {}
        for step in reversed(self.steps()):
            folder = self.path / str(step)
            try:
                _check_files(folder)
                record = _record_of(folder) or {}
            except (OSError, ValueError) as error:
                faults[step] = _line(error)
                continue
            if record.get("step", step) != step:
                raise CheckpointError(
                    f"{folder}: is the checkpoint of step {record['step']} under "
                    "another name; must be taken away"
                )
            check(record)
            try:
                with ocp.StandardCheckpointer() as checkpointer:
                    restored = checkpointer.restore(folder / ITEM, template)
            except Exception as error:
                faults[step] = _line(error)
                continue
            self._report(faults, step)
            # Its process may have ended before it removed what was older.
            self._tidy = not self._writable
            return restored, record
        reasons = "; ".join(f"{step}: {fault}" for step, fault in faults.items())
        raise CheckpointError(
            f"{self.path}: no checkpoint is intact ({reasons}). Put a copy of one "
            "back, or choose another folder to start again"
        )

    def close(self) -> None:
        """Waits until all is written, or raises `CheckpointError`."""
        self.wait()
        try:
            self._manager.close()
        except Exception as error:
            raise self._not_written(error) from error

    def _report(self, faults: dict[int, str], intact: int) -> None:
        for step, fault in faults.items():
            logging.warning(
                "checkpoint of step %d is damaged (%s); using that of step %d",
                step, fault, intact,
            )  # fmt: skip
        if not (self._writable and faults):
            return

        def set_aside() -> None:
            for step in faults:
                _set_aside(self.path / str(step))

        by_first(self.path, set_aside)
        self._manager.reload()

    def _found(self) -> list[int]:
        if not self.path.is_dir():
            return []
        folders = [path for path in self.path.iterdir() if _is_checkpoint(path)]
        return sorted(int(folder.name) for folder in folders)

    def _remove_old(self, keep: int) -> None:
        """Removes all but so many of the newest, the best, and whatever is not ours."""
        records = {step: self._own_record(step) for step in self._found()}
        scores = {
            step: record.get("score")
            for step, record in records.items()
            if record is not None
        }
        scored = {step: score for step, score in scores.items() if score is not None}
        # The later one of two that are as good.
        best = max(scored, key=lambda step: (scored[step], step), default=None)
        for step in sorted(scores)[:-keep]:
            if step != best:
                with _warns_of(self.path / str(step)):
                    (self.path / str(step)).rename(self.path / f".{step}.removed")
        self._finish_removals()

    def _finish_removals(self) -> None:
        """Removes the files of what has been renamed to be removed."""
        if self.path.is_dir():
            for folder in self.path.iterdir():
                if _REMOVED.fullmatch(folder.name) and not folder.is_symlink():
                    with _warns_of(folder):
                        _remove(folder)

    def _write_sums(self) -> None:
        """Adds its record and its checksums to the checkpoint that is being written."""
        (part,) = self.path.glob(f"{self._saving}{ocp.utils.TMP_DIR_SUFFIX}*")
        files.write_text(part / RECORD, json.dumps(self._record, indent=2) + "\n")
        names = sorted(_names(part) - OTHERS)
        lines = [f"{_sha256(part / name)}  {name}\n" for name in names]
        files.write_text(part / SUMS, "".join(lines))

    def _own_record(self, step: int) -> dict[str, Any] | None:
        """The record of a checkpoint that may be removed.

        None of one that has another name, is a link, or holds other files than its own.
        """
        folder = self.path / str(step)
        try:
            record = _record_of(folder)
            own = {SUMS, *OTHERS, *_listed(folder)}
        except (OSError, ValueError):
            return None
        alone = RECORD in own and _names(folder) <= own and not folder.is_symlink()
        return record if alone and record and record["step"] == step else None

    def _not_written(self, error: Exception) -> CheckpointError:
        return CheckpointError(
            f"{self.path}: the checkpoint of step {self._saving} cannot be written "
            f"({_line(error)}); those before it are kept"
        )


def _is_checkpoint(folder: Path) -> bool:
    """Whether a folder has the name and the files of a checkpoint, damaged or not."""
    name = folder.name
    return (
        name.isdecimal()
        and name == str(int(name))
        and (folder / ITEM).is_dir()
        and any((folder / file).is_file() for file in {SUMS, RECORD, *OTHERS})
    )


def _check_files(folder: Path) -> None:
    """Raises `ValueError` or `OSError` unless a checkpoint is what was written."""
    if not (folder / SUMS).is_file():
        logging.warning(
            "checkpoint of step %s has no %s: nothing says whether it is intact",
            folder.name, SUMS,
        )  # fmt: skip
        return
    sums = _listed(folder)
    for name, expected in sums.items():
        if not (folder / name).is_file():
            raise ValueError(f"{name} is missing")
        if _sha256(folder / name) != expected:
            raise ValueError(f"{name} is not what was written")
    for name in sorted(_names(folder)):
        if name.startswith((ITEM, RECORD)) and name not in sums:
            raise ValueError(f"{name} is not in {SUMS}")


def _record_of(folder: Path) -> dict[str, Any] | None:
    """The record of a checkpoint; None in one of an earlier version."""
    path = folder / RECORD
    try:
        return stored.read_object(path, stored.RECORD) if path.exists() else None
    except (OSError, ValueError) as error:
        raise ValueError(f"{RECORD}: {_line(error)}") from error


def _names(folder: Path) -> set[str]:
    """All files in a folder, by their paths in it."""
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}


def _listed(folder: Path) -> dict[str, str]:
    """The checksums that a checkpoint has of its files."""
    lines = (folder / SUMS).read_text().splitlines()
    return {name: sha for sha, _, name in (line.partition("  ") for line in lines)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _set_aside(path: Path) -> None:
    """Renames what is damaged: whoever owns it may still want to look at it."""
    aside = path.with_name(f"{path.name}.damaged")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged{number}")
    path.rename(aside)


def _remove(folder: Path) -> None:
    """Removes the files that a checkpoint lists, and the folders that get empty.

    The list goes last: until then it says which files are ours.
    """
    if (folder / SUMS).is_file():
        for name in _names(folder) & {*OTHERS, *_listed(folder)}:
            (folder / name).unlink()
    inside = [path for path in folder.rglob("*") if path.is_dir()]
    for path in sorted(inside, reverse=True):
        path.rmdir()
    (folder / SUMS).unlink(missing_ok=True)
    folder.rmdir()


@contextlib.contextmanager
def _warns_of(folder: Path) -> Iterator[None]:
    """Has a removal that fails harm nothing but the space that it leaves in use."""
    try:
        yield
    except (OSError, ValueError) as error:
        logging.warning("%s: cannot be removed (%s)", folder, _line(error))


def _line(error: Exception) -> str:
    """The message of an error in one line; TensorStore's end with the reason."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:80]} ... {text[-120:]}"
