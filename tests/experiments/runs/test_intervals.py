"""Weights that do not reach the devices as they are: said once, by every launcher."""

import dataclasses

import jax
import jax.numpy as jnp
import optax
import pytest

from experiments.config import resolve
from experiments.runs.intervals import warn_of_programming
from experiments.setup import Experiment
from experiments.train import train
from experiments.train_options import TrainOptions
from hic_jax.training.state import TrainState
from tests.experiments import run_files

pytestmark = pytest.mark.usefixtures("one_block", "compiled_once", "without_pictures")


def _experiment():
    fields = {"channel_plan": "one_block", "epochs": 1, "batch_size": 479}
    return Experiment.of(resolve(**fields))


def _warnings(caplog):
    return [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]


def test_what_changes_the_answer_of_devices_is_said_once(tmp_path, caplog):
    experiment = _experiment()
    # Something that a user puts around it, by mistake.
    parting = optax.chain(experiment.tx, optax.scale(0.9))
    parting = dataclasses.replace(experiment, tx=parting)
    train(parting, str(tmp_path), TrainOptions(log_every=1))
    rows = run_files.rows(tmp_path)
    # Four kernels: before the second step none is known to have parted.
    assert [row["parted_tensors"] for row in rows] == [0, 4, 4]
    told = [text for text in _warnings(caplog) if "devices" in text]
    assert told == [
        "up to step 2: parameters are not what the devices answered with; something "
        "after or around the devices changes them"
    ]


def test_nothing_is_said_of_a_training_as_it_should_be(tmp_path, caplog):
    train(_experiment(), str(tmp_path), TrainOptions(log_every=1))
    assert all(row["parted_tensors"] == 0 for row in run_files.rows(tmp_path))
    assert not [text for text in _warnings(caplog) if "weights" in text]


@pytest.mark.parametrize(
    ("event", "what"),
    [
        ("undefined_weights", "are no finite numbers, and held as zero"),
        ("saturated_weights", "lie beyond what pulses reach"),
    ],
)
def test_weights_that_were_not_written_as_they_were_are_counted(caplog, event, what):
    state = _experiment().init_state()

    def with_events(state: TrainState, step: int) -> TrainState:
        group = state.opt_state.inner_states["analog"]
        *rules, devices = group.inner_state
        events = devices.events.replace(**{event: jnp.float32(7)})
        inner = (*rules, devices._replace(events=events))
        states = state.opt_state.inner_states | {
            "analog": group._replace(inner_state=inner)
        }
        opt_state = state.opt_state._replace(inner_states=states)
        return dataclasses.replace(state, opt_state=opt_state, step=jnp.int32(step))

    warn_of_programming(with_events(state, 3))
    assert not _warnings(caplog)
    warn_of_programming(with_events(state, 0))
    kernels = [x for x in jax.tree.leaves(state.params) if x.ndim > 1]
    size = sum(x.size for x in kernels)
    assert _warnings(caplog) == [f"7 of {size} initial weights {what}"]
