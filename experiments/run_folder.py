"""A run on disk: configuration, metrics, events for TensorBoard, checkpoints, summary.

config.json      the configuration that runs
metrics.jsonl    a line per logged interval
tensorboard/     the same for TensorBoard, written without TensorFlow
checkpoints/     Orbax: everything that training changes
summary.json     the result
*.png            pictures
"""

import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tensorboardX
from absl import logging

from experiments.config import Config

PART = ".part"  # Ends the names of files that are being written.


class RunFolderError(ValueError):
    """The folder cannot be used for what was asked."""


class RunFolder:
    """A run folder, opened for training or for reading.

    Attributes:
      path: the folder.
      config: the configuration stored in it.
    """

    def __init__(self, path: Path, config: Config):
        self.path = path
        self.config = config
        self._events: tensorboardX.SummaryWriter | None = None

    @classmethod
    def for_training(cls, workdir: str, config: Config) -> "RunFolder":
        """Opens a folder for a new run, or for going on with the same one.

        Raises:
          RunFolderError: if it holds another configuration, or cannot be written.
        """
        check_unused_or_same(workdir, config)
        path = Path(workdir)
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_whole(path / "config.json", config.to_json())
        except OSError as error:
            raise RunFolderError(f"workdir={workdir}: {error}") from error
        return cls(path, config)

    @classmethod
    def read(cls, workdir: str) -> "RunFolder":
        """Opens the folder of a run that exists.

        Raises:
          RunFolderError: if there is none.
        """
        return cls(Path(workdir), read_config(Path(workdir)))

    @functools.cached_property
    def _checkpoints(self):
        # Made, and Orbax imported, when there is one to read or to write: not before
        # the first step of a new run.
        import orbax.checkpoint as ocp

        options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True)
        return ocp.CheckpointManager(self._folder, options=options)

    @property
    def _folder(self) -> Path:
        return self.path.absolute() / "checkpoints"

    def latest_step(self) -> int | None:
        """Step of the newest checkpoint; None without one."""
        return self._checkpoints.latest_step() if self._folder.is_dir() else None

    def save(self, state: Any) -> None:
        """Writes a checkpoint of a `TrainState` and waits for it."""
        step = int(state.step)
        if self._checkpoints.latest_step() == step:
            return
        from orbax.checkpoint.args import StandardSave

        self._checkpoints.save(step, args=StandardSave(_without_keys(state)))
        self._checkpoints.wait_until_finished()

    def restore(self, template: Any) -> Any:
        """The newest checkpoint, in the structure (and on the devices) of a template.

        Raises:
          RunFolderError: if there is none.
        """
        step = self.latest_step()
        if step is None:
            raise RunFolderError(f"workdir={self.path}: holds no checkpoint")
        from orbax.checkpoint.args import StandardRestore

        saved = self._checkpoints.restore(
            step, args=StandardRestore(_without_keys(template))
        )
        return jax.tree.map(
            lambda like, x: (
                jax.random.wrap_key_data(x, impl=jax.random.key_impl(like))
                if _is_key(like)
                else x
            ),
            template,
            saved,
        )

    def begin_metrics(self, step: int) -> None:
        """Drops what was logged after ``step``, to go on from there."""
        path = self.path / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        rows = [line for line in lines if _step_of(line) <= step]
        write_whole(path, "".join(f"{row}\n" for row in rows))
        self._events = tensorboardX.SummaryWriter(
            str(self.path / "tensorboard"), purge_step=step + 1
        )

    def log(self, row: dict[str, Any]) -> None:
        """Appends a row of metrics, which names its step."""
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        for name, value in row.items():
            if name != "step" and self._events is not None:
                self._events.add_scalar(name, value, row["step"])

    def metrics(self) -> list[dict[str, Any]]:
        """All rows that were logged."""
        path = self.path / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]

    def update_summary(self, **values: Any) -> dict[str, Any]:
        """Adds to ``summary.json``; returns the whole."""
        summary = self.summary() | values
        write_whole(self.path / "summary.json", json.dumps(summary, indent=2) + "\n")
        return summary

    def summary(self) -> dict[str, Any]:
        """The result so far; empty before there is one."""
        return read_summary(self.path)

    def close(self) -> None:
        """Flushes everything."""
        if self._events is not None:
            self._events.close()
        if self._folder.is_dir():
            self._checkpoints.close()
        logging.info("run folder: %s", self.path)


def check_unused_or_same(workdir: str, config: Config) -> None:
    """Raises `RunFolderError` unless a run of this configuration can go there.

    Nothing is written: to be asked before any long work.
    """
    path = Path(workdir)
    if (path / "config.json").exists():
        differences = read_config(path).differences(config)
        if differences:
            raise RunFolderError(
                f"workdir={workdir}: holds a run with another configuration "
                f"(stored != asked): {'; '.join(differences)}. Choose another folder, "
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
    path = Path(workdir)
    stored = path / "config.json"
    if not stored.is_file():
        raise RunFolderError(f"workdir={path}: is not a run (it has no config.json)")
    try:
        return Config.from_json(stored.read_text())
    except (ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"workdir={path}: config.json: {error}") from error


def read_summary(workdir: str | Path) -> dict[str, Any]:
    """The result stored in a run folder; empty before there is one."""
    path = Path(workdir) / "summary.json"
    return json.loads(path.read_text()) if path.exists() else {}


def write_whole(path: Path, text: str) -> None:
    """Writes a file that is there as a whole or not at all, whenever one is killed."""
    part = path.with_name(path.name + PART)
    part.write_text(text)
    part.replace(path)


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _without_keys(tree: Any) -> Any:
    """Random keys as the integers in them, which can be stored."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree)


def _step_of(line: str) -> int:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError):
        return 2**63  # A line cut off when the run was killed.
