"""Training: whatever interrupts it, the run that goes on is the same run."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hic_jax
from experiments import terminal
from experiments.config import resolve
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.intervals import TrainingDiverged, check_losses
from experiments.runs.metrics import Metrics
from experiments.runs.run_folder import RunFolder
from experiments.runs.stopping import Stopped
from experiments.setup import Experiment
from experiments.train import table, train
from experiments.train_options import TrainOptions
from hic_jax.accounting import EnergyTable
from tests.experiments import run_files, shown

EPOCH = 3  # Steps; a run has two epochs.

pytestmark = pytest.mark.usefixtures("one_block", "compiled_once", "without_pictures")


def _experiment(algorithm="hic", epochs=2, **others):
    fields = {"channel_plan": "one_block", "epochs": epochs, "batch_size": 479}
    return Experiment.of(resolve(algorithm=algorithm, **fields, **others))


class Uninterrupted:
    """A run from its first to its last step."""

    def __init__(self, path):
        experiment = _experiment()
        train(experiment, str(path), TrainOptions(log_every=1))
        self.path = path
        self.state = run_files.restored(path, experiment)
        self.rows = run_files.rows(path)
        self.summary = run_files.timeless_summary(path)

    def is_what(self, path):
        """Asserts that a folder holds the same run."""
        chex.assert_trees_all_equal(run_files.restored(path, _experiment()), self.state)
        assert run_files.timeless_summary(path) == self.summary


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return Uninterrupted(tmp_path_factory.mktemp("train") / "uninterrupted")


def test_a_run_trains_devices_to_its_end(uninterrupted):
    assert [row["step"] for row in uninterrupted.rows] == [1, 2, 3, 4, 5, 6]
    assert uninterrupted.state.step == 2 * EPOCH
    assert all(row["accepted_lsbs"] > 0 for row in uninterrupted.rows)
    wear = uninterrupted.summary["write_erase_cycles"]
    assert wear["binary"]["sets"] > 0


def test_the_summary_says_what_the_training_took(uninterrupted):
    summary = uninterrupted.summary
    wear, operations = summary["write_erase_cycles"], summary["operations"]
    assert len(wear["binary_planes"]) == 7
    kernels = {"stem/kernel", "stage1_block1/conv1/kernel",
               "stage1_block1/conv2/kernel", "head/kernel"}  # fmt: skip
    assert set(wear["layers"]) == set(operations["arrays"]) == kernels
    # Digital parameters have momentum.
    assert summary["optimizer_bits"] == 32 * summary["digital_weights"]

    # Four channels on images of 8x8.
    conv, head = 64 * 9 * 4, 4 * 10
    macs = conv * (1 + 4 + 4) + head
    assert operations["inference"]["analog_macs"] == macs
    step, training = operations["training_step"], operations["training"]
    for name, layers in [("forward", macs), ("backward", macs - conv)]:
        assert step[name]["analog_macs"] == 479 * layers
    for name, count in training.items():
        if name.startswith(("analog", "gradient", "dac", "adc", "product")):
            assert count == 2 * EPOCH * sum(part[name] for part in step.values())
    for kind in ("multilevel", "binary"):
        for pulse in ("sets", "resets"):
            assert training[f"{kind}_{pulse}"] == wear[kind][pulse]
    # Six steps are too few for a refresh: reads verified the initial weights.
    carried = sum(row["set_pulses"] for row in uninterrupted.rows)
    pulses = wear["multilevel"]["sets"] - carried
    assert training["multilevel_reads"] == pulses + summary["analog_weights"]

    energy = summary["energy"]
    sums = 64 * 4 * 3 + 10  # At the columns, which are in use.
    assert operations["inference"]["adc_conversions"] == sums
    assert energy["inference_j"]["total"] == pytest.approx(sums * 52.3e-12)
    parts = dict(energy["training_j"])
    assert parts.pop("total") == pytest.approx(sum(parts.values()))


def test_a_digital_run_has_the_same_fields(tmp_path, uninterrupted):
    experiment = _experiment("fp32", epochs=1)
    table = EnergyTable(digital_mac_pj=2.0)
    train(experiment, str(tmp_path), TrainOptions(max_steps=1, energy_table=table))
    summary = run_files.timeless_summary(tmp_path)
    assert set(summary) == set(uninterrupted.summary) | {"post_training"}
    assert summary["write_erase_cycles"] is None
    assert summary["optimizer_bits"] == summary["fp32_bits"]
    after, state = summary["post_training"], run_files.restored(tmp_path, experiment)
    weights, columns = summary["fp32_bits"] // 32, 3 * 4 + 10
    digital = 3 * 8 + 10  # Scales and offsets of BatchNorm, and the bias of the head.
    for name, bits in (("int8", 8), ("int4", 4)):
        kernels = bits * (weights - digital) + 32 * columns
        assert after[name]["inference_bits"] == kernels + 32 * digital
        found = experiment.quantised_accuracy(state, experiment.split("test"), bits)
        assert after[name]["test_accuracy"] == found
    operations, energy = summary["operations"], summary["energy"]
    assert operations["arrays"] == {}
    # The same products, all digital: two or three passes of each.
    analog = uninterrupted.summary["operations"]["inference"]["analog_macs"]
    assert operations["inference"]["digital_macs"] == analog
    macs = 479 * (3 * analog - 64 * 9 * 4)
    assert operations["training"]["digital_macs"] == macs
    assert energy["training_j"]["total"] == pytest.approx(2e-12 * macs)
    assert energy["table"]["digital_mac_pj"] == 2.0


def test_stopped_and_resumed_is_uninterrupted(tmp_path, uninterrupted):
    # At the end of an epoch, and in the middle of the next.
    for stop in (EPOCH, EPOCH + 1):
        options = TrainOptions(max_steps=stop, log_every=1)
        summary = train(_experiment(), str(tmp_path), options)
        assert summary["steps"] == stop
        assert len(run_files.rows(tmp_path)) == stop
    train(_experiment(), str(tmp_path), TrainOptions(log_every=1))
    uninterrupted.is_what(tmp_path)
    rows = run_files.rows(tmp_path)
    # At a stop the network is tested, wherever it is.
    assert rows[EPOCH].pop("test_accuracy") == summary["test_accuracy"]
    assert rows == uninterrupted.rows


def test_what_was_read_of_the_devices_holds_until_they_are_trained_further(tmp_path):
    shorter, longer = TrainOptions(max_steps=2), TrainOptions(max_steps=4)
    train(_experiment("fp32"), str(tmp_path), shorter)
    folder = RunFolder.read(str(tmp_path))
    row = {"time": 25.0, "compensation": "none", "accuracies": [0.5]}
    folder.update_summary(drift=[row])
    assert train(_experiment("fp32"), str(tmp_path), shorter)["drift"] == [row]
    assert "drift" not in train(_experiment("fp32"), str(tmp_path), longer)
    assert "drift" not in run_files.summary(tmp_path)


def test_a_run_that_is_to_end_where_it_was_stopped_is_tested_there(
    tmp_path, monkeypatch
):
    options = TrainOptions(log_every=1, progress=False)
    stopped = dataclasses.replace(options, max_steps=2)
    usual = train(_experiment("fp32"), str(tmp_path / "a"), stopped)
    # A signal leaves a checkpoint, but no test accuracy and no summary.
    original, calls = Experiment.epoch_order, []

    def asked_to_stop(experiment, epoch):
        calls.append(epoch)
        if len(calls) == 3:  # For the compilation, for the first step, for the second.
            os.kill(os.getpid(), signal.SIGTERM)
        return original(experiment, epoch)

    monkeypatch.setattr(Experiment, "epoch_order", asked_to_stop)
    with pytest.raises(Stopped, match="saved at step 2"):
        train(_experiment("fp32"), str(tmp_path / "b"), options)
    monkeypatch.undo()
    again = train(_experiment("fp32"), str(tmp_path / "b"), stopped)
    for result in (usual, again):
        result.pop("seconds_per_step", None)
    assert again == usual


def test_a_signal_saves_and_stops(tmp_path, uninterrupted, monkeypatch, caplog):
    """Sent in the middle of the second epoch; started again, the run goes on."""
    original = Experiment.epoch_order

    def asked_to_stop(experiment, epoch):
        if epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(experiment, epoch)

    monkeypatch.setattr(Experiment, "epoch_order", asked_to_stop)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        train(_experiment(), str(tmp_path), TrainOptions(log_every=1))
    monkeypatch.undo()
    assert stop.value.code == 128 + 15
    message = f"SIGTERM: saved at step {EPOCH + 1}; started again, the run goes"
    assert message in caplog.text
    assert signal.getsignal(signal.SIGTERM) == before
    assert run_files.rows(tmp_path) == uninterrupted.rows[: EPOCH + 1]
    assert (tmp_path / "checkpoints" / str(EPOCH + 1)).exists()
    assert not (tmp_path / "summary.json").exists()
    train(_experiment(), str(tmp_path), TrainOptions(log_every=1))
    uninterrupted.is_what(tmp_path)
    assert run_files.rows(tmp_path) == uninterrupted.rows


def test_a_damaged_checkpoint_costs_an_epoch_and_nothing_else(
    tmp_path, uninterrupted, caplog
):
    path = tmp_path / "copy"
    shutil.copytree(uninterrupted.path, path)
    newest = path / "checkpoints" / str(2 * EPOCH) / "default"
    (largest,) = sorted(newest.rglob("d/*"), key=lambda file: file.stat().st_size)[-1:]
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    train(_experiment(), str(path), TrainOptions(log_every=1))
    assert f"checkpoint of step {2 * EPOCH} is damaged" in caplog.text
    uninterrupted.is_what(path)
    assert run_files.rows(path) == uninterrupted.rows


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda lines: lines[1:], "1 of 6 rows until step 6 got lost;"),
        (lambda lines: [], "6 of 6 rows until step 6 got lost;"),
        (lambda lines: [lines[0], "5", *lines[2:]], "(metrics.jsonl: line 2: 5: must"),
        (lambda lines: [*lines[:4], lines[4][:50], lines[5]], "1 of 6 rows until"),
        (
            lambda lines: [lines[0].replace('"loss": ', '"loss": 1'), *lines[1:]],
            "the content of some rows until step 6 got lost;",
        ),
    ],
    ids=["first", "all", "no row", "cut", "altered"],
)
def test_lost_rows_change_no_sum_and_are_told(
    tmp_path, uninterrupted, caplog, damage, told
):
    path = shutil.copytree(uninterrupted.path, tmp_path / "copy")
    lines = (path / "metrics.jsonl").read_text().splitlines()
    text = "".join(f"{line}\n" for line in damage(lines))
    (path / "metrics.jsonl").write_text(text)
    (path / "summary.json").unlink()
    train(_experiment(), str(path), TrainOptions(log_every=1))
    summary = run_files.timeless_summary(path)
    assert told in summary.pop("metrics_fault")
    assert summary == run_files.timeless_summary(uninterrupted.path)
    assert told in caplog.text


def test_sums_go_on_from_the_checkpoint(tmp_path, uninterrupted):
    path = shutil.copytree(uninterrupted.path, tmp_path / "copy")
    shutil.rmtree(path / "checkpoints" / str(2 * EPOCH))
    (path / "summary.json").unlink()
    (path / "metrics.jsonl").write_text("")
    train(_experiment(), str(path), TrainOptions(log_every=1))
    summary = run_files.timeless_summary(path)
    assert f"{EPOCH} of {2 * EPOCH} rows until" in summary.pop("metrics_fault")
    assert summary == run_files.timeless_summary(uninterrupted.path)
    assert run_files.rows(path) == uninterrupted.rows[EPOCH:]


@pytest.mark.parametrize("text", ["", "[]", '{"steps": null}', "\udcff", "{" * 5000])
def test_a_damaged_summary_is_told_before_anything_is_trained(
    tmp_path, monkeypatch, text
):
    (tmp_path / "summary.json").write_bytes(text.encode(errors="surrogateescape"))
    experiment = _experiment("fp32")
    (tmp_path / "config.json").write_text(experiment.config.to_json())
    monkeypatch.setattr(Experiment, "init_state", lambda self: pytest.fail("began"))
    with pytest.raises(ValueError, match=rf"workdir={tmp_path}: summary\.json: "):
        train(experiment, str(tmp_path))


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path, uninterrupted):
    path = shutil.copytree(uninterrupted.path, tmp_path / "copy")
    config = json.loads((path / "config.json").read_text())
    config["recipe"]["learning_rate"] = 0.125
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError) as error:
        run_files.restored(path, _experiment())
    assert "the checkpoint of step 6 is of another configuration" in str(error.value)
    assert "recipe.learning_rate: 0.2 != 0.125" in str(error.value)


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path, monkeypatch):
    gone_on = threading.Event()
    write, log = Checkpoints._write_sums, Metrics.log

    def write_slowly(checkpoints):
        assert gone_on.wait(timeout=300)
        write(checkpoints)

    def log_and_tell(metrics, row):
        log(metrics, row)
        if row["step"] > EPOCH:
            gone_on.set()

    monkeypatch.setattr(Checkpoints, "_write_sums", write_slowly)
    monkeypatch.setattr(Metrics, "log", log_and_tell)
    experiment = _experiment("fp32")
    train(experiment, str(tmp_path), TrainOptions(max_steps=EPOCH + 1, log_every=1))
    assert run_files.restored(tmp_path, experiment).step == EPOCH + 1
    assert (tmp_path / "checkpoints" / str(EPOCH)).exists()


@pytest.mark.parametrize(("every", "due"), [(4, {4, 6}), (100, {6})])
def test_how_often_checkpoints_are_written(tmp_path, every, due):
    options = TrainOptions(checkpoint_every=every, keep_checkpoints=10, log_every=1)
    train(_experiment("fp32"), str(tmp_path), options)
    saved = {int(path.name) for path in (tmp_path / "checkpoints").iterdir()}
    # The first test accuracy is the highest so far.
    assert saved == due | {EPOCH}


def test_a_finished_run_stays_as_it_is(tmp_path, uninterrupted):
    path = tmp_path / "copy"
    shutil.copytree(uninterrupted.path, path)
    before = json.loads((path / "summary.json").read_text())
    train(_experiment(), str(path), TrainOptions(log_every=1))
    uninterrupted.is_what(path)
    assert run_files.rows(path) == uninterrupted.rows
    assert json.loads((path / "summary.json").read_text()) == before


def test_how_often_is_logged_changes_nothing_else(tmp_path, uninterrupted):
    train(_experiment(), str(tmp_path), TrainOptions(log_every=50))
    chex.assert_trees_all_equal(
        run_files.restored(tmp_path, _experiment()), uninterrupted.state
    )
    rows = run_files.rows(tmp_path)
    assert [row["step"] for row in rows] == [EPOCH, 2 * EPOCH]
    for i, row in enumerate(rows):
        part = uninterrupted.rows[EPOCH * i : EPOCH * (i + 1)]
        # Means of float32 numbers, and sums of whole ones.
        assert row["loss"] == pytest.approx(np.mean([r["loss"] for r in part]))
        assert row["set_pulses"] == sum(r["set_pulses"] for r in part)
        assert row["test_accuracy"] == part[-1]["test_accuracy"]


@pytest.mark.parametrize(
    ("update", "message"),
    [
        # The step after the update meets spoilt parameters.
        (EPOCH + 1, rf"^step {EPOCH + 2}: the loss is nan"),
        # The parameters of the second epoch's end are no good checkpoint.
        (2 * EPOCH, rf"^step ({2 * EPOCH}|{2 * EPOCH + 1}): "),
    ],
    ids=["mid-epoch", "at the end of an epoch"],
)
def test_a_loss_that_is_no_number_stops_training(tmp_path, update, message):
    experiment = _experiment("fp32", epochs=3)
    poison = optax.scale_by_schedule(
        lambda step: jnp.where(step + 1 == update, jnp.nan, 1.0)
    )
    experiment = dataclasses.replace(experiment, tx=optax.chain(experiment.tx, poison))
    with pytest.raises(TrainingDiverged, match=message):
        train(experiment, str(tmp_path))
    state = run_files.restored(tmp_path, experiment)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(state.params))
    assert state.step == EPOCH
    assert run_files.rows(tmp_path)[0]["step"] == EPOCH
    assert (tmp_path / "config.json").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_bad_step_is_named(value):
    losses = np.array([0.5, 0.4, value, np.nan])
    with pytest.raises(TrainingDiverged, match=f"^step 13: the loss is {value}; "):
        check_losses(losses, 10)
    check_losses(losses[:2], 10)


_IMPORTS = """
import sys
import hic_jax, hic_jax.data, hic_jax.inference
from experiments import demo, drift, plots, train
from experiments.benchmark import __main__
print("tensorflow" in sys.modules)
"""


def test_tensorflow_is_never_imported_and_importing_prints_nothing(tmp_path):
    # Something to be found, in case it is looked for.
    (tmp_path / "tensorflow.py").touch()
    path = os.pathsep.join([str(Path(hic_jax.__file__).parents[1]), str(tmp_path)])
    process = subprocess.run(
        [sys.executable, "-c", _IMPORTS],
        env=os.environ | {"PYTHONPATH": path},
        check=True,
        capture_output=True,
        text=True,
    )
    assert (process.stdout, process.stderr) == ("False\n", "")


def test_faulty_devices_of_untracked_wear(tmp_path):
    experiment = _experiment(
        epochs=1, hic_track_wear=False, pcm_stuck_reset=0.1, binary_stuck_set=0.1
    )
    train(experiment, str(tmp_path / "run"), TrainOptions(log_every=1))
    summary = run_files.timeless_summary(tmp_path / "run")
    assert summary["write_erase_cycles"] is None
    # Pulses that nobody counted have no energy; an inference needs none.
    assert summary["operations"]["training"] is None
    assert summary["energy"]["training_j"] is None
    assert summary["energy"]["inference_j"]["total"] > 0
    assert summary["inference_bits"] < summary["fp32_bits"] / 4
    # A tenth of 7 cells each hold some of every word: the LSBs are told.
    assert all(row["faulty_lsbs"] > 0 for row in run_files.rows(tmp_path / "run"))


def test_the_bar_moves_before_there_is_a_row(tmp_path, monkeypatch):
    told = []

    class Bar(terminal.tqdm):
        def update(self, n=1):
            told.append(n)

        def set_description_str(self, desc=None, refresh=True):
            told.append(desc)

        def set_postfix_str(self, s="", refresh=True):
            told.append(s)

    monkeypatch.setattr(terminal, "tqdm", Bar)
    train(_experiment("fp32", epochs=1), str(tmp_path))
    (row,) = run_files.rows(tmp_path)
    accuracy = (
        f"loss {row['loss']:.3f}, training accuracy {100 * row['accuracy']:.1f} %"
    )
    assert told == ["fp32, preparing", "fp32, epoch 1/1", *EPOCH * [1], accuracy]


def test_the_table_is_the_summary(uninterrupted):
    config, summary = _experiment().config, uninterrupted.summary
    rows = shown.by_name(table(config, summary))
    assert rows["test accuracy"] == (f"{100 * summary['test_accuracy']:.1f} %",)
    assert rows["training loss"] == (f"{summary['train_loss']:.3f}",)
    assert rows["steps"] == (str(2 * EPOCH),)
    for kind, name in (("multilevel", "multi-level"), ("binary", "binary")):
        most = summary["write_erase_cycles"][kind]["max"]
        (text,) = rows[f"most write-erase cycles, {name}"]
        assert text.startswith(f"{most}, or ")
    # What is not tracked is not shown.
    untracked = table(config, summary | {"write_erase_cycles": None})
    assert len(untracked.rows) == len(rows) - 2
    # Nor are binary cells of an algorithm that has none.
    wear = {k: v for k, v in summary["write_erase_cycles"].items() if k != "binary"}
    without = shown.by_name(table(config, summary | {"write_erase_cycles": wear}))
    assert [*without] == [n for n in rows if n != "most write-erase cycles, binary"]
