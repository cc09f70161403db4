"""The run folder: what training leaves on disk, and which folders are refused."""

import errno
import functools
import json
import shutil
import struct
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

import hic_jax
from experiments.config import Config, resolve
from experiments.runs import files, metrics
from experiments.runs.run_folder import RunFolder, check_unused_or_same
from experiments.runs.stored import RunFolderError, read_config
from experiments.setup import Experiment
from experiments.train import train
from experiments.train_options import TrainOptions
from hic_jax.algorithms import analog_states
from hic_jax.training.split import Split
from hic_jax.training.state import TrainState

STEPS = 6  # Two epochs of three batches.

pytestmark = pytest.mark.usefixtures("one_block", "compiled_once")


class Run:
    """A short run of one algorithm."""

    def __init__(self, algorithm, workdir):
        fields = {"channel_plan": "one_block", "epochs": 2, "batch_size": 479}
        if algorithm == "hic":
            fields["analog_learning_rate"] = 0.2  # Some pulses in six steps.
        self.config = resolve(algorithm=algorithm, **fields)
        self.experiment = Experiment.of(self.config)
        self.path = workdir
        self.summary = train(
            self.experiment,
            str(workdir),
            TrainOptions(log_every=2, endurance_cycles=1e6),
        )

    def rows(self):
        lines = (self.path / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    @functools.cached_property
    def restored(self):
        return RunFolder.read(str(self.path)).restore(self.experiment.init_state())


@pytest.fixture(scope="module", params=["fp32", "hic"])
def run(request, tmp_path_factory):
    return Run(request.param, tmp_path_factory.mktemp(request.param) / "run")


def test_everything_is_there(run):
    names = {path.name for path in run.path.iterdir()}
    assert names == {
        "config.json",
        "provenance.json",
        "metrics.jsonl",
        "summary.json",
        "tensorboard",
        "checkpoints",
        "learning_curves.png",
        "lock",
    }


def test_the_configuration_that_ran_is_stored(run):
    stored = json.loads((run.path / "config.json").read_text())
    assert Config.from_dict(stored) == run.config


def test_a_row_for_each_interval_and_each_epoch(run):
    rows = run.rows()
    assert [row["step"] for row in rows] == [2, 3, 5, 6]
    np.testing.assert_allclose([row["epoch"] for row in rows], [2 / 3, 1, 5 / 3, 2])
    assert ["test_accuracy" in row for row in rows] == [False, True] * 2
    for row in rows:
        rate = run.experiment.schedule(row["step"] - 1)
        assert row["learning_rate"] == pytest.approx(float(rate))
        assert np.isfinite(row["loss"])
        assert 0 <= row["accuracy"] <= 1
    events = set(rows[0]) - {"step", "epoch", "learning_rate", "loss", "accuracy"}
    assert ("set_pulses" in events) == (run.config.train.algorithm == "hic")


@pytest.mark.parametrize("run", ["hic"], indirect=True)
def test_device_events_are_those_of_all_steps(run):
    def fired(state):
        devices = analog_states(state.opt_state)[0].weights.multilevel
        return np.sum(devices.set_pulses, dtype=int)

    # A refresh would fire pulses, too.
    assert sum(row["refreshed_pairs"] for row in run.rows()) == 0
    pulses = fired(run.restored) - fired(run.experiment.init_state())
    assert sum(row["set_pulses"] for row in run.rows()) == pulses > 0


def _scalars(folder):
    """(tag, step) to value, from an event file: records of length, crc, data, crc."""
    (path,) = folder.iterdir()
    content, scalars = path.read_bytes(), {}
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        event = event_pb2.Event.FromString(content[12 : 12 + length])
        content = content[16 + length :]
        for value in event.summary.value:
            scalars[value.tag, event.step] = value.simple_value
    return scalars


def test_tensorboard_shows_the_same_numbers(run):
    logged = {
        (name, row["step"]): value
        for row in run.rows()
        for name, value in row.items()
        if name != "step"
    }
    assert _scalars(run.path / "tensorboard") == pytest.approx(logged, rel=1e-6)


def test_the_checkpoint_is_the_network_of_the_summary(run):
    state = run.restored
    assert state.step == STEPS
    test = Split.of(run.experiment.dataset, "test")
    assert run.experiment.test_accuracy(state, test) == run.summary["test_accuracy"]


def test_summary(run):
    summary = json.loads((run.path / "summary.json").read_text())
    assert summary == run.summary
    assert summary["algorithm"] == run.config.train.algorithm
    assert summary["dataset"] == "digits"
    assert summary["steps"] == STEPS
    assert summary["seconds_per_step"] > 0
    last = run.rows()[-1]
    assert summary["test_accuracy"] == last["test_accuracy"]
    assert summary["train_loss"] == last["loss"]


def test_summary_counts_bits(run):
    shapes = [x.shape for x in jax.tree.leaves(run.restored.params)]
    total = sum(np.prod(shape) for shape in shapes)
    analog = sum(np.prod(shape) for shape in shapes if len(shape) >= 2)
    analog *= run.config.train.algorithm == "hic"
    digital = 32 * (total - analog)
    expected = {
        "analog_weights": analog,
        "digital_weights": total - analog,
        "inference_bits": 4 * analog + digital,
        "training_bits": (4 + 7) * analog + digital,
        "fp32_bits": 32 * total,
        "multilevel_devices": 2 * analog,
        "binary_devices": 7 * analog,
    }
    assert {name: run.summary[name] for name in expected} == expected


def test_summary_counts_write_erase_cycles(run):
    wear = run.summary["write_erase_cycles"]
    if run.config.train.algorithm == "fp32":
        assert wear is None
        return
    for kind in (wear["multilevel"], wear["binary"]):
        assert 0 < kind["mean"] <= kind["max"]
        assert kind["mean"] <= kind["p99"] <= kind["max"]
        assert kind["fraction_of_endurance"] == kind["max"] / 1e6
    weights = hic_jax.analog_weights(run.restored.opt_state)
    assert wear == hic_jax.endurance(weights, endurance_cycles=1e6)


@pytest.fixture
def config():
    return resolve()


def _log(folder, *logged):
    for step in logged:
        folder.metrics.log({"step": step, "epoch": step, "loss": 1 / step})


def test_rows_after_the_last_checkpoint_are_dropped(tmp_path, config):
    folder = RunFolder.for_training(str(tmp_path), config)
    folder.metrics.begin(0)
    _log(folder, 2, 4, 6)
    folder.metrics.begin(4)
    assert [row["step"] for row in folder.metrics.rows] == [2, 4]
    _log(folder, 5)
    assert [row["step"] for row in folder.metrics.rows] == [2, 4, 5]
    folder.metrics.begin(0)
    assert folder.metrics.rows == []
    folder.close()


@pytest.mark.parametrize("torn", ['{"step": 6, "lo', "{", '{"loss": 1.0}'])
def test_a_line_that_was_cut_off_is_dropped(tmp_path, config, torn):
    folder = RunFolder.for_training(str(tmp_path), config)
    folder.metrics.begin(0)
    _log(folder, 2, 4)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(torn)
    folder.metrics.begin(4)
    _log(folder, 6)
    assert [row["step"] for row in folder.metrics.rows] == [2, 4, 6]
    folder.close()


def test_summaries_grow(tmp_path, config):
    folder = RunFolder.for_training(str(tmp_path), config)
    assert folder.summary() == {}
    folder.update_summary(steps=3, loss=1.0)
    assert folder.update_summary(loss=0.5) == {"steps": 3, "loss": 0.5}
    assert RunFolder.read(str(tmp_path)).summary() == {"steps": 3, "loss": 0.5}
    folder.close()


def _files(path):
    return sorted(str(p.relative_to(path)) for p in path.rglob("*"))


def test_another_configuration_is_refused_by_field(tmp_path, config):
    (tmp_path / "config.json").write_text(config.to_json())
    other = resolve(seed=3, epochs=5, pcm_g_max=12.0)
    with pytest.raises(RunFolderError) as error:
        RunFolder.for_training(str(tmp_path), other)
    for text in (
        f"workdir={tmp_path}",
        "train.seed: 0 != 3",
        "train.epochs: 30 != 5",
        "spec.multilevel.g_max: 20.0 != 12.0",
    ):
        assert text in str(error.value)
    assert "batch_size" not in str(error.value)
    assert (tmp_path / "config.json").read_text() == config.to_json()
    assert _files(tmp_path) == ["config.json"]


def test_the_same_configuration_is_accepted(tmp_path, config):
    (tmp_path / "config.json").write_text(config.to_json())
    check_unused_or_same(str(tmp_path), config)
    check_unused_or_same(str(tmp_path / "new" / "deep"), config)
    assert _files(tmp_path) == ["config.json"]


def test_a_folder_of_other_files_is_refused(tmp_path, config):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RunFolderError, match=r"holds files but no config\.json"):
        RunFolder.for_training(str(tmp_path), config)
    assert _files(tmp_path) == ["thesis.tex"]


