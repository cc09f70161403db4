"""Never lost: whenever a process is killed, what goes on is the same.

Processes that write into a run folder are killed and started again: that train, alone,
as a job of a sweep or several runs at once, that learn in the field, that read over
time. ``HIC_JAX_KILLS=20`` has more of each killed at random moments than the one that
continuous integration has the time for.
"""

import gc
import json
import multiprocessing
import os
import random
import shutil
import signal
import threading

import chex
import orbax.checkpoint
import pytest

from experiments import drift, field, plots
from experiments.config import resolve
from experiments.runs import checkpoints, files
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.metrics import Metrics
from experiments.runs.run_folder import RunFolder
from experiments.runs.stored import read_config
from experiments.setup import Experiment
from experiments.sweep import jobs
from experiments.sweep.grid import Run
from experiments.sweep.together import train_together
from experiments.train import train
from experiments.train_options import TrainOptions
from hic_jax import models
from hic_jax.inference import over_time
from tests.experiments import run_files

KILLS = int(os.environ.get("HIC_JAX_KILLS", "1"))

# What happens in a training, in any thread of its process.
EVENTS = [
    (files, "write_text"),
    (RunFolder, "resume"),
    (Metrics, "begin"),
    (Experiment, "epoch_order"),
    (Experiment, "test_accuracy"),
    (Metrics, "log"),
    (RunFolder, "save"),
    (Checkpoints, "_write_sums"),
    (checkpoints, "_remove"),
    (orbax.checkpoint.CheckpointManager, "wait_until_finished"),
    (plots, "learning_curves"),
    (RunFolder, "update_summary"),
    (RunFolder, "close"),
    (over_time, "over_chips"),
    (plots, "accuracy_over_time"),
    (plots, "field_learning"),
]

pytestmark = pytest.mark.usefixtures("one_block", "compiled_once", "without_pictures")


STEPS = 6
# A row is of one step or of two: they end inside the epochs of three steps, too.
OPTIONS = TrainOptions(log_every=2, checkpoint_every=2, progress=False)


def _experiment(seed=0):
    fields = {"channel_plan": "one_block", "epochs": 2, "batch_size": 479}
    return Experiment.of(resolve(seed=seed, **fields))


def _train(path):
    train(_experiment(), str(path), OPTIONS)


def _train_as_a_job(path):
    run = Run(name="run", swept={}, config=_experiment().config, steps=STEPS)
    jobs.Job(path, (run,), OPTIONS).train()


def _train_together(path):
    train_together(
        [_experiment(0), _experiment(1)], [str(path / seed) for seed in "01"], OPTIONS
    )


def _drift(path):
    """Reads a run that is there."""
    reading = over_time.Reading(times=[25.0], chips=2)
    drift.read_over_time(_experiment(), str(path), reading)


def _field(path):
    """Goes on from a run that lies beside."""
    trained = str(path.with_name("trained"))
    config = field.config_in_the_field(read_config(trained), epochs=1)
    field.learn(trained, str(path), config, seconds=3600.0, options=OPTIONS)


ACTIONS = {
    "train": _train,
    "job": _train_as_a_job,
    "together": _train_together,
    "drift": _drift,
    "field": _field,
}


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


def _act_and_die(action, path, event, number, delay):
    """In a process of its own: dies some time after the n-th event of a name."""
    gc.freeze()  # What was imported: see `tests/conftest.py`.
    models.CHANNEL_PLANS["one_block"] = (4,)
    left = number

    def happens(name):
        nonlocal left
        if event in (name, None):
            left -= 1
            if left == 0:
                _die(delay)

    _Counter(setattr, happens)
    ACTIONS[action](path)


@pytest.fixture(scope="module")
def start():
    """Starts an action in another process, which is killed."""
    # Its processes are forked from one that has imported everything.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["experiments.train", "experiments.field", "experiments.sweep.jobs"]
    )

    def start(action, path, event=None, number=1, delay=0.0):
        arguments = (action, path, event, number, delay)
        process = context.Process(target=_act_and_die, args=arguments)
        process.start()
        return process

    return start


