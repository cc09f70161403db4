"""The folder of a sweep, whatever its files hold: nothing outside is touched."""

import dataclasses
import json
import re

import pytest

from experiments.config import resolve
from experiments.runs.run_folder import RunFolderError
from experiments.sweep import folder as sweep_folder
from experiments.sweep import grid
from experiments.sweep.folder import RunPaths

RUN = grid.Run(name="hic-width1-seed0", swept={}, config=resolve(), steps=6)


def _prepare(workdir):
    sweep_folder.prepare(workdir, {"epochs": 30}, [RUN])


def _finish(paths):
    paths.run.mkdir(parents=True, exist_ok=True)
    summary = {"test_accuracy": 0.75, "inference_bits": 16000, "steps": 6}
    (paths.run / "summary.json").write_text(json.dumps(summary))


ENTRY = {"name": "a", "folder": "a", "swept": {}, "steps": 6}
MANIFESTS = {
    "no JSON": (b"{", r"Expecting property name"),
    "no UTF-8": (b'{"runs": ["\xff"]}', r"can't decode"),
    "a list": (b"[]", r"must be an object"),
    "nested": (b"[" * 100_000, r"recursion"),
    "a number of 5000 digits": (b'{"runs": %s}' % (b"9" * 5000), r"4300"),
    "no runs": (b'{"configuration": {}}', r"runs: must be a list"),
    "null runs": (b'{"runs": null}', r"runs: must be a list"),
    "a configuration of none": (b'{"configuration": 3, "runs": []}', r"configuration:"),
}


@pytest.mark.parametrize(("content", "error"), MANIFESTS.values(), ids=MANIFESTS)
def test_a_manifest_that_is_none_is_one_error(tmp_path, content, error):
    (tmp_path / "manifest.json").write_bytes(content)
    for read in (
        lambda: sweep_folder.finished_folders(tmp_path),
        lambda: _prepare(tmp_path),
    ):
        with pytest.raises(RunFolderError, match=error) as raised:
            read()
        message = str(raised.value)
        assert message.startswith(f"workdir={tmp_path}: manifest.json: ")
        assert "\n" not in message and len(message) < len(str(tmp_path)) + 200


ENTRIES = {
    "above": ({"folder": "../mine"}, r"folder='\.\./mine': must be the plain name"),
    "absolute": ({"folder": "/tmp/mine"}, r"folder='/tmp/mine': "),
    "deeper": ({"folder": "a/../../mine"}, r"folder='a/\.\./\.\./mine': "),
    "the folder above": ({"folder": ".."}, r"folder='\.\.': "),
    "the sweep itself": ({"folder": "."}, r"folder='\.': "),
    "nothing": ({"folder": ""}, r"folder='': "),
    "a zero byte": ({"folder": "a\0"}, r"folder='a\\x00': "),
    "half a character": ({"folder": "\ud800"}, r"folder='\\ud800': "),
    "300 letters": ({"name": "é" * 150}, r"name='éé.*': must be a plain name"),
    "null folder": ({"folder": None}, r"folder=None: "),
    "a name above": ({"name": "../mine"}, r"name='\.\./mine': "),
    "a name in lines": ({"name": "a\nb"}, r"name='a\\nb': "),
    "a name of a number": ({"name": 3}, r"name=3: "),
    "null steps": ({"steps": None}, r"steps=None: must be an integer in \[1, "),
    "true steps": ({"steps": True}, r"steps=True: "),
    "no steps": ({"steps": 0}, r"steps=0: "),
    "half a step": ({"steps": 6.5}, r"steps=6\.5: "),
    "endless": ({"steps": float("inf")}, r"steps=inf: "),
    "400 digits": ({"steps": 10**400}, r"steps=10{10,20}\.\.\.0{10,20}: "),
    "words swept": ({"swept": "lsb_bits"}, r"swept='lsb_bits': must be an object"),
    "twice": ({"name": "done"}, r"name='done': stands there twice"),
}


