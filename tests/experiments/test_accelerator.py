"""The paper's table in so many minutes: what is run, and for how many epochs."""

import json
import re
import subprocess
import time
import types

import pytest
from absl import flags

from experiments import launch
from experiments.benchmark import accelerator, results
from experiments.benchmark.programs import Size

STEPS = {"fp32 step": {"median": 0.04}, "hic step": {"median": 0.06}}


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts the launcher with words, and returns what it would run."""
    before, stages = set(flags.FLAGS), []

    def run(module, words, end):
        del end
        stages.append((module, *words))
        if module == "experiments.benchmark":
            sizes = {str(Size(depth=8, chips=n)): {"programs": STEPS} for n in (1, 8)}
            (tmp_path / "benchmark.json").write_text(json.dumps({"sizes": sizes}))

    def start(*words):
        stages.clear()
        accelerator.define_flags()
        try:
            argv = launch.parse(["accelerator", f"--workdir={tmp_path}", *words])
            launch.told(accelerator.main, argv)
        finally:
            for name in set(flags.FLAGS) - before:
                delattr(flags.FLAGS, name)
        return list(stages)

    monkeypatch.setattr(accelerator, "run", run)
    monkeypatch.setattr(results, "read", lambda path: json.loads(open(path).read()))
    return start


def test_what_was_measured_is_not_measured_again_and_the_epochs_stay(start, tmp_path):
    words = ["--depth=8", "--seeds=2", "--widths=0.5,2", "--dataset=digits"]
    times, table = start(*words, "--minutes=30")
    assert times == (
        "experiments.benchmark", "--depths=8", "--chips=1,8",
        f"--json={tmp_path / 'benchmark.json'}",
    )  # fmt: skip
    # 1,800 s less 45 for each of four groups; an epoch of both seeds takes
    # 500 x 0.1 s x 2 x (1 + 2), and 1.3 times that with all else: 4.2 epochs fit.
    assert table == (
        "experiments.sweep", f"--workdir={tmp_path / 'table'}", "--dataset=digits",
        "--depth=8", "--algorithms=fp32,hic", "--widths=0.5,2", "--seeds=2",
        "--together=2", "--epochs=4",
    )  # fmt: skip
    assert start(*words, "--minutes=5") == [table]


def test_the_chips_that_are_missing_are_measured(start, tmp_path):
    one = {str(Size(depth=8)): {"programs": STEPS}}
    (tmp_path / "benchmark.json").write_text(json.dumps({"sizes": one}))
    assert len(start("--depth=8", "--minutes=30")) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--depth=9"], r"depth=9: must be 6n \+ 2"),
        (["--widths=1,0"], r"width=0\.0: must be greater than 0"),
        (["--minutes=0"], r"--minutes=0: must be a finite number, 1 to"),
    ],
)
def test_bad_input_is_refused_before_anything_is_run(start, words, message):
    with pytest.raises(SystemExit, match=f"error: {message}"):
        start(*words)


def test_a_stage_that_fails_is_named(tmp_path):
    nowhere = str(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=re.escape(f"{nowhere}: ended with status ")):
        accelerator.run("json.tool", [nowhere], time.monotonic() + 60)


def test_a_stage_that_takes_too_long_is_stopped_when_it_has_saved(
    tmp_path, monkeypatch
):
    ready, saved = tmp_path / "ready", tmp_path / "saved"
    (tmp_path / "slow.py").write_text(
        "import pathlib, signal, sys, time\n"
        f"def stop(*_):\n    pathlib.Path({str(saved)!r}).touch()\n    sys.exit()\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        "time.sleep(60)\n"
    )

    class Started(subprocess.Popen):
        def __init__(self, *words):
            super().__init__(*words)
            while not ready.exists():
                time.sleep(0.01)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(accelerator.subprocess, "Popen", Started)
    monkeypatch.setattr(flags, "FLAGS", types.SimpleNamespace(minutes=0.1))
    with pytest.raises(
        ValueError, match=r"minutes=0\.1: over before the end of python"
    ):
        accelerator.run("slow", [], time.monotonic())
    assert saved.exists()
