"""Checkpoints: which stay, and that what is damaged is found and passed over."""

import errno
import resource
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.checkpoints import CheckpointError, Checkpoints


def _tree(step):
    return {
        "step": jnp.int32(step),
        "weights": jax.random.normal(jax.random.key(step), (1000,)),
        "counts": jnp.arange(50, dtype=jnp.int8) + step,
    }


def _saved(path, *steps, **options):
    checkpoints = Checkpoints(path, keep=2, **options)
    for step in steps:
        checkpoints.save(step, _tree(step))
    checkpoints.close()
    return path


def _restored(path, **options):
    """The step restored, whose arrays have to be what was saved."""
    checkpoints = Checkpoints(path, **options)
    try:
        tree = checkpoints.restore(_tree(0))
    finally:
        checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, tree, _tree(int(tree["step"])))
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
    path = _saved(tmp_path / "c", 1, 2, 3, 4, 5, score_of=scores.get)
    assert _names(path) == ["2", "4", "5"]
    # The same after another start; of two that are as good the later one.
    _saved(path, 6, 7, 8, score_of=scores.get)
    assert _names(path) == ["6", "7", "8"]


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


def test_a_checkpoint_of_an_earlier_version_has_no_sums(copy):
    (copy / "2" / "SHA256SUMS").unlink()
    assert _restored(copy) == 2


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
