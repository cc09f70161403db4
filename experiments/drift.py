r"""Reads a trained network again after seconds, days, a year of drift.

    python -m experiments.drift --workdir=runs/digits \
        --times=25,3600,86400,31536000 --chips=10
    python -m experiments.drift --workdir=runs/digits --deploy=nandakumar_2019 \
        --compensations=none,gdc,column,adabs
    python -m experiments.drift --workdir=runs/sweep

Adds ``drift`` to the run's ``summary.json`` and draws accuracy, or the loss on a text,
against time. The second command programs the trained weights onto fresh inference chips
and reads those; its rows stand beside the ones of the devices that were trained. Of a
sweep, or another folder that holds runs, every finished run that has devices is read,
but for those that have been read so before.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

import rich.table
from absl import flags, logging

from experiments import cli, drawing, launch, plots, programs, terminal, words
from experiments.config import Config
from experiments.report.runs import folders_in
from experiments.runs.run_folder import RunFolder
from experiments.runs.stored import RunFolderError, read_config, read_summary
from experiments.runs.writing import writing
from experiments.setup import Experiment
from experiments.sweep import folder as sweep_folder
from hic_jax import checks, data, inference, pcm
from hic_jax.inference import Reading
from hic_jax.inference.compensations import COMPENSATIONS
from hic_jax.inference.network import Network
from hic_jax.training.chips import check_at_once


def read_over_time(
    experiment: Experiment,
    workdir: str,
    reading: Reading,
    chips_at_once: int | None = None,
) -> list[dict]:
    """Measures, and writes the result into the run folder.

    Earlier rows of these devices with the same switched off are replaced; others stay.

    Args:
      experiment: that of the configuration in the folder.
      workdir: run folder with a checkpoint, of the step that its summary is of.
      reading: when it is read, on how many chips, and how.
      chips_at_once: as of `inference.accuracy_over_time`.

    Returns:
      Rows of `inference.accuracy_over_time`.

    Raises:
      RunFolderError: if the folder cannot be used, before anything is computed.
      CheckpointError: if no checkpoint can be read.
    """
    with RunFolder.for_results(workdir) as folder:
        state = folder.restore(experiment.init_state())
        steps = folder.summary().get("steps", int(state.step))
        if steps != int(state.step):
            raise RunFolderError(
                f"workdir={workdir}: summary.json is of step {steps}, but the newest "
                f"intact checkpoint is of step {state.step}; train it to its end first"
            )
        desc = f"reading {folder.path.name}"
        with terminal.bar(reading.chips, desc=desc, unit="chips") as bar:
            rows = inference.accuracy_over_time(
                experiment.chip_key,
                experiment.model,
                Network.of(state),
                experiment.split("test"),
                experiment.split("train"),
                reading=reading,
                chips_at_once=chips_at_once,
                done=bar.update,
            )
        others = [row for row in rows_of(workdir) if what(row) != what(rows[0])]
        is_text = data.is_text(experiment.config.train.dataset)
        name = ["loss_over_time" if is_text else "accuracy_over_time"]
        if reading.deploy_spec is not None:
            name.append(reading.devices)
        if reading.without:
            name += ["without", *sorted(reading.without)]
        with writing(folder.path):
            picture = folder.path / f"{'_'.join(name)}.png"
            tested_on = experiment.config.train.tested_on
            if is_text:
                plots.loss_over_time(picture, rows, tested_on)
            else:
                classes = experiment.dataset.num_classes
                plots.accuracy_over_time(
                    picture, rows, classes=classes, tested_on=tested_on
                )
        folder.update_summary(drift=others + rows)
    return rows


def read_once(experiment: Experiment, workdir: str, reading: Reading) -> list[dict]:
    """Rows of a reading: made and written, unless the summary has them."""
    if not has_been_read(workdir, reading):
        read_over_time(experiment, workdir, reading)
    return readings(workdir, reading)


def main(argv: list[str]) -> None:
    """Reads as the flags say."""
    launch.start(argv)
    options = flags.FLAGS
    reading = reading_from_flags()
    check_at_once("chips_at_once", options.chips_at_once)
    folders = folders_of(options.workdir)
    if not options["compensations"].present:
        reading = dataclasses.replace(
            reading, compensations=usual_compensations(folders)
        )
    if folders == [options.workdir]:
        read_one(options.workdir, reading)
        failed = []
    else:
        failed = read_several(folders, reading)
    if done := [folder for folder in folders if folder not in failed]:
        terminal.show(table(done, reading))
    if failed:
        raise ValueError(
            f"{len(failed)} of {words.counted(len(folders), 'run')} not read: "
            f"{', '.join(failed)}"
        )


def usual_compensations(folders: Sequence[str]) -> list[str]:
    """None, and what suits the networks of all runs.

    Raises:
      ValueError: if some have BatchNorm, and others not.
    """
    configs = [read_config_of_devices(folder) for folder in folders]
    networks = {config.train.model: config for config in configs}
    best = {Experiment.of(config).compensation for config in networks.values()}
    if len(best) > 1:
        raise ValueError(
            f"compensations: must be given, of none, gdc, column, where networks are "
            f"read that have BatchNorm and others: {', '.join(sorted(networks))}"
        )
    return ["none", *best]


def read_one(folder: str, reading: Reading) -> None:
    """Reads a run, on as many devices as the flags say."""
    options = flags.FLAGS
    experiment = Experiment.of(read_config_of_devices(folder), options.mesh)
    read_over_time(experiment, folder, reading, options.chips_at_once)


def read_several(folders: Sequence[str], reading: Reading) -> list[str]:
    """Reads runs, perhaps not those that have been before; returns those that fail."""
    again = flags.FLAGS.again
    unread = [f for f in folders if again or not has_been_read(f, reading)]
    line = f"{words.counted(len(unread), 'run')} to be read"
    if known := len(folders) - len(unread):
        line += f", {known} have been before (--again reads them, too)"
    terminal.note(line)
    failed = []
    with terminal.bar(len(unread), desc="all runs", unit="runs") as bar:
        for folder in unread:
            try:
                read_one(folder, reading)
                terminal.note(f"{folder}: read")
            except (ValueError, OSError) as error:
                failed.append(folder)
                terminal.note(f"{folder}: {error}")
            programs.drop_if_many()
            bar.update()
    return failed


def reading_from_flags() -> Reading:
    """What the flags say; `ValueError` if a network cannot be read like that."""
    options = flags.FLAGS
    spec = None
    if options.deploy:
        checks.one_of("deploy", options.deploy, pcm.PROGRAMMED_PRESETS)
        spec = pcm.programmed_preset(options.deploy)
    return Reading(
        times=options.times,
        chips=options.chips,
        compensations=options.compensations,
        deploy_spec=spec,
        without=options.without,
        ideal_reference=options.ideal_reference,
    )


def table(folders: Sequence[str], reading: Reading) -> rich.table.Table:
    """What runs came to that have been read, over time and over their chips.

    It is accuracy, or the loss of those that were trained on text.
    """
    times, names = reading.times, reading.compensations
    several = len(folders) > 1
    rows, measures = [], []
    for folder in folders:
        train = read_config(folder).train
        is_text = data.is_text(train.dataset)
        measure = "loss, nats per character" if is_text else "accuracy"
        measures.append(f"{train.tested_on} {measure}")
        cells = {
            (row["time"], row["compensation"]): words.nats(row["losses"])
            if is_text
            else words.percent(row["accuracies"])
            for row in readings(folder, reading)
        }
        for time in times:
            run = [Path(folder).name if time == times[0] else ""] if several else []
            mine = (cells[time, name] for name in names)
            rows.append((*run, words.duration(time), *mine))
    trained = reading.deploy_spec is None
    what = "the trained devices" if trained else f"fresh chips of {reading.devices}"
    if reading.without:
        what += f" without {' and '.join(reading.without)}"
    since = "training" if trained else "programming"
    heads = (*["run"] * several, f"after {since}", *(drawing.NAMES[n] for n in names))
    measure = " or ".join(dict.fromkeys(measures))
    title = f"{measure}, of {words.counted(reading.chips, 'chip')}, {what}"
    return terminal.table(heads, rows, title=title)


def folders_of(workdir: str) -> list[str]:
    """The run folder itself, or those of all finished runs with devices in a folder.

    Raises:
      ValueError: if there is none.
    """
    path = Path(workdir)
    sweep, inside = sweep_folder.is_sweep(path), folders_in(path)
    if not sweep and inside in ([], [path]):
        read_config_of_devices(workdir)
        return [workdir]
    finished = (
        sweep_folder.finished_folders(path)
        if sweep
        else [run for run in inside if sweep_folder.RunPaths(run, run).is_finished(1)]
    )
    folders, others = [], []
    for run in dict.fromkeys([*finished, *inside]):
        try:
            config = read_config(run)
        except RunFolderError as error:
            logging.warning("left out: %s", error)
            continue
        if run in finished and config.spec is not None:
            folders.append(str(run))
        else:
            why = config.train.algorithm + ("" if run in finished else ", not finished")
            others.append(f"{run.name} ({why})")
    if not folders:
        raise ValueError(
            f"workdir={workdir}: holds {words.some_of(others) or 'runs'}, without a "
            "finished run of an algorithm with devices"
        )
    return folders


def has_been_read(workdir: str, reading: Reading) -> bool:
    """Whether the summary has just these rows of these devices."""
    rows = readings(workdir, reading)
    alike = all(
        len(row["accuracies"]) == reading.chips
        and row["ideal_reference"] == reading.ideal_reference
        for row in rows
    )
    asked = set(itertools.product(reading.times, reading.compensations))
    return alike and {(row["time"], row["compensation"]) for row in rows} == asked


def readings(workdir: str, reading: Reading) -> list[dict]:
    """Rows of a run that are of these devices, with the same switched off."""
    asked = what({"devices": reading.devices, "without": reading.without})
    return [row for row in rows_of(workdir) if what(row) == asked]


def rows_of(workdir: str) -> list[dict]:
    """What was read of a run, with what earlier versions did not store."""
    since = {"devices": inference.TRAINED, "without": [], "ideal_reference": False}
    return [since | row for row in read_summary(workdir).get("drift", [])]


def what(row: dict) -> tuple[str, frozenset[str]]:
    """What a row is a reading of: which devices, and which ideal in what."""
    return row["devices"], frozenset(row["without"])


def read_config_of_devices(folder: str, flag: str = "workdir") -> Config:
    """The configuration of a run; `ValueError`, with the flag, if it has no devices."""
    inside = folders_in(Path(folder))
    if inside not in ([], [Path(folder)]):
        raise ValueError(
            f"{flag}={folder}: is no run, but a folder that holds some; name one of "
            f"{words.some_of(str(path) for path in inside)}"
        )
    config = read_config(folder)
    if config.spec is None:
        raise ValueError(
            f"{flag}={folder}: was trained with algorithm={config.train.algorithm}, "
            "which has no analog weights to drift; must be a run of one with devices"
        )
    return config


def define_flags() -> None:
    """Flags of this launcher."""
    launch.define_flags("Run folder, or that of a sweep.")
    cli.define_list(
        "times",
        "25,3600,86400,31536000",
        "Times at which the network is read, after training or programming, s.",
        kind=cli.number(),
    )
    text = "Chips that hold the trained weights, each with its own drift."
    cli.define_count("chips", 10, text)
    cli.define(
        "chips_at_once",
        cli.integer(1),
        None,
        "Chips that are computed at once, spread over the accelerators: as many as "
        "their memory holds.",
        usual="8 on each accelerator, 1 on the CPU",
    )
    cli.define_list(
        "compensations",
        "none,adabs",
        f"Compensations of drift to read with, of {', '.join(COMPENSATIONS)}. If none "
        "is given, networks without BatchNorm have gdc in the place of adabs.",
    )
    cli.define(
        "deploy",
        cli.text("NAME"),
        "",
        "Devices of fresh inference chips that get the trained weights: one of "
        f"{', '.join(pcm.PROGRAMMED_PRESETS)}. Without, the devices are read as "
        "trained.",
    )
    cli.define_list(
        "without",
        [],
        "Non-idealities that are switched off, to see what they cost, of "
        f"{', '.join(inference.OF_READING)}.",
    )
    cli.define_switch(
        "ideal_reference",
        False,
        "Whether gdc, column and adabs compare exact reads, not noisy ones.",
    )
    cli.define_switch(
        "again",
        False,
        "Whether runs of a sweep are read that have been before: at the same times, on "
        "as many chips, with the same compensations and reference.",
    )


if __name__ == "__main__":
    launch.run(main, define_flags)
