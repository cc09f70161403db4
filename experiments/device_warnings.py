"""What a launcher says, once, of weights that do not reach the devices as they are."""

from collections.abc import Sequence

from absl import logging

from hic_jax.algorithms import analog_states
from hic_jax.training.state import TrainState


def of_programming(state: TrainState) -> None:
    """Warns of initial weights that were not written as they were.

    Args:
      state: before the first step; of a later one, nothing is known of it.
    """
    if state.step > 0:
        return
    states = analog_states(state.opt_state)
    size = sum(s.weights.size for s in states)
    for count, what in (
        ("undefined_weights", "are no finite numbers, and held as zero"),
        ("saturated_weights", "lie beyond what pulses reach"),
    ):
        if number := sum(int(getattr(s.events, count)) for s in states):
            logging.warning("%d of %d initial weights %s", number, size, what)


def of_interval(row: dict[str, float], earlier: Sequence[dict[str, float]]) -> None:
    """Warns the first time that parameters are not what devices hold.

    Args:
      row: of metrics.
      earlier: rows before it.
    """
    if row.get("parted_tensors") and not any(r.get("parted_tensors") for r in earlier):
        logging.warning(
            "up to step %d: parameters are not what the devices answered with; "
            "something after or around the devices changes them",
            row["step"],
        )
