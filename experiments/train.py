r"""Trains a ResNet, in hybrid PCM or in floating point, into a run folder.

    python -m experiments.train --workdir=runs/digits
    python -m experiments.train --workdir=runs/fp32 --algorithm=fp32
    python -m experiments.train --workdir=runs/c10 --dataset=cifar10 --depth=32 \
        --epochs=200

Started again with the same flags it goes on from the last checkpoint. SIGTERM and
Ctrl-C make it save at the next row of metrics, and exit with the status 143 and 130.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rich.table
from absl import flags, logging
from tqdm import tqdm

from experiments import cli, device_warnings, launch, terminal, words
from experiments.config import Config, changed_flags, define_flags, from_flags
from experiments.runs.hardware import hardware_summary, read_energy_table
from experiments.runs.run_folder import RunFolder, check_unused_or_same
from experiments.runs.stopping import Requests, Stopped, stop_requests
from experiments.runs.stored import RunFolderError
from experiments.runs.writing import writing
from experiments.setup import Experiment
from hic_jax.accounting import ENDURANCE_CYCLES, EnergyTable
from hic_jax.training.state import TrainState


class TrainingDiverged(RuntimeError):
    """The loss is no longer a finite number."""


def train(
    experiment: Experiment,
    workdir: str,
    *,
    keep_checkpoints: int = 2,
    **options: Any,
) -> dict:
    """Trains, and goes on where the folder's last checkpoint ends.

    Args:
      experiment: network, data and transformation.
      workdir: run folder.
      keep_checkpoints: how many of the newest stay, beside that of the highest test
        accuracy.
      **options: of `train_in`.

    Returns:
      The summary, as in ``summary.json``.

    Raises:
      RunFolderError: if the folder cannot be used.
      CheckpointError: if a checkpoint cannot be written, or none can be read.
      TrainingDiverged: at a loss that is not finite; the last checkpoint stays.
      Stopped: after a signal that asks to stop, when all is saved.
    """
    with contextlib.closing(
        RunFolder.for_training(
            workdir, experiment.config, keep_checkpoints=keep_checkpoints
        )
    ) as folder:
        return train_in(experiment, folder, **options)


def train_in(
    experiment: Experiment,
    folder: RunFolder,
    *,
    max_steps: int | None = None,
    log_every: int = 50,
    checkpoint_every: int | None = None,
    endurance_cycles: float = ENDURANCE_CYCLES,
    energy_table: EnergyTable | None = None,
    progress: bool = True,
) -> dict:
    """`train` in a folder that is open for training, and stays so.

    Args:
      experiment: network, data and transformation.
      folder: run folder.
      max_steps: stop after this many steps in all.
      log_every: steps between two rows of metrics.
      checkpoint_every: steps between two checkpoints, each at the next row of metrics;
        None for an epoch. The highest test accuracy and the last step have one, too.
      endurance_cycles: of a device, for the summary.
      energy_table: energy of every operation, for the summary; None for the published
        one.
      progress: whether to show a bar.

    Returns:
      The summary.
    """
    summarise = functools.partial(
        hardware_summary,
        experiment,
        endurance_cycles=endurance_cycles,
        energy_table=energy_table or EnergyTable(),
    )
    every = checkpoint_every or experiment.steps_per_epoch
    last = last_step(experiment, max_steps)
    bar = terminal.bar(last, unit="steps", disable=not progress)
    try:
        with stop_requests() as stop, bar:
            summary = _train(
                experiment, folder, last, log_every, every, stop, summarise, bar
            )
            if signum := stop.asked():  # There was nothing more to train.
                raise Stopped(signum, summary["steps"])
    except Stopped as stopped:
        logging.warning("%s", stopped)
        raise
    return summary


def _train(
    experiment: Experiment,
    folder: RunFolder,
    last: int,
    log_every: int,
    checkpoint_every: int,
    stop: Requests,
    summarise: Callable[..., dict],
    bar: tqdm,
) -> dict:
    """`train_in`; ``summarise`` says what it took."""
    # ---- set up
    config = experiment.config
    algorithm, epochs = config.train.algorithm, config.train.epochs
    bar.set_description_str(f"{algorithm}, preparing")
    train_set = experiment.arrays("train")
    test_set = experiment.arrays("test")
    run = experiment.runner()
    # Python traces the step while XLA draws and programs the initial state.
    with futures.ThreadPoolExecutor(1) as beside:
        start = beside.submit(experiment.init_state)
        if not folder.summary():  # Otherwise there may be nothing to train.
            batches = experiment.epoch_order(0)[: min(log_every, last)]
            run.compile(experiment.state_shapes(), train_set, batches)
    state = folder.resume(start.result())
    device_warnings.of_programming(state)
    step = int(state.step)
    folder.begin_metrics(step)
    bar.initial = bar.n = step
    bar.unpause()  # What was done before is no measure of the time that is left.

    # ---- train
    seconds = []
    while step < last:
        epoch, done = divmod(step, experiment.steps_per_epoch)
        bar.set_description_str(f"{algorithm}, epoch {epoch + 1}/{epochs}")
        # Rows end at the same steps wherever the run was interrupted.
        interval = min(log_every - done % log_every, last - step)
        batches = experiment.epoch_order(epoch)[done : done + interval]
        started = time.perf_counter()
        state, metrics = run(state, train_set, batches, bar.update)
        metrics = jax.device_get(metrics)
        seconds.append((time.perf_counter() - started) / len(batches))
        check_losses(metrics["loss"], step)

        step += len(batches)
        row = interval_row(experiment, step, metrics)
        device_warnings.of_interval(row, folder.metrics())
        bar.set_postfix_str(
            f"loss {row['loss']:.3f}, training accuracy {100 * row['accuracy']:.1f} %"
        )
        due = step // checkpoint_every > (step - len(batches)) // checkpoint_every
        if step % experiment.steps_per_epoch == 0 or step == last:
            row["test_accuracy"] = experiment.test_accuracy(state, test_set)
            due |= step == last or row["test_accuracy"] > folder.logged.best_accuracy
        signum = stop.asked()
        if due or signum:
            check_parameters(state)
            folder.log(row)
            folder.save(state)
        else:
            folder.log(row)
        folder.check()
        if signum:
            folder.wait()
            raise Stopped(signum, step)

    # ---- summarise
    end = folder.logged.last
    if "test_accuracy" not in end:  # It was stopped there, between two epochs.
        end = end | {"test_accuracy": experiment.test_accuracy(state, test_set)}
    summary = {
        "algorithm": config.train.algorithm,
        "dataset": config.train.dataset,
        "num_classes": experiment.dataset.num_classes,
        "test_accuracy": end["test_accuracy"],
        "train_loss": end["loss"],
        "steps": step,
        **summarise(state, folder.logged.sums),
    }
    if fault := folder.metrics_fault():
        summary["metrics_fault"] = fault
    if seconds:  # The first interval compiles.
        summary["seconds_per_step"] = float(np.median(seconds[1:] or seconds))
    folder.wait()
    from experiments import plots  # Not before: Matplotlib loads as long as JAX does.

    with writing(folder.path):
        plots.learning_curves(
            folder.path / "learning_curves.png",
            {config.train.algorithm: folder.metrics()},
        )
    # What was read of the devices holds until they are trained further.
    stale = ["drift"] if folder.summary().get("steps") != step else []
    stale.append("metrics_fault")
    # Last of all: a run whose summary names its last step needs nothing more.
    return folder.update_summary(stale=stale, **summary)


def last_step(experiment: Experiment, max_steps: int | None = None) -> int:
    """The step that a training ends with."""
    total = experiment.steps_per_epoch * experiment.config.train.epochs
    return min(total, max_steps or total)


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


def interval_row(
    experiment: Experiment, step: int, metrics: dict[str, np.ndarray]
) -> dict[str, float]:
    """The row of the metrics of an interval that ends with ``step``."""
    return {
        "step": step,
        "epoch": step / experiment.steps_per_epoch,
        "learning_rate": float(experiment.schedule(step - 1)),
        **summarise_interval(metrics),
    }


def summarise_interval(metrics: dict[str, np.ndarray]) -> dict[str, float]:
    """Means of loss and accuracy, sums of what happened to the devices."""
    means = ("loss", "accuracy")
    return {
        name: float(np.mean(x) if name in means else np.sum(x, dtype=np.float64))
        for name, x in metrics.items()
    }


def main(argv: list[str]) -> None:
    """Trains as the flags say."""
    launch.start(argv)
    options = flags.FLAGS
    with launch.clear_errors(ValueError):
        config = from_flags()
        option_values = options_from_flags()
        check_unused_or_same(options.workdir, config)
        experiment = Experiment.of(config, options.mesh)
    terminal.note(f"{described(config)} (all of it: {options.workdir}/config.json)")
    with launch.clear_errors(RunFolderError, TrainingDiverged, OSError):
        summary = train(experiment, options.workdir, **option_values)
    terminal.show(table(config, summary), f"Run folder: {options.workdir}")


def described(config: Config) -> str:
    """A training in a line: what is trained on what, and flags that were given."""
    flags_given = ", ".join(changed_flags(config)) or "all flags at their defaults"
    return f"{config.train.algorithm} on {config.train.dataset}: {flags_given}"


def table(config: Config, summary: dict[str, Any]) -> rich.table.Table:
    """What came out of a training."""
    rows = outcome([summary]) | {
        "training loss": f"{summary['train_loss']:.3f}",
        "steps": f"{summary['steps']:,}",
    }
    if "seconds_per_step" in summary:
        rows["time of a step"] = f"{1000 * summary['seconds_per_step']:,.0f} ms"
    return terminal.table(("", ""), rows.items(), title=described(config))


def outcome(summaries: Sequence[dict[str, Any]]) -> dict[str, str]:
    """What trainings of one configuration, but for their seeds, ended with."""
    accuracies = [summary["test_accuracy"] for summary in summaries]
    first = summaries[0]
    rows = {
        "test accuracy": words.percent(accuracies),
        "inference model": words.kilobytes(first["inference_bits"] / 8000),
        "memory of the weights in training": words.kilobytes(
            first["training_bits"] / 8000
        ),
    }
    if first["write_erase_cycles"]:
        for kind, name in (("multilevel", "multi-level"), ("binary", "binary")):
            kinds = [summary["write_erase_cycles"][kind] for summary in summaries]
            rows[f"most write-erase cycles, {name}"] = words.most_cycles(kinds)
    return rows


def define_launch_flags() -> None:
    """Flags of this launcher, beside those of the configuration."""
    cli.define("workdir", cli.path(), None, "Run folder.", required=True)
    launch.define_flags()
    define_option_flags()


def define_option_flags() -> None:
    """Flags that say how much is trained and reported, not what."""
    cli.define(
        "max_steps",
        cli.integer(1),
        None,
        "Steps to stop after, in all; the schedule stays that of all epochs.",
    )
    cli.define("log_every", cli.integer(1), 50, "Steps between two rows of metrics.")
    cli.define(
        "keep_checkpoints",
        cli.integer(1),
        2,
        "Newest checkpoints that stay, beside that of the highest test accuracy.",
    )
    cli.define(
        "checkpoint_every",
        cli.integer(1),
        None,
        "Steps between two checkpoints, each at the next row of metrics. The highest "
        "test accuracy and the last step have one, too.",
        usual="an epoch",
    )
    cli.define(
        "endurance_cycles",
        cli.number(1.0, 1e18),
        ENDURANCE_CYCLES,
        "Write-erase cycles that a device endures, for the summary.",
    )
    cli.define(
        "energy_table",
        cli.path(),
        None,
        "JSON file with the energy of operations in pJ, for the summary: fields of "
        "hic_jax.accounting.EnergyTable. Those that it lacks have their defaults.",
    )


def options_from_flags() -> dict[str, Any]:
    """Keywords of `train` as the flags of `define_option_flags` say.

    Raises:
      ValueError: if there is no such energy table.
    """
    options = flags.FLAGS
    return {
        "max_steps": options.max_steps,
        "log_every": options.log_every,
        "keep_checkpoints": options.keep_checkpoints,
        "checkpoint_every": options.checkpoint_every,
        "endurance_cycles": options.endurance_cycles,
        "energy_table": read_energy_table(options.energy_table),
    }


if __name__ == "__main__":
    launch.run(main, define_launch_flags, define_flags)
