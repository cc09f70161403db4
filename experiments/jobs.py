"""Where the runs of a sweep run: in this process, in others beside it, on Slurm.

A pool says which of its jobs are alive by asking what runs them, the table of processes
or Slurm's queue, where a job is known by the name of its run. So whoever is started
after a kill finds every job that is left, and none is submitted twice.
"""

import contextlib
import dataclasses
import fcntl
import getpass
import hashlib
import os
import signal
import subprocess
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import jax
import psutil
import submitit
from absl import logging

from experiments import launch
from experiments import train as train_lib
from experiments.config import Config
from experiments.run_folder import wait_for_all
from experiments.setup import Experiment
from experiments.stopping import USER_SIGNALS, Stopped
from experiments.sweep_folder import RunPaths


@dataclasses.dataclass(frozen=True)
class Training:
    """A run of a sweep, as a job.

    Attributes:
      name: of the run.
      paths: where it is.
      config: what is trained.
      steps: of the whole training.
      options: of `experiments.train.train`.
      mesh: of `experiments.setup.Experiment.of`.
    """

    name: str
    paths: RunPaths
    config: Config
    steps: int
    options: dict[str, Any]
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
            self.paths.set_error(None)
            try:
                train_lib.train(
                    Experiment.of(self.config, self.mesh),
                    str(self.paths.run),
                    progress=progress,
                    **self.options,
                )
            except Stopped as stopped:
                if stopped.signum not in USER_SIGNALS:
                    self.paths.set_error(f"Stopped: {stopped}")
                raise
            except Exception:
                self.paths.set_error(traceback.format_exc())
                raise

    def is_finished(self) -> bool:
        """Whether there is nothing left to be trained."""
        return self.paths.is_finished(self.steps)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Waits until no other process is inside; the lock of a killed one is gone.

    The processes of one job enter together, on the lock of the first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        if jax.process_index() == 0:
            fcntl.flock(file, fcntl.LOCK_EX)
        wait_for_all()
        yield


class Pool(Protocol):
    """What runs jobs.

    Attributes:
      poll_s: seconds between two looks at it.
      grace_s: seconds after which a job that is not alive has ended, even if it left
        neither a result nor an error.
    """

    poll_s: float
    grace_s: float

    def alive(self) -> set[str]:
        """Names of the runs that are queued or running."""

    def submit(self, training: Training) -> None:
        """Starts a job."""

    def stop(self) -> None:
        """Ends what should not outlive this process, saved."""


class Here:
    """This process: a job is over when it has been submitted."""

    poll_s = 0.0
    grace_s = 0.0

    def alive(self) -> set[str]:
        """None."""
        return set()

    def submit(self, training: Training) -> None:
        """Trains."""
        verbosity = logging.get_verbosity()
        logging.set_verbosity(logging.WARNING)
        with contextlib.suppress(Exception):  # It is in the folder of the job.
            training.train(progress=False)
        logging.set_verbosity(verbosity)

    def stop(self) -> None:
        """Nothing is left."""


class Local:
    """Processes on this machine, started by submitit."""

    poll_s = 0.5
    grace_s = 0.0

    def __init__(self, folders: Iterable[Path]):
        self._names = {str(folder): folder.name for folder in folders}
        self._gpus = visible_gpus()
        self._gpu_of: dict[str, int] = {}
        # Several of them may share a GPU: none may take all of its memory at once.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

    def alive(self) -> set[str]:
        """Those whose folder ends the command of a process, as submitit writes it."""
        return {self._names[process.info["cmdline"][-1]] for process in self._found()}

    def _found(self) -> list[psutil.Process]:
        return [
            process
            for process in psutil.process_iter(["cmdline"])
            if process.info["cmdline"] and process.info["cmdline"][-1] in self._names
        ]

    def submit(self, training: Training) -> None:
        """Starts a process, on the GPU that has the fewest."""
        executor = submitit.LocalExecutor(training.paths.job)
        executor.update_parameters(timeout_min=_A_YEAR_MIN)
        if self._gpus:
            alive = self.alive()
            held = [gpu for name, gpu in self._gpu_of.items() if name in alive]
            gpu = min(self._gpus, key=held.count)
            self._gpu_of[training.name] = gpu
            executor.update_parameters(gpus_per_node=1, visible_gpus=[gpu])
        # Ctrl-C reaches them, too, and submitit would leave them a second to save in.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            executor.submit(training)
        finally:
            signal.signal(signal.SIGINT, before)

    def stop(self) -> None:
        """Asks them to stop, and waits until they have saved."""
        for process in self._found():
            # Submitit's controller of a job passes it on.
            if _CONTROLLER in process.info["cmdline"]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.terminate()
        while self.alive():
            time.sleep(self.poll_s)


