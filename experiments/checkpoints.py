"""Checkpoints of a run: written beside the training, checked before they are read.

Orbax writes a checkpoint under another name and renames it when all of it is there, so
one that was cut off is none. But neither Orbax nor TensorStore sees a bit of the data
that has flipped on the disk since: each checkpoint therefore holds ``SHA256SUMS`` of
its files, renamed into place with them, which ``sha256sum -c`` reads, too.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

SUMS = "SHA256SUMS"
ITEM = "default"  # What Orbax calls the only thing that it is given.


class CheckpointError(OSError):
    """A checkpoint can neither be written nor read."""


class Checkpoints:
    """The checkpoints of one run, by their steps.

    Attributes:
      path: folder of them.
    """

    def __init__(
        self,
        path: Path,
        *,
        keep: int | None = None,
        score_of: Callable[[int], float | None] = lambda step: None,
    ):
        """Opens a folder, which need not exist.

        Args:
          path: folder of the checkpoints.
          keep: how many of the newest stay, beside the best; None to read only.
          score_of: of the checkpoint of a step, the higher the better; None without.
        """
        self.path = path.absolute()
        self._writable = keep is not None
        self._saving = 0
        self._manager = ocp.CheckpointManager(
            self.path,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=checkpoint_managers.AnyPreservationPolicy(
                    [checkpoint_managers.LatestN(keep), _Best(score_of)]
                ),
                create=self._writable,
                cleanup_tmp_directories=self._writable,
                # It would stumble over metadata that is damaged.
                lightweight_initialize=True,
                async_options=ocp.AsyncOptions(
                    # Finalized are the files; the checkpoint is renamed after it.
                    post_finalization_callback=self._write_sums
                ),
            ),
        )

    def steps(self) -> list[int]:
        """Steps of all checkpoints, in their order."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, tree: Any) -> None:
        """Begins to write a checkpoint, unless there is one of this step.

        The arrays may be donated at once. Waits for the checkpoint before this one.

        Raises:
          CheckpointError: if this or that cannot be written; those before stay.
        """
        self.wait()
        if step in self._manager.all_steps():
            return
        self._saving = step
        try:
            self._manager.save(step, args=ocp.args.StandardSave(tree))
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

    def restore(self, template: Any) -> Any:
        """The newest checkpoint that is intact, like a template.

        Those that are damaged are reported, and set aside where training goes on.

        Raises:
          CheckpointError: if there are checkpoints, but none is intact.
        """
        self.wait()
        faults: dict[int, str] = {}
        for step in reversed(self.steps()):
            fault = self._fault(step)
            if fault is None:
                try:
                    restored = self._read(step, template)
                except Exception as error:
                    fault = _line(error)
                else:
                    self._report(faults, step)
                    return restored
            faults[step] = fault
        reasons = "; ".join(f"{step}: {fault}" for step, fault in faults.items())
        raise CheckpointError(
            f"{self.path}: no checkpoint is intact ({reasons}). Put a copy of one "
            "back, or choose another folder to start again"
        )

    def close(self) -> None:
        """Waits until all is written, or raises `CheckpointError`."""
        try:
            self._manager.close()
        except Exception as error:
            raise self._not_written(error) from error

    def _read(self, step: int, template: Any) -> Any:
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(self.path / str(step) / ITEM, template)

    def _report(self, faults: dict[int, str], intact: int) -> None:
        for step, fault in faults.items():
            logging.warning(
                "checkpoint of step %d is damaged (%s); using that of step %d",
                step, fault, intact,
            )  # fmt: skip
        if not (self._writable and faults):
            return
        if jax.process_index() == 0:
            for step in faults:
                _set_aside(self.path / str(step))
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("damaged checkpoints")
        self._manager.reload()

    def _write_sums(self) -> None:
        """Adds its checksums to the checkpoint that is being written."""
        (part,) = self.path.glob(f"{self._saving}{ocp.utils.TMP_DIR_SUFFIX}*")
        files = sorted(path for path in (part / ITEM).rglob("*") if path.is_file())
        lines = [f"{_sha256(path)}  {path.relative_to(part)}\n" for path in files]
        (part / SUMS).write_text("".join(lines))

    def _fault(self, step: int) -> str | None:
        """What is wrong with the files of a checkpoint; None if nothing is."""
        folder = self.path / str(step)
        try:
            # Checkpoints of earlier versions have no sums.
            sums = (folder / SUMS).read_text() if (folder / SUMS).exists() else ""
            for line in sums.splitlines():
                expected, _, name = line.partition("  ")
                if not (folder / name).is_file():
                    return f"{name} is missing"
                if _sha256(folder / name) != expected:
                    return f"{name} is not what was written"
        except (OSError, ValueError) as error:
            return _line(error)
        return None

    def _not_written(self, error: Exception) -> CheckpointError:
        return CheckpointError(
            f"{self.path}: the checkpoint of step {self._saving} cannot be written "
            f"({_line(error)}); those before it are kept"
        )


class _Best:
    """A policy of Orbax that preserves the checkpoint of the highest score."""

    def __init__(self, score_of: Callable[[int], float | None]):
        self._score_of = score_of

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        """Whether to preserve each; the later one of two that are as good."""
        del context
        scores = {info.step: self._score_of(info.step) for info in checkpoints}
        scored = {step: score for step, score in scores.items() if score is not None}
        best = max(scored, key=lambda step: (scored[step], step), default=None)
        return [info.step == best for info in checkpoints]


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


def _line(error: Exception) -> str:
    """The message of an error in one line; TensorStore's end with the reason."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:80]} ... {text[-120:]}"
