"""The drift launcher: a trained run, read again as its devices age."""

import dataclasses
import errno
import functools
import json
import re
import shutil
import tempfile
import types
import zlib

import jax
import numpy as np
import pytest
from absl import flags

import hic_jax
from experiments import drift
from experiments import launch as launch_lib
from experiments.config import Config, resolve
from experiments.runs.stored import read_config
from experiments.setup import Experiment
from experiments.train import train
from hic_jax.inference import over_time
from hic_jax.inference.compensations import COMPENSATIONS
from hic_jax.inference.network import Network, accuracy
from hic_jax.training.recipes import Recipe
from hic_jax.weights import is_analog
from tests.experiments import run_files

pytestmark = pytest.mark.usefixtures("one_block", "compiled_once")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a trained run, not to be changed."""
    path = tmp_path_factory.mktemp("drift") / "run"
    fields = {"channel_plan": "one_block", "epochs": 2, "batch_size": 479}
    train(Experiment.of(resolve(**fields)), str(path))
    return path


@pytest.fixture
def path(trained, tmp_path):
    """A copy of it."""
    return shutil.copytree(trained, tmp_path / "run")


def _rows(path):
    return json.loads((path / "summary.json").read_text()).get("drift", [])


@pytest.fixture
def launch(path):
    """Runs the launcher with some flags; returns the rows of the devices it read."""
    before = set(flags.FLAGS)
    drift.define_flags()

    def launch(*words):
        argv = flags.FLAGS(["drift", f"--workdir={path}", *words])
        launch_lib.told(drift.main, argv)
        devices = flags.FLAGS.deploy or "trained"
        return [row for row in _rows(path) if row["devices"] == devices]

    yield launch
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


def _content(path):
    """A checksum of every file that reading must not change."""
    return {
        file: zlib.crc32(file.read_bytes())
        for file in path.rglob("*")
        if file.is_file()
        and file.name != "summary.json"
        and not file.name.startswith("accuracy_over_time")
    }


def test_rows_are_added_to_the_summary_and_nothing_else_changes(path, launch):
    before, summary = _content(path), json.loads((path / "summary.json").read_text())
    rows = launch("--times=25,31536000", "--chips=2")
    assert _content(path) == before
    assert json.loads((path / "summary.json").read_text()) == summary | {"drift": rows}
    assert (path / "accuracy_over_time.png").exists()
    assert [(row["time"], row["compensation"]) for row in rows] == [
        (25.0, "none"),
        (25.0, "adabs"),
        (hic_jax.YEAR, "none"),
        (hic_jax.YEAR, "adabs"),
    ]
    for row in rows:
        assert len(row["accuracies"]) == 2
        assert row["mean"] == pytest.approx(np.mean(row["accuracies"]))
        assert row["std"] == pytest.approx(np.std(row["accuracies"], ddof=1))
        assert 0 <= row["mean"] <= 1
        assert row["devices"] == "trained"
        assert row["interval"][0] <= row["mean"] <= row["interval"][1]


def test_reading_again_is_the_same_result(launch):
    words = ["--times=3600", "--chips=2", "--compensations=adabs"]
    first = launch(*words)
    assert launch(*words) == first
    assert [row["compensation"] for row in first] == ["adabs"]


def test_more_chips_are_the_same_chips_and_more(launch):
    words = ["--times=31536000", "--compensations=none"]
    (two,), (three,) = launch(*words, "--chips=2"), launch(*words, "--chips=3")
    assert three["accuracies"][:2] == two["accuracies"]


def test_fresh_chips_are_read_beside_the_trained_devices(path, launch):
    before = _content(path)
    trained = launch("--times=25", "--chips=1", "--compensations=none")
    words = ["--times=25,3600", "--chips=2", "--compensations=none,gdc,column,adabs"]
    rows = launch(*words, "--deploy=hermes_2")
    assert [row["compensation"] for row in rows] == 2 * list(COMPENSATIONS)
    assert launch(*words, "--deploy=hermes_2") == rows
    assert all(row in _rows(path) for row in trained + rows)
    # A new reading of the trained devices leaves the others.
    again = launch("--times=3600", "--chips=1", "--compensations=none", "--deploy=")
    assert [row["time"] for row in again] == [3600.0]
    assert all(row in _rows(path) for row in again + rows)
    assert _content(path) == before
    assert (path / "accuracy_over_time_hermes_2.png").exists()


def test_an_ideal_reference_is_another_reading(launch):
    words = ["--times=31536000", "--chips=3", "--compensations=gdc,column"]
    words.append("--deploy=nandakumar_2019")
    noisy, ideal = launch(*words), launch(*words, "--ideal_reference")
    assert noisy != ideal


def test_networks_with_batchnorm_are_read_with_adabs_unless_told(path, launch):
    rows = launch("--times=25", "--chips=1")
    assert [row["compensation"] for row in rows] == ["none", "adabs"]


def test_networks_of_both_kinds_are_not_read_as_one(path, monkeypatch):
    best = {"resnet": "adabs", "mlp": "gdc"}
    config = read_config(path)
    mlp = dataclasses.replace(config.train, model="mlp")
    configs = {"a": config, "b": types.SimpleNamespace(train=mlp)}
    monkeypatch.setattr(drift, "read_config_of_devices", configs.get)
    monkeypatch.setattr(
        drift.Experiment,
        "of",
        lambda c: types.SimpleNamespace(compensation=best[c.train.model]),
    )
    assert drift.usual_compensations(["a"]) == ["none", "adabs"]
    with pytest.raises(ValueError, match=r"^compensations: must be given.*mlp, resnet"):
        drift.usual_compensations(["a", "b"])


def _without_noise(path):
    """Accuracy of the devices as they were written."""
    experiment = Experiment.of(read_config(path))
    network = Network.of(run_files.restored(path, experiment))
    exact = network.replace(
        weights=jax.tree.map(
            lambda weight: weight.without("read_noise", "drift"),
            network.weights,
            is_leaf=is_analog,
        )
    )
    test = experiment.split("test")
    return accuracy(jax.random.key(0), experiment.model, exact, test)


def test_what_costs_accuracy_is_switched_off(path, launch):
    # After an hour the chips are not yet all at the accuracy of one class for all.
    words = ["--times=3600", "--chips=4", "--compensations=none"]
    launch(*words)
    launch(*words, "--without=drift_spread,read_noise")
    launch(*words, "--without=drift,read_noise")
    usual, spread_off, still = _rows(path)
    assert usual["without"] == []
    assert spread_off["without"] == ["drift_spread", "read_noise"]
    # Chips of devices that differ in nothing and never fluctuate are one.
    assert len(set(usual["accuracies"])) > 1
    assert len(set(spread_off["accuracies"])) == 1
    assert set(still["accuracies"]) == {_without_noise(path)}
    assert spread_off["mean"] != still["mean"]
    picture = "accuracy_over_time_without_drift_spread_read_noise.png"
    assert (path / picture).exists()
    # Read again, it takes the place of the same.
    launch(*words, "--without=read_noise,drift_spread")
    assert len(_rows(path)) == 3
    with pytest.raises(SystemExit, match="without='write_noise': must be one of read"):
        launch(*words, "--without=write_noise")


def test_fresh_chips_without_drift_stay_as_they_are(launch):
    words = ["--times=25,31536000", "--chips=1", "--compensations=none"]
    rows = launch(*words, "--deploy=nandakumar_2019", "--without=drift,read_noise")
    assert rows[0]["accuracies"] == rows[1]["accuracies"]


def test_a_sweep_is_read_run_by_run_and_once(path, tmp_path, launch):
    """Of a finished run, one that is not, and one without devices."""
    steps = json.loads((path / "summary.json").read_text())["steps"]
    sweep = tmp_path / "sweep"
    for name in ("done", "on_its_way", "digital"):
        shutil.copytree(path, sweep / name)
        summary = json.loads((path / "summary.json").read_text()) | {"drift": []}
        (sweep / name / "summary.json").write_text(json.dumps(summary))
    config = read_config(path)
    train = dataclasses.replace(config.train, algorithm="fp32")
    digital = Config(train=train, network=config.network, recipe=Recipe())
    (sweep / "digital" / "config.json").write_text(digital.to_json())
    runs = [
        {"name": name, "folder": name, "swept": {}, "steps": steps + (name[0] == "o")}
        for name in ("done", "on_its_way", "digital")
    ]
    (sweep / "manifest.json").write_text(json.dumps({"runs": runs}))

    words = ["--times=25", "--chips=2", "--compensations=none"]
    read = functools.partial(launch, *words, f"--workdir={sweep}")
    read()
    (row,) = _rows(sweep / "done")
    assert len(row["accuracies"]) == 2
    assert _rows(sweep / "on_its_way") == _rows(sweep / "digital") == []

    summary = sweep / "done" / "summary.json"
    written = summary.stat().st_mtime_ns
    read()
    assert summary.stat().st_mtime_ns == written
    read("--again")
    assert summary.stat().st_mtime_ns > written
    assert _rows(sweep / "done") == [row]
    read("--noagain", "--chips=3")
    (row,) = _rows(sweep / "done")
    assert len(row["accuracies"]) == 3
    read("--chips=3", "--ideal_reference")
    (row,) = _rows(sweep / "done")
    assert row["ideal_reference"]


@pytest.fixture
def nothing_computed(monkeypatch):
    def compute(*arguments, **keywords):
        raise AssertionError("computed before the folder was checked")

    monkeypatch.setattr(over_time, "accuracy_over_time", compute)


def test_a_folder_that_cannot_be_written_is_told_first(
    path, launch, monkeypatch, nothing_computed
):
    def refused(dir):
        raise OSError(errno.EROFS, "Read-only file system", str(dir))

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    with pytest.raises(SystemExit, match=rf"^error: workdir={path}: .*Read-only"):
        launch()


def test_another_network_than_that_of_the_summary_is_not_read(
    path, launch, nothing_computed
):
    summary = json.loads((path / "summary.json").read_text())
    (path / "summary.json").write_text(json.dumps(summary | {"steps": 3}))
    with pytest.raises(SystemExit, match=r"is of step 3, but .* is of step 6"):
        launch()


def test_several_processes_compute_one_chip_at_a_time(launch, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(jax, "process_count", lambda: 2)
        # Without this name it would join others that are not there.
        patch.setattr(launch_lib, "start", lambda argv: None)
        with pytest.raises(SystemExit, match="chips_at_once=4: must be 1 with 2 proc"):
            launch("--chips_at_once=4")


def test_a_sweep_without_devices_is_refused(tmp_path, launch):
    (tmp_path / "manifest.json").write_text('{"runs": []}')
    with pytest.raises(SystemExit, match=r"without a finished run of an algorithm"):
        launch(f"--workdir={tmp_path}")


def test_the_table_shows_the_rows(path, launch, capsys):
    rows = launch("--times=25,31536000", "--chips=2", "--compensations=none,adabs")
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for time, name in ((25.0, "25 s"), (hic_jax.YEAR, "1 year")):
        texts = (
            f"{100 * row['mean']:.1f} +- {100 * row['std']:.1f} %"
            for row in rows
            if row["time"] == time
        )
        assert f"{name} {' '.join(texts)}" in lines


def test_a_folder_of_runs_is_read_run_by_run_and_once(path, tmp_path, launch, capsys):
    """One finished, one that is not, one without devices, deeper than others."""
    folder = tmp_path / "runs"
    for name in ("done", "deeper/done", "on_its_way", "digital"):
        shutil.copytree(path, folder / name)
    (folder / "on_its_way" / "summary.json").unlink()
    config = read_config(path)
    train = dataclasses.replace(config.train, algorithm="fp32")
    digital = Config(train=train, network=config.network, recipe=Recipe())
    (folder / "digital" / "config.json").write_text(digital.to_json())
    words = ["--times=25", "--chips=1", "--compensations=none", f"--workdir={folder}"]
    launch(*words)
    first, second = (_rows(folder / name) for name in ("done", "deeper/done"))
    assert len(first) == 1 and first == second
    assert _rows(folder / "digital") == []
    text = f"25 s {100 * first[0]['mean']:.1f} %"
    assert " ".join(capsys.readouterr().out.split()).count(text) == 2
    summary = folder / "done" / "summary.json"
    written = summary.stat().st_mtime_ns
    launch(*words)
    assert summary.stat().st_mtime_ns == written
    for name in ("done", "deeper"):
        shutil.rmtree(folder / name)
    found = r"digital \(fp32\), on_its_way \(hic, not finished\), without a finished"
    with pytest.raises(SystemExit, match=f"workdir={folder}: holds {found} run of an "):
        launch(*words)


def test_runs_that_cannot_be_restored_do_not_end_the_others(
    path, tmp_path, launch, capsys
):
    folder = tmp_path / "runs"
    names = ("a_damaged", "b_without", "c_of_another", "d_whole")
    for name in names:
        shutil.copytree(path, folder / name)
    for damaged in (folder / "a_damaged").rglob("_METADATA"):
        damaged.write_bytes(b"")
    shutil.rmtree(folder / "b_without" / "checkpoints")
    config = read_config(path)
    other = dataclasses.replace(config.train, seed=1)
    (folder / "c_of_another" / "config.json").write_text(
        dataclasses.replace(config, train=other).to_json()
    )
    with pytest.raises(SystemExit) as ended:
        launch("--times=25", "--chips=1", "--compensations=none", f"--workdir={folder}")
    left = ", ".join(str(folder / name) for name in names[:3])
    assert str(ended.value) == f"error: 3 of 4 runs not read: {left}"
    assert [len(_rows(folder / name)) for name in names] == [0, 0, 0, 1]
    told = capsys.readouterr().err
    for name, why in (
        ("a_damaged", "no checkpoint is intact"),
        ("b_without", "holds no checkpoint"),
        ("c_of_another", "is of another configuration"),
    ):
        assert re.search(rf"^{folder / name}: .*{why}", told, re.MULTILINE)
