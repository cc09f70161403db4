"""A run folder says what made it, and nothing depends on it."""

import datetime
import json
import re
import subprocess

import jax
import pytest

import hic_jax
from experiments.config import resolve
from experiments.runs import provenance
from experiments.runs.run_folder import RunFolder
from experiments.runs.stored import RunFolderError


def _start(path):
    RunFolder.for_training(str(path), resolve()).close()
    return json.loads((path / provenance.FILE).read_text())


def test_a_start_says_what_where_and_when(tmp_path):
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    (entry,) = _start(tmp_path / "run")
    date = datetime.datetime.fromisoformat(entry.pop("date"))
    assert date.utcoffset() == datetime.timedelta(0)
    assert before <= date <= datetime.datetime.now(datetime.UTC)
    assert entry.pop("host")
    entry.pop("commit", None)  # Tests may run outside a repository.
    assert entry == {
        "hic_jax": hic_jax.__version__,
        "jax": jax.__version__,
        "device": "cpu",
        "devices": jax.device_count(),
        "processes": 1,
    }
    assert provenance.read(tmp_path / "run")[0]["hic_jax"] == hic_jax.__version__


def test_only_another_version_is_another_entry(tmp_path, monkeypatch):
    first = _start(tmp_path)
    assert _start(tmp_path) == first  # With the date of the first.
    monkeypatch.setattr(hic_jax, "__version__", "99.0")
    second = _start(tmp_path)
    assert second[:1] == first
    assert [entry["hic_jax"] for entry in second[1:]] == ["99.0"]
    monkeypatch.undo()
    # Back again: the third that went on.
    assert len(_start(tmp_path)) == 3


def test_a_run_of_a_version_that_recorded_nothing_goes_on(tmp_path):
    _start(tmp_path)
    (tmp_path / provenance.FILE).unlink()
    assert provenance.read(tmp_path) == []
    assert len(_start(tmp_path)) == 1


@pytest.mark.parametrize("text", ["[", "{}", "[1]"])
def test_a_damaged_file_is_named(tmp_path, text):
    _start(tmp_path)
    (tmp_path / provenance.FILE).write_text(text)
    with pytest.raises(RunFolderError, match=r"^workdir=.*: provenance\.json: "):
        _start(tmp_path)
    assert (tmp_path / provenance.FILE).read_text() == text


def _git(folder, *words):
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True)


def test_the_commit_is_of_this_code_or_of_none(tmp_path):
    _git(tmp_path, "init", "--quiet")
    theirs, ours = tmp_path / "theirs", tmp_path / "site-packages" / "ours.py"
    ours.parent.mkdir()
    for file in (theirs, ours):
        file.touch()
    commit = provenance.commit.__wrapped__
    assert commit(ours) is None
    _git(tmp_path, "add", "theirs")
    _git(tmp_path, "commit", "--quiet", "--message=A project that has ours installed")
    assert commit(ours) is None
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "--quiet", "--message=Ours, too")
    known = commit(ours)
    assert re.fullmatch("[0-9a-f]{40}", known)
    theirs.write_text("changed")
    assert commit(ours) == f"{known}-dirty"
