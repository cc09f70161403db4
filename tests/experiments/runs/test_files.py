"""Files that are written whole, beside whatever has their names."""

import os

import pytest

from experiments.runs import files


def test_a_text_is_written_as_utf8_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    files.write_text(path, "5 µS\n")
    assert path.read_bytes() == b"5 \xc2\xb5S\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("mine")
    path = tmp_path / "a.txt"
    path.symlink_to(mine)
    files.write_text(path, "new")
    assert mine.read_text() == "mine"
    assert path.read_text() == "new" and not path.is_symlink()


def test_a_link_under_the_name_of_the_part_is_not_written_through(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "known")
    mine = tmp_path / "mine"
    part = tmp_path / "a.txt.known.part"
    part.symlink_to(mine)
    with pytest.raises(FileExistsError):
        files.write_text(tmp_path / "a.txt", "new")
    assert not mine.exists() and list(tmp_path.iterdir()) == [part]


def test_others_may_read_it_as_they_may_any_file(tmp_path):
    before = os.umask(0o022)
    try:
        files.write_text(tmp_path / "a.txt", "")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644


def test_what_cannot_be_written_leaves_the_earlier_file_and_no_part(
    tmp_path, monkeypatch
):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
