r"""Trains a network, in hybrid PCM or in floating point, into a run folder.

    python -m experiments.train --workdir=runs/digits
    python -m experiments.train --workdir=runs/fp32 --algorithm=fp32
    python -m experiments.train --workdir=runs/c10 --dataset=cifar10 --depth=32 \
        --epochs=200
    python -m experiments.train --workdir=runs/text --dataset=text:FILE --model=gpt \
        --optimizer=adamw --learning_rate=0.016 --batch_size=32 --epochs=4

Started again with the same flags it goes on from the last checkpoint. SIGTERM and
Ctrl-C make it save at the next row of metrics, and exit with the status 143 and 130.
"""

import time
from collections.abc import Sequence
from concurrent import futures
from typing import Any

import jax
import numpy as np
import rich.table
from absl import flags, logging
from tqdm import tqdm

from experiments import config_flags, launch, terminal, train_options, words
from experiments.config import Config, changed_flags
from experiments.runs import files
from experiments.runs.hardware import hardware_summary
from experiments.runs.intervals import OpenRun, intervals, last_step, stop_if
from experiments.runs.run_folder import RunFolder, check_unused_or_same
from experiments.runs.stopping import Requests, Stopped, stop_requests
from experiments.runs.writing import writing
from experiments.setup import Experiment
from experiments.train_options import TrainOptions
from hic_jax.accounting import model_size
from hic_jax.training.state import TrainState

# Widths, bits, to which kernels of a digital network are rounded after training.
POST_TRAINING_BITS = (8, 4)


def train(
    experiment: Experiment, workdir: str, options: TrainOptions = train_options.USUAL
) -> dict:
    """Trains, and goes on where the folder's last checkpoint ends.

    Returns:
      The summary, as in ``summary.json``.

    Raises:
      RunFolderError: if the folder cannot be used.
      CheckpointError: if a checkpoint cannot be written, or none can be read.
      TrainingDiverged: at a loss that is not finite; the last checkpoint stays.
      Stopped: after a signal that asks to stop, when all is saved.
    """
    keep = options.keep_checkpoints
    with RunFolder.for_training(
        workdir, experiment.config, keep_checkpoints=keep
    ) as folder:
        return train_in(experiment, folder, options)


def train_in(
    experiment: Experiment,
    folder: RunFolder,
    options: TrainOptions = train_options.USUAL,
) -> dict:
    """`train` in a folder that is open for training, and stays so."""
    last = last_step(experiment, options.max_steps)
    bar = terminal.bar(last, unit="steps", disable=not options.progress)
    try:
        with stop_requests() as stop, bar:
            run = _train(experiment, folder, options, stop, bar)
            summary = summarise(run, options)
            stop_if(stop.asked(), summary["steps"], [])  # Nothing was left to train.
    except Stopped as stopped:
        logging.warning("%s", stopped)
        raise
    return summary


def _train(
    experiment: Experiment,
    folder: RunFolder,
    options: TrainOptions,
    stop: Requests,
    bar: tqdm,
) -> OpenRun:
    """Trains to the end; ``bar`` shows how far it is."""
    # ---- set up
    algorithm = experiment.config.train.algorithm
    epochs = experiment.config.train.epochs
    bar.set_description_str(f"{algorithm}, preparing")
    train_set = experiment.split("train")
    test_set = experiment.split("test")
    step = experiment.runner()
    # Python traces the step while XLA draws and programs the initial state.
    with futures.ThreadPoolExecutor(1) as beside:
        start = beside.submit(experiment.init_state)
        if not folder.summary():  # Otherwise there may be nothing to train.
            batches = experiment.epoch_order(0)[: min(options.log_every, bar.total)]
            step.compile(experiment.state_shapes(), train_set, batches)
    run = OpenRun.begin(experiment, folder, start.result())
    state = run.state
    bar.initial = bar.n = run.step
    bar.unpause()  # What was done before is no measure of the time that is left.

    # ---- train
    for interval in intervals(experiment, options, run.step, bar.total):
        bar.set_description_str(f"{algorithm}, epoch {interval.epoch + 1}/{epochs}")
        batches = experiment.epoch_order(interval.epoch)[interval.batches]
        started = time.perf_counter()
        state, metrics = step(state, train_set, batches, bar.update)
        metrics = jax.device_get(metrics)
        seconds = (time.perf_counter() - started) / interval.steps
        accuracy = None
        if interval.tested:
            accuracy = experiment.test_accuracy(state, test_set)
        signum = stop.asked()
        row = run.end(
            interval, metrics, state, accuracy, seconds=seconds, stopping=signum > 0
        )
        bar.set_postfix_str(
            f"loss {row['loss']:.3f}, training accuracy {100 * row['accuracy']:.1f} %"
        )
        stop_if(signum, interval.end, [run])
    return run


