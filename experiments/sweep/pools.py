"""Where the jobs of a sweep run: in this process, in others beside it, on Slurm.

A pool says which of its jobs are alive by asking what runs them, the table of processes
or Slurm's queue, where a job is known by the name of its run. So whoever is started
after a kill finds every job that is left, and none is submitted twice.
"""

import contextlib
import getpass
import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import psutil
import submitit
from absl import logging

from experiments import programs
from experiments.sweep.jobs import Job


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

    def submit(self, job: Job) -> None:
        """Starts a job; `OSError` if it is not taken."""

    def stop(self) -> None:
        """Ends what should not outlive this process, saved."""


class Here:
    """This process: a job is over when it has been submitted."""

    poll_s = 0.0
    grace_s = 0.0

    def alive(self) -> set[str]:
        """None."""
        return set()

    def submit(self, job: Job) -> None:
        """Trains."""
        verbosity = logging.get_verbosity()
        logging.set_verbosity(logging.WARNING)
        with contextlib.suppress(Exception):  # It is in the folder of the job.
            job.train()
        programs.drop_if_many()
        logging.set_verbosity(verbosity)

    def stop(self) -> None:
        """Nothing is left."""


class Local:
    """Processes on this machine, started by submitit; each has its share of it."""

    poll_s = 0.5
    grace_s = 0.0

    def __init__(self, folders: Iterable[Path], at_once: int = 1):
        self._names = {str(folder): folder.name for folder in folders}
        self._gpus = visible_gpus()
        self._gpu_of: dict[str, int] = {}
        # Several of them may share a GPU: none may take all of its memory at once.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        # Nor more than its share of the cores: as many threads XLA computes with.
        if "NPROC" not in os.environ:
            cores = len(os.sched_getaffinity(0))
            os.environ.setdefault("PJRT_NPROC", str(max(1, cores // at_once)))

    def alive(self) -> set[str]:
        """Those that submitit's processes of this user are at work on."""
        return {self._names[process.info["cmdline"][-1]] for process in self._found()}

    def _found(self) -> list[psutil.Process]:
        """Processes whose whole command is one of `_COMMANDS`, and a folder.

        What else has to do with a folder, such as an editor or ``tail``, is no job.
        """
        found = []
        for process in psutil.process_iter(["cmdline", "uids"]):
            python, *command = process.info["cmdline"] or [""]
            if (
                Path(python).name.startswith("python")
                and tuple(command[:-1]) in _COMMANDS
                and command[-1] in self._names
                and process.info["uids"].real == os.getuid()
            ):
                found.append(process)
        return found

    def submit(self, job: Job) -> None:
        """Starts a process, on the GPU that has the fewest."""
        executor = submitit.LocalExecutor(job.folder)
        executor.update_parameters(timeout_min=_A_YEAR_MIN)
        if self._gpus:
            alive = self.alive()
            held = [gpu for name, gpu in self._gpu_of.items() if name in alive]
            gpu = min(self._gpus, key=held.count)
            self._gpu_of[job.name] = gpu
            executor.update_parameters(gpus_per_node=1, visible_gpus=[gpu])
        # Ctrl-C reaches them, too, and submitit would leave them a second to save in.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            executor.submit(job)
        finally:
            signal.signal(signal.SIGINT, before)

    def stop(self) -> None:
        """Asks them to stop, and waits until they have saved."""
        for process in self._found():
            # Submitit's controller of a job passes it on.
            if process.info["cmdline"][-2] == _CONTROLLER:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.terminate()
        while self.alive():
            time.sleep(self.poll_s)


_CONTROLLER = "submitit.local._local"
# What submitit calls Python with, before the folder of a job.
_COMMANDS = (("-m", _CONTROLLER), ("-u", "-m", "submitit.core._submit"))
_A_YEAR_MIN = 365 * 24 * 60


def visible_gpus() -> list[int]:
    """Numbers of the NVIDIA GPUs that this process may use, without touching them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [int(word) for word in given.split(",") if word.strip().isdigit()]
    found = (path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia*"))
    return sorted(int(number) for number in found if number.isdigit())


class Slurm:
    """A cluster, by submitit, with options of sbatch; ``time`` is in minutes."""

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
        """Those that Slurm's queue names; `OSError` if it cannot be asked."""
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

    def submit(self, job: Job) -> None:
        """Puts a job into the queue."""
        try:
            executor = submitit.SlurmExecutor(job.folder, max_num_timeout=_REQUEUES)
            executor.update_parameters(
                **{"time": _A_DAY_MIN, **self.parameters},
                job_name=_slurm_name(job.folder),
            )
            executor.submit(job)
        except RuntimeError as error:
            raise OSError(str(error)) from error

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
    jobs: Iterable[Job],
    *,
    at_once: int,
    running: set[str],
    ended: Callable[[Job], None],
) -> None:
    """Has all runs made that are not finished, and waits for them.

    Args:
      pool: makes them.
      jobs: all of the sweep.
      at_once: how many there may be.
      running: is kept up to date with the names of the runs that have a job.
      ended: called with every job that has come to an end, good or bad.
    """
    waiting = {job.name: job for job in jobs if job.left()}
    alive = pool.alive() & set(waiting)  # Left by a sweep that was killed.
    going = {name: waiting.pop(name) for name in alive}
    for job in waiting.values():
        for run in job.runs:
            job.paths(run).set_error(None)
    seen: dict[str, float] = {}
    submitted: set[str] = set()
    while waiting or going:
        now = time.monotonic()
        seen |= dict.fromkeys(alive, now)
        for name, job in list(going.items()):
            if name in alive:
                continue
            untold = [run for run in job.left() if job.paths(run).error() is None]
            if untold and now - seen[name] < pool.grace_s:
                continue
            del going[name]
            if untold and name not in submitted:
                waiting[name] = job  # It died of the kill.
                continue
            for run in untold:
                error = f"ended without a result; its log is in {job.folder}"
                job.paths(run).set_error(error)
            running -= _runs_of([job])
            ended(job)
        running |= _runs_of(going.values())
        while waiting and len(going) < at_once:
            name = next(iter(waiting))
            job = going[name] = waiting.pop(name)
            seen[name] = time.monotonic()
            submitted.add(name)
            running |= _runs_of([job])
            pool.submit(job)
        if going:
            time.sleep(pool.poll_s)
            try:
                alive = pool.alive() & set(going)
            except OSError as error:
                logging.warning("%s; asking again later", error)
                alive = set(going)


def _runs_of(jobs: Iterable[Job]) -> set[str]:
    return {run.name for job in jobs for run in job.runs}
