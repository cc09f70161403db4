"""Never lost: whenever a training is killed, what goes on is the same training.

Processes that train are killed and started again; ``HIC_JAX_KILLS=20`` has more of them
killed at random moments than the few that continuous integration has the time for.
"""

import json
import multiprocessing
import os
import random
import signal
import threading

import chex
import jax
import orbax.checkpoint
import pytest

from experiments import plots, run_folder
from experiments.checkpoints import Checkpoints
from experiments.config import TrainConfig, resolve
from experiments.run_folder import RunFolder
from experiments.setup import Experiment
from experiments.train import train
from hic_jax import models
from tests.experiments import run_files

KILLS = int(os.environ.get("HIC_JAX_KILLS", "1"))

# What happens in a training, in any thread of its process.
EVENTS = [
    (run_folder, "write_whole"),
    (RunFolder, "resume"),
    (RunFolder, "begin_metrics"),
    (Experiment, "epoch_order"),
    (Experiment, "test_accuracy"),
    (RunFolder, "log"),
    (RunFolder, "save"),
    (Checkpoints, "_write_sums"),
    (orbax.checkpoint.CheckpointManager, "wait_until_finished"),
    (plots, "learning_curves"),
    (RunFolder, "update_summary"),
    (RunFolder, "close"),
]

pytestmark = pytest.mark.usefixtures("quick_compilation", "one_block")


def _experiment():
    fields = {"channel_plan": "one_block", "epochs": 2, "batch_size": 479}
    return Experiment.of(resolve(TrainConfig(**fields)))


def _train(path):
    # A row is of one step or of two: they end inside the epochs of three steps, too.
    train(_experiment(), str(path), log_every=2, checkpoint_every=2, progress=False)


class _Counter:
    """Calls a function with the name of each event, before it happens."""

    def __init__(self, patch, happens):
        for owner, name in EVENTS:
            patch(owner, name, self._counted(getattr(owner, name), name, happens))

    @staticmethod
    def _counted(function, name, happens):
        def counted(*arguments, **keywords):
            happens(name)
            return function(*arguments, **keywords)

        return counted


def _die(delay=0.0):
    def kill():
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Timer(delay, kill).start() if delay else kill()


def _train_and_die(path, flags, event, number, delay):
    """In a process of its own: dies some time after the n-th event of a name."""
    for name, value in flags.items():
        jax.config.update(name, value)
    models.CHANNEL_PLANS["one_block"] = (4,)
    left = number

    def happens(name):
        nonlocal left
        if event in (name, None):
            left -= 1
            if left == 0:
                _die(delay)

    _Counter(setattr, happens)
    _train(path)


@pytest.fixture(scope="module")
def killed():
    """Trains in another process, which is killed; returns its exit code."""
    # Its processes are forked from one that has imported everything.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["experiments.train"])
    flags = {
        "jax_compilation_cache_dir": jax.config.jax_compilation_cache_dir,
        "jax_persistent_cache_min_compile_time_secs": 0.1,
        "jax_disable_most_optimizations": True,
    }

    def killed(path, event=None, number=1, delay=0.0):
        arguments = (path, flags, event, number, delay)
        process = context.Process(target=_train_and_die, args=arguments)
        process.start()
        process.join()
        return process.exitcode

    return killed


class Uninterrupted:
    """A run from its first to its last step; counts what happens in it."""

    def __init__(self, path):
        self.path = path
        self.events = []
        with pytest.MonkeyPatch.context() as patch:
            _Counter(patch.setattr, self.events.append)
            _train(path)

    def is_what(self, path):
        """Asserts that a folder holds the same run, bit for bit."""
        chex.assert_trees_all_equal(
            run_files.restored(path, _experiment()),
            run_files.restored(self.path, _experiment()),
        )
        metrics = (path / "metrics.jsonl").read_text()
        assert metrics == (self.path / "metrics.jsonl").read_text()
        assert run_files.timeless_summary(path) == run_files.timeless_summary(self.path)
        assert _checkpoints(path) == _checkpoints(self.path)


def _checkpoints(path):
    return {folder.name for folder in (path / "checkpoints").iterdir()}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return Uninterrupted(tmp_path_factory.mktemp("kills") / "uninterrupted")


def test_an_uninterrupted_run(uninterrupted):
    assert {name for _, name in EVENTS} == set(uninterrupted.events)
    rows = (uninterrupted.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [2, 3, 5, 6]
    assert {"5", "6"} <= _checkpoints(uninterrupted.path)


MOMENTS = {
    # Before anything was saved, with a row of metrics;
    "log": 2,
    # in the middle of the first save;
    "_write_sums": 1,
    # between a row and its checkpoint;
    "save": 2,
    # when all is saved, but for the summary.
    "update_summary": 1,
}


def test_killed_again_and_again_at_chosen_moments(tmp_path, uninterrupted, killed):
    path = tmp_path / "run"
    for event, number in MOMENTS.items():
        assert killed(path, event, number) == -signal.SIGKILL, event
        assert not (path / "summary.json").exists()
    assert (path / "checkpoints" / "6").exists()
    assert killed(path, number=0) == 0  # Not killed.
    uninterrupted.is_what(path)


@pytest.mark.parametrize("seed", range(KILLS))
def test_killed_at_a_random_moment(tmp_path, uninterrupted, killed, seed):
    draw = random.Random(seed)
    number = draw.randint(1, len(uninterrupted.events))
    # A step takes some ten milliseconds.
    delay = draw.uniform(0.0, 0.05)
    path = tmp_path / "run"
    assert killed(path, None, number, delay) == -signal.SIGKILL
    assert killed(path, number=0) == 0
    uninterrupted.is_what(path)