class Uninterrupted:
    """What an action makes of a folder from its start to its end, and what happens."""

    def __init__(self, action, folder):
        self.action = action
        self.folder = folder
        self.path = folder / "uninterrupted"
        self.events = []
        self.begin(self.path)
        with pytest.MonkeyPatch.context() as patch:
            _Counter(patch.setattr, self.events.append)
            ACTIONS[action](self.path)

    def begin(self, path):
        """What is there before the action: for some, a run."""
        trained = self.folder / "trained"
        if self.action in ("drift", "field") and not trained.exists():
            _train(trained)
        if self.action == "drift":
            shutil.copytree(trained, path)

    def is_what(self, path):
        """Asserts that a folder holds the same runs, bit for bit."""
        runs = _runs(self.path)
        assert _runs(path) == runs
        for run in runs:
            mine, other = path / run, self.path / run
            experiment = Experiment.of(read_config(mine))
            chex.assert_trees_all_equal(
                *(run_files.restored(folder, experiment) for folder in (mine, other))
            )
            metrics = (mine / "metrics.jsonl").read_text()
            assert metrics == (other / "metrics.jsonl").read_text()
            summary = run_files.timeless_summary(mine)
            assert summary == run_files.timeless_summary(other)
            assert _checkpoints(mine) == _checkpoints(other)
            assert {p.name for p in mine.glob("*.png")} == {
                p.name for p in other.glob("*.png")
            }


def _runs(path):
    return sorted(str(p.parent.relative_to(path)) for p in path.rglob("config.json"))


def _checkpoints(path):
    return {folder.name for folder in (path / "checkpoints").iterdir()}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """By the name of an action, what it makes."""
    made = {}

    def uninterrupted(action):
        if action not in made:
            made[action] = Uninterrupted(action, tmp_path_factory.mktemp(action))
        return made[action]

    return uninterrupted


def test_an_uninterrupted_run(uninterrupted):
    run = uninterrupted("train")
    others = {"over_chips", "accuracy_over_time", "field_learning"}
    assert {name for _, name in EVENTS} - others == set(run.events)
    rows = (run.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [2, 3, 5, 6]
    assert {"5", "6"} <= _checkpoints(run.path)


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


def test_killed_again_and_again_at_chosen_moments(tmp_path, uninterrupted, start):
    path = tmp_path / "run"
    for event, number in MOMENTS.items():
        process = start("train", path, event, number)
        process.join()
        assert process.exitcode == -signal.SIGKILL, event
        assert not (path / "summary.json").exists()
    assert (path / "checkpoints" / "6").exists()
    _train(path)
    uninterrupted("train").is_what(path)


def test_killed_between_the_saves_of_two(tmp_path, uninterrupted, start):
    path = uninterrupted("together").folder / "between"
    # The first save of the second, when the first has begun its own.
    process = start("together", path, "save", 2, 0.2)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    _train_together(path)
    uninterrupted("together").is_what(path)


def _moment(events, seed):
    draw = random.Random(seed)
    # A step takes some ten milliseconds.
    return {"number": draw.randint(1, len(events)), "delay": draw.uniform(0.0, 0.05)}


@pytest.mark.parametrize("seed", range(KILLS))
@pytest.mark.parametrize("action", ACTIONS)
def test_killed_at_a_random_moment(uninterrupted, start, action, seed):
    run = uninterrupted(action)
    path = run.folder / f"killed{seed}"
    run.begin(path)
    process = start(action, path, **_moment(run.events, f"{action}{seed}"))
    process.join()
    assert process.exitcode == -signal.SIGKILL
    ACTIONS[action](path)
    run.is_what(path)


@pytest.mark.parametrize("seed", range(KILLS))
def test_two_at_once_of_which_one_is_killed(uninterrupted, start, seed):
    run = uninterrupted("train")
    path = run.folder / f"two{seed}"
    processes = [
        start("train", path, **_moment(run.events, f"two{seed}")),
        start("train", path, number=0),  # Not killed.
    ]
    for process in processes:
        process.join()
    # One writes; the other one is refused, or finds everything done.
    killed, other = (process.exitcode for process in processes)
    assert killed in (-signal.SIGKILL, 1) and other in (0, 1)
    assert killed == -signal.SIGKILL or other == 0
    _train(path)
    run.is_what(path)
