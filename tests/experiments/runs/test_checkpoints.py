"""Checkpoints: which stay, and that what is damaged is found and passed over."""

import contextlib
import errno
import os
import resource
import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.runs.checkpoints import CheckpointError, Checkpoints


def _tree(step):
    return {
        "step": jnp.int32(step),
        "weights": jax.random.normal(jax.random.key(step), (1000,)),
        "counts": jnp.arange(50, dtype=jnp.int8) + step,
    }


def _saved(path, *steps, scores=None):
    checkpoints = Checkpoints(path, keep=2)
    for step in steps:
        checkpoints.save(step, _tree(step), score=(scores or {}).get(step))
    checkpoints.close()
    return path


def _restored(path, **options):
    """The step restored, whose arrays have to be what was saved."""
    checkpoints = Checkpoints(path, **options)
    try:
        tree, record = checkpoints.restore(_tree(0))
    finally:
        checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, tree, _tree(int(tree["step"])))
    assert record.get("step", tree["step"]) == tree["step"]
    return int(tree["step"])


def _names(path):
    return sorted(entry.name for entry in path.iterdir())


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return _saved(tmp_path_factory.mktemp("two") / "checkpoints", 1, 2)


@pytest.fixture
def copy(two, tmp_path):
    return shutil.copytree(two, tmp_path / "checkpoints")


def test_the_newest_is_restored(two):
    assert Checkpoints(two).steps() == [1, 2]
    assert _restored(two) == 2


def test_the_newest_and_the_best_stay(tmp_path):
    scores = {1: 0.5, 2: 0.9, 3: 0.7, 5: 0.8, 6: 0.9, 7: 0.1, 8: 0.2}
    path = _saved(tmp_path / "c", 1, 2, 3, 4, 5, scores=scores)
    assert _names(path) == ["2", "4", "5"]
    # The same after another start; of two that are as good the later one.
    _saved(path, 6, 7, 8, scores=scores)
    assert _names(path) == ["6", "7", "8"]


class _Killed(BaseException):
    pass


# A checkpoint has about 14 files in 6 folders.
@pytest.mark.parametrize("so_many", [0, 1, 7, 13, *range(16, 22)])
def test_a_removal_that_was_cut_off_leaves_nothing(copy, monkeypatch, so_many):
    left = so_many

    def until_killed(function):
        def counted(*arguments, **keywords):
            nonlocal left
            left -= (copy / "3").exists()
            if left < 0:
                raise _Killed
            return function(*arguments, **keywords)

        return counted

    for name in ("unlink", "rmdir"):
        monkeypatch.setattr(os, name, until_killed(getattr(os, name)))
    checkpoints = Checkpoints(copy, keep=2)
    with contextlib.suppress(_Killed):
        checkpoints.save(3, _tree(3))
        checkpoints.close()
    monkeypatch.undo()
    before = _names(copy)
    assert _restored(copy) == 3
    assert Checkpoints(copy).steps() == [2, 3]
    assert _names(copy) == before  # Whoever only reads changes nothing.
    assert _restored(copy, keep=2) == 3
    assert _names(copy) == ["2", "3"]


def test_what_was_to_be_removed_is_removed_by_who_goes_on(copy):
    shutil.copytree(_saved(copy.parent / "other", 3) / "3", copy / "3")
    assert _restored(copy) == 3
    assert _names(copy) == ["1", "2", "3"]
    assert _restored(copy, keep=2) == 3
    assert _names(copy) == ["2", "3"]


def test_what_is_older_stays_until_the_newer_ones_are_known_to_be_intact(copy):
    shutil.copytree(_saved(copy.parent / "other", 3) / "3", copy / "3")
    for step in "23":
        _flip(copy / step / "default" / "_METADATA")
    assert _restored(copy, keep=2) == 1
    assert _names(copy) == ["1", "2.damaged", "3.damaged"]


def test_of_what_is_removed_only_the_own_files_are(copy):
    mine = copy / ".7.removed" / "notes.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    moved = (copy / "1").rename(copy / ".1.removed")
    (moved / "default" / "notes.txt").write_text("mine")
    outside = copy.parent / "notes.txt"
    outside.write_text("mine")
    with (moved / "SHA256SUMS").open("a") as sums:
        sums.write("0  ../../notes.txt\n")
    assert _restored(copy, keep=2) == 2
    assert outside.read_text() == mine.read_text() == "mine"
    left = [str(path.relative_to(moved)) for path in moved.rglob("*")]
    assert sorted(left) == ["SHA256SUMS", "default", "default/notes.txt"]


