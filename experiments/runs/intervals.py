"""What is done between the steps of a training: rows, checkpoints, stops.

An interval is the steps that one row of metrics is of. Where intervals end follows from
their settings alone, wherever a run was interrupted.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from experiments.runs.run_folder import RunFolder
from experiments.runs.stopping import Stopped
from experiments.setup import Experiment
from experiments.train_options import TrainOptions
from hic_jax.algorithms import analog_states
from hic_jax.training.state import TrainState


class TrainingDiverged(ValueError):
    """The loss is no longer a finite number."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """Steps of one epoch that end with a row of metrics.

    Attributes:
      start: steps that were done before it.
      end: steps that are done after it.
      epoch: number of the epoch, from 0.
      batches: their places among the batches of the epoch.
      tested: whether the test images are classified after it.
      due: whether a checkpoint is due after it, whatever comes out.
    """

    start: int
    end: int
    epoch: int
    batches: slice
    tested: bool
    due: bool

    @property
    def steps(self) -> int:
        """How many steps it has."""
        return self.end - self.start


def last_step(experiment: Experiment, max_steps: int | None = None) -> int:
    """The step that a training ends with."""
    total = experiment.steps_per_epoch * experiment.config.train.epochs
    return min(total, max_steps or total)


def intervals(
    experiment: Experiment, options: TrainOptions, start: int, until: int
) -> Iterator[Interval]:
    """All from one step to another, where the last of them has a checkpoint."""
    per_epoch, log_every = experiment.steps_per_epoch, options.log_every
    last = last_step(experiment, options.max_steps)
    every = options.checkpoint_every or per_epoch
    while start < until:
        epoch, done = divmod(start, per_epoch)
        steps = min(log_every - done % log_every, per_epoch - done, until - start)
        end = start + steps
        yield Interval(
            start=start,
            end=end,
            epoch=epoch,
            batches=slice(done, done + steps),
            tested=end % per_epoch == 0 or end == last,
            due=end // every > start // every or end == until,
        )
        start = end


@dataclasses.dataclass
class OpenRun:
    """A run while it is trained.

    Attributes:
      experiment: what is trained.
      folder: run folder, open for training.
      state: training state with which it was begun, or the last one saved.
      seconds: time of a step, interval by interval.
      error: what it failed with; None while it goes well.
    """

    experiment: Experiment
    folder: RunFolder
    state: TrainState
    seconds: list[float] = dataclasses.field(default_factory=list)
    error: TrainingDiverged | None = None

    @classmethod
    def begin(
        cls, experiment: Experiment, folder: RunFolder, start: TrainState
    ) -> "OpenRun":
        """Where the folder's last checkpoint ends, or at the start."""
        state = folder.resume(start)
        warn_of_programming(state)
        folder.metrics.begin(int(state.step))
        return cls(experiment, folder, state)

    @property
    def step(self) -> int:
        """Steps after which it was begun or last saved."""
        return int(self.state.step)

    def end(
        self,
        interval: Interval,
        values: dict[str, np.ndarray],
        state: TrainState | None,
        accuracy: float | None,
        *,
        seconds: float,
        stopping: bool,
    ) -> dict[str, float]:
        """Logs an interval, and saves where a checkpoint is due.

        Args:
          interval: what has been trained.
          values: of the metrics, by name, (steps,).
          state: after it; None if it is neither tested nor due nor the last.
          accuracy: on the test images; None if it is not tested.
          seconds: time of a step.
          stopping: whether nothing is trained after it.

        Returns:
          The row of metrics.

        Raises:
          TrainingDiverged: if the loss, or a parameter that is to be saved, is not
            finite. Then nothing is logged or saved.
          CheckpointError: if a checkpoint cannot be written.
        """
        self.seconds.append(seconds)
        check_losses(values["loss"], interval.start)
        row = {
            "step": interval.end,
            "epoch": interval.end / self.experiment.steps_per_epoch,
            "learning_rate": np.asarray(
                self.experiment.schedule(interval.end - 1)
            ).item(),
            **summarise_interval(values),
        }
        metrics = self.folder.metrics
        parted = [r for r in (*metrics.rows, row) if r.get("parted_tensors")]
        if parted == [row]:
            logging.warning(
                "up to step %d: parameters are not what the devices answered with; "
                "something after or around the devices changes them", interval.end,
            )  # fmt: skip
        due = interval.due or stopping
        if accuracy is not None:
            row["test_accuracy"] = accuracy
            due |= accuracy > metrics.logged.best_accuracy
        if due:
            assert state is not None
            check_parameters(state)
            self.state = state
        metrics.log(row)
        if due:
            self.folder.save(state)
        self.folder.check()
        return row


def warn_of_programming(state: TrainState) -> None:
    """Warns, before the first step, of weights that were not written as they were."""
    if state.step > 0:
        return  # Nothing is known of them any more.
    states = analog_states(state.opt_state)
    size = sum(s.weights.size for s in states)
    for count, what in (
        ("undefined_weights", "are no finite numbers, and held as zero"),
        ("saturated_weights", "lie beyond what pulses reach"),
    ):
        if number := sum(int(getattr(s.events, count)) for s in states):
            logging.warning("%d of %d initial weights %s", number, size, what)


def check_losses(losses: np.ndarray, step: int) -> None:
    """Raises if a loss of the steps after ``step`` is not a finite number."""
    bad = np.flatnonzero(~np.isfinite(losses))
    if bad.size:
        raise TrainingDiverged(
            f"step {step + bad[0] + 1}: the loss is {losses[bad[0]]}; the last "
            "checkpoint before it is kept. A lower learning rate may help"
        )


def check_parameters(state: TrainState) -> None:
    """Raises if a parameter is not a finite number: that is not to be kept."""
    if not all(jnp.isfinite(x).all() for x in jax.tree.leaves(state.params)):
        raise TrainingDiverged(
            f"step {state.step}: parameters are not finite after it; the last "
            "checkpoint before it is kept. A lower learning rate may help"
        )


def summarise_interval(metrics: dict[str, np.ndarray]) -> dict[str, float]:
    """Means of loss and accuracy, sums of what happened to the devices."""
    means = ("loss", "accuracy")
    return {
        name: float(np.mean(x) if name in means else np.sum(x, dtype=np.float64))
        for name, x in metrics.items()
    }


def stop_if(signum: int, step: int, runs: Iterable[OpenRun]) -> None:
    """Raises `Stopped` if a signal asked for it, when the runs are saved."""
    if signum:
        for run in runs:
            run.folder.wait()
        raise Stopped(signum, step)