@pytest.mark.parametrize(("fields", "error"), ENTRIES.values(), ids=ENTRIES)
def test_an_entry_that_is_none_is_left_out_and_said(tmp_path, caplog, fields, error):
    done = ENTRY | {"name": "done", "folder": "done"}
    workdir = tmp_path / "sweep"
    for name in ("sweep/done", "sweep/a", "mine"):
        _finish(RunPaths.of(tmp_path, name))
    content = json.dumps({"runs": [done, ENTRY | fields]})
    (workdir / "manifest.json").write_text(content)
    assert sweep_folder.finished_folders(workdir) == [workdir / "done"]
    where = rf"left out: workdir={workdir}: manifest\.json: runs\[1\]\.{error}"
    assert re.search(where, caplog.text), caplog.text
    # A sweep would lose it.
    with pytest.raises(RunFolderError, match=rf"runs\[1\]\.{error}"):
        _prepare(workdir)
    assert (workdir / "manifest.json").read_text() == content


def test_an_entry_that_is_no_object_is_left_out(tmp_path, caplog):
    _finish(RunPaths.of(tmp_path, "a"))
    for other in (None, 7, "a", ["a"]):
        content = json.dumps({"runs": [other, ENTRY]})
        (tmp_path / "manifest.json").write_text(content)
        assert sweep_folder.finished_folders(tmp_path) == [tmp_path / "a"]
        assert f"runs[0]={other!r}: must be an object" in caplog.text


@pytest.mark.parametrize("link", ["hic-width1-seed0", "jobs", "jobs/hic-width1-seed0"])
def test_a_link_does_not_lead_a_sweep_out_of_its_folder(tmp_path, caplog, link):
    workdir, mine = tmp_path / "sweep", tmp_path / "mine"
    (workdir / link).parent.mkdir(parents=True)
    _finish(RunPaths.of(tmp_path, "mine"))
    before = (mine / "summary.json").read_text()
    (workdir / link).symlink_to(mine)
    _finish(RunPaths.of(workdir, RUN.name))
    manifest = {
        "configuration": dataclasses.asdict(RUN.config),
        "runs": [ENTRY | {"name": RUN.name, "folder": RUN.name}],
    }
    (workdir / "manifest.json").write_text(json.dumps(manifest))
    said = f"workdir={workdir}: {link} in it is a link"
    with pytest.raises(RunFolderError, match=said):
        _prepare(workdir)
    assert sweep_folder.finished_folders(workdir) == []
    assert f"left out: {said}" in caplog.text
    assert [path.read_text() for path in mine.iterdir()] == [before]


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", "null", "[" * 100_000, '{"steps": "6"}', '{"steps": 1e999}',
        '{"steps": NaN}', f'{{"steps": 6, "test_accuracy": {10**400}}}',
        '{"steps": 6, "test_accuracy": null, "inference_bits": 16000}',
    ],
)  # fmt: skip
def test_a_summary_that_is_none_is_told_and_the_others_are_read(tmp_path, caplog, text):
    entries = [ENTRY | {"name": name, "folder": name} for name in "ab"]
    (tmp_path / "manifest.json").write_text(json.dumps({"runs": entries}))
    for entry in entries:
        _finish(RunPaths.of(tmp_path, entry["name"]))
    (tmp_path / "a" / "summary.json").write_text(text)
    assert sweep_folder.finished_folders(tmp_path) == [tmp_path / "b"]
    assert f"left out: workdir={tmp_path / 'a'}: summary.json: " in caplog.text
    assert not RunPaths.of(tmp_path, "a").is_finished(6)


def test_a_summary_that_lacks_its_accuracy_is_of_no_end(tmp_path):
    paths = RunPaths.of(tmp_path, "a")
    paths.run.mkdir()
    (paths.run / "summary.json").write_text('{"steps": 6, "inference_bits": 16000}')
    assert paths.result() == {} and not paths.is_finished(6)