def summarise(run: OpenRun, options: TrainOptions) -> dict:
    """Writes the summary of a run of which nothing is left to train."""
    experiment, folder, config = run.experiment, run.folder, run.experiment.config
    logged = folder.metrics.logged
    end = logged.last
    if "test_accuracy" not in end:  # It was stopped there, between two epochs.
        test_set = experiment.split("test")
        end = end | {"test_accuracy": experiment.test_accuracy(run.state, test_set)}
    summary = {
        "algorithm": config.train.algorithm,
        "dataset": config.train.dataset,
        "num_classes": experiment.dataset.num_classes,
        "test_accuracy": end["test_accuracy"],
        "train_loss": end["loss"],
        **experiment.test_summary(run.state),
        "steps": run.step,
        **hardware_summary(
            experiment,
            run.state,
            logged.sums,
            endurance_cycles=options.endurance_cycles,
            energy_table=options.energy_table,
        ),
    }
    if config.spec is None and config.recipe.kernel_bits == 32:
        summary["post_training"] = post_training(experiment, run.state)
    if fault := folder.metrics.fault():
        summary["metrics_fault"] = fault
    if run.seconds:  # The first interval compiles.
        summary["seconds_per_step"] = float(np.median(run.seconds[1:] or run.seconds))
    folder.wait()
    from experiments import plots  # Not before: Matplotlib loads as long as JAX does.

    with writing(folder.path):
        plots.learning_curves(
            folder.path / "learning_curves.png",
            {config.train.algorithm: folder.metrics.rows},
            config.train.tested_on,
        )
        if (sample := experiment.sample(run.state)) is not None:
            files.write_text(folder.path / "sample.txt", sample)
    # What was read of the devices holds until they are trained further.
    trained = folder.summary().get("steps") != run.step
    stale = ("metrics_fault", "drift") if trained else ("metrics_fault",)
    # Last of all: a run whose summary names its last step needs nothing more.
    return folder.update_summary(stale=stale, **summary)


def post_training(
    experiment: Experiment, state: TrainState
) -> dict[str, dict[str, float]]:
    """Accuracy and size of a digital network whose kernels are rounded afterwards."""
    test_set = experiment.split("test")
    return {
        f"int{bits}": {
            "test_accuracy": experiment.quantised_accuracy(state, test_set, bits),
            "inference_bits": model_size({}, state.params, kernel_bits=bits)[
                "inference_bits"
            ],
        }
        for bits in POST_TRAINING_BITS
    }


def main(argv: list[str]) -> None:
    """Trains as the flags say."""
    launch.start(argv)
    given = flags.FLAGS
    config = config_flags.from_flags()
    options = train_options.from_flags()
    check_unused_or_same(given.workdir, config)
    experiment = Experiment.of(config, given.mesh)
    terminal.note(f"{described(config)} (all of it: {given.workdir}/config.json)")
    summary = train(experiment, given.workdir, options)
    terminal.show(table(config, summary), f"Run folder: {given.workdir}")


def described(config: Config) -> str:
    """A training in a line: what is trained on what, and flags that were given."""
    flags_given = ", ".join(changed_flags(config)) or "all flags at their defaults"
    return f"{config.train.algorithm} on {config.train.dataset}: {flags_given}"


def table(config: Config, summary: dict[str, Any]) -> rich.table.Table:
    """What came out of a training."""
    rows = outcome([summary], config.train.tested_on) | {
        "training loss": f"{summary['train_loss']:.3f}",
        "steps": f"{summary['steps']:,}",
    }
    if "test_loss" in summary:
        loss = f"{summary['test_loss']:.3f} nats per character"
        rows[f"{config.train.tested_on} loss"] = loss
        rows["perplexity"] = f"{summary['test_perplexity']:.2f}"
    if "seconds_per_step" in summary:
        rows["time of a step"] = f"{1000 * summary['seconds_per_step']:,.0f} ms"
    return terminal.table(("", ""), rows.items(), title=described(config))


def outcome(
    summaries: Sequence[dict[str, Any]], tested_on: str = "test"
) -> dict[str, str]:
    """What trainings of one configuration, but for their seeds, ended with."""
    accuracies = [summary["test_accuracy"] for summary in summaries]
    first = summaries[0]
    rows = {
        f"{tested_on} accuracy": words.percent(accuracies),
        "inference model": words.kilobytes(first["inference_bits"] / 8000),
        "memory of the weights in training": words.kilobytes(
            first["training_bits"] / 8000
        ),
    }
    worn = [summary["write_erase_cycles"] or {} for summary in summaries]
    for kind, name in (("multilevel", "multi-level"), ("binary", "binary")):
        if kinds := [wear[kind] for wear in worn if kind in wear]:
            rows[f"most write-erase cycles, {name}"] = words.most_cycles(kinds)
    return rows


def define_flags() -> None:
    """Flags of this launcher."""
    launch.define_flags("Run folder.")
    train_options.define_flags()
    config_flags.define_flags()


if __name__ == "__main__":
    launch.run(main, define_flags)
