"""Model size: half the baseline's, memory in training, their verdict and figures."""

import itertools

import pytest

from experiments.report import accuracy, size
from experiments.report.accuracy import Point
from experiments.report.estimates import estimate
from experiments.report.sections import Verdict
from experiments.report.size import Memory, Reached
from tests.experiments import pictures
from tests.experiments.report import made

YES, NO, OPEN = Verdict.SUPPORTED, Verdict.NOT_SUPPORTED, Verdict.TOO_LITTLE
FP32 = made.three_seeds("fp32", [(0.5, 50.0, 88.0), (1, 200.0, 92.0)])

# Of figures.
_PAIR = made.group([made.run("fp32"), made.run("hic")])
BASELINE = (_PAIR.baseline, Point(1.0, 200.0, estimate([91.0, 93.0]), (91.0, 93.0)))
CURVE = (
    _PAIR.candidate,
    [
        Point(1.0, 30.0, estimate([85.0]), (85.0,)),
        Point(2.0, 100.0, estimate([91.0, 92.0]), (91.0, 92.0)),
    ],
)

MEMORY = {
    "analog_weights": 10, "digital_weights": 2, "multilevel_devices": 20,
    "binary_devices": 70, "inference_bits": 104, "fp32_bits": 384,
    "mixed_precision_bits": 424, "training_bits": 174, "optimizer_bits": 64,
}  # fmt: skip

_SEEDS = itertools.count()


def _run(algorithm="hic", width=1.0, **summary):
    return made.run(algorithm, width, next(_SEEDS), summary=MEMORY | summary)


def _curve(*points):
    return accuracy.curve(made.recipe(made.curve("hic", points)))


def test_the_smallest_that_reaches_an_accuracy():
    points = _curve((1, 10.0, (80.0,)), (2, 1000.0, (90.0,)), (3, 2000.0, (89.0,)))
    between = size.smallest_reaching(points, 85.0)
    assert (between.width, between.smallest) == (None, False)
    assert between.size_kb == pytest.approx(100.0)
    assert between.accuracy == 85.0
    measured = size.smallest_reaching(points, 90.0)
    assert (measured.size_kb, measured.width) == (1000.0, 2)
    first = size.smallest_reaching(points, 79.0)
    assert (first.size_kb, first.smallest) == (10.0, True)
    assert size.smallest_reaching(points, 91.0) is None


def test_the_baseline_has_width_one_or_the_next_below():
    points = _curve((0.5, 1.0, (1.0,)), (0.75, 2.0, (1.0,)), (2, 3.0, (1.0,)))
    assert size.baseline_of(points).width == 0.75
    assert size.baseline_of(points[2:]) is None


@pytest.mark.parametrize(
    ("accuracy", "verdict"), [(92.0, YES), (91.9, YES), (91.5, OPEN), (90.0, NO)]
)
def test_half_the_size_at_comparable_accuracy(accuracy, verdict):
    hic = made.three_seeds(
        "hic", [(1, 25.0, 85.0), (2, 100.0, accuracy), (3, 400.0, 93.0)]
    )
    finding = size.halves_the_model(made.group(FP32 + hic))
    assert finding.verdict is verdict
    assert finding.estimate.mean == pytest.approx(accuracy - 92.0)


def test_the_smallest_hic_is_named_and_how_it_is_known():
    hic = made.three_seeds("hic", [(1, 25.0, 85.0), (2, 100.0, 92.0)])
    near, exact = size.halves_the_model(made.group(FP32 + hic)).sentences[:2]
    assert "within 0.5 points of FP32 at width 1 (92.00 % at 200 kB)" in near
    assert "90.6 kB (interpolated between two widths): 55 % less" in near
    assert "100 kB (measured, width 2): 50 % less" in exact
    larger = made.three_seeds("hic", [(1, 100.0, 85.0), (2, 250.0, 92.0)])
    assert "25 % more" in size.halves_the_model(made.group(FP32 + larger)).sentences[1]
    smaller = made.three_seeds("hic", [(1, 20.0, 93.0)])
    finding = size.halves_the_model(made.group(FP32 + smaller))
    assert finding.verdict is YES
    assert "smallest that was trained" in finding.sentences[0]


