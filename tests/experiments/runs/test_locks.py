"""One process at a time writes in a run folder, and says who it is."""

import contextlib
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile

import pytest

from experiments.config import resolve
from experiments.runs import locks
from experiments.runs.run_folder import RunFolder
from experiments.runs.stored import RunFolderError
from experiments.runs.writing import held

# Takes a lock, says so, and holds it until it is told to end or killed.
_HOLD = """
import pathlib, sys
from experiments.runs import locks
lock = locks.Lock(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""

# Adds fields of its own to what is there, one after the other.
_UPDATE = """
import sys
from experiments.runs.run_folder import RunFolder
from experiments.runs.stored import RunFolderError
folder, left = RunFolder.read(sys.argv[1]), [sys.argv[2] + str(i) for i in range(8)]
while left:
    try:
        folder.update_summary(**{left[0]: 1})
    except RunFolderError:  # The other one is writing.
        continue
    left.pop(0)
"""


def _python(script, *arguments, **options):
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, text=True, **options)


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of the folder."""
    process = _python(
        _HOLD, tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def run(tmp_path):
    """The folder of a run, and its configuration."""
    config = resolve()
    (tmp_path / "config.json").write_text(config.to_json())
    return tmp_path, config


def test_a_second_process_is_told_who_holds_it(run, holder):
    path, config = run
    openings = (
        lambda: RunFolder.for_training(str(path), config),
        lambda: RunFolder.for_results(str(path)),
        lambda: RunFolder.read(str(path)).update_summary(train_loss=1.0),
        lambda: held(path).__enter__(),
    )
    for opening in openings:
        with pytest.raises(RunFolderError) as error:
            opening()
        message = str(error.value)
        assert message.startswith(f"workdir={path}: is being written by pid ")
        assert f"pid {holder.pid} on {os.uname().nodename} since 20" in message
        assert "-c" in message and str(path) in message  # Its command.
        assert "\n" not in message
    assert sorted(p.name for p in path.iterdir()) == ["config.json", "lock"]
    assert RunFolder.read(str(path)).summary() == {}  # Reading is free.


def test_the_lock_of_a_killed_process_is_gone(run, holder):
    path, config = run
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert f"pid {holder.pid}" in (path / "lock").read_text()
    RunFolder.for_training(str(path), config).close()
    assert (path / "lock").read_text() == ""


def test_a_folder_is_free_when_it_is_closed_or_could_not_be_opened(run):
    path, config = run
    with contextlib.closing(RunFolder.for_training(str(path), config)) as folder:
        with pytest.raises(RunFolderError, match=f"by pid {os.getpid()} "):
            RunFolder.for_training(str(path), config)
        folder.update_summary(train_loss=1.0)  # Who holds it may.
    (path / "summary.json").write_text("[]")
    for _ in range(2):
        with pytest.raises(RunFolderError, match=r"summary\.json"):
            RunFolder.for_training(str(path), config)
        with pytest.raises(RunFolderError, match=r"summary\.json"):
            RunFolder.for_results(str(path))
    (path / "summary.json").unlink()
    RunFolder.for_results(str(path)).close()


def test_no_update_of_two_writers_is_lost(run):
    path, _ = run
    writers = [_python(_UPDATE, path, name) for name in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    fields = json.loads((path / "summary.json").read_text())
    assert set(fields) == {f"{name}{i}" for name in "ab" for i in range(8)}


def test_a_folder_that_cannot_be_written_is_told_before_anything(run, monkeypatch):
    path, config = run

    def refused(dir):
        raise OSError(errno.EROFS, "Read-only file system", str(dir))

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    for opening in (
        lambda: RunFolder.for_training(str(path), config),
        lambda: RunFolder.for_results(str(path)),
        lambda: held(path).__enter__(),
    ):
        with pytest.raises(RunFolderError, match=rf"^workdir={path}: .*Read-only"):
            opening()
    assert [p.name for p in path.iterdir()] == ["config.json"]


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, caplog):
    def unknown(file, operation):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unknown)
    locks.Lock(tmp_path).close()
    assert f"{tmp_path}: its file system has no locks" in caplog.text


def test_a_lock_is_not_taken_through_a_link(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "lock").symlink_to("mine")
    with pytest.raises(OSError):
        locks.Lock(tmp_path)
    assert (tmp_path / "mine").read_text() == "mine"
