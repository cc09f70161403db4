"""What a run logs: rows in a file, the same for TensorBoard, and sums over them.

Rows may get lost. The sums are in each checkpoint, with a checksum of the rows they are
of: so nothing that is computed of them is wrong, and what is lost is known.
"""

import dataclasses
import functools
import json
import os
import time
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jax
from absl import logging
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from experiments.runs import files
from experiments.runs.stored import read_rows
from experiments.runs.writing import writing


@dataclasses.dataclass(frozen=True)
class Logged:
    """What was logged up to a step, without the rows.

    Attributes:
      rows: number of rows.
      crc32: checksum of their lines.
      sums: sum of every number in them, over all rows.
      best_accuracy: the highest test accuracy; 0 before there is one.
      last: the last row.
    """

    rows: int = 0
    crc32: int = 0
    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    best_accuracy: float = 0.0
    last: dict[str, Any] = dataclasses.field(default_factory=dict)

    def and_(self, row: dict[str, Any]) -> "Logged":
        """With one row more."""
        return Logged(
            self.rows + 1,
            zlib.crc32(_line(row).encode(), self.crc32),
            self.sums | {name: self.sums.get(name, 0) + x for name, x in row.items()},
            max(self.best_accuracy, row.get("test_accuracy", 0.0)),
            dict(row),
        )

    @classmethod
    def of(cls, rows: Collection[dict[str, Any]]) -> "Logged":
        """Some rows."""
        return functools.reduce(Logged.and_, rows, cls())


class Metrics:
    """The rows of a run folder.

    Attributes:
      path: the run folder.
      rows: all that there are.
      logged: what was logged up to here, or up to the checkpoint that was restored.
    """

    def __init__(self, path: Path):
        self.path = path
        self.rows, self._faults = read_rows(path)
        self.logged = Logged()
        self._events: EventsWriter | None = None

    def restore(self, step: int, logged: dict[str, Any] | None) -> None:
        """Goes back to what was logged up to the step of a checkpoint.

        ``logged`` are the fields of `Logged` in it; None in one of an earlier version,
        whose sums are those of the rows.
        """
        if logged is not None:
            self.logged = Logged(**logged)
            return
        self.logged = Logged.of(self._until(step))
        for fault in self._faults[:1]:
            logging.warning("workdir=%s: %s; sums lack it", self.path, fault)

    def begin(self, step: int) -> None:
        """Drops what was logged after ``step``, to go on from there."""
        self.rows = self._until(step)
        if fault := self.fault():
            logging.warning("workdir=%s: %s", self.path, fault)
        if jax.process_index():
            return
        with writing(self.path):
            text = "".join(map(_line, self.rows))
            files.write_text(self.path / "metrics.jsonl", text)
            (self.path / "tensorboard").mkdir(exist_ok=True)
            if self._events is not None:
                self._events.close()
            # Not its SummaryWriter: that one writes in a thread, which dies of a full
            # disk and leaves the others waiting for it.
            self._events = EventsWriter(str(self.path / "tensorboard" / "events"))
            start = SessionLog(status=SessionLog.START)
            # Purges what is later.
            self._events.write_event(_event(step + 1, session_log=start))

    def log(self, row: dict[str, Any]) -> None:
        """Appends a row of metrics, which names its step."""
        self.rows.append(row)
        self.logged = self.logged.and_(row)
        if jax.process_index():
            return
        if self._events is None:
            raise ValueError("metrics: `begin` must come before `log`")
        with writing(self.path):
            with (self.path / "metrics.jsonl").open("a") as file:
                file.write(_line(row))
                file.flush()
                os.fsync(file.fileno())
            for name, value in row.items():
                if name != "step":
                    event = _event(row["step"], summary=scalar(name, value))
                    self._events.write_event(event)
            self._events.flush()

    def fault(self) -> str | None:
        """How the rows differ from what was logged; None if they do not."""
        mine, true = Logged.of(self.rows), self.logged
        if mine == true:
            return None
        lost = true.rows - mine.rows
        what = f"{lost} of {true.rows} rows" if lost > 0 else "the content of some rows"
        seen = f" ({self._faults[0]})" if self._faults else ""
        return (
            f"metrics.jsonl: {what} until step {true.last.get('step', 0)} got lost"
            f"{seen}; sums are those of the checkpoint, pictures lack what is lost"
        )

    def close(self) -> None:
        """Ends the file for TensorBoard."""
        if self._events is not None:
            with writing(self.path):
                self._events.close()

    def _until(self, step: int) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["step"] <= step]


def _event(step: int, **content: Any) -> Event:
    return Event(wall_time=time.time(), step=step, **content)


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row) + "\n"
