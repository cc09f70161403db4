"""Reads a trained network again after seconds, days, a year of drift.

    python -m experiments.drift --workdir=runs/digits \
        --times=25,3600,86400,31536000 --chips=10
    python -m experiments.drift --workdir=runs/digits --deploy=nandakumar_2019 \
        --compensations=none,gdc,column,adabs
    python -m experiments.drift --workdir=runs/sweep

Adds ``drift`` to the run's ``summary.json`` and draws accuracy against time. The second
command programs the trained weights onto fresh inference chips and reads those; its
rows stand beside the ones of the devices that were trained. Of a sweep, every finished
run that has devices is read, but for those that have been read so before.
"""

from collections.abc import Sequence

from absl import app, flags, logging

from experiments import launch, plots, sweep_folder
from experiments.run_folder import (
    RunFolder,
    RunFolderError,
    read_config,
    read_summary,
)
from experiments.setup import Experiment
from hic_jax import checks, inference, pcm
from hic_jax.training.algorithms import ANALOG_ALGORITHMS
from hic_jax.training.compensations import COMPENSATIONS
from hic_jax.training.evaluation import Network


def read_over_time(
    experiment: Experiment,
    workdir: str,
    *,
    times: list[float],
    chips: int,
    compensations: list[str],
    deploy: str = "",
    without: Sequence[str] = (),
    ideal_reference: bool = False,
    chips_at_once: int | None = None,
) -> list[dict]:
    """Measures, and writes the result into the run folder.

    Rows of the same devices, without the same, are replaced; others stay.

    Args:
      experiment: of the configuration in the folder.
      workdir: run folder with a checkpoint.
      times: seconds after training, or after programming.
      chips: how many.
      compensations: of `hic_jax.training.compensations.COMPENSATIONS`.
      deploy: devices of fresh inference chips, of `pcm.PROGRAMMED_PRESETS`; empty
        reads the devices as trained.
      without: of `inference.OF_READING`.
      ideal_reference: see `inference.accuracy_over_time`.
      chips_at_once: likewise.

    Returns:
      Rows of `inference.accuracy_over_time`.
    """
    folder = RunFolder.read(workdir)
    state = folder.restore(experiment.init_state())
    rows = inference.accuracy_over_time(
        experiment.chip_key,
        experiment.model,
        Network.of(state),
        experiment.arrays("test"),
        experiment.arrays("train"),
        times=times,
        chips=chips,
        compensations=compensations,
        deploy_spec=pcm.programmed_preset(deploy) if deploy else None,
        without=without,
        ideal_reference=ideal_reference,
        chips_at_once=chips_at_once,
    )
    others = [row for row in rows_of(workdir) if what(row) != what(rows[0])]
    folder.update_summary(drift=others + rows)
    name = "_".join(["accuracy_over_time", *filter(None, [deploy]), *_words(without)])
    plots.accuracy_over_time(
        folder.path / f"{name}.png", rows, classes=experiment.dataset.num_classes
    )
    folder.close()
    return rows


def main(argv: list[str]) -> None:
    """Reads as the flags say."""
    launch.start(argv)
    options = flags.FLAGS
    with launch.clear_errors(ValueError):
        times = parse_times(options.times)
        inference.check_reading(
            times, options.chips, options.compensations, options.chips_at_once,
            options.without,
        )  # fmt: skip
        if options.deploy:
            checks.one_of("deploy", options.deploy, pcm.PROGRAMMED_PRESETS)
        workdirs = folders_of(options.workdir)
    reading = {
        "times": times,
        "chips": options.chips,
        "compensations": options.compensations,
        "deploy": options.deploy,
        "without": options.without,
        "ideal_reference": options.ideal_reference,
    }
    if sweep_folder.is_sweep(options.workdir) and not options.again:
        unread = [path for path in workdirs if not has_been_read(path, **reading)]
        if known := len(workdirs) - len(unread):
            logging.info("%d of %d runs had been read like that", known, len(workdirs))
        workdirs = unread
    for workdir in workdirs:
        with launch.clear_errors(ValueError):
            config = read_config_of_devices(workdir)
            experiment = Experiment.of(config, options.mesh)
        with launch.clear_errors(RunFolderError, OSError):
            rows = read_over_time(
                experiment,
                workdir,
                **reading,
                chips_at_once=options.chips_at_once,
            )
        logging.info("%s", workdir)
        for row in rows:
            logging.info(
                "%12.0f s  %-6s  %.4f +- %.4f",
                row["time"], row["compensation"], row["mean"], row["std"],
            )  # fmt: skip


