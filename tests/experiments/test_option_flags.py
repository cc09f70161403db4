"""What says how much is trained and kept is told to every training, by any launcher."""

import dataclasses
import json

import pytest
from absl import flags

from experiments import ablate, field, launch, train, train_options
from experiments.config import resolve
from experiments.runs.intervals import TrainingDiverged
from experiments.sweep import __main__ as sweep
from hic_jax.accounting import EnergyTable

TOLD = {
    "max_steps": 2,
    "log_every": 7,
    "keep_checkpoints": 3,
    "checkpoint_every": 11,
    "endurance_cycles": 1e6,
    "energy_table": EnergyTable(binary_set_pj=5.0),
}
# By launcher: the function that has to be told.
LAUNCHERS = {
    train: (train, "train"),
    sweep: (train, "train"),
    ablate: (train, "train"),
    field: (field, "learn"),
}


@pytest.fixture
def no_flags_left():
    """Takes away what a test has defined."""
    before = set(flags.FLAGS)
    yield before
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


def test_every_option_is_looked_at(no_flags_left):
    train_options.define_flags()
    assert set(flags.FLAGS) - no_flags_left == set(TOLD)


@pytest.mark.usefixtures("no_flags_left")
@pytest.mark.parametrize("launcher", LAUNCHERS, ids=lambda module: module.__name__)
def test_options_reach_the_training(launcher, tmp_path, monkeypatch):
    table = tmp_path / "table.json"
    table.write_text(json.dumps(dataclasses.asdict(TOLD["energy_table"])))
    words = [f"--{k}={v}" for k, v in TOLD.items() if k != "energy_table"]
    words += [f"--energy_table={table}", f"--workdir={tmp_path / 'run'}"]
    if launcher is field:
        trained = tmp_path / "trained"
        trained.mkdir()
        (trained / "config.json").write_text(resolve().to_json())
        words.append(f"--trained={trained}")
    told = {}

    def record(*arguments, options=None, **others):
        told.update(vars(options or arguments[-1]))
        raise TrainingDiverged("enough")

    monkeypatch.setattr(*LAUNCHERS[launcher], record)
    launcher.define_flags()
    with pytest.raises(SystemExit, match="enough"):
        launch.told(launcher.main, flags.FLAGS([launcher.__name__, *words]))
    assert {name: told[name] for name in TOLD} == TOLD
