"""Two processes make one run: the same numbers, one folder, every file once."""

import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import jax
import numpy as np
import pytest

import hic_jax
from experiments import processes
from experiments.runs.run_folder import RunFolder
from experiments.runs.stored import read_config
from experiments.setup import Experiment
from hic_jax import inference
from hic_jax.algorithms import analog_states
from hic_jax.inference.network import Network
from tests.experiments import run_files

pytestmark = pytest.mark.usefixtures("one_block")

# Steps, of the 59 of an epoch.
FIRST, LAST = 10, 50
FLAGS = (
    "--channel_plan=one_block", "--batch_size=24", "--epochs=1", "--log_every=1",
    f"--max_steps={FIRST}", "--augmentation=none",
    # One code or one LSB more or less, where float32 rounding decides, and trainings
    # part: so without converters, and with LSBs so large that it hardly ever decides.
    # The rest is the same everywhere.
    "--preset=ideal", "--noconverters", "--hic_lsb_bits=3", "--hic_refresh_every=0",
)  # fmt: skip
READING = {"times": [3600.0], "chips": 1, "compensations": ["none", "adabs"]}

# The command, which stops early; then, by the same processes, what a second one does.
_SCRIPT = f"""
import runpy, sys
from hic_jax import models
models.CHANNEL_PLANS["one_block"] = (4,)  # As the fixture of this name.
try:
    runpy.run_module("experiments.train", run_name="__main__")
except SystemExit as end:
    if end.code:
        raise
from experiments import drift, processes, train
from experiments.runs.stored import read_config
from experiments.setup import Experiment
from experiments.train_options import TrainOptions
from hic_jax.inference import Reading
path, coordinator = (sys.argv[i].partition("=")[2] for i in (1, -3))
assert processes._answers(coordinator)  # It is JAX's own service.
experiment = Experiment.of(read_config(path))
train.train(experiment, path, TrainOptions(max_steps={LAST}, log_every=1))
drift.read_over_time(experiment, path, Reading(**{READING!r}))
"""


def _launch(path):
    """What two processes print."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(Path(hic_jax.__file__).parents[1]),
    }
    flags = (
        f"--workdir={path}", *FLAGS,
        f"--coordinator=localhost:{port}", "--num_processes=2",
    )  # fmt: skip
    logs = [path.with_name(f"process{i}.txt") for i in range(2)]
    processes = []
    try:
        for i, log in enumerate(logs):
            with log.open("w") as file:
                command = [sys.executable, "-c", _SCRIPT, *flags, f"--process_id={i}"]
                processes.append(
                    subprocess.Popen(
                        command, env=environment, stdout=file, stderr=subprocess.STDOUT
                    )
                )
        codes = [process.wait() for process in processes]
    finally:
        for process in processes:
            process.kill()
    printed = [log.read_text() for log in logs]
    assert codes == [0, 0], "\n".join(printed)
    return printed


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder of a run by two processes, and what they printed."""
    path = tmp_path_factory.mktemp("processes") / "run"
    return path, _launch(path)


@pytest.fixture(scope="module")
def one(two):
    """The same by this process: losses, accumulators by step, answers."""
    path, _ = two
    experiment = Experiment.of(read_config(path))
    state, train = experiment.init_state(), experiment.split("train")
    test, run, order = (
        experiment.split("test"), experiment.runner(), experiment.epoch_order(0),
    )  # fmt: skip
    words = {}
    state, early = run(state, train, order[:FIRST])
    words[FIRST] = np.asarray(_word(state))
    state, late = run(state, train, order[FIRST:LAST])
    words[LAST] = np.asarray(_word(state))
    rows = inference.accuracy_over_time(
        experiment.chip_key, experiment.model, Network.of(state), test, train,
        reading=inference.Reading(**READING),
    )  # fmt: skip
    return {
        "losses": np.concatenate([early["loss"], late["loss"]]),
        "words": words,
        "test_accuracy": experiment.test_accuracy(state, test),
        "drift": [row["mean"] for row in rows],
    }


def _word(state):
    return analog_states(state.opt_state)[0].weights.accumulator


def _restored(path, step, tmp_path):
    """The state in a checkpoint, restored by this process alone."""
    copy = tmp_path / str(step)
    shutil.copytree(path / "checkpoints" / str(step), copy / "checkpoints" / str(step))
    shutil.copy(path / "config.json", copy)
    folder = RunFolder.read(str(copy))
    state = folder.restore(Experiment.of(folder.config).init_state())
    folder.close()
    assert int(state.step) == step
    return state


def test_two_processes_train_as_one(two, one, tmp_path):
    path, _ = two
    # The order in which a batch is summed differs: float32 rounding.
    losses = [row["loss"] for row in run_files.rows(path)]
    np.testing.assert_allclose(losses, one["losses"], rtol=1e-5)
    assert len(set(losses)) == LAST
    for step, word in one["words"].items():
        assert np.any(word)
        restored = _word(_restored(path, step, tmp_path))
        np.testing.assert_array_equal(restored, word)


