"""The demo: a table and four pictures, the same each time."""

import functools
import json

import pytest

from experiments import demo
from experiments.config import TrainConfig
from experiments.stored import RunFolderError

PICTURES = {
    "learning_curves.png",
    "accuracy_over_time.png",
    "wear.png",
    "set_pulses.png",
}

pytestmark = pytest.mark.usefixtures("quick_compilation", "one_block")


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    """(folder, table) of the demo, twice, in a size that a test can afford."""
    small = functools.partial(TrainConfig, channel_plan="one_block", batch_size=479)
    runs = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "TrainConfig", small)
        for name in ("first", "second"):
            path = tmp_path_factory.mktemp(name)
            runs.append((path, demo.run(path, epochs=2, seeds=1, chips=1)))
    return runs


def _summary(path, name):
    return json.loads((path / f"{name}-seed0" / "summary.json").read_text())


def test_run_folders_and_pictures(demos):
    for path, _ in demos:
        names = {entry.name for entry in path.iterdir()}
        assert names == {"fp32-seed0", "hic-seed0"} | PICTURES


def test_two_demos_are_the_same(demos):
    (first, table), (second, second_table) = demos
    assert table == second_table
    for name in demo.ALGORITHMS:
        summaries = [_summary(path, name) for path in (first, second)]
        for summary in summaries:
            assert summary.pop("seconds_per_step") > 0
        assert summaries[0] == summaries[1]


def test_the_table_shows_the_summaries(demos):
    path, table = demos[0]
    fp32, hic = (_summary(path, name) for name in demo.ALGORITHMS)
    rows = dict(
        line.split("  ", 1) for line in table.splitlines()[1:] if line[0] != " "
    )
    assert (
        f"{100 * fp32['test_accuracy']:.1f} %" in rows["test accuracy, after training"]
    )
    assert (
        f"{100 * hic['test_accuracy']:.1f} %" in rows["test accuracy, after training"]
    )
    assert rows["inference model size"].split() == [
        f"{fp32['inference_bits'] / 8000:.0f}",
        "kB",
        f"{hic['inference_bits'] / 8000:.0f}",
        "kB",
    ]
    for kind in ("multilevel", "binary"):
        cycles = hic["write_erase_cycles"][kind]["max"]
        assert f"  {cycles} (" in rows[f"most write-erase cycles, {kind}"]
    for row in hic["drift"]:
        if row["time"] == demo.TIMES[-1]:
            assert f"{100 * row['mean']:.1f} %" in table


def test_a_year_is_read_with_and_without_compensation(demos):
    rows = _summary(demos[0][0], "hic")["drift"]
    assert [(row["time"], row["compensation"]) for row in rows] == [
        (time, name) for time in demo.TIMES for name in ("none", "adabs")
    ]


def test_a_demo_of_other_length_is_refused(demos):
    path, _ = demos[0]
    with pytest.raises(RunFolderError, match=r"train\.epochs: 2 != 3"):
        demo.run(path, epochs=3, seeds=1, chips=1)
