"""Learning in the field: the same devices, later, further."""

import json
import shutil
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

import hic_jax
from experiments import field
from experiments.config import resolve
from experiments.runs.run_folder import RunFolder
from experiments.runs.stored import RunFolderError
from experiments.setup import Experiment
from experiments.train import train
from experiments.train_options import TrainOptions
from hic_jax.algorithms import analog_states
from hic_jax.pcm import binary
from hic_jax.training.split import Split
from tests.experiments import run_files, shown

pytestmark = pytest.mark.usefixtures("one_block", "compiled_once")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a trained run."""
    path = tmp_path_factory.mktemp("field") / "trained"
    config = resolve(
        channel_plan="one_block", width=2.0, epochs=6, batch_size=40,
        augmentation="none", converters=False,
        pcm_drift_nu_std=0.0,  # Without spread what drift does is known.
    )  # fmt: skip
    train(Experiment.of(config), str(path))
    return str(path)


def _config(trained, **changes):
    changes = {"epochs": 1, "analog_learning_rate": 0.02} | changes
    return field.config_in_the_field(RunFolder.read(trained).config, **changes)


@pytest.fixture(scope="module")
def learnt(trained, tmp_path_factory):
    """Summary and folder of a training in the field after a year."""
    path = tmp_path_factory.mktemp("field") / "learnt"
    summary = field.learn(
        trained,
        str(path),
        _config(trained),
        seconds=hic_jax.YEAR,
        options=TrainOptions(log_every=20),
    )
    return summary, path


def _state(path):
    folder = RunFolder.read(str(path))
    return folder.restore(Experiment.of(folder.config).init_state())


def test_learning_recovers_what_drift_took(learnt, trained):
    summary, path = learnt
    result = summary["field"]
    assert result["trained"] == trained and result["seconds"] == hic_jax.YEAR
    assert result["accuracy_after"] == summary["test_accuracy"]
    before = result["accuracy_before"]
    assert set(before) == {"none", "gdc", "adabs"}
    # 360 images: a standard deviation is 2.6 % at the most. Guessing is right in 10 %.
    assert result["accuracy_trained"] > 0.6
    assert before["none"] < result["accuracy_trained"] / 2
    assert result["accuracy_after"] > before["none"] + 0.2
    assert (path / "field.png").exists()
    assert json.loads((path / "summary.json").read_text()) == summary


def test_the_devices_are_the_trained_ones_a_year_later(trained):
    state = _state(trained)
    started = field.in_the_field(state, Experiment.of(_config(trained)), hic_jax.YEAR)
    old, new = (analog_states(s.opt_state)[0].weights for s in (state, started))
    chex.assert_trees_all_equal(new.multilevel.devices, old.multilevel.devices)
    for name in ("set_pulses", "resets"):
        np.testing.assert_array_equal(
            getattr(new.multilevel, name), getattr(old.multilevel, name)
        )
    np.testing.assert_array_equal(new.accumulator, old.accumulator)
    chex.assert_trees_all_equal(started.batch_stats, state.batch_stats)
    assert int(started.step) == 0
    kernels = [
        np.concatenate([np.ravel(w) for w in jax.tree.leaves(hic_jax.read(weights))])
        for weights in map(hic_jax.analog_weights, (state.opt_state, started.opt_state))
    ]
    large = np.abs(kernels[0]) > np.median(np.abs(kernels[0]))
    # (1 year / 38.6 s) ** -0.04: all was written in the last seconds.
    np.testing.assert_allclose(kernels[1][large] / kernels[0][large], 0.580, rtol=1e-3)


def test_wear_goes_on_from_where_it_was(learnt, trained):
    summary, path = learnt
    for kind in ("multilevel", "binary"):
        before, after = (
            json.loads((folder / "summary.json").read_text())["write_erase_cycles"]
            for folder in (type(path)(trained), path)
        )
        extra = summary["field"]["extra_cycles"][kind]
        assert 0 < extra["mean"]
        assert after[kind]["max"] <= before[kind]["max"] + extra["max"]
        assert after[kind]["sets"] > before[kind]["sets"]


def test_extra_cycles_are_those_of_the_field_alone(learnt, trained):
    summary, path = learnt
    before, after = (
        jax.tree.leaves(
            hic_jax.analog_weights(_state(folder).opt_state),
            is_leaf=hic_jax.weights.is_analog,
        )
        for folder in (trained, path)
    )

    def cycles(pulses):
        """Of every device: its SETs or its RESETs since, whichever are more."""
        more = [
            np.maximum(late[0].astype(int) - early[0], late[1].astype(int) - early[1])
            for early, late in zip(map(pulses, before), map(pulses, after), strict=True)
        ]
        flat = np.concatenate([x.ravel() for x in more])
        return {"max": flat.max(), "mean": pytest.approx(flat.mean(), rel=1e-9)}

    def of_pairs(weight):
        pairs = weight.multilevel
        sets, resets = np.asarray(pairs.set_pulses), np.asarray(pairs.resets)
        return sets, np.broadcast_to(resets, sets.shape)

    def of_cells(weight):
        bits = weight.spec.lsb_bits
        return [*map(np.asarray, binary.wear(weight.binary, weight.accumulator, bits))]

    extra = summary["field"]["extra_cycles"]
    assert extra == {"multilevel": cycles(of_pairs), "binary": cycles(of_cells)}
    total = summary["write_erase_cycles"]
    for kind, found in extra.items():
        assert 0 < found["mean"] < total[kind]["mean"]


def test_it_is_logged_as_often_as_was_asked_for(learnt):
    _, path = learnt
    assert [row["step"] for row in run_files.rows(path)] == [20, 35]


def test_started_again_it_goes_on(learnt, trained):
    summary, path = learnt
    again = field.learn(trained, str(path), _config(trained), seconds=hic_jax.YEAR)
    assert again == summary


def test_another_time_needs_another_folder(learnt, trained):
    _, path = learnt
    with pytest.raises(RunFolderError, match="went on from seconds=31536000"):
        field.learn(trained, str(path), _config(trained), seconds=hic_jax.DAY)


def test_a_run_does_not_go_on_in_its_own_folder(trained):
    before = json.loads((Path(trained) / "summary.json").read_text())
    config = RunFolder.read(trained).config
    for workdir in (trained, f"{trained}/../{Path(trained).name}"):
        with pytest.raises(RunFolderError, match="is the folder of the run to go on"):
            field.learn(trained, workdir, config, seconds=hic_jax.YEAR)
    assert json.loads((Path(trained) / "summary.json").read_text()) == before


def test_a_run_that_was_trained_further_is_another_origin(learnt, trained, tmp_path):
    path = shutil.copytree(learnt[1], tmp_path / "learnt")
    summary = json.loads((path / "summary.json").read_text())
    step = summary["field"]["step"]
    assert step == 6 * 35  # Epochs of 35 batches.
    summary["field"]["step"] = step - 35
    (path / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(RunFolderError, match=f"from step={step - 35}, not from {step}"):
        field.learn(trained, str(path), _config(trained), seconds=hic_jax.YEAR)


def test_the_folder_may_be_called_by_another_path(learnt, trained):
    summary, path = learnt
    other = f"{trained}/../{Path(trained).name}/"
    again = field.learn(other, str(path), _config(trained), seconds=hic_jax.YEAR)
    assert again == summary


def test_nothing_starts_again_where_the_checkpoints_are_gone(learnt, trained, tmp_path):
    path = shutil.copytree(learnt[1], tmp_path / "learnt")
    shutil.rmtree(path / "checkpoints")
    rows = run_files.rows(path)
    with pytest.raises(RunFolderError, match="35 steps, but there is no checkpoint"):
        field.learn(trained, str(path), _config(trained), seconds=hic_jax.YEAR)
    assert run_files.rows(path) == rows


def test_drift_alone_takes_a_quarter_of_the_rates():
    config = resolve(shift="dim")
    full = {
        "learning_rate": config.recipe.learning_rate,
        "analog_learning_rate": config.analog.learning_rate,
    }
    quarter = {name: rate / 4 for name, rate in full.items()}
    assert field.usual_rates(config) == quarter
    assert field.usual_rates(config, shift="dim") == quarter
    assert field.usual_rates(config, shift="rotate") == full


def test_images_shift_for_training_and_test_alike(trained):
    experiment = Experiment.of(_config(trained, shift="invert"))
    for split in ("train", "test"):
        plain = Split.of(experiment.dataset, split)
        shifted = experiment.split(split)
        np.testing.assert_array_equal(shifted.images, 255 - np.asarray(plain.images))
        np.testing.assert_array_equal(shifted.mean, plain.mean)


def test_the_table_is_the_summary(learnt):
    result = learnt[0]["field"]
    rows = shown.by_name(field.table(result, "test"))
    accuracies = [
        result["accuracy_trained"],
        *result["accuracy_before"].values(),
        result["accuracy_after"],
    ]
    most = [kind["max"] for kind in result["extra_cycles"].values()]
    texts = [*(f"{100 * share:.1f} %" for share in accuracies), *map(str, most)]
    assert [text for (text,) in rows.values()] == texts
    assert "1 year later, AdaBS" in rows
    untracked = field.table(result | {"extra_cycles": None}, "test")
    assert len(untracked.rows) == len(accuracies)
