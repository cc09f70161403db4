"""Comparisons: of our own algorithms, and of what a user has written in a file."""

import json
import shutil
import statistics

import matplotlib.colors
import matplotlib.image
import pytest
from absl import flags

import hic_jax
from experiments import (
    compare,
    drawing,
    drift,
    launch,
)
from experiments.report import __main__ as report
from experiments.report import runs as report_runs
from experiments.report.groups import group
from experiments.runs.stored import read_config
from hic_jax import algorithms, pcm
from hic_jax.inference import Reading
from tests.experiments import pictures, shown, toys

pytestmark = pytest.mark.usefixtures("one_block", "compiled_once")

TINY = ("--channel_plan=one_block", "--batch_size=479", "--epochs=2", "--chips=1")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """(folder, table) of what users wrote, beside two of our own algorithms."""
    folder, shown_tables = tmp_path_factory.mktemp("compared"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(pcm.PRESETS, "filament", toys.filament)
        patch.setitem(algorithms.ALGORITHMS, "manhattan", toys.ManhattanSpec)
        patch.setattr(launch, "start", lambda argv: None)
        patch.setattr(
            compare.terminal, "show", lambda *parts: shown_tables.append(parts[0])
        )
        before = set(flags.FLAGS)
        compare.define_flags()
        words = [
            "compare", f"--workdir={folder}", *TINY, "--seeds=2",
            "--algorithms=fp32,hic,manhattan", "--devices=filament",
            "--manhattan_threshold=0.1", "--pcm_relax_seconds=1e7",
        ]  # fmt: skip
        flags.FLAGS(words)
        try:
            compare.main(words[:1])
            yield folder, shown_tables[-1]
        finally:
            for name in set(flags.FLAGS) - before:
                delattr(flags.FLAGS, name)


def _summary(folder, name):
    return json.loads((folder / name / "summary.json").read_text())


def test_the_table_shows_what_every_run_came_to(compared):
    folder, table = compared
    rows = shown.by_name(table)
    assert list(rows) == ["FP32", "HIC", "manhattan"]
    for algorithm, name in (("fp32", "FP32"), ("hic", "HIC"), ("manhattan",) * 2):
        seeds = [
            run
            for run in sorted(path.name for path in folder.iterdir())
            if run.startswith(f"{algorithm}-")
        ]
        assert len(seeds) == 2
        summaries = [_summary(folder, run) for run in seeds]
        accuracy, year, model, memory, most, mean, energy, _ = rows[name]
        mean_accuracy = statistics.mean(s["test_accuracy"] for s in summaries)
        assert accuracy.startswith(f"{100 * mean_accuracy:.1f} +- ")
        bits = summaries[0]["training_bits"] + summaries[0]["optimizer_bits"]
        assert memory == f"{bits / 8000:.3g} kB"
        assert model == f"{summaries[0]['inference_bits'] / 8000:.3g} kB"
        assert energy != "–"
        if algorithm == "fp32":
            assert (year, most, mean) == ("–",) * 3
            continue
        read = [row["mean"] for s in summaries for row in s["drift"]
                if row["compensation"] == "adabs"]  # fmt: skip
        assert year.startswith(f"{100 * statistics.mean(read):.1f} +- ")
        worn = [s["write_erase_cycles"]["multilevel"] for s in summaries]
        assert most == f"{max(w['max'] for w in worn):,}"
        assert mean == f"{statistics.mean(w['mean'] for w in worn):.3g}"


def test_numbers_and_picture_lie_beside_the_runs(compared):
    folder, _ = compared
    rows = json.loads((folder / "comparison.json").read_text())
    assert [row["algorithm"] for row in rows] == ["fp32", "hic", "manhattan"]
    assert [len(row["year"]) for row in rows] == [0, 2, 2]
    pixels = matplotlib.image.imread(folder / "comparison.png")[..., :3]
    # The three algorithms have their colours in it.
    for algorithm in ("fp32", "hic", "manhattan"):
        colour = matplotlib.colors.to_rgb(drawing.colour_of(algorithm))
        assert (abs(pixels - colour).max(axis=-1) < 0.01).sum() > 50


def test_a_users_own_device_and_algorithm_are_what_ran(compared):
    folder, _ = compared
    (run,) = folder.glob("manhattan-*seed0*")
    config = read_config(run)
    assert config.spec == toys.ManhattanSpec(
        multilevel=hic_jax.pcm.PRESETS["filament"]().__class__(
            name="filament", source="a test", g_min=0.1, g_max=20.0, reset_mean=0.1,
            relax_seconds=1e7,
        ),
        threshold=0.1,
    )  # fmt: skip
    # A pulse per weight and step at the most, but for those of refreshes.
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    weights = _summary(folder, run.name)["analog_weights"]
    assert 0 < last["set_pulses"] <= weights * last["step"]
    # It halves every 1e7 s: after a year hardly any conductance is left.
    drift_rows = _summary(folder, run.name)["drift"]
    year = {row["compensation"]: row for row in drift_rows if row["time"] > 1e7}
    assert year["none"]["time"] == hic_jax.YEAR
    assert year["none"]["mean"] < 0.3


def test_it_can_be_read_at_other_times(compared, tmp_path):
    folder, _ = compared
    (original,) = folder.glob("manhattan-*seed0*")
    run = shutil.copytree(original, tmp_path / original.name)
    reading = Reading(times=[25.0], chips=1, compensations=["none"])
    rows = drift.read_over_time(
        drift.Experiment.of(read_config(run)), str(run), reading
    )
    assert rows[0]["mean"] == pytest.approx(
        _summary(folder, original.name)["test_accuracy"], abs=0.25
    )  # Young devices are as trained, but for the noise of converters.


def test_the_report_pools_no_two_of_them(compared, tmp_path):
    folder, _ = compared
    page = report.report([str(folder)], str(tmp_path), candidate="manhattan")
    text = page.read_text()
    assert "manhattan" in text
    assert "The runs were read at one time only: a loss takes two." in text
    found, left_out = report_runs.read_all(report_runs.find([str(folder)]))
    assert not left_out
    (task,) = group(found, "fp32", "manhattan")
    seeds = {run["algorithm"]: 0 for run in task.runs}
    for run in task.runs:
        seeds[run["algorithm"]] += 1
    rounded = {"int8": 2, "int4": 2}  # The runs of FP32, beside themselves.
    assert seeds == {"fp32": 2, "hic": 2, "manhattan": 2} | rounded


@pytest.mark.parametrize("of_first", [1.0, 1.003, 1.3, 4.0, 1e6])
def test_energies_that_are_nearly_alike_are_told_apart(monkeypatch, tmp_path, of_first):
    (figures, first) = pictures.recorded(monkeypatch), 2.34
    found = [
        compare.Contender(
            algorithm=algorithm, setting={}, tuned={}, at_an_end=(), tried=(),
            accuracy=[0.98], year=[0.97], loss=[], year_loss=[], inference_kb=2.0,
            training_kb=20.0, worst_cycles=[70], mean_cycles=[9.0],
            energy_j=[first * factor], step_s=[0.1],
        )
        for algorithm, factor in (("hic", 1.0), ("pulsed_sgd", of_first))
    ]  # fmt: skip
    compare.draw(tmp_path / "comparison.png", found)  # Which are found readable.
    (figure,) = figures
    energy = figure.axes[-1]
    low, high = energy.get_xlim()
    assert low < first < first * of_first < high or of_first == 1.0
    marks = [mark for mark in energy.get_xticks() if low <= mark <= high]
    assert len(marks) >= 2
