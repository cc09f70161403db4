"""Text as a task: trained by a GPT, tested, read later, written on."""

import re

import chex
import numpy as np
import pytest

from experiments import compare, drift, setup, tasks
from experiments.config import resolve
from experiments.runs.run_folder import RunFolder
from experiments.setup import Experiment
from experiments.sweep.grid import Run
from experiments.train import train
from experiments.train_options import TrainOptions
from hic_jax.inference import Reading
from hic_jax.inference.compensations import check_possible
from hic_jax.inference.network import Network, accuracy
from tests.experiments import run_files, shown
from tests.tiny_text import TEXT, written

pytestmark = pytest.mark.usefixtures("compiled_once", "without_pictures")

CONTEXT, BATCH, EPOCH = 8, 20, 3
SMALL = {
    "model": "gpt", "gpt_layers": 1, "gpt_heads": 2, "gpt_features": 8,
    "gpt_context": CONTEXT, "batch_size": BATCH, "epochs": 2,
    "optimizer": "adamw", "analog_optimizer": "adamw", "converters": False,
}  # fmt: skip


def _experiment(dataset, **others):
    return Experiment.of(resolve(dataset=dataset, **SMALL | others))


class Uninterrupted:
    """A run from its first to its last step."""

    def __init__(self, path):
        self.dataset, self.path = written(path), path / "run"
        self.experiment = _experiment(self.dataset)
        self.returned = train(
            self.experiment, str(self.path), TrainOptions(log_every=1)
        )
        self.state = run_files.restored(self.path, self.experiment)
        self.summary = run_files.timeless_summary(self.path)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return Uninterrupted(tmp_path_factory.mktemp("text"))


def test_an_epoch_has_the_characters_of_the_text(uninterrupted):
    experiment = uninterrupted.experiment
    trained_on = len(TEXT) * 9 // 10
    assert experiment.steps_per_epoch == EPOCH == trained_on // (BATCH * CONTEXT)
    starts = np.asarray(experiment.epoch_order(0))
    assert starts.shape == (EPOCH, BATCH)
    assert starts.max() < experiment.split("train").size
    assert not np.array_equal(starts, experiment.epoch_order(1))


def test_the_summary_has_the_loss_of_a_character(uninterrupted):
    summary, experiment = uninterrupted.summary, uninterrupted.experiment
    test = experiment.split("test")
    after_the_first = len(experiment.dataset.test) - 1
    assert test.answers == after_the_first // CONTEXT * CONTEXT
    # Six steps teach little: about as good as guessing.
    assert summary["test_loss"] == pytest.approx(
        np.log(experiment.dataset.num_classes), abs=1.0
    )
    assert summary["test_perplexity"] == pytest.approx(np.exp(summary["test_loss"]))
    assert summary["unknown_characters"] == 0
    right = summary["test_accuracy"] * test.answers
    assert right == pytest.approx(round(right))


def test_algorithms_on_a_text_are_compared_by_its_loss(uninterrupted, tmp_path):
    config = uninterrupted.experiment.config
    run = Run(
        name="run", swept={"algorithm": "hic", "width": 1.0}, config=config, steps=6
    )
    compare.read_a_year_later(uninterrupted.path.parent, [run], chips=2)
    (found,) = compare.contenders(uninterrupted.path.parent, [run])
    assert found.loss == [uninterrupted.summary["test_loss"]]
    rows = run_files.timeless_summary(uninterrupted.path)["drift"]
    (later,) = [row for row in rows if row["compensation"] == "gdc"]
    assert found.year_loss == [pytest.approx(np.mean(later["losses"]))]
    table = compare.table([found])
    assert table.title.startswith("loss on the test part of the text, nats per char")
    _, loss, year, *_ = shown.cells(table)[0]
    assert (loss, year) == (f"{found.loss[0]:.3f}", f"{found.year_loss[0]:.3f}")
    compare.draw(tmp_path / "comparison.png", [found])
    assert (tmp_path / "comparison.png").exists()


def test_a_sample_goes_on_from_the_text(uninterrupted):
    sample = (uninterrupted.path / "sample.txt").read_text()
    experiment = uninterrupted.experiment
    text = experiment.dataset
    assert len(sample) == CONTEXT + tasks.SAMPLE
    assert sample.startswith(text.decoded(text.test[:CONTEXT]))
    assert set(sample) <= set(text.vocabulary)


def test_stopped_and_resumed_is_uninterrupted(uninterrupted, tmp_path):
    for stop in (EPOCH + 1, None):  # In the middle of an epoch.
        experiment = _experiment(uninterrupted.dataset)
        train(experiment, str(tmp_path), TrainOptions(max_steps=stop, log_every=1))
    chex.assert_trees_all_equal(
        run_files.restored(tmp_path, experiment), uninterrupted.state
    )
    assert run_files.timeless_summary(tmp_path) == uninterrupted.summary
    same = (tmp_path / "sample.txt", uninterrupted.path / "sample.txt")
    assert len({path.read_text() for path in same}) == 1


