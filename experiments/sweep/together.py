"""Trains several runs at once that differ in their seeds: all in one step.

Each gets the run folder that `experiments.train` would make of it alone, but for
rounding, and can be gone on with by either.
"""

import contextlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from experiments import train as train_lib
from experiments import train_options
from experiments.config import changed, differences
from experiments.runs.intervals import (
    OpenRun,
    TrainingDiverged,
    intervals,
    last_step,
    stop_if,
)
from experiments.runs.run_folder import RunFolder
from experiments.runs.stopping import Requests, stop_requests
from experiments.setup import Experiment
from experiments.train_options import TrainOptions
from hic_jax.inference import network
from hic_jax.training import chips, steps


def train_together(
    experiments: Sequence[Experiment],
    workdirs: Sequence[str],
    options: TrainOptions = train_options.USUAL,
) -> list[TrainingDiverged | None]:
    """Trains all, each from where its folder's last checkpoint ends.

    Those behind come first: all are trained at once that have done the same number of
    steps, until they reach the next ones, who then join them.

    Args:
      experiments: those of configurations that differ in their seeds only.
      workdirs: a run folder for each.
      options: how much is trained, kept and told.

    Returns:
      For each what it failed with, or None. A run that fails does not stop the others.

    Raises:
      ValueError: if they differ in more than their seeds.
      RunFolderError: if a folder cannot be used.
      CheckpointError: if a checkpoint cannot be written, or none can be read.
      Stopped: after a signal that asks to stop, when all are saved.
    """
    first, *others = (changed(one.config, seed=0).to_dict() for one in experiments)
    for other in others:
        if different := differences(first, other):
            raise ValueError(
                f"runs that are trained together differ in more than their seeds: "
                f"{'; '.join(different)}"
            )
    with contextlib.ExitStack() as stack:
        keep = options.keep_checkpoints
        folders = [
            stack.enter_context(
                RunFolder.for_training(path, one.config, keep_checkpoints=keep)
            )
            for path, one in zip(workdirs, experiments, strict=True)
        ]
        stop = stack.enter_context(stop_requests())
        runs = _begin(experiments, folders)
        last = last_step(experiments[0], options.max_steps)
        while behind := [run for run in runs if run.step < last and not run.error]:
            step = min(run.step for run in behind)
            until = min([last, *(run.step for run in behind if run.step > step)])
            _advance(runs, step, until, options, stop)
        for run in runs:
            if not run.error:
                train_lib.summarise(run, options)
                stop_if(stop.asked(), run.step, [])
    return [run.error for run in runs]


def _begin(
    experiments: Sequence[Experiment], folders: Sequence[RunFolder]
) -> list[OpenRun]:
    """All runs, where their last checkpoints end."""
    first = experiments[0]
    states = chips.init_states(
        jnp.stack([experiment.init_key for experiment in experiments]),
        jnp.stack([experiment.device_key for experiment in experiments]),
        first.model,
        first.make_tx,
        first.task.example.shape,
        first.task.example.dtype,
    )
    starts = chips.unstack(states, len(folders))
    return list(map(OpenRun.begin, experiments, folders, starts))


def _advance(
    runs: list[OpenRun], step: int, until: int, options: TrainOptions, stop: Requests
) -> None:
    """Trains those at once that have done ``step`` steps, ``until`` another one.

    Each has the same place among as many as ever: what the others do there changes
    nothing, but how many there are decides how a computer rounds. The places of those
    at other steps, or that failed, are filled with a run that is trained, for nothing.
    """
    # ---- set up
    group = {i: run for i, run in enumerate(runs) if run.step == step and not run.error}
    first = runs[0].experiment
    mesh = chips.make_mesh(len(runs))
    filled = chips.filled(runs, mesh)
    order_keys, augment_keys, read_keys = (
        jnp.stack([getattr(run.experiment, name) for run in filled])
        for name in ("order_key", "augment_key", "read_key")
    )
    fold_in = jax.vmap(jax.random.fold_in, in_axes=(0, None))
    train_set, test_set = (
        chips.everywhere(first.split(split), mesh) for split in ("train", "test")
    )
    any_of_them = next(iter(group.values()))
    starts = [group.get(i, any_of_them).state for i in range(len(filled))]
    states = chips.spread(chips.stack(starts), mesh)
    train_steps = steps.make_runner(
        chips.make_step(
            first.model,
            first.tx,
            mesh=mesh,
            augmentation=first.config.train.augmentation,
            label_smoothing=first.config.train.label_smoothing,
        ),
        augment_keys,
    )

    # ---- train
    for interval in intervals(first, options, step, until):
        orders = chips.epoch_orders(
            fold_in(order_keys, interval.epoch),
            lambda key: first.task.order(key, first.config.train.batch_size),
        )
        started = time.perf_counter()
        states, metrics = train_steps(states, train_set, orders[interval.batches])
        metrics = jax.device_get(metrics)
        # Its share of the time of all.
        seconds = (time.perf_counter() - started) / interval.steps / len(group)
        accuracies: Sequence[float | None] = [None] * len(runs)
        held: Sequence[Any] = [None] * len(runs)
        if interval.tested:
            keys = fold_in(read_keys, interval.end)
            accuracies = network.accuracies(keys, first.model, states, test_set)
        signum = stop.asked()
        if interval.tested or interval.due or signum:
            held = chips.unstack(states, len(runs))
        for i, run in group.items():
            if run.error:
                continue  # What becomes of it is thrown away.
            own = {name: values[:, i] for name, values in metrics.items()}
            try:
                run.end(
                    interval, own, held[i], accuracies[i],
                    seconds=seconds, stopping=signum > 0,
                )  # fmt: skip
            except TrainingDiverged as error:
                run.error = error
        stop_if(signum, interval.end, group.values())
        if all(run.error for run in group.values()):
            return
