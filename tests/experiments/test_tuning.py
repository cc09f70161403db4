"""Values chosen on held-out data, for each contender of a comparison by itself."""

import json

import pytest

from experiments import compare, launch, tuning
from experiments.report import runs as report_runs
from experiments.runs.stored import read_config
from experiments.sweep import grid
from tests.experiments import command_lines, shown
from tests.tiny_text import written

SMALL = ("--model=mlp", "--mlp_units=4", "--epochs=1", "--batch_size=1337")
RATES = "--tune=learning_rate=0.001,0.1,10"
HELD_OUT = "--tune_validation=100"


@pytest.fixture
def parse():
    """Parses words of a command line; returns the axes of what is compared."""
    with command_lines.parser("compare", compare.define_flags) as parse:

        def axes(*words, workdir="unused"):
            parse(*words, workdir=workdir)
            return grid.axes_from_flags()

        yield axes


@pytest.fixture
def tried(parse, tmp_path):
    """Runs to choose from, each with an outcome that is given by a part of its name."""

    def tried(words, outcomes):
        axes = parse(HELD_OUT, *words)
        tuned = tuning.axes_from_flags(axes)
        runs = grid.runs_of(tuning.axes_to_choose_from(axes, tuned))
        for run in runs:
            (summary,) = [s for part, s in outcomes.items() if part in run.name]
            (tmp_path / run.name).mkdir()
            if summary is not None:
                text = json.dumps({"train_loss": 1.0} | summary)
                (tmp_path / run.name / "summary.json").write_text(text)
        return tuning.choices(tmp_path, runs, tuned), runs, axes

    return tried


def test_each_contender_has_values_of_its_own(tried):
    chosen, runs, _ = tried(
        ["--algorithms=fp32,hic", *SMALL, RATES, "--seeds=3"],
        {
            "fp32-width1-seed0-learning_rate=0.001": {"test_accuracy": 0.3},
            "fp32-width1-seed0-learning_rate=0.1": {"test_accuracy": 0.9},
            "fp32-width1-seed0-learning_rate=10": {"test_accuracy": 0.5},
            "hic-width1-seed0-learning_rate=0.001": {"test_accuracy": 0.3},
            "hic-width1-seed0-learning_rate=0.1": {"test_accuracy": 0.4},
            "hic-width1-seed0-learning_rate=10": {"test_accuracy": 0.8},
        },
    )
    fp32, hic = chosen.values()
    assert (fp32.values, fp32.at_an_end) == ({"learning_rate": 0.1}, ())
    assert fp32.tried == (
        {"learning_rate": 0.001, "validation": 0.3},
        {"learning_rate": 0.1, "validation": 0.9},
        {"learning_rate": 10.0, "validation": 0.5},
    )
    assert (hic.values, hic.at_an_end) == ({"learning_rate": 10.0}, ("learning_rate",))
    assert "learning_rate at an end of what was tried" in str(hic)
    # All are judged by what is held out, and test images choose nothing.
    assert {run.config.train.validation for run in runs} == {100}
    assert {run.config.train.seed for run in runs} == {0}


def test_seeds_are_trained_with_what_was_chosen_on_all_training_data(tried):
    chosen, _, axes = tried(
        ["--algorithms=fp32", *SMALL, RATES, "--seeds=2"],
        {
            "rate=0.001": {"test_accuracy": 0.3},
            "rate=0.1": {"test_accuracy": 0.1},
            "rate=10": {"test_accuracy": 0.2},
        },
    )
    runs = list(tuning.with_choices(grid.runs_of(axes), chosen, None))
    assert [run.name for run in runs] == [
        "fp32-width1-seed0-learning_rate=0.001", "fp32-width1-seed1-learning_rate=0.001"
    ]  # fmt: skip
    for run in runs:
        assert run.config.recipe.learning_rate == 0.001
        assert run.config.train.validation == 0


def test_flags_that_some_do_not_use_are_tuned_for_the_others(tried):
    words = ["--algorithms=fp32,hic", *SMALL, "--tune=analog_learning_rate=0.01,0.04"]
    chosen, runs, axes = tried(
        words,
        {
            "fp32": {"test_accuracy": 0.5},
            "hic-width1-seed0-analog_learning_rate=0.01": {"test_accuracy": 0.5},
            "hic-width1-seed0-analog_learning_rate=0.04": {"test_accuracy": 0.6},
        },
    )
    assert len(runs) == 3
    assert [choice.values for choice in chosen.values()] == [
        {}, {"analog_learning_rate": 0.04}
    ]  # fmt: skip
    names = [run.name for run in tuning.with_choices(grid.runs_of(axes), chosen, None)]
    assert names == ["fp32-width1-seed0", "hic-width1-seed0-analog_learning_rate=0.04"]


def test_equals_are_told_apart_by_their_training_loss(tried):
    chosen, *_ = tried(
        ["--algorithms=fp32", *SMALL, RATES],
        {
            "rate=0.001": {"test_accuracy": 0.9, "train_loss": 0.3},
            "rate=0.1": {"test_accuracy": 0.9, "train_loss": 0.2},
            "rate=10": {"test_accuracy": 0.1, "train_loss": 0.1},
        },
    )
    assert [choice.values for choice in chosen.values()] == [{"learning_rate": 0.1}]