def test_networks_without_batchnorm_are_read_with_gains_unless_told(uninterrupted):
    assert drift.usual_compensations([str(uninterrupted.path)]) == ["none", "gdc"]


def test_gains_compensate_and_adabs_is_refused(uninterrupted):
    experiment = uninterrupted.experiment
    names = ("none", "gdc", "column")
    reading = Reading(times=[25.0, 3e7], chips=1, compensations=names)
    rows = drift.read_over_time(experiment, str(uninterrupted.path), reading)
    assert [row["compensation"] for row in rows] == [*names, *names]
    # No chip is far from guessing; and what it loses is shown in nats.
    losses = np.array([row["losses"] for row in rows])
    np.testing.assert_allclose(losses, np.log(experiment.dataset.num_classes), atol=1.0)
    table = drift.table([str(uninterrupted.path)], reading)
    assert table.title == (
        "test loss, nats per character, of 1 chip, the trained devices"
    )
    cells = [cell for _, *row in shown.cells(table) for cell in row]
    assert cells == [f"{loss:.3f}" for loss in losses.ravel()]
    assert (uninterrupted.path / "loss_over_time.png").exists()
    with RunFolder.read(str(uninterrupted.path)) as folder:
        network = Network.of(folder.restore(experiment.init_state()))
    with pytest.raises(
        ValueError, match=r"^compensation='adabs': .*must be one of none, gdc, column$"
    ):
        check_possible("adabs", network, experiment.split("train"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": "resnet"}, "model='resnet': must be one of gpt, package.module:fac"),
        ({"model": "mlp", "mlp_units": 4}, "model='mlp': must be one of gpt"),
        ({"shift": "dim"}, "shift=dim: must be none, with dataset='text:"),
        ({"downscale": 2}, "downscale=2: must be 1, with dataset='text:"),
        ({"augmentation": "crop"}, "augmentation=crop: must be none, with dataset"),
        ({"dataset": "digits"}, "model='gpt': must be one of resnet, cnn, mlp"),
        ({"gpt_heads": 0}, r"gpt_heads=0: must be in \[1, 100000\]"),
        ({"gpt_context": 1}, "gpt_context=1: must be at least 2"),
        ({"mlp_units": 4}, "mlp_units=4: must not be given with model=gpt.*model=mlp"),
        ({"depth": 14}, "depth=14: must not be given with model=gpt.*model=resnet"),
        ({"model": "gpd"}, "model='gpd': must be one of .*did you mean 'gpt'"),
        ({"optimizer": "adam"}, "optimizer='adam': must be .*did you mean 'adamw'"),
        ({"momentum": 1.0}, "momentum=1.0: must be less than 1.0"),
    ],
)
def test_what_does_not_fit_is_refused(given, message):
    own = {"dataset": "text:f", "model": "gpt", "optimizer": "adamw"}
    with pytest.raises(ValueError, match=message):
        resolve(**own | given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"gpt_context": 40}, "its test part has .* more than the 40 of a context"),
        ({"batch_size": 72}, "batch_size=72: must be at most 71, the number of w"),
        ({"validation": 99}, r"validation=99: must be in \[1, 31\]"),
        ({"digital_layers": "block1"}, "digital_layers='block1': must be one of"),
    ],
)
def test_a_text_that_is_too_short_is_refused(uninterrupted, given, message):
    with pytest.raises(ValueError, match=message):
        _experiment(uninterrupted.dataset, **given)


def test_a_network_of_ones_own_learns_images_and_not_text(tmp_path):
    name = "tests.models.test_own:plain"
    fields = {"model": name, "converters": False}
    experiment = setup.Experiment.of(resolve(**fields))
    assert experiment.config.network is None
    assert experiment.config.from_dict(experiment.config.to_dict()) == experiment.config
    kernel = experiment.state_shapes().params["Dense_0"]["kernel"]
    assert kernel.shape == (64, 10)
    where = re.escape(f"model={name}")
    with pytest.raises(ValueError, match=rf"{where}: has context=None; must have a"):
        setup.Experiment.of(resolve(dataset=written(tmp_path), **fields))
    with pytest.raises(ValueError, match=rf"{where}: must take an argument crossbars"):
        setup.Experiment.of(resolve(model=name, crossbar_adc_noise=0.5))
    with pytest.raises(ValueError, match=r"no_such_module cannot be imported"):
        setup.Experiment.of(resolve(model="no_such_module:net", dataset="no_such_set"))


def test_a_test_of_text_counts_answers(uninterrupted):
    experiment = uninterrupted.experiment
    key, test = experiment.read_key, experiment.split("test")
    network = Network.of(experiment.init_state()).replace(weights=None)
    shares = [
        accuracy(key, experiment.model, network, test, batch_size=size)
        for size in (2, 100)
    ]
    # Batches that are filled up with windows seen before count these once.
    assert shares[0] == shares[1]
    logits = experiment.model.apply(
        {"params": network.params}, test.batch(np.arange(test.size))[0], train=False
    )
    right = np.argmax(logits, -1) == test.batch(np.arange(test.size))[1]
    assert shares[0] == pytest.approx(right.mean())
