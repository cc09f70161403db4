"""Runs trained together: each is what it is alone, whatever interrupts them."""

import os
import shutil

import chex
import numpy as np
import pytest

from experiments import train as train_lib
from experiments.config import resolve
from experiments.runs import intervals
from experiments.runs.run_folder import RunFolder
from experiments.setup import Experiment
from experiments.sweep.together import train_together
from experiments.train_options import TrainOptions
from tests.experiments import run_files

pytestmark = pytest.mark.usefixtures("one_block", "compiled_once", "without_pictures")

SEEDS, EPOCH = 2, 3  # Runs; steps of an epoch. They have two epochs.


def _experiment(seed, **fields):
    plan = {"channel_plan": "one_block", "epochs": 2, "batch_size": 479}
    # Converters would make a whole code of the last bit, in which runs may differ.
    plan |= {"converters": False}
    return Experiment.of(resolve(seed=seed, **plan | fields))


def _train(path):
    return train_together(
        [_experiment(seed) for seed in range(SEEDS)],
        [str(path / str(seed)) for seed in range(SEEDS)],
        TrainOptions(log_every=2),
    )


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    path = tmp_path_factory.mktemp("together")
    assert _train(path) == [None] * SEEDS
    return path


def _is_the_same_run(path, other):
    """Asserts that two run folders hold the same run, but for rounding."""
    rows, others = run_files.rows(path), run_files.rows(other)
    assert [row["step"] for row in rows] == [row["step"] for row in others]
    for row, same in zip(rows, others, strict=True):
        assert set(row) == set(same)
        # Where rounding decides on one LSB of a weight.
        assert row["loss"] == pytest.approx(same["loss"], rel=1e-5)
        assert row["accepted_lsbs"] == pytest.approx(same["accepted_lsbs"], rel=0.01)
        # One of 479 training images, or of 360 test images.
        assert row["accuracy"] == pytest.approx(same["accuracy"], abs=1 / 479)
        assert row["learning_rate"] == same["learning_rate"]
    summary, same = run_files.summary(path), run_files.summary(other)
    timed = {"seconds_per_step"}  # Not where nothing was left to be trained.
    assert set(summary) | timed == set(same) | timed
    # One image, and not two.
    assert summary["test_accuracy"] == pytest.approx(
        same["test_accuracy"], abs=1.5 / 360
    )
    assert summary["steps"] == same["steps"] == 2 * EPOCH
    assert summary["inference_bits"] == same["inference_bits"]


def test_each_run_is_what_it_is_alone(together, tmp_path):
    alone = tmp_path / "alone"
    train_lib.train(_experiment(1), str(alone), TrainOptions(log_every=2))
    _is_the_same_run(together / "1", alone)
    files = ["config.json", "summary.json", "learning_curves.png"]
    for path in (together / "1", alone):
        assert all((path / name).is_file() for name in files)
        assert list((path / "tensorboard").iterdir())
    assert (
        len(
            {run_files.summary(together / str(seed))["train_loss"] for seed in range(2)}
        )
        == 2
    )
    assert run_files.summary(together / "1")["seconds_per_step"] > 0


def test_runs_at_different_steps_end_as_they_would_have(together, tmp_path):
    # Killed between the first checkpoints of the two: one is an epoch ahead.
    ahead = tmp_path / "0"
    shutil.copytree(together / "0", ahead)
    os.remove(ahead / "summary.json")
    shutil.rmtree(ahead / "checkpoints" / str(2 * EPOCH))
    at_once = []
    original = intervals.check_losses

    def check_losses(losses, step):
        at_once.append(step)
        original(losses, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "check_losses", check_losses)
        assert _train(tmp_path) == [None] * SEEDS
    # One alone for an epoch, then both, in intervals of two steps and of one.
    assert at_once == [0, 2, 3, 3, 5, 5]
    for seed in range(SEEDS):
        _is_bit_for_bit(tmp_path / str(seed), together / str(seed), seed)


def _is_bit_for_bit(path, other, seed):
    assert run_files.rows(path) == run_files.rows(other)
    assert run_files.timeless_summary(path) == run_files.timeless_summary(other)
    chex.assert_trees_all_equal(
        *(run_files.restored(folder, _experiment(seed)) for folder in (path, other))
    )


def test_a_run_that_diverges_does_not_stop_the_others(together, tmp_path, monkeypatch):
    original = intervals.check_losses
    calls = []

    def check_losses(losses, step):
        calls.append(step)
        losses = np.full_like(losses, np.nan) if len(calls) == 5 else losses
        original(losses, step)

    monkeypatch.setattr(intervals, "check_losses", check_losses)
    errors = _train(tmp_path)
    # In the second interval of two runs, then of one.
    assert calls == [0, 0, 2, 2, 3, 3, 5]
    assert errors[1] is None and "step 4: the loss is nan" in str(errors[0])
    assert not (tmp_path / "0" / "summary.json").exists()
    assert [row["step"] for row in run_files.rows(tmp_path / "0")] == [2, 3]
    folder = RunFolder.read(str(tmp_path / "0"))
    assert folder.latest_step() == EPOCH
    folder.close()
    _is_the_same_run(tmp_path / "1", together / "1")


def test_runs_that_differ_in_more_than_their_seeds_are_refused(tmp_path):
    experiments = [_experiment(0), _experiment(1, learning_rate=0.5)]
    with pytest.raises(
        ValueError, match=r"more than their seeds: recipe\.learning_rate"
    ):
        train_together(experiments, [str(tmp_path / "0"), str(tmp_path / "1")])
    assert list(tmp_path.iterdir()) == []