def test_a_file_is_refused(tmp_path, config):
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match=r"workdir=.*file: is a file"):
        RunFolder.for_training(str(tmp_path / "file"), config)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path, config):
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match=r"workdir=.*file/run: "):
        RunFolder.for_training(str(tmp_path / "file" / "run"), config)


def test_what_is_no_run_cannot_be_read(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(RunFolderError, match=rf"workdir={path}: is not a run"):
            RunFolder.read(str(path))
    assert _files(tmp_path) == []


@pytest.mark.parametrize("text", ["", "{", "{}", '{"train": {"epoch": 3}, "spec": {}}'])
def test_a_broken_configuration_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(RunFolderError, match=rf"workdir={tmp_path}: config\.json: "):
        RunFolder.read(str(tmp_path))


def test_a_run_without_a_checkpoint_is_named_and_left_alone(tmp_path, config):
    (tmp_path / "config.json").write_text(config.to_json())
    with pytest.raises(RunFolderError, match=rf"workdir={tmp_path}: holds no check"):
        RunFolder.read(str(tmp_path)).restore({})
    assert _files(tmp_path) == ["config.json"]


def test_a_configuration_that_was_being_written_is_written_again(tmp_path, config):
    (tmp_path / "config.json.0123456789abcdef.part").write_text('{"train": {"algo')
    RunFolder.for_training(str(tmp_path), config).close()
    assert read_config(tmp_path) == config
    assert not list(tmp_path.glob("*.part"))


def _state(step):
    return TrainState(
        step=jnp.int32(step),
        params=jnp.full(3, float(step)),
        batch_stats={},
        ranges={},
        opt_state={},
    )


def test_a_save_or_a_removal_that_was_cut_off_is_forgotten(tmp_path, config):
    folder = RunFolder.for_training(str(tmp_path), config)
    for step in (1, 2, 3):
        folder.save(_state(step))
    folder.close()
    # The fourth save was on its way, and the second checkpoint on its way out.
    saved = tmp_path / "checkpoints"
    shutil.copytree(saved / "3", saved / "4.orbax-checkpoint-tmp")
    (saved / "4.orbax-checkpoint-tmp" / "default" / "_METADATA").unlink()
    (saved / "2" / "default" / "_METADATA").unlink()
    folder = RunFolder.for_training(str(tmp_path), config)
    assert folder.latest_step() == 3
    np.testing.assert_array_equal(folder.restore(_state(0)).params, 3.0)
    folder.save(_state(4))
    np.testing.assert_array_equal(folder.restore(_state(0)).params, 4.0)
    assert {path.name for path in saved.iterdir()} == {"3", "4"}
    folder.close()


def test_the_best_checkpoint_is_that_of_the_highest_test_accuracy(tmp_path, config):
    accuracies = {1: 0.5, 2: 0.9, 3: None, 4: 0.7, 5: 0.9, 6: 0.6, 7: 0.8}
    folder = RunFolder.for_training(str(tmp_path), config, keep_checkpoints=1)
    folder.metrics.begin(0)
    for step, accuracy in accuracies.items():
        tested = {} if accuracy is None else {"test_accuracy": accuracy}
        folder.metrics.log({"step": step, "epoch": step, "loss": 1.0} | tested)
        folder.save(_state(step))
        if step == 4:
            folder.wait()
            names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
            assert names == {"2", "4"}
            # Another start finds the accuracies where they were logged.
            folder.close()
            folder = RunFolder.for_training(str(tmp_path), config, keep_checkpoints=1)
            folder.resume(_state(0))
            folder.metrics.begin(4)
    assert folder.metrics.logged.best_accuracy == 0.9
    folder.close()
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"5", "7"}


