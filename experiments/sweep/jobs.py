"""The jobs of a sweep: runs to be trained, alone or several seeds at once.

A job trains what is not finished, leaves word of how it ended in the folders of its
runs, and keeps any other process from training the same run meanwhile.
"""

import contextlib
import dataclasses
import math
import signal
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import submitit
from absl import logging

from experiments import launch, train_options
from experiments import train as train_lib
from experiments.runs.stopping import USER_SIGNALS, Stopped
from experiments.runs.writing import held
from experiments.setup import Experiment
from experiments.sweep.folder import RunPaths
from experiments.sweep.grid import Run, seedless
from experiments.sweep.together import train_together
from experiments.train_options import TrainOptions


@dataclasses.dataclass(frozen=True)
class Job:
    """A run of a sweep, or several that differ in their seeds: trained by one process.

    Attributes:
      workdir: folder of the sweep.
      runs: what is trained; several are trained at once.
      options: how much is trained, kept and told.
      mesh: devices that share each batch, as in `experiments.setup.Experiment.of`.
    """

    workdir: Path
    runs: tuple[Run, ...]
    options: TrainOptions = train_options.USUAL
    mesh: int | None = None

    @property
    def name(self) -> str:
        """That of its first run."""
        return self.runs[0].name

    @property
    def folder(self) -> Path:
        """Where its logs are."""
        return self.paths(self.runs[0]).job

    def paths(self, run: Run) -> RunPaths:
        """Where one of its runs is."""
        return RunPaths.of(self.workdir, run.name)

    def left(self) -> list[Run]:
        """What is still to be trained."""
        return [r for r in self.runs if not self.paths(r).is_finished(r.steps)]

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

    def train(self) -> None:
        """Trains all to their ends; marks those that fail, raises what stops all."""
        with contextlib.ExitStack() as stack:
            for run in sorted(self.runs, key=lambda run: run.name):
                stack.enter_context(held(self.paths(run).job, wait=True))
            left = self.left()
            if not left:
                return
            with self._endings_told(left):
                experiments = [Experiment.of(run.config, self.mesh) for run in left]
                folders = [str(self.paths(run).run) for run in left]
                if len(self.runs) == 1:
                    train_lib.train(experiments[0], folders[0], self.options)
                    return
                errors = train_together(experiments, folders, self.options)
            for run, error in zip(left, errors, strict=True):
                if error is not None:
                    text = "".join(traceback.format_exception(error))
                    self.paths(run).set_error(text)

    @contextlib.contextmanager
    def _endings_told(self, runs: Sequence[Run]) -> Iterator[None]:
        """Writes into the folder of each run that ends unfinished what ended it."""
        for run in runs:
            self.paths(run).set_error(None)
        try:
            yield
        except Stopped as stopped:
            if stopped.signum not in USER_SIGNALS:
                self._tell(f"Stopped: {stopped}")
            raise
        except Exception:
            self._tell(traceback.format_exc())
            raise

    def _tell(self, error: str) -> None:
        for run in self.left():
            self.paths(run).set_error(error)


def of_runs(
    workdir: Path, runs: Iterable[Run], together: int, **others: Any
) -> list[Job]:
    """Jobs of runs that differ in their seeds, each of at most so many together.

    What is finished stays alone. Jobs are in the order of their first runs; ``others``
    are fields of all of them.
    """
    alike: dict[Any, list[Run]] = {}
    for run in runs:
        finished = RunPaths.of(workdir, run.name).is_finished(run.steps)
        alone = together == 1 or finished
        alike.setdefault(run.name if alone else seedless(run.config), []).append(run)
    jobs = []
    for group in alike.values():
        # As equal as possible: all groups of a configuration take about the same time.
        size = math.ceil(len(group) / math.ceil(len(group) / together))
        for i in range(0, len(group), size):
            jobs.append(Job(workdir, tuple(group[i : i + size]), **others))
    return jobs