def test_two_processes_evaluate_as_one(two, one):
    summary = run_files.summary(two[0])
    mine = [summary["test_accuracy"], *(row["mean"] for row in summary["drift"])]
    # One logit may overtake another by rounding, in one of 360 images.
    expected = [one["test_accuracy"], *one["drift"]]
    np.testing.assert_allclose(mine, expected, rtol=0, atol=1.5 / 360)
    assert len(mine) == 3
    assert min(mine) > 0


def test_every_file_is_written_once(two):
    path, _ = two
    rows = run_files.rows(path)
    assert [row["step"] for row in rows] == list(range(1, LAST + 1))
    assert [r["step"] for r in rows if "test_accuracy" in r] == [FIRST, LAST]
    assert run_files.summary(path)["steps"] == LAST
    assert {p.name for p in path.iterdir()} == {
        "config.json", "metrics.jsonl", "tensorboard", "checkpoints", "summary.json",
        "learning_curves.png", "accuracy_over_time.png", "provenance.json", "lock",
    }  # fmt: skip
    checkpoints = {p.name for p in (path / "checkpoints").iterdir()}
    assert checkpoints == {str(FIRST), str(LAST)}
    # It was begun and gone on with.
    assert len(list((path / "tensorboard").iterdir())) == 2


def test_one_process_talks(two):
    path, (first, second) = two
    accuracy = run_files.rows(path)[FIRST - 1]["test_accuracy"]
    for words in ("(all of it: ", f" {100 * accuracy:.1f} %", f"Run folder: {path}"):
        assert first.count(words) == 1
        assert words not in second


@pytest.mark.parametrize(
    ("environment", "several"),
    [
        ({}, False),
        ({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4"}, False),  # The batch script.
        ({"SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"SLURM_STEP_NUM_TASKS": "4"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, False),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"TPU_WORKER_HOSTNAMES": "t1k-0,t1k-1"}, True),
    ],
)
def test_several_processes_are_found(monkeypatch, environment, several):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMPI_", "TPU_")):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    started = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *a: started.append(a))
    processes.join()
    assert started == ([()] if several else [])


def test_what_is_asked_for_comes_first(monkeypatch):
    started = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *a: started.append(a))
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    processes.join("node7:1234", 2, 1)
    processes.join("auto")
    assert started == [("node7:1234", 2, 1), ()]


def test_processes_that_jax_does_not_find(monkeypatch):
    def initialize():
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    message = r"coordinator_address .*give --coordinator, --num_processes, --process_id"
    with pytest.raises(ValueError, match=message):
        processes.join()


@pytest.fixture
def ended(monkeypatch):
    """Lines that a process would end with; JAX waits for minutes, until it has."""
    told = []
    ends = threading.Event()
    write = os.write

    def tell(file, text):
        # Other threads of this process write elsewhere.
        return told.append(text) if file == 2 else write(file, text)

    monkeypatch.setattr(processes.os, "write", tell)
    monkeypatch.setattr(processes.os, "_exit", lambda status: ends.set())
    monkeypatch.setattr(jax.distributed, "initialize", lambda *a: ends.wait(60))
    return told


def test_a_coordinator_that_nobody_answers_at_is_told(monkeypatch, ended):
    monkeypatch.setattr(processes, "ANSWER_S", 0.0)
    processes.join("localhost:1", 2, 1)
    assert ended == [b"error: coordinator=localhost:1: nobody answers there\n"]


@pytest.mark.parametrize("says", [b"", b"SSH-2.0-OpenSSH_9.6\r\n"])
def test_whoever_else_answers_is_no_coordinator(monkeypatch, ended, says):
    monkeypatch.setattr(processes, "ANSWER_S", 0.0)
    with socket.create_server(("localhost", 0)) as server:
        address = f"localhost:{server.getsockname()[1]}"

        def answer():
            connection, _ = server.accept()
            connection.sendall(says)
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        processes.join(address, 2, 1)
    assert ended == [f"error: coordinator={address}: nobody answers there\n".encode()]


@pytest.mark.parametrize("asked", [("auto",), ("localhost:1", 2, 0)])
def test_processes_that_do_not_come_are_told(monkeypatch, ended, asked):
    monkeypatch.setattr(processes, "COMING_S", 0.01)
    monkeypatch.setattr(processes, "_answers", lambda coordinator: True)
    processes.join(*asked)
    assert ended == [b"error: not all processes have come within 0 s\n"]


def test_a_coordinator_that_answers_is_waited_for(monkeypatch):
    monkeypatch.setattr(processes, "ANSWER_S", 0.0)
    monkeypatch.setattr(processes.os, "_exit", lambda status: pytest.fail("ended"))
    with socket.create_server(("localhost", 0)) as server:
        address = f"localhost:{server.getsockname()[1]}"
        asked = threading.Event()

        def answer():
            connection, _ = server.accept()
            connection.sendall(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))  # No settings.
            connection.close()
            asked.set()

        threading.Thread(target=answer, daemon=True).start()
        monkeypatch.setattr(jax.distributed, "initialize", lambda *a: asked.wait(60))
        processes.join(address, 2, 1)
        assert asked.is_set()
