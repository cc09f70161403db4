"""A run of a sweep is trained by one process at a time: who comes second waits."""

import fcntl
import os

import pytest

from experiments.config import resolve
from experiments.sweep import jobs
from experiments.sweep.folder import RunPaths
from experiments.train_options import TrainOptions

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


def _training(sweep, name):
    paths = RunPaths.of(sweep, name)
    return jobs.Training(name, paths, resolve(), 10, TrainOptions())


def test_a_run_is_locked_while_it_is_trained(tmp_path, locked):
    training = _training(tmp_path, NAMES[0])
    training.train(progress=False)
    assert locked == [[True]]
    assert not _is_locked(training.paths.job)


def test_runs_that_are_trained_together_are_all_locked(tmp_path, locked):
    group = [_training(tmp_path, name) for name in NAMES]
    jobs.Together.of(group).train()
    assert locked == [[True, True]]
    assert not any(_is_locked(training.paths.job) for training in group)


def test_a_lock_is_given_back_when_a_training_fails(tmp_path, monkeypatch):
    training = _training(tmp_path, NAMES[0])

    def fail(*arguments, **options):
        assert _is_locked(training.paths.job)
        raise ValueError("as it happens")

    monkeypatch.setattr(jobs.Experiment, "of", fail)
    with pytest.raises(ValueError, match="as it happens"):
        training.train(progress=False)
    assert not _is_locked(training.paths.job)
    assert "as it happens" in training.paths.error()