_CONTROLLER = "submitit.local._local"
_A_YEAR_MIN = 365 * 24 * 60


def visible_gpus() -> list[int]:
    """Numbers of the NVIDIA GPUs that this process may use, without touching them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [int(word) for word in given.split(",") if word.strip().isdigit()]
    found = (path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia*"))
    return sorted(int(number) for number in found if number.isdigit())


class Slurm:
    """A cluster, by submitit.

    Attributes:
      parameters: options of sbatch, with underscores; ``time`` is in minutes.
    """

    poll_s = 10.0
    # A shared file system may show a result only some time after the job has gone.
    grace_s = 60.0

    def __init__(self, folders: Iterable[Path], parameters: dict[str, Any]):
        known = submitit.SlurmExecutor._valid_parameters()
        self.parameters = {k: v for k, v in parameters.items() if k in known}
        others = {k: v for k, v in parameters.items() if k not in known}
        if others:
            self.parameters["additional_parameters"] = others
        self._names = {_slurm_name(folder): folder.name for folder in folders}

    def alive(self) -> set[str]:
        """Those that Slurm's queue names.

        Raises:
          OSError: if it cannot be asked.
        """
        try:
            queue = subprocess.run(
                ["squeue", "--noheader", "--format=%j", f"--user={getpass.getuser()}"],
                check=True,
                capture_output=True,
                text=True,
            )
        except subprocess.CalledProcessError as error:
            raise OSError(f"squeue: {error.stderr.strip()}") from error
        queued = {line.strip() for line in queue.stdout.splitlines()}
        return {name for job, name in self._names.items() if job in queued}

    def submit(self, training: Training) -> None:
        """Puts a job into the queue.

        Raises:
          RuntimeError: if Slurm does not take it.
        """
        folder = training.paths.job
        executor = submitit.SlurmExecutor(folder, max_num_timeout=_REQUEUES)
        executor.update_parameters(
            **{"time": _A_DAY_MIN, **self.parameters}, job_name=_slurm_name(folder)
        )
        executor.submit(training)

    def stop(self) -> None:
        """They stay at work, and another start follows them."""


_A_DAY_MIN = 24 * 60
# How often a job that has used up its time is queued again to go on.
_REQUEUES = 100


def _slurm_name(folder: Path) -> str:
    """The name of a job, which no other folder's job has."""
    return f"{folder.name}@{hashlib.sha1(str(folder).encode()).hexdigest()[:8]}"


def follow(
    pool: Pool,
    trainings: Iterable[Training],
    *,
    at_once: int | None,
    running: set[str],
    ended: Callable[[Training], None],
) -> None:
    """Has all trainings made that are not finished, and waits for them.

    Args:
      pool: makes them.
      trainings: of the sweep.
      at_once: how many jobs there may be; None for any number.
      running: is kept up to date with the names of the runs that have a job.
      ended: called with every training that has come to an end, good or bad.
    """
    waiting = {t.name: t for t in trainings if not t.is_finished()}
    alive = pool.alive() & set(waiting)  # Left by a sweep that was killed.
    jobs = {name: waiting.pop(name) for name in alive}
    for training in waiting.values():
        training.paths.set_error(None)
    seen: dict[str, float] = {}
    submitted: set[str] = set()
    while waiting or jobs:
        now = time.monotonic()
        seen |= dict.fromkeys(alive, now)
        for name, training in list(jobs.items()):
            if name in alive:
                continue
            told = training.is_finished() or training.paths.error() is not None
            if not told and now - seen[name] < pool.grace_s:
                continue
            del jobs[name]
            if not told and name not in submitted:
                waiting[name] = training  # It died of the kill.
                continue
            if not told:
                training.paths.set_error(
                    f"ended without a result; its log is in {training.paths.job}"
                )
            running.discard(name)
            ended(training)
        running |= set(jobs)
        while waiting and (at_once is None or len(jobs) < at_once):
            name = next(iter(waiting))
            jobs[name] = waiting.pop(name)
            seen[name] = time.monotonic()
            submitted.add(name)
            running.add(name)
            pool.submit(jobs[name])
        if jobs:
            time.sleep(pool.poll_s)
            try:
                alive = pool.alive() & set(jobs)
            except OSError as error:
                logging.warning("%s; asking again later", error)
                alive = set(jobs)
