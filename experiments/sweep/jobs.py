"""The jobs of a sweep: runs to be trained, alone or several seeds at once.

A job trains what is not finished, leaves word of how it ended in the folders of its
runs, and keeps any other process from training the same run meanwhile.
"""

import contextlib
import dataclasses
import fcntl
import math
import os
import signal
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import submitit
from absl import logging

from experiments import launch
from experiments import train as train_lib
from experiments.config import Config
from experiments.runs.stopping import USER_SIGNALS, Stopped
from experiments.runs.writing import wait_for_all
from experiments.setup import Experiment
from experiments.sweep.folder import RunPaths
from experiments.sweep.grid import seedless
from experiments.sweep.together import train_together
from experiments.train_options import TrainOptions


@dataclasses.dataclass(frozen=True)
class Training:
    """A run of a sweep, as a job.

    Attributes:
      name: the run's name.
      paths: where it is.
      config: what is trained.
      steps: number of steps of the whole training.
      options: how much is trained, kept and told.
      mesh: devices that share each batch, as in `experiments.setup.Experiment.of`.
    """

    name: str
    paths: RunPaths
    config: Config
    steps: int
    options: TrainOptions
    mesh: int | None = None

    def __call__(self) -> None:
        """Trains in a process of its own."""
        # Submitit ignores it; outside of a training there is nothing to be saved.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        logging.use_absl_handler()
        logging.set_verbosity(logging.INFO)
        launch.prepare_process()
        try:
            self.train()
        except Stopped as stopped:
            if stopped.signum in USER_SIGNALS:
                signal.raise_signal(stopped.signum)  # Now submitit queues it again.
            raise

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Called by submitit when a job's time is up: the same again goes on."""
        return submitit.helpers.DelayedSubmission(self)

    def train(self, *, progress: bool = True) -> None:
        """Trains to the end, or marks the run as failed and raises."""
        with _locked(self.paths.job):
            if self.is_finished():
                return
            with _endings_told([self]):
                train_lib.train(
                    Experiment.of(self.config, self.mesh),
                    str(self.paths.run),
                    dataclasses.replace(self.options, progress=progress),
                )

    def is_finished(self) -> bool:
        """Whether there is nothing left to be trained."""
        return self.paths.is_finished(self.steps)

    @property
    def members(self) -> tuple["Training", ...]:
        """The runs that this job trains."""
        return (self,)


@dataclasses.dataclass(frozen=True)
class Together(Training):
    """Runs that differ in their seeds, trained at once: a job of the first one's name.

    Attributes:
      group: the runs, the first one as well.
    """

    group: tuple[Training, ...] = ()

    @classmethod
    def of(cls, group: Iterable[Training]) -> Training:
        """The job of some runs; one alone is a `Training`."""
        group = tuple(group)
        return cls(**vars(group[0]), group=group) if len(group) > 1 else group[0]

    def train(self, *, progress: bool = True) -> None:
        """Trains all to their ends, or marks those that fail."""
        del progress
        with contextlib.ExitStack() as stack:
            for training in sorted(self.group, key=lambda t: t.name):
                stack.enter_context(_locked(training.paths.job))
            if self.is_finished():
                return
            left = [training for training in self.group if not training.is_finished()]
            with _endings_told(left):
                errors = train_together(
                    [Experiment.of(training.config, self.mesh) for training in left],
                    [str(training.paths.run) for training in left],
                    self.options,
                )
            for training, error in zip(left, errors, strict=True):
                if error is not None:
                    text = "".join(traceback.format_exception(error))
                    training.paths.set_error(text)

    def is_finished(self) -> bool:
        """Whether there is nothing left to be trained."""
        return all(training.is_finished() for training in self.group)

    @property
    def members(self) -> tuple[Training, ...]:
        """The runs that this job trains."""
        return self.group


def together(trainings: Iterable[Training], at_once: int) -> list[Training]:
    """Jobs of runs that differ in their seeds, each of at most so many.

    What is finished stays alone. Jobs are in the order of their first runs.
    """
    alike: dict[Any, list[Training]] = {}
    for training in trainings:
        alone = at_once == 1 or training.is_finished()
        key = training.name if alone else seedless(training.config)
        alike.setdefault(key, []).append(training)
    result = []
    for group in alike.values():
        # As equal as possible: all groups of a configuration take about the same time.
        size = math.ceil(len(group) / math.ceil(len(group) / at_once))
        result += [Together.of(group[i : i + size]) for i in range(0, len(group), size)]
    return result


@contextlib.contextmanager
def _endings_told(trainings: list[Training]) -> Iterator[None]:
    """Writes into the folder of each job that ends unfinished what ended it."""

    def tell(text):
        for training in trainings:
            if not training.is_finished():
                training.paths.set_error(text)

    tell(None)
    try:
        yield
    except Stopped as stopped:
        if stopped.signum not in USER_SIGNALS:
            tell(f"Stopped: {stopped}")
        raise
    except Exception:
        tell(traceback.format_exc())
        raise


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Waits until no other process is inside; the lock of a killed one is gone.

    The processes of one job enter together, on the lock of the first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW  # What a link points to is spared.
    with open(os.open(folder / "lock", flags, 0o666), "rb") as file:
        if jax.process_index() == 0:
            fcntl.flock(file, fcntl.LOCK_EX)
        wait_for_all()
        yield
