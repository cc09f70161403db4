"""Trains several runs at once that differ in their seeds: all in one step.

Each gets the run folder that `experiments.train` would make of it alone, but for
rounding, and can be gone on with by either.
"""

import contextlib
import dataclasses
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments import device_warnings
from experiments import train as train_lib
from experiments.config import differences
from experiments.runs.run_folder import RunFolder
from experiments.runs.stopping import Requests, Stopped, stop_requests
from experiments.setup import Experiment
from hic_jax.training import chips, steps
from hic_jax.training.state import TrainState


@dataclasses.dataclass
class _Member:
    """A run of those that are trained at once.

    Attributes:
      experiment: what is trained.
      folder: open for training.
      state: as it was last saved.
      seconds: of a step, its share of that of all, interval by interval.
      error: what it failed with; None while it goes well.
    """

    experiment: Experiment
    folder: RunFolder
    state: TrainState
    seconds: list[float] = dataclasses.field(default_factory=list)
    error: train_lib.TrainingDiverged | None = None

    @property
    def step(self) -> int:
        """Steps it has done."""
        return int(self.state.step)


def train_together(
    experiments: Sequence[Experiment],
    workdirs: Sequence[str],
    *,
    max_steps: int | None = None,
    log_every: int = 50,
    keep_checkpoints: int = 2,
    checkpoint_every: int | None = None,
    **options,
) -> list[train_lib.TrainingDiverged | None]:
    """Trains all, each from where its folder's last checkpoint ends.

    Those behind come first: all are trained at once that have done the same number of
    steps, until they reach the next ones, who then join them.

    Args:
      experiments: of configurations that differ in their seeds only.
      workdirs: a run folder for each.
      max_steps: stop after this many steps in all.
      log_every: steps between two rows of metrics.
      keep_checkpoints: as of `experiments.train.train`.
      checkpoint_every: as of `experiments.train.train`.
      **options: others of `experiments.train.train`.

    Returns:
      For each what it failed with, or None. A run that fails does not stop the others.

    Raises:
      ValueError: if they differ in more than their seeds.
      RunFolderError: if a folder cannot be used.
      CheckpointError: if a checkpoint cannot be written, or none can be read.
      Stopped: after a signal that asks to stop, when all are saved.
    """
    for experiment in experiments[1:]:
        check_same_but_for_seed(experiments[0], experiment)
    every = checkpoint_every or experiments[0].steps_per_epoch
    with contextlib.ExitStack() as stack:
        folders = [
            stack.enter_context(
                contextlib.closing(
                    RunFolder.for_training(
                        workdir, experiment.config, keep_checkpoints=keep_checkpoints
                    )
                )
            )
            for workdir, experiment in zip(workdirs, experiments, strict=True)
        ]
        with stop_requests() as stop:
            members = _begin(experiments, folders)
            last = train_lib.last_step(experiments[0], max_steps)
            while behind := [m for m in members if m.step < last and not m.error]:
                step = min(m.step for m in behind)
                until = min([last, *(m.step for m in behind if m.step > step)])
                _advance(members, step, until, last, log_every, every, stop)
        for member in members:
            if not member.error:
                _finish(
                    member,
                    max_steps=max_steps,
                    log_every=log_every,
                    checkpoint_every=checkpoint_every,
                    **options,
                )
    return [member.error for member in members]


def check_same_but_for_seed(experiment: Experiment, other: Experiment) -> None:
    """Raises `ValueError` if two experiments differ in more than their seeds."""
    different = differences(dataclasses.asdict(experiment.config), other.config)
    more = [text for text in different if not text.startswith("train.seed:")]
    if more:
        raise ValueError(
            f"runs that are trained together differ in more than their seeds: "
            f"{'; '.join(more)}"
        )


def _begin(
    experiments: Sequence[Experiment], folders: Sequence[RunFolder]
) -> list[_Member]:
    """All runs, where their last checkpoints end."""
    first = experiments[0]
    states = chips.init_states(
        jnp.stack([experiment.init_key for experiment in experiments]),
        jnp.stack([experiment.device_key for experiment in experiments]),
        first.model,
        first.make_tx,
        first.dataset.image_shape,
    )
    members = []
    for experiment, folder, state in zip(
        experiments, folders, chips.unstack(states, len(folders)), strict=True
    ):
        state = folder.resume(state)
        device_warnings.of_programming(state)
        folder.begin_metrics(int(state.step))
        members.append(_Member(experiment, folder, state))
    return members