def test_sizes_that_cannot_tell():
    narrow = size.halves_the_model(
        made.group(FP32 + made.three_seeds("hic", [(1, 25.0, 85.0)]))
    )
    assert narrow.verdict is OPEN
    assert "wider HIC runs would tell" in narrow.sentences[-1]
    wide = size.halves_the_model(
        made.group(FP32 + made.three_seeds("hic", [(4, 150.0, 95.0)]))
    )
    assert wide.verdict is OPEN
    assert "narrower HIC runs would tell" in wide.sentences[-1]
    fp32 = made.three_seeds("fp32", [(2, 800.0, 95.0)])
    finding = size.halves_the_model(
        made.group(fp32 + made.three_seeds("hic", [(1, 25.0, 85.0)]))
    )
    assert finding.sentences == ("No FP32 run has width 1 or less: 2.",)


def test_the_smallest_comparable_model(draw):
    reached = Reached(100.0, 91.5, 2.0, False)
    axes = draw(size.draw_smallest, BASELINE, CURVE, reached)
    lines = pictures.lines(axes)
    assert lines["50 % less than the baseline"].get_xdata() == [100.0, 100.0]
    assert lines["smallest comparable HIC"].get_xydata().tolist() == [[100.0, 91.5]]
    (band,) = axes.patches
    assert band.get_y() == 91.5
    assert band.get_height() == pytest.approx(1.0)
    assert "smallest comparable HIC" not in pictures.lines(
        draw(size.draw_smallest, BASELINE, CURVE, None)
    )


def test_memory_is_that_of_a_seed_that_recorded_it():
    old = _run()
    del old["summary"]["optimizer_bits"]
    runs = [old, _run(), _run(width=0.5, training_bits=50), _run("fp32")]
    found = size.memory(made.group(runs))
    assert [(m.algorithm, m.width) for m in found] == [
        ("fp32", 1.0), ("hic", 0.5), ("hic", 1.0),
    ]  # fmt: skip
    assert (found[1].training_bits, found[2].training_bits) == (50, 174)
    assert size.memory(made.group([old])) == []


def test_memory_of_three_schemes(draw):
    memories = [
        Memory("hic", width, 1, 1, 1, 8000, *(8000 * kb for kb in sizes), 0)
        for width, sizes in ((0.5, (62, 70, 22)), (1.0, (245, 275, 85)))
    ]
    axes = draw(size.draw_memory, memories, {"hic": "#0072B2"})
    bars = {
        bars.get_label(): [bar.get_width() for bar in bars] for bars in axes.containers
    }
    assert bars == {
        "FP32": [62, 245],
        "mixed precision, FP32 accumulator": [70, 275],
        "HIC": [22, 85],
    }
    assert [text.get_text() for text in axes.texts][:2] == ["62", "245"]


def _without_binary_cells():
    fields = {name: bits for name, bits in MEMORY.items() if name != "binary_devices"}
    return made.run("mixed_precision", summary=fields | {"training_bits": 16_000})


def test_each_algorithm_on_devices_has_bars_of_its_own(draw):
    group = made.group(
        [_run("fp32", analog_weights=0), _run(), _without_binary_cells()]
    )
    memories = [memory for memory in size.memory(group) if memory.analog_weights]
    assert [(memory.algorithm, memory.binary_devices) for memory in memories] == [
        ("hic", 70), ("mixed_precision", None),
    ]  # fmt: skip
    colours = {recipe.label: recipe.look.colour for recipe in group.recipes}
    axes = draw(size.draw_memory, memories, colours)
    bars = {bars.get_label(): bars[0].get_width() for bars in axes.containers}
    assert bars == {
        "FP32": 384 / 8000,
        "mixed precision, FP32 accumulator": 424 / 8000,
        "HIC": 174 / 8000,
        "mixed precision": 2.0,
    }
    assert len(set(colours.values())) == 3


def test_the_table_of_memory_has_a_dash_for_what_an_algorithm_lacks(tmp_path):
    section = size.model_size(made.group([_without_binary_cells()]), tmp_path)
    (table,) = section.tables
    titles = [column.title for column in table.columns]
    (row,) = [dict(zip(titles, cells, strict=True)) for cells in table.cells]
    assert (row["algorithm"], row["binary cells"]) == ("mixed precision", "–")
    assert (row["multi-level devices"], row["by this algorithm (kB)"]) == ("20", "2.0")
    assert (
        "Training by mixed precision holds the weights in 2 kB"
        in (section.paragraphs[0])
    )