def test_what_failed_is_no_choice(tried):
    outcomes = {"rate=0.001": None, "rate=0.1": None, "rate=10": {"test_accuracy": 0.1}}
    chosen, *_ = tried(["--algorithms=fp32", *SMALL, RATES], outcomes)
    (choice,) = chosen.values()
    assert choice.values == {"learning_rate": 10.0}
    assert choice.tried == ({"learning_rate": 10.0, "validation": 0.1},)


def test_a_text_is_chosen_by_its_loss(tried, tmp_path):
    text = tmp_path / "data"
    text.mkdir()
    gpt = ("--model=gpt", "--gpt_context=8", "--batch_size=4", "--epochs=1")
    chosen, *_ = tried(
        [
            f"--dataset={written(text)}",
            *gpt,
            "--algorithms=fp32",
            RATES,
            "--tune_validation=20",
        ],
        {
            "rate=0.001": {"test_accuracy": 0.9, "test_loss": 2.0},
            "rate=0.1": {"test_accuracy": 0.1, "test_loss": 1.0},
            "rate=10": {"test_accuracy": 0.1, "test_loss": 1.5},
        },
    )
    (choice,) = chosen.values()
    assert choice.values == {"learning_rate": 0.1}
    assert [each["validation"] for each in choice.tried] == [2.0, 1.0, 1.5]


REFUSED = {
    ("--tune=learning_rate=0.1,0.2",): r"--tune_validation=: must be given with --tune",
    (HELD_OUT,): r"--tune_validation=100: is for --tune",
    ("--tune=learnin_rate=1,2", HELD_OUT): r"--tune='learnin_rate': must be .*mean",
    ("--tune=seed=1,2", HELD_OUT): r"seed is nothing to be tuned",
    ("--tune=validation=1,2", HELD_OUT): r"validation is nothing to be tuned",
    ("--tune=model=mlp,cnn", HELD_OUT): r"model is nothing to be tuned",
    ("--tune=preset=ecram,ideal", HELD_OUT): r"preset is nothing to be tuned",
    ("--tune=width=1,2", HELD_OUT): r"width is tuned or swept, too",
    (RATES, "--grid=learning_rate=1,2", HELD_OUT): r"is tuned or swept, too",
    (RATES, "--learning_rate=1", HELD_OUT): r"learning_rate=1.0: is given and tuned",
    (RATES, "--validation=9", HELD_OUT): r"--validation: must not be given with --tune",
    ("--tune=learning_rate=0.1,x", HELD_OUT): r"learning_rate=x, in a sweep: ",
    ("--tune=hic_lsb_bits=5,6", HELD_OUT): r"--tune=hic_lsb_bits: makes no difference",
}


@pytest.mark.parametrize("words", REFUSED)
def test_bad_input_is_refused(parse, words):
    axes = parse("--algorithms=fp32", *words)
    with pytest.raises(ValueError, match=REFUSED[words]):
        tuning.axes_from_flags(axes)


@pytest.mark.usefixtures("compiled_once")
def test_a_comparison_tunes_trains_and_says_so(parse, tmp_path, monkeypatch):
    tables, notes = [], []
    monkeypatch.setattr(launch, "start", lambda argv: None)
    monkeypatch.setattr(compare.terminal, "show", lambda *parts: tables.append(parts))
    monkeypatch.setattr(compare.terminal, "note", notes.append)
    words = ("--algorithms=fp32", *SMALL, "--tune=learning_rate=1e-9,0.1", HELD_OUT)
    for _ in range(2):  # The second time all is there.
        parse(*words, "--seeds=2", workdir=tmp_path)
        compare.main(["compare"])
    assert tables[0][0].columns[-1].header == "learning_rate"
    assert shown.cells(tables[0][0]) == shown.cells(tables[1][0])
    (row,) = shown.cells(tables[0][0])
    assert row[-1] == "0.1 (an end)"
    (found,) = json.loads((tmp_path / "comparison.json").read_text())
    assert found["tuned"] == {"learning_rate": 0.1}
    assert found["at_an_end"] == ["learning_rate"]
    assert [each["learning_rate"] for each in found["tried"]] == [1e-9, 0.1]
    assert any("learning_rate=0.1, the best of 2" in note for note in notes)

    runs = sorted(path.parent for path in tmp_path.glob("fp32*/config.json"))
    assert [run.name for run in runs] == [
        f"fp32-width1-seed{seed}-learning_rate=0.1" for seed in (0, 1)
    ]
    tuned = list((tmp_path / "tuning").glob("runs/fp32*/config.json"))
    assert {read_config(path.parent).train.validation for path in tuned} == {100}
    assert {read_config(run).train.validation for run in runs} == {0}
    accuracies = [
        json.loads((run / "summary.json").read_text())["test_accuracy"] for run in runs
    ]
    assert found["accuracy"] == accuracies
    # A report of the folder is of what was compared.
    assert report_runs.find([tmp_path]) == runs
