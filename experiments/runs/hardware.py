"""What a trained network takes of its hardware, for the summary of a run."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax

from experiments.setup import Experiment
from hic_jax import accounting, analog_weights, crossbar
from hic_jax.accounting import EnergyTable
from hic_jax.training.state import TrainState

ESTIMATE = "an estimate: counted operations times a table of published energies"


def hardware_summary(
    experiment: Experiment,
    state: TrainState,
    sums: dict[str, float],
    *,
    endurance_cycles: float,
    energy_table: EnergyTable,
) -> dict[str, Any]:
    """Model size, wear, operations and energy of a trained network.

    Tests between epochs do not count as training.

    Args:
      experiment: what was run.
      state: after it.
      sums: those of its metrics, over all rows from the first step.
      endurance_cycles: as of `TrainOptions`.
      energy_table: as of `TrainOptions`.

    Returns:
      The fields of `hic_jax.model_size`, and
        optimizer_bits: floating-point buffers of the optimizer, not in the others;
        write_erase_cycles: of `hic_jax.endurance`; None without devices or counters;
        operations: of the ``inference`` of one image, or one window of text, of a
          ``training_step``, and of all the ``training``; ``arrays`` that hold each
          analog weight;
        energy: of an inference and of all the training, J, and the ``table``.
      Of a training whose pulses were not counted there are neither operations nor
      energy: they are None.
    """
    config = experiment.config
    analog = config.spec is not None
    weights = analog_weights(state.opt_state) if analog else {}
    counted = config.spec is not None and config.spec.track_wear

    arrays = config.crossbar or crossbar.CrossbarSpec()
    image, batch = (
        _products(experiment, state, n) for n in (1, config.train.batch_size)
    )
    inference = accounting.passes(image, weights, arrays).forward
    step = accounting.passes(batch, weights, arrays)
    training: accounting.Operations | None = None
    if not analog:
        training = step.total * int(state.step)
    elif counted:
        training = step.total * int(state.step) + accounting.writes(
            weights, steps=int(state.step), carried_pulses=sums["set_pulses"]
        )
    joules = functools.partial(accounting.energy, table=energy_table)
    return {
        **accounting.model_size(
            weights, state.params, kernel_bits=config.recipe.kernel_bits
        ),
        "optimizer_bits": accounting.optimizer_bits(state.opt_state),
        "write_erase_cycles": accounting.endurance(
            weights, endurance_cycles=endurance_cycles
        )
        if counted
        else None,
        "operations": {
            "inference": dataclasses.asdict(inference),
            "training_step": dataclasses.asdict(step),
            "training": training and dataclasses.asdict(training),
            "arrays": accounting.array_counts(image, weights, arrays),
        },
        "energy": {
            "basis": ESTIMATE,
            "inference_j": joules(inference),
            "training_j": training and joules(training),
            "table": dataclasses.asdict(energy_table),
        },
    }


def read_energy_table(path: str | None) -> EnergyTable:
    """The table in a JSON file; the default one without a file.

    Raises:
      ValueError: if there is no such file, or no such table in it.
    """
    if not path:
        return EnergyTable()
    try:
        return EnergyTable.from_json(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"energy_table={path}: {error}") from error


def _products(
    experiment: Experiment, state: TrainState, examples: int
) -> list[accounting.Product]:
    """The products of a forward pass of so many images, or windows of text."""

    def forward(params, x):
        variables = {
            "params": params,
            "batch_stats": state.batch_stats,
            crossbar.COLLECTION: state.ranges,
        }
        rngs = crossbar.rngs(jax.random.key(0))  # Draws are traced, but not made.
        return experiment.model.apply(variables, x, train=False, rngs=rngs)

    example = experiment.task.example
    shape = (examples, *example.shape)
    return accounting.products(
        forward, state.params, jax.ShapeDtypeStruct(shape, example.dtype)
    )