def _advance(
    members: list[_Member],
    step: int,
    until: int,
    last: int,
    log_every: int,
    checkpoint_every: int,
    stop: Requests,
) -> None:
    """Trains those at once that have done the same number of steps.

    Each has the same place among as many as ever: what the others do there changes
    nothing, but how many there are decides how a computer rounds.

    Args:
      members: all runs; the places of those at other steps, or that failed, are filled
        with a run that is trained, for nothing.
      step: what those that are trained have done.
      until: the step to end with.
      last: the last step of the training.
      log_every: steps between two rows of metrics.
      checkpoint_every: steps between two checkpoints.
      stop: says when to stop before.
    """
    # ---- set up
    group = {i: m for i, m in enumerate(members) if m.step == step and not m.error}
    first = members[0].experiment
    mesh = chips.make_mesh(len(members))
    filled = chips.filled(members, mesh)
    order_keys, augment_keys, read_keys = (
        jnp.stack([getattr(member.experiment, name) for member in filled])
        for name in ("order_key", "augment_key", "read_key")
    )
    fold_in = jax.vmap(jax.random.fold_in, in_axes=(0, None))
    train_set, test_set = (
        chips.everywhere(first.arrays(split), mesh) for split in ("train", "test")
    )
    any_of_them = next(iter(group.values()))
    starts = [group.get(i, any_of_them).state for i in range(len(filled))]
    states = chips.spread(chips.stack(starts), mesh)
    run = steps.make_runner(
        chips.make_step(
            first.model,
            first.tx,
            augment_keys,
            mesh=mesh,
            augmentation=first.config.train.augmentation,
            label_smoothing=first.config.train.label_smoothing,
        )
    )

    # ---- train
    while step < until and not all(member.error for member in group.values()):
        epoch, done = divmod(step, first.steps_per_epoch)
        orders = chips.epoch_orders(
            fold_in(order_keys, epoch),
            len(first.dataset.train_labels),
            first.config.train.batch_size,
        )
        # Rows end at the same steps wherever the runs were interrupted.
        interval = min(log_every - done % log_every, until - step)
        batches = orders[done : done + interval]
        started = time.perf_counter()
        states, metrics = run(states, train_set, batches)
        metrics = jax.device_get(metrics)
        seconds = (time.perf_counter() - started) / len(batches) / len(group)

        step += len(batches)
        signum = stop.asked()
        due = step // checkpoint_every > (step - len(batches)) // checkpoint_every
        due |= step == until or signum > 0
        tested = step % first.steps_per_epoch == 0 or step == last
        if tested:
            accuracies = chips.accuracies(
                fold_in(read_keys, step), first.model, states, test_set
            )
        if tested or due:
            held = chips.unstack(states, len(members))
        for i, member in group.items():
            if member.error:
                continue  # What becomes of it is thrown away.
            own = {name: values[:, i] for name, values in metrics.items()}
            member.seconds.append(seconds)
            try:
                train_lib.check_losses(own["loss"], step - len(batches))
                row = train_lib.interval_row(member.experiment, step, own)
                device_warnings.of_interval(row, member.folder.metrics())
                best = tested and accuracies[i] > member.folder.logged.best_accuracy
                if tested:
                    row["test_accuracy"] = accuracies[i]
                if due or best:
                    train_lib.check_parameters(held[i])
                    member.state = held[i]
                member.folder.log(row)
                if due or best:
                    member.folder.save(member.state)
                member.folder.check()
            except train_lib.TrainingDiverged as error:
                member.error = error
        if signum:
            for member in group.values():
                member.folder.wait()
            raise Stopped(signum, step)


def _finish(member: _Member, **options) -> None:
    """Has the summary of a run made, of which nothing is left to be trained."""
    train_lib.train_in(member.experiment, member.folder, progress=False, **options)
    if member.seconds:  # The first interval compiles.
        seconds = float(np.median(member.seconds[1:] or member.seconds))
        member.folder.update_summary(seconds_per_step=seconds)
