"""The chip launcher: what is written is what is read, as a deployed network is."""

import jax
import numpy as np
import pytest
from absl import flags

import hic_jax
from experiments import chip
from experiments import launch as launch_lib
from experiments.config import resolve
from experiments.setup import Experiment
from experiments.train import train
from hic_jax import pcm
from hic_jax.packing import path_name
from hic_jax.weights import is_analog

FIELDS = {
    "model": "mlp", "mlp_layers": 1, "mlp_units": 8, "converters": False,
    "epochs": 1, "batch_size": 1437, "augmentation": "none",
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a trained run."""
    path = tmp_path_factory.mktemp("chip") / "run"
    train(Experiment.of(resolve(**FIELDS)), str(path))
    return path


@pytest.fixture
def launch(trained, monkeypatch):
    """Runs the launcher with some flags; returns what it read."""
    before = set(flags.FLAGS)
    chip.define_flags()
    shown = []
    table = chip.table
    monkeypatch.setattr(
        chip,
        "table",
        lambda file, rows, *of: shown.extend(rows) or table(file, rows, *of),
    )

    def launch(*words):
        for name in set(flags.FLAGS) - before:
            flags.FLAGS[name].unparse()  # What was given before.
        argv = flags.FLAGS(["chip", f"--workdir={trained}", *words])
        launch_lib.told(chip.main, argv)
        return shown

    yield launch
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


def _weights(chip):
    leaves = jax.tree_util.tree_leaves_with_path(chip, is_leaf=is_analog)
    return [(path_name(path), leaf) for path, leaf in leaves]


def test_a_chip_that_was_written_is_read_as_it_is(launch, trained, tmp_path, capfd):
    file, spec = tmp_path / "chip.csv", pcm.hermes_1()
    launch("--devices=hermes_1", f"--out={file}", "--seed=5")
    experiment = Experiment.of(resolve(**FIELDS))
    network = chip.trained_network(experiment, str(trained))
    key = jax.random.fold_in(experiment.chip_key, 5)
    fresh = hic_jax.deploy(network.weights, spec, key)
    read = hic_jax.load_chip(file, network.weights, spec)
    for one, other in zip(jax.tree.leaves(read), jax.tree.leaves(fresh), strict=True):
        np.testing.assert_array_equal(one, other)

    # A chip that a reader can work out: its weights are none, and class 0 is answered.
    arrays = {f"{path}/g": np.zeros((2, *w.shape)) for path, w in _weights(fresh)}
    arrays |= {f"{path}/scale": 1.0 for path, _ in _weights(fresh)}
    np.savez(tmp_path / "mine.npz", **arrays)
    rows = launch(f"--chip={tmp_path / 'mine.npz'}", "--reads=2", "--times=25")
    bias = np.asarray(network.params["head"]["bias"])
    guessed = np.mean(experiment.dataset.test_labels == bias.argmax())
    assert [row["compensation"] for row in rows] == ["none", "gdc"]
    assert rows[0]["accuracies"] == [guessed] * 2
    assert rows[0]["devices"] == "nandakumar_2019"
    assert "no drift exponents there does not drift" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "chip, out: one of them must be given"),
        (["--chip=a.csv", "--out=b.csv"], "chip, out: one of them must be given"),
        (["--out=b.txt"], r"b.txt: must end in \.npz or \.csv"),
        (["--out=no/such/b.csv"], "b.csv: must be in a folder that there is"),
        (["--chip=b.csv"], "b.csv: must be a file that there is"),
    ],
)
def test_bad_input_is_refused(launch, words, message):
    with pytest.raises(SystemExit, match=message):
        launch(*words)