def test_a_run_begins_where_there_is_no_checkpoint_yet(tmp_path, config, caplog):
    folder = RunFolder.for_training(str(tmp_path), config)
    assert folder.resume(_state(0)).step == 0
    assert caplog.records == []
    folder.metrics.begin(0)
    _log(folder, 2, 4)
    folder.close()
    folder = RunFolder.for_training(str(tmp_path), config)
    assert folder.resume(_state(0)).step == 0
    assert "starting again, with 4 steps lost" in caplog.text
    folder.close()


def test_a_run_that_has_ended_never_begins_again(tmp_path, config):
    folder = RunFolder.for_training(str(tmp_path), config)
    folder.update_summary(steps=7)
    with pytest.raises(RunFolderError, match=r"is of 7 steps, but there is no check"):
        folder.resume(_state(0))
    folder.close()


def test_a_field_of_another_version_is_named_and_nothing_lost(tmp_path, config):
    stored = json.loads(config.to_json())
    stored["train"]["dropout"] = 0.5
    del stored["train"]["shift"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    with pytest.raises(RunFolderError) as error:
        RunFolder.for_training(str(tmp_path), config)
    message = str(error.value)
    assert "train.dropout: 0.5 != (no such field)" in message
    assert "train.shift: (no such field) != 'none'" in message
    assert "seed" not in message
    assert json.loads((tmp_path / "config.json").read_text()) == stored
    assert _files(tmp_path) == ["config.json"]


FULL = Path("/dev/full")  # A file of Linux to which nothing can be written.


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_metrics_on_a_full_disk_are_one_clear_error(tmp_path, config):
    folder = RunFolder.for_training(str(tmp_path), config)
    folder.metrics.begin(0)
    _log(folder, 1)
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").symlink_to(FULL)
    with pytest.raises(RunFolderError, match=rf"workdir={tmp_path}: .*No space left"):
        _log(folder, 2)
    folder.close()


def test_events_on_a_full_disk_are_one_clear_error(tmp_path, config, monkeypatch):
    def full(self):
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = RunFolder.for_training(str(tmp_path), config)
    folder.metrics.begin(0)
    with monkeypatch.context() as patch:
        patch.setattr(metrics.EventsWriter, "flush", full)
        with pytest.raises(RunFolderError, match=rf"workdir={tmp_path}: .*No space"):
            _log(folder, 1)
    folder.close()


def test_a_folder_that_cannot_be_written_is_named(tmp_path, config, monkeypatch):
    # Not even root may make a folder there.
    with pytest.raises(RunFolderError, match=r"^workdir=/proc/run: \[Errno"):
        RunFolder.for_training("/proc/run", config)
    RunFolder.for_training(str(tmp_path), config).close()

    def read_only(path, text):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(files, "write_text", read_only)
    folder = RunFolder.for_training(str(tmp_path), config)
    for write in (lambda: folder.metrics.begin(0), folder.update_summary):
        with pytest.raises(RunFolderError, match=rf"^workdir={tmp_path}: .*Read-only"):
            write()
    folder.close()


def test_of_several_processes_the_first_one_writes(tmp_path, config, monkeypatch):
    RunFolder.for_training(str(tmp_path), config).close()
    before = _files(tmp_path)
    monkeypatch.setattr(jax, "process_index", lambda *arguments: 1)
    folder = RunFolder.for_training(str(tmp_path), config)
    folder.metrics.begin(0)
    _log(folder, 2, 4)
    assert folder.update_summary(steps=4) == {"steps": 4}
    # Yet it knows what the first one writes.
    assert [row["step"] for row in folder.metrics.rows] == [2, 4]
    folder.close()
    assert _files(tmp_path) == before
