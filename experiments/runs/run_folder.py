"""A run on disk: configuration, metrics, events for TensorBoard, checkpoints, summary.

config.json      the configuration that runs
provenance.json  what made it: versions, commit, device, host, date
metrics.jsonl    a line per logged interval
tensorboard/     the same for TensorBoard, written without TensorFlow
checkpoints/     Orbax: everything that training changes, and sums over what was logged
summary.json     the result
*.png            pictures
lock             held while one writes

Of several processes that train together the first writes the files, and all write the
checkpoints. So all have to call the same functions in the same order.
"""

import contextlib
import dataclasses
import functools
import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, Self

from absl import logging

from experiments.config import Config, differences
from experiments.runs import files, locks, provenance
from experiments.runs.metrics import Metrics
from experiments.runs.stored import (
    RunFolderError,
    read_config,
    read_fields,
    read_summary,
    short,
)
from experiments.runs.writing import by_first, held, wait_for_all

# Of files that were being written when their process was killed.
_LEFT = re.compile(r".+\.[0-9a-f]{16}" + re.escape(files.PART))


class RunFolder:
    """A run folder, opened for training, for adding to its summary, or for reading.

    Attributes:
      path: the folder.
      config: the configuration stored in it.
      metrics: what was logged up to here, or up to the checkpoint that was restored.
    """

    def __init__(self, path: Path, config: Config, *, keep: int | None = None):
        self.path = path
        self.config = config
        self.metrics = Metrics(path)
        self._keep = keep
        self._alone: contextlib.ExitStack | None = None  # When closed, lets others in.

    @classmethod
    def for_training(
        cls, workdir: str, config: Config, *, keep_checkpoints: int = 2
    ) -> Self:
        """Opens a folder for a new run, or for going on with the same one.

        No other process can write there until it is closed.

        Args:
          workdir: the folder.
          config: of the run.
          keep_checkpoints: how many of the newest checkpoints stay, beside the one of
            the highest test accuracy.

        Raises:
          RunFolderError: if it holds another configuration, or something damaged,
            cannot be written, or is being written.
        """
        check_unused_or_same(workdir, config)
        path = Path(workdir)

        def begin() -> None:
            check_unused_or_same(workdir, config)  # Another process may have had it.
            for left in path.iterdir():
                if _LEFT.fullmatch(left.name):
                    left.unlink()
            if not (path / "config.json").exists():
                files.write_text(path / "config.json", config.to_json())
            provenance.add_start(path)

        with contextlib.ExitStack() as stack:
            stack.enter_context(held(path))
            by_first(path, begin)
            check_unused_or_same(workdir, config)  # This one may have other flags.
            read_summary(path)
            folder = cls(path, config, keep=keep_checkpoints)
            folder._alone = stack.pop_all()
        return folder

    @classmethod
    def for_results(cls, workdir: str) -> Self:
        """Opens the folder of a run that exists, for adding to its summary.

        No other process can write there until it is closed.

        Raises:
          RunFolderError: if there is none, or it cannot be written, or is being
            written, or holds something damaged.
        """
        path = Path(workdir)
        config = read_config(path)
        with contextlib.ExitStack() as stack:
            stack.enter_context(held(path))
            read_summary(path)
            folder = cls(path, config)
            folder._alone = stack.pop_all()
        return folder

    @classmethod
    def read(cls, workdir: str) -> Self:
        """Opens the folder of a run that exists; `RunFolderError` if there is none."""
        return cls(Path(workdir), read_config(workdir))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits until everything is written, or raises `CheckpointError`."""
        with self._alone or contextlib.nullcontext():
            self.metrics.close()
            if self._has_checkpoints:
                self._checkpoints.close()
        logging.info("run folder: %s", self.path)

    @functools.cached_property
    def _checkpoints(self):
        # Orbax takes its time to be imported: not before there is one to read or write.
        from experiments.runs.checkpoints import Checkpoints

        return Checkpoints(self.path / "checkpoints", keep=self._keep)

    @property
    def _has_checkpoints(self) -> bool:
        return "_checkpoints" in vars(self) or (self.path / "checkpoints").is_dir()

    def latest_step(self) -> int | None:
        """Step of the newest checkpoint; None without one."""
        steps = self._checkpoints.steps() if self._has_checkpoints else []
        return max(steps, default=None)

    def save(self, state: Any) -> None:
        """Begins to write a checkpoint of a `TrainState`; training may go on at once.

        It holds all that training changes: parameters, statistics, ranges, devices and
        their wear, the optimizer with its keys, and the step, from which follow the
        keys of a step and its place in the data. Beside it stand the configuration
        and sums over what was logged.

        Raises:
          CheckpointError: if this one or the one before it cannot be written.
        """
        step, logged = int(state.step), self.metrics.logged
        tested = logged.last.get("step") == step
        self._checkpoints.save(
            step,
            state,
            {"config": self.config.to_dict(), "logged": dataclasses.asdict(logged)},
            score=logged.last.get("test_accuracy") if tested else None,
        )

    def check(self) -> None:
        """Raises `CheckpointError` if a checkpoint could not be written."""
        if self._has_checkpoints:
            self._checkpoints.check()

    def wait(self) -> None:
        """Waits until checkpoints are written, or raises `CheckpointError`."""
        if self._has_checkpoints:
            self._checkpoints.wait()

    def restore(self, template: Any) -> Any:
        """The newest intact checkpoint, in the structure (and devices) of a template.

        Raises:
          RunFolderError: if there is none, or it is of another configuration.
          CheckpointError: if all of them are damaged, or one has another's name.
        """
        if self.latest_step() is None:
            raise RunFolderError(f"workdir={self.path}: holds no checkpoint")
        saved, record = self._checkpoints.restore(template, self._check_record)
        self.metrics.restore(int(saved.step), record.get("logged"))
        return saved

    def resume(self, start: Any) -> Any:
        """The state to go on from: the newest intact checkpoint, or else the start.

        Raises:
          RunFolderError: if the run has ended, but its checkpoints are gone.
          CheckpointError: if all of them are damaged.
        """
        if self.latest_step() is not None:
            state = self.restore(start)
            logging.info("going on from step %d", state.step)
            return state
        steps = self.summary().get("steps")
        if steps is not None:
            raise RunFolderError(
                f"workdir={self.path}: summary.json is of {steps} steps, but there is "
                "no checkpoint. Put one back, or choose another folder to start again"
            )
        if rows := self.metrics.rows:
            logging.warning(
                "there is no checkpoint yet: starting again, with %d steps lost",
                rows[-1]["step"],
            )
        return start

    def summary(self) -> dict[str, Any]:
        """The result so far; empty before there is one."""
        return read_summary(self.path)

    def update_summary(
        self, *, stale: Collection[str] = (), **values: Any
    ) -> dict[str, Any]:
        """Adds to ``summary.json``, and takes out what is stale; returns the whole."""
        path = self.path / "summary.json"
        with contextlib.nullcontext() if self._alone else held(self.path):
            kept = {k: v for k, v in self.summary().items() if k not in stale}
            text = json.dumps(kept | values, indent=2) + "\n"
            wait_for_all()  # All have read it.
            by_first(self.path, lambda: files.write_text(path, text))
        return kept | values

    def _check_record(self, record: dict[str, Any]) -> None:
        """Raises `RunFolderError` if a checkpoint is not of this configuration."""
        config: dict[str, Any] = record.get("config") or {}
        try:
            same = not config or Config.from_dict(config) == self.config
        except (ValueError, TypeError, KeyError):
            same = False
        if not same:
            raise RunFolderError(
                f"workdir={self.path}: the checkpoint of step {record['step']} is of "
                "another configuration (stored != asked): "
                f"{short('; '.join(differences(config, self.config.to_dict())))}"
            )


def check_unused_or_same(workdir: str, config: Config) -> None:
    """Raises `RunFolderError` unless a run of this configuration can go there.

    Nothing is written: to be asked before any long work.
    """
    path = Path(workdir)
    if (path / "config.json").exists():
        different = differences(read_fields(path), config.to_dict())
        if different:
            raise RunFolderError(
                f"workdir={workdir}: holds a run with another configuration "
                f"(stored != asked): {short('; '.join(different))}. Choose another "
                "folder, or the stored values to go on with it"
            )
    elif path.is_dir() and any(not _is_passing(p) for p in path.iterdir()):
        raise RunFolderError(
            f"workdir={workdir}: holds files but no config.json; choose an empty or a "
            "new folder"
        )
    elif path.exists() and not path.is_dir():
        raise RunFolderError(f"workdir={workdir}: is a file; must be a folder")


def _is_passing(path: Path) -> bool:
    """Whether a file is only there while one writes, or until one is killed."""
    return path.suffix == files.PART or path.name == locks.NAME
