"""Model size: memory in inference and in training, its figure and table."""

import itertools

from experiments.report import memory
from experiments.report.memory import Memory
from tests.experiments.report import made

MEMORY = {
    "analog_weights": 10, "digital_weights": 2, "multilevel_devices": 20,
    "binary_devices": 70, "inference_bits": 104, "fp32_bits": 384,
    "mixed_precision_bits": 424, "training_bits": 174, "optimizer_bits": 64,
}  # fmt: skip

_SEEDS = itertools.count()


def _run(algorithm="hic", width=1.0, **summary):
    return made.run(algorithm, width, next(_SEEDS), summary=MEMORY | summary)


def test_memory_is_that_of_a_seed_that_recorded_it():
    old = _run()
    del old["summary"]["optimizer_bits"]
    runs = [old, _run(), _run(width=0.5, training_bits=50), _run("fp32")]
    found = memory.memory(made.group(runs))
    assert [(m.recipe.label, m.width) for m in found] == [
        ("fp32", 1.0), ("hic", 0.5), ("hic", 1.0),
    ]  # fmt: skip
    assert (found[1].training_bits, found[2].training_bits) == (50, 174)
    assert memory.memory(made.group([old])) == []


def test_memory_of_three_schemes(draw):
    memories = [
        Memory(made.HIC, width, 1, 1, 1, 8000, *(8000 * kb for kb in sizes), 0)
        for width, sizes in ((0.5, (62, 70, 22)), (1.0, (245, 275, 85)))
    ]
    axes = draw(memory.draw_memory, memories)
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
    memories = [m for m in memory.memory(group) if m.analog_weights]
    assert [(m.recipe.label, m.binary_devices) for m in memories] == [
        ("hic", 70), ("mixed_precision", None),
    ]  # fmt: skip
    axes = draw(memory.draw_memory, memories)
    bars = {bars.get_label(): bars[0].get_width() for bars in axes.containers}
    assert bars == {
        "FP32": 384 / 8000,
        "mixed precision, FP32 accumulator": 424 / 8000,
        "HIC": 174 / 8000,
        "mixed precision": 2.0,
    }
    colours = {bars[0].get_facecolor() for bars in axes.containers}
    assert len(colours) == 4


def test_the_table_of_memory_has_a_dash_for_what_an_algorithm_lacks(tmp_path):
    section = memory.model_size(made.group([_without_binary_cells()]), tmp_path)
    (table,) = section.tables
    titles = [column.title for column in table.columns]
    (row,) = [dict(zip(titles, cells, strict=True)) for cells in table.cells]
    assert (row["algorithm"], row["binary cells"]) == ("mixed precision", "–")
    assert (row["multi-level devices"], row["by this algorithm (kB)"]) == ("20", "2.0")
    assert (
        "Training by mixed precision holds the weights in 2 kB"
        in (section.paragraphs[0])
    )
