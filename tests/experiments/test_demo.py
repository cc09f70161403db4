"""The demo: a table and four pictures, the same each time."""

import functools
import json

import pytest

from experiments import demo
from experiments.config import resolve
from experiments.runs.stored import RunFolderError
from tests.experiments import shown

PICTURES = {
    "learning_curves.png",
    "accuracy_over_time.png",
    "wear.png",
    "set_pulses.png",
}

pytestmark = pytest.mark.usefixtures("one_block", "compiled_once")


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    """(folder, table) of the demo, twice, in a size that a test can afford."""
    small = functools.partial(resolve, channel_plan="one_block", batch_size=479)
    runs = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "resolve", small)
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
    assert shown.cells(table) == shown.cells(second_table)
    for name in demo.ALGORITHMS:
        summaries = [_summary(path, name) for path in (first, second)]
        for summary in summaries:
            assert summary.pop("seconds_per_step") > 0
        assert summaries[0] == summaries[1]


def test_the_table_shows_the_summaries(demos):
    path, table = demos[0]
    fp32, hic = (_summary(path, name) for name in demo.ALGORITHMS)
    rows = shown.by_name(table)
    assert rows["test accuracy"] == tuple(
        f"{100 * summary['test_accuracy']:.1f} %" for summary in (fp32, hic)
    )
    for name, fields in (
        ("inference model", "inference_bits"),
        ("memory of the weights in training", "training_bits"),
    ):
        sizes = (float(text.removesuffix(" kB")) for text in rows[name])
        for size, summary in zip(sizes, (fp32, hic), strict=True):
            # Three digits are shown.
            assert size == pytest.approx(summary[fields] / 8000, rel=5e-3)
    for kind, name in (("multilevel", "multi-level"), ("binary", "binary")):
        cycles = hic["write_erase_cycles"][kind]["max"]
        absent, most = rows[f"most write-erase cycles, {name}"]
        assert absent == "-"
        assert most.startswith(f"{cycles}, or ") and most.endswith(" of 10^9")
    names = {"none": "no compensation", "adabs": "AdaBS"}
    for row in hic["drift"]:
        if row["time"] == demo.TIMES[-1]:
            text = f"{100 * row['mean']:.1f} %"
            assert rows[f"a year later, {names[row['compensation']]}"] == ("-", text)


def test_a_year_is_read_with_and_without_compensation(demos):
    rows = _summary(demos[0][0], "hic")["drift"]
    assert [(row["time"], row["compensation"]) for row in rows] == [
        (time, name) for time in demo.TIMES for name in ("none", "adabs")
    ]


def test_a_demo_of_other_length_is_refused(demos):
    path, _ = demos[0]
    with pytest.raises(RunFolderError, match=r"train\.epochs: 2 != 3"):
        demo.run(path, epochs=3, seeds=1, chips=1)
