"""The folder of a report: what may be replaced there, and what not."""

import hashlib
import json

import pytest

from experiments.report import output


@pytest.fixture
def publish(tmp_path):
    """Puts files of these texts into the folder, as a report."""

    def publish(**texts):
        made = tmp_path / "made"
        made.mkdir(exist_ok=True)
        for path in made.iterdir():
            path.unlink()
        for name, text in {"report.html": "<html>", **texts}.items():
            (made / name.replace("_csv", ".csv")).write_text(text)
        output.check(tmp_path / "out")
        output.publish(made, tmp_path / "out")

    return publish


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def _texts(folder):
    return {
        path.name: path.read_text()
        for path in folder.iterdir()
        if path.is_file() and path.name != output.LISTED
    }


def test_a_report_replaces_its_own_files_and_removes_what_it_lacks(publish, out):
    publish(runs_csv="1", drift_csv="2")
    (out / "notes.txt").write_text("mine")
    publish(runs_csv="3")
    expected = {"report.html": "<html>", "runs.csv": "3", "notes.txt": "mine"}
    assert _texts(out) == expected
    (out / "runs.csv").unlink()  # Its own may be gone.
    publish(runs_csv="3")
    assert _texts(out) == expected


@pytest.mark.parametrize("name", ["report.html", "runs.csv", "drift.csv"])
@pytest.mark.parametrize("change", ["edited", "link", "folder"])
def test_a_file_that_was_changed_is_neither_replaced_nor_removed(
    publish, out, tmp_path, name, change
):
    publish(runs_csv="1", drift_csv="2")
    path, mine = out / name, tmp_path / "mine"
    path.unlink()
    if change == "edited":
        path.write_text("mine")
    elif change == "link":
        mine.write_text("1")
        path.symlink_to(mine)
    else:
        path.mkdir()
    before = _texts(out)
    listed = (out / output.LISTED).read_text()
    with pytest.raises(ValueError, match=f"out={out}: {name} was not written by a re"):
        publish(runs_csv="3")
    assert _texts(out) == before
    assert (out / output.LISTED).read_text() == listed
    assert change != "link" or (path.is_symlink() and mine.read_text() == "1")


@pytest.mark.parametrize("name", ["report.html", "runs.csv"])
def test_a_file_of_others_is_not_replaced_by_a_first_report(publish, out, name):
    out.mkdir()
    (out / name).write_text("mine")
    with pytest.raises(ValueError, match=f"{name} was not written by a report"):
        publish(runs_csv="1")
    assert _texts(out) == {name: "mine"} and len(list(out.iterdir())) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"{", b"\xff", b"[]", b"null", b"[" * 100_000, b'{"files": null}',
        b'{"files": ["runs.csv"]}', b'{"files": [["runs.csv", 3]]}',
        b'{"files": [[["a"], "b"]]}',
    ],
)  # fmt: skip
def test_a_list_that_no_report_wrote_is_refused(publish, out, content):
    out.mkdir()
    (out / output.LISTED).write_bytes(content)
    with pytest.raises(ValueError, match=f"out={out}: report_files.json is not as"):
        publish()
    assert [path.read_bytes() for path in out.iterdir()] == [content]


@pytest.mark.parametrize(
    "name", ["../mine.csv", "{out}/../mine.csv", "sub/mine.csv", "..", "mine.tex"]
)
def test_a_list_removes_nothing_elsewhere_and_nothing_else(publish, out, name):
    """Even of files whose content it knows."""
    (out / "sub").mkdir(parents=True)
    mine = [out.parent / "mine.csv", out / "sub" / "mine.csv", out / "mine.tex"]
    for path in mine:
        path.write_text("mine")
    sum_ = hashlib.sha256(b"mine").hexdigest()
    listed = {"files": [[name.format(out=out), sum_]]}
    (out / output.LISTED).write_text(json.dumps(listed))
    with pytest.raises(ValueError, match="is no file of a report"):
        publish()
    assert all(path.read_text() == "mine" for path in mine)


@pytest.mark.parametrize("moment", range(5))
def test_after_a_kill_at_any_moment_the_next_report_goes_on(
    publish, out, monkeypatch, moment
):
    publish(runs_csv="1", drift_csv="2")
    write, left = output.files.write_bytes, moment

    def killed(path, content):
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(output.files, "write_bytes", killed)
        try:
            publish(runs_csv="3", wear_csv="4")
        except KeyboardInterrupt:
            pass
    publish(runs_csv="5")
    assert _texts(out) == {"report.html": "<html>", "runs.csv": "5"}


def test_a_link_under_the_name_of_the_list_is_not_written_through(publish, out):
    out.mkdir()
    mine = out.parent / "mine.json"
    (out / output.LISTED).symlink_to(mine)
    publish()
    assert not mine.exists()
    assert not (out / output.LISTED).is_symlink()
