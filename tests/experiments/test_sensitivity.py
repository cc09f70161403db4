"""The sensitivity launcher: where a year costs, and what it proposes."""

import json

import numpy as np
import pytest
from absl import flags

from experiments import launch as launch_lib
from experiments import sensitivity
from experiments.config import resolve
from experiments.setup import Experiment
from experiments.train import train
from tests.experiments.shown import by_name

pytestmark = pytest.mark.usefixtures("one_block", "compiled_once")

FIELDS = {
    "channel_plan": "one_block",
    "epochs": 2,
    "batch_size": 479,
    "validation": 100,
    "devices_by_layer": "head=4",
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The folder of a trained run."""
    path = tmp_path_factory.mktemp("sensitivity") / "run"
    train(Experiment.of(resolve(**FIELDS)), str(path))
    return path


@pytest.fixture
def launch(path):
    """Runs the launcher with some flags; returns what it wrote."""
    before = set(flags.FLAGS)
    sensitivity.define_flags()

    def launch(*words):
        argv = flags.FLAGS(["sensitivity", f"--workdir={path}", *words])
        launch_lib.told(sensitivity.main, argv)
        return json.loads((path / "sensitivity.json").read_text())

    yield launch
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


def test_every_layer_has_its_rise_and_its_devices(launch):
    result = launch("--chips=2", "--images=60", "--budget=3")
    assert result["images"] == {"number": 60, "split": "validation"}
    layers = result["layers"]
    assert set(layers) == {
        f"{name}/kernel"
        for name in ("stem", "stage1_block1/conv1", "stage1_block1/conv2", "head")
    }
    assert layers["head/kernel"]["weights"] == 40
    assert layers["head/kernel"]["devices_per_sign"] == 4
    assert layers["stem/kernel"]["devices_per_sign"] == 1
    assert all(
        len(layer["rise"]) == len(result["all"]) == 2 for layer in layers.values()
    )
    assert min(np.abs(result["all"])) > 1e-6  # Whatever AdaBS makes of a year.
    used = sum(x["weights"] * x["proposed"] for x in layers.values())
    assert used <= 3 * sum(x["weights"] for x in layers.values())
    assert result["add_up_to"]["proposed"] <= result["add_up_to"]["now"]
    again = launch("--chips=2", "--images=60", "--budget=3")
    assert again == result


def test_the_flag_that_it_says_makes_what_it_proposes(launch):
    result = launch("--chips=1", "--images=60", "--budget=8")
    rules = resolve(devices_by_layer=sensitivity.rules(result)).hardware.devices_by_rule
    found = {path: number for rule, number in rules.items() for path in rule.split("|")}
    proposed = {
        path.removesuffix("/kernel"): layer["proposed"]
        for path, layer in result["layers"].items()
        if layer["proposed"] > 1
    }
    assert found == proposed != {}
    rows = by_name(sensitivity.table(result))
    assert rows["head"][0] == "40"
    assert rows["head"][-2] == "4"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--budget=0.5", "budget=0.5: must be at least 1"),
        ("--time=0", "time=0.0: must be greater than 0"),
    ],
)
def test_bad_input_is_refused(launch, word, message):
    with pytest.raises(SystemExit, match=message):
        launch(word)