def _files(checkpoint):
    """Names of the files that hold the state, the largest first."""
    lines = (checkpoint / "SHA256SUMS").read_text().splitlines()
    names = [line.split("  ")[1] for line in lines]
    return sorted(names, key=lambda name: -(checkpoint / name).stat().st_size)


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [_flip, _truncate, "remove"])
@pytest.mark.parametrize("which", ["data", "metadata"])
def test_damage_is_reported_and_the_one_before_is_used(copy, caplog, damage, which):
    # The largest file holds the weights: Orbax would read them as they are.
    name = _files(copy / "2")[0] if which == "data" else "default/_METADATA"
    path = copy / "2" / name
    path.unlink() if damage == "remove" else damage(path)
    assert _restored(copy) == 1
    fault = "is missing" if damage == "remove" else "is not what was written"
    # Another test may have made Orbax tell what it does.
    warned = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert warned == [
        f"checkpoint of step 2 is damaged ({name} {fault}); using that of step 1"
    ]
    assert _names(copy) == ["1", "2"]  # Whoever only reads changes nothing.


def test_every_file_of_the_state_counts(copy):
    for name in _files(copy / "2"):
        path = copy / "2" / name
        content = path.read_bytes()
        _flip(path)
        assert _restored(copy) == 1, name
        path.write_bytes(content)
    assert _restored(copy) == 2


def test_what_orbax_says_about_itself_is_not_needed(copy):
    (copy / "2" / "_CHECKPOINT_METADATA").write_text("{")
    assert _restored(copy) == 2


def test_training_sets_aside_what_is_damaged(copy):
    for damaged in (["2.damaged"], ["2.damaged", "2.damaged2"]):
        _flip(copy / "2" / _files(copy / "2")[0])
        assert _restored(copy, keep=2) == 1
        assert _names(copy) == ["1", *damaged]
        _saved(copy, 2)
        assert _restored(copy) == 2


def test_none_is_intact(copy):
    for step in "12":
        (copy / step / "default" / "_METADATA").unlink()
    before = sorted(copy.rglob("*"))
    for keep in (None, 2):
        with pytest.raises(CheckpointError) as error:
            _restored(copy, keep=keep)
        message = str(error.value)
        assert message.startswith(f"{copy}: no checkpoint is intact (2: default/_META")
        assert "; 1: default/_METADATA is missing)" in message
    assert sorted(copy.rglob("*")) == before


def test_another_structure_is_no_damage_that_goes_unseen(copy):
    checkpoints = Checkpoints(copy)
    with pytest.raises(CheckpointError, match=r"no checkpoint is intact \(2: .+; 1: "):
        checkpoints.restore(_tree(0) | {"more": jnp.zeros(3)})
    checkpoints.close()


@pytest.mark.parametrize("left", [0, 1, -1])
def test_a_list_that_names_fewer_files_is_damage(copy, left):
    sums = copy / "2" / "SHA256SUMS"
    sums.write_text("".join(sums.read_text().splitlines(keepends=True)[:left]))
    _flip(copy / "2" / "default" / "_METADATA")
    assert _restored(copy) == 1


def test_any_bit_of_the_list_counts(copy):
    sums = copy / "2" / "SHA256SUMS"
    content = sums.read_bytes()
    for place in range(0, len(content), 37):
        for bit in (1, 128):
            flipped = bytearray(content)
            flipped[place] ^= bit
            sums.write_bytes(flipped)
            assert _restored(copy) == 1, (place, bit)


def test_a_list_that_is_missing_is_told(copy, caplog):
    (copy / "2" / "SHA256SUMS").unlink()
    assert _restored(copy) == 2
    assert "step 2 has no SHA256SUMS: nothing says whether it is intact" in caplog.text


def test_a_checkpoint_of_an_earlier_version_has_no_record(copy):
    (copy / "2" / "record.json").unlink()
    sums = copy / "2" / "SHA256SUMS"
    lines = sums.read_text().splitlines(keepends=True)
    sums.write_text("".join(line for line in lines if "record.json" not in line))
    checkpoints = Checkpoints(copy)
    tree, record = checkpoints.restore(_tree(0))
    checkpoints.close()
    assert (int(tree["step"]), record) == (2, {})


