"""A run of a sweep is trained by one process at a time: who comes second waits."""

import fcntl
import os

import pytest

from experiments.config import resolve
from experiments.sweep import jobs
from experiments.sweep.folder import RunPaths
from experiments.sweep.grid import Run

NAMES = ("hic-seed0", "hic-seed1")


def _is_locked(folder):
    """Whether another process would have to wait."""
    with open(os.open(folder / "lock", os.O_RDWR), "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.fixture
def locked(monkeypatch, tmp_path):
    """Which jobs each training locks; nothing is trained."""
    seen = []

    def note(experiment, workdir, options):
        workdirs = [workdir] if isinstance(workdir, str) else workdir
        names = [os.path.basename(path) for path in workdirs]
        jobs_of = [RunPaths.of(tmp_path, name).job for name in names]
        seen.append([_is_locked(folder) for folder in jobs_of])
        return [None] * len(names)

    monkeypatch.setattr(jobs.train_lib, "train", note)
    monkeypatch.setattr(jobs, "train_together", note)
    monkeypatch.setattr(jobs.Experiment, "of", lambda config, mesh: config)
    return seen


def _job(sweep, *names):
    runs = [Run(name=name, swept={}, config=resolve(), steps=10) for name in names]
    return jobs.Job(sweep, tuple(runs))


def test_a_run_is_locked_while_it_is_trained(tmp_path, locked):
    job = _job(tmp_path, NAMES[0])
    job.train()
    assert locked == [[True]]
    assert not _is_locked(job.folder)


def test_runs_that_are_trained_together_are_all_locked(tmp_path, locked):
    job = _job(tmp_path, *NAMES)
    job.train()
    assert locked == [[True, True]]
    assert not any(_is_locked(job.paths(run).job) for run in job.runs)


def test_a_lock_is_given_back_when_a_training_fails(tmp_path, monkeypatch):
    job = _job(tmp_path, NAMES[0])

    def fail(*arguments, **options):
        assert _is_locked(job.folder)
        raise ValueError("as it happens")

    monkeypatch.setattr(jobs.Experiment, "of", fail)
    with pytest.raises(ValueError, match="as it happens"):
        job.train()
    assert not _is_locked(job.folder)
    assert "as it happens" in job.paths(job.runs[0]).error()