def folders_of(workdir: str) -> list[str]:
    """The run folder itself; of a sweep, all finished ones of runs with devices."""
    if not sweep_folder.is_sweep(workdir):
        read_config_of_devices(workdir)
        return [workdir]
    folders = []
    for path in sweep_folder.finished_folders(workdir):
        try:
            if read_config(path).train.algorithm in ANALOG_ALGORITHMS:
                folders.append(str(path))
        except RunFolderError as error:
            logging.warning("left out: %s", error)
    if not folders:
        raise ValueError(
            f"workdir={workdir}: holds a sweep without a finished run of "
            f"{', '.join(ANALOG_ALGORITHMS)}"
        )
    return folders


def has_been_read(
    workdir: str,
    *,
    times: list[float],
    chips: int,
    compensations: list[str],
    deploy: str = "",
    without: Sequence[str] = (),
    ideal_reference: bool = False,
) -> bool:
    """Whether the summary has just these rows of these devices."""
    asked = {"devices": deploy or inference.TRAINED, "without": list(without)}
    rows = {
        (
            row["time"],
            row["compensation"],
            len(row["accuracies"]),
            row["ideal_reference"],
        )
        for row in rows_of(workdir)
        if what(row) == what(asked)
    }
    return rows == {
        (time, name, chips, ideal_reference) for time in times for name in compensations
    }


def rows_of(workdir: str) -> list[dict]:
    """What was read of a run, with what earlier versions did not store."""
    since = {"devices": inference.TRAINED, "without": [], "ideal_reference": False}
    return [since | row for row in read_summary(workdir).get("drift", [])]


def what(row: dict) -> tuple[str, frozenset[str]]:
    """What a row is a reading of: which devices, and which ideal in what."""
    return row["devices"], frozenset(row["without"])


def _words(without: Sequence[str]) -> list[str]:
    return ["without", *sorted(without)] if without else []


def parse_times(words: list[str]) -> list[float]:
    """Seconds from the words of ``--times``."""
    try:
        return [float(word) for word in words]
    except ValueError as error:
        raise ValueError(
            f"times={','.join(words)}: must be seconds, separated by commas"
        ) from error


def read_config_of_devices(workdir: str):
    """The configuration of a run that has devices."""
    config = read_config(workdir)
    if config.train.algorithm not in ANALOG_ALGORITHMS:
        raise ValueError(
            f"workdir={workdir}: was trained with algorithm={config.train.algorithm}, "
            f"which has no analog weights to drift; must be one of "
            f"{', '.join(ANALOG_ALGORITHMS)}"
        )
    return config


def define_flags() -> None:
    """Flags of this launcher."""
    flags.DEFINE_string("workdir", None, "Run folder, or a sweep's.", required=True)
    launch.define_flags()
    flags.DEFINE_list(
        "times",
        "25,3600,86400,31536000",
        "Seconds after training, separated by commas.",
    )
    flags.DEFINE_integer(
        "chips", 10, "Chips that hold the trained weights, each with its own drift."
    )
    flags.DEFINE_integer(
        "chips_at_once",
        None,
        "Chips that are computed at once, spread over the accelerators: as many as "
        "their memory holds. By default 8 on each accelerator, and 1 on the CPU.",
    )
    flags.DEFINE_list(
        "compensations",
        "none,adabs",
        f"Of {', '.join(COMPENSATIONS)}, separated by commas.",
    )
    flags.DEFINE_string(
        "deploy",
        "",
        "Devices of fresh inference chips that get the trained weights: "
        f"{', '.join(pcm.PROGRAMMED_PRESETS)}. Empty reads the devices as trained.",
    )
    flags.DEFINE_list(
        "without",
        [],
        "What is switched off, to see what it costs: of "
        f"{', '.join(inference.OF_READING)}, separated by commas.",
    )
    flags.DEFINE_bool(
        "ideal_reference",
        False,
        "Whether gdc, column and adabs compare exact reads, not noisy ones.",
    )
    flags.DEFINE_bool(
        "again",
        False,
        "Whether runs of a sweep are read that have been before: at the same times, on "
        "as many chips, with the same compensations and reference.",
    )


if __name__ == "__main__":
    define_flags()
    app.run(main)