def test_a_record_comes_back_and_may_refuse(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c", keep=2)
    checkpoints.save(3, _tree(3), {"sums": {"pulses": 0.1 + 0.2}})
    assert checkpoints.restore(_tree(0))[1]["sums"] == {"pulses": 0.1 + 0.2}

    def refuse(record):
        raise ValueError(f"no {record['step']}")

    with pytest.raises(ValueError, match="no 3"):
        checkpoints.restore(_tree(0), refuse)
    checkpoints.close()


def test_a_checkpoint_under_another_name_is_refused_and_kept(copy):
    shutil.copytree(copy / "1", copy / "99999")
    for keep in (None, 2):
        with pytest.raises(CheckpointError) as error:
            _restored(copy, keep=keep)
        assert f"{copy}/99999: is the checkpoint of step 1 under an" in str(error.value)
    _saved(copy, 3, 4)  # Below the highest number there is.
    assert _names(copy) == ["3", "4", "99999"]
    shutil.rmtree(copy / "99999")
    assert _restored(copy) == 4


@pytest.mark.parametrize("name", ["1", "2024", "default", "0007", "3.old"])
@pytest.mark.parametrize("inside", ["notes.txt", "default/SHA256SUMS"])
def test_what_is_of_somebody_else_stays_where_it_is(tmp_path, name, inside):
    mine = tmp_path / "c" / name / inside
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    _saved(tmp_path / "c", 2, 3, 4, 5)
    assert _names(tmp_path / "c") == sorted(["4", "5", name])
    _flip(tmp_path / "c" / "5" / "default" / "_METADATA")
    assert _restored(tmp_path / "c", keep=2) == 4
    assert mine.read_text() == "mine"
    assert Checkpoints(tmp_path / "c").steps() == [4]


def test_a_checkpoint_that_somebody_put_a_file_into_is_not_removed(copy):
    (copy / "1" / "notes.txt").write_text("mine")
    _saved(copy, 3, 4)
    assert _names(copy) == ["1", "3", "4"]
    assert _restored(copy) == 4


def test_a_checkpoint_that_lies_elsewhere_is_not_removed(copy):
    elsewhere = copy.with_name("elsewhere")
    for name in ("1", ".0.removed"):
        shutil.copytree(copy / "1", elsewhere / name)
    shutil.rmtree(copy / "1")
    for name in ("1", ".0.removed"):
        (copy / name).symlink_to(elsewhere / name)
    before = sorted(elsewhere.rglob("*"))
    _saved(copy, 3, 4, 5)
    assert sorted(elsewhere.rglob("*")) == before
    assert _names(copy) == [".0.removed", "1", "4", "5"]


def test_a_checkpoint_is_not_written_over_what_is_none(copy):
    (copy / "3").mkdir()
    (copy / "3" / "notes.txt").write_text("mine")
    checkpoints = Checkpoints(copy, keep=2)
    with pytest.raises(CheckpointError, match=r"step 3 .*/3 is no checkpoint"):
        checkpoints.save(3, _tree(3))
    checkpoints.close()
    assert (copy / "3" / "notes.txt").read_text() == "mine"


def test_a_save_that_orbax_skips_is_an_error(copy, monkeypatch):
    checkpoints = Checkpoints(copy, keep=2)
    monkeypatch.setattr(checkpoints._manager, "save", lambda *a, **k: False)
    with pytest.raises(CheckpointError, match=r"step 3 .*Orbax has skipped it"):
        checkpoints.save(3, _tree(3))
    checkpoints.close()


def test_a_folder_that_cannot_be_made_is_told_at_once(copy):
    checkpoints = Checkpoints(copy, keep=2)
    shutil.rmtree(copy)
    copy.write_text("in the way")
    with pytest.raises(CheckpointError, match=r"step 3 .*Not a directory"):
        checkpoints.save(3, _tree(3))
    # Nothing waits for it in the background, where Orbax would for five minutes.
    assert not [t for t in threading.enumerate() if "signal" in t.name.lower()]


def test_a_full_disk_is_told_and_leaves_the_others(copy):
    checkpoints = Checkpoints(copy, keep=2)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file may be larger: the operating system refuses as it does on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, before[1]))
    try:
        large = {"weights": jax.random.normal(jax.random.key(0), (1_000_000,))}
        with pytest.raises(CheckpointError) as error:
            checkpoints.save(3, large)
            checkpoints.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    message = str(error.value)
    assert message.startswith(f"{copy}: the checkpoint of step 3 cannot be written (")
    assert message.endswith("; those before it are kept")
    assert "too large" in message and "\n" not in message
    checkpoints.close()
    assert _restored(copy) == 2
    # There is space again.
    _saved(copy, 3)
    assert _restored(copy) == 3
    assert _names(copy) == ["2", "3"]


def test_a_failure_in_the_background_is_seen_by_a_check(copy, monkeypatch):
    def full(self):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Checkpoints, "_write_sums", full)
    checkpoints = Checkpoints(copy, keep=2)
    checkpoints.save(3, _tree(3))
    with pytest.raises(CheckpointError, match=r"step 3 .*No space left on device"):
        while True:  # Until the background has got to it.
            checkpoints.check()
    checkpoints.close()
    monkeypatch.undo()
    assert _restored(copy) == 2
