"""A run on disk: configuration, metrics, events for TensorBoard, checkpoints, summary.

config.json      the configuration that runs
provenance.json  what made it: versions, commit, device, host, date
metrics.jsonl    a line per logged interval
tensorboard/     the same for TensorBoard, written without TensorFlow
checkpoints/     Orbax: everything that training changes
summary.json     the result
*.png            pictures

Of several processes that train together the first writes the files, and all write the
checkpoints. So all have to call the same functions in the same order.
"""

import contextlib
import functools
import json
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging
from jax.experimental import multihost_utils
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from experiments import provenance
from experiments.config import Config, differences

PART = ".part"  # Ends the names of files that are being written.


class RunFolderError(ValueError):
    """The folder cannot be used for what was asked."""


class RunFolder:
    """A run folder, opened for training or for reading.

    Attributes:
      path: the folder.
      config: the configuration stored in it.
    """

    def __init__(self, path: Path, config: Config, *, keep: int | None = None):
        self.path = path
        self.config = config
        self._rows = _read_rows(path)
        self._keep = keep
        self._events: EventsWriter | None = None

    @classmethod
    def for_training(
        cls, workdir: str, config: Config, *, keep_checkpoints: int = 2
    ) -> "RunFolder":
        """Opens a folder for a new run, or for going on with the same one.

        Args:
          workdir: the folder.
          config: of the run.
          keep_checkpoints: how many of the newest checkpoints stay, beside the one of
            the highest test accuracy.

        Raises:
          RunFolderError: if it holds another configuration, or cannot be written.
        """
        check_unused_or_same(workdir, config)
        path = Path(workdir)
        wait_for_all()
        with writing(path):
            if not (path / "config.json").exists():
                path.mkdir(parents=True, exist_ok=True)
                write_whole(path / "config.json", config.to_json())
        wait_for_all()
        check_unused_or_same(workdir, config)  # Another process may have other flags.
        with writing(path):
            _record_start(path)
            return cls(path, config, keep=keep_checkpoints)

    @classmethod
    def read(cls, workdir: str) -> "RunFolder":
        """Opens the folder of a run that exists.

        Raises:
          RunFolderError: if there is none.
        """
        return cls(Path(workdir), read_config(Path(workdir)))

    @functools.cached_property
    def _checkpoints(self):
        # Orbax takes its time to be imported: not before there is one to read or write.
        from experiments.checkpoints import Checkpoints

        return Checkpoints(
            self.path / "checkpoints", keep=self._keep, score_of=self._accuracy_at
        )

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
        keys of a step and its place in the data.

        Raises:
          CheckpointError: if this one or the one before it cannot be written.
        """
        self._checkpoints.save(int(state.step), _without_keys(state))

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
          RunFolderError: if there is none.
          CheckpointError: if all of them are damaged.
        """
        if self.latest_step() is None:
            raise RunFolderError(f"workdir={self.path}: holds no checkpoint")
        saved = self._checkpoints.restore(_without_keys(template))
        return jax.tree.map(
            lambda like, x: (
                jax.random.wrap_key_data(x, impl=jax.random.key_impl(like))
                if _is_key(like)
                else x
            ),
            template,
            saved,
        )

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
        if self._rows:
            logging.warning(
                "there is no checkpoint yet: starting again, with %d steps lost",
                self._rows[-1]["step"],
            )
        return start

    def begin_metrics(self, step: int) -> None:
        """Drops what was logged after ``step``, to go on from there."""
        self._rows = [row for row in self._rows if row["step"] <= step]
        if jax.process_index():
            return
        with writing(self.path):
            text = "".join(f"{json.dumps(row)}\n" for row in self._rows)
            write_whole(self.path / "metrics.jsonl", text)
            (self.path / "tensorboard").mkdir(exist_ok=True)
            # Not its SummaryWriter: that one writes in a thread, which dies of a full
            # disk and leaves the others waiting for it.
            self._events = EventsWriter(str(self.path / "tensorboard" / "events"))
            start = SessionLog(status=SessionLog.START)
            self._write_event(step + 1, session_log=start)  # Purges what is later.

    def log(self, row: dict[str, Any]) -> None:
        """Appends a row of metrics, which names its step."""
        self._rows.append(row)
        if jax.process_index():
            return
        with writing(self.path):
            with (self.path / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            for name, value in row.items():
                if name != "step":
                    self._write_event(row["step"], summary=scalar(name, value))
            self._events.flush()

    def metrics(self) -> list[dict[str, Any]]:
        """All rows that were logged."""
        return list(self._rows)

    def best_accuracy(self) -> float:
        """The highest test accuracy that was logged; 0 before there is one."""
        return max((row.get("test_accuracy", 0.0) for row in self._rows), default=0.0)

    def update_summary(
        self, *, stale: Collection[str] = (), **values: Any
    ) -> dict[str, Any]:
        """Adds to ``summary.json``, and takes out what is stale; returns the whole."""
        kept = {k: v for k, v in self.summary().items() if k not in stale}
        summary = kept | values
        wait_for_all()
        with writing(self.path):
            text = json.dumps(summary, indent=2) + "\n"
            write_whole(self.path / "summary.json", text)
        wait_for_all()
        return summary

    def summary(self) -> dict[str, Any]:
        """The result so far; empty before there is one."""
        return read_summary(self.path)

    def close(self) -> None:
        """Waits until everything is written, or raises `CheckpointError`."""
        if self._events is not None:
            with writing(self.path):
                self._events.close()
        if self._has_checkpoints:
            self._checkpoints.close()
        logging.info("run folder: %s", self.path)

    def _accuracy_at(self, step: int) -> float | None:
        """Test accuracy that was logged at a step; None without."""
        return next(
            (row.get("test_accuracy") for row in self._rows if row["step"] == step),
            None,
        )

    def _write_event(self, step: int, **content: Any) -> None:
        self._events.write_event(Event(wall_time=time.time(), step=step, **content))


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Makes an error of the file system a `RunFolderError` that names the folder."""
    try:
        yield
    except OSError as error:
        raise RunFolderError(f"workdir={path}: {error}") from error


def check_unused_or_same(workdir: str, config: Config) -> None:
    """Raises `RunFolderError` unless a run of this configuration can go there.

    Nothing is written: to be asked before any long work.
    """
    path = Path(workdir)
    if (path / "config.json").exists():
        different = differences(_read_json(path), config)
        if different:
            raise RunFolderError(
                f"workdir={workdir}: holds a run with another configuration "
                f"(stored != asked): {'; '.join(different)}. Choose another folder, "
                "or the stored values to go on with it"
            )
    elif path.is_dir() and any(p.suffix != PART for p in path.iterdir()):
        raise RunFolderError(
            f"workdir={workdir}: holds files but no config.json; choose an empty or a "
            "new folder"
        )
    elif path.exists() and not path.is_dir():
        raise RunFolderError(f"workdir={workdir}: is a file; must be a folder")


def read_config(workdir: str | Path) -> Config:
    """The configuration stored in a run folder, or `RunFolderError`."""
    stored = _read_json(Path(workdir))
    try:
        return Config.from_json(json.dumps(stored))
    except (ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"workdir={workdir}: config.json: {error}") from error


def read_summary(workdir: str | Path) -> dict[str, Any]:
    """The result stored in a run folder; empty before there is one."""
    path = Path(workdir) / "summary.json"
    return json.loads(path.read_text()) if path.exists() else {}


def write_whole(path: Path, text: str) -> None:
    """Writes a file that is there as a whole or not at all, whenever one is killed.

    Of several processes, the first does.
    """
    if jax.process_index():
        return
    part = path.with_name(path.name + PART)
    part.write_text(text)
    part.replace(path)


def _record_start(path: Path) -> None:
    try:
        if text := provenance.with_this_start(path):
            write_whole(path / provenance.FILE, text)
    except ValueError as error:
        raise RunFolderError(f"workdir={path}: {provenance.FILE}: {error}") from error


def wait_for_all() -> None:
    """Waits until all processes are here: they have read, or the first has written."""
    multihost_utils.sync_global_devices("run folder")


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _without_keys(tree: Any) -> Any:
    """Random keys as the integers in them, which can be stored."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree)


def _read_json(path: Path) -> dict[str, Any]:
    """The configuration in a run folder, as it is stored."""
    stored = path / "config.json"
    if not stored.is_file():
        raise RunFolderError(f"workdir={path}: is not a run (it has no config.json)")
    try:
        return dict(json.loads(stored.read_text()))
    except (ValueError, TypeError) as error:
        raise RunFolderError(f"workdir={path}: config.json: {error}") from error


def _read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of metrics, but for one that was cut off when the run was killed."""
    metrics = path / "metrics.jsonl"
    rows = []
    for line in metrics.read_text().splitlines() if metrics.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):
            row = json.loads(line)
            if "step" in row:
                rows.append(row)
    return rows
