r"""Writes an inference chip to a file, and reads the accuracy of one that was measured.

    python -m experiments.chip --workdir=runs/digits --devices=hermes_2 --out=chip.csv
    python -m experiments.chip --workdir=runs/digits --devices=hermes_2 --chip=chip.csv

The first command programs the trained weights onto a fresh chip, as experiments.drift
--deploy does, and writes the conductances of all arrays, with their scales, times and
drift exponents, to CSV or NPZ; hic_jax/inference/chip_files.py says what is where. The
second one reads such a file, perhaps with conductances, in uS, that were measured of a
real chip in their places, and shows the test accuracy of the network on it, now and
later. A chip without drift exponents does not drift.
"""

import tempfile
from pathlib import Path
from typing import Any

import jax
import rich.table
from absl import flags

import hic_jax
from experiments import cli, drawing, launch, terminal, words
from experiments.drift import read_config_of_devices
from experiments.runs import files
from experiments.runs.run_folder import RunFolder
from experiments.setup import Experiment
from hic_jax import inference, pcm
from hic_jax.inference.chip_files import ENDINGS
from hic_jax.inference.network import Network
from hic_jax.pcm import ProgrammedSpec
from hic_jax.weights import is_analog


def trained_network(experiment: Experiment, workdir: str) -> Network:
    """The network in a run folder.

    Raises:
      RunFolderError: if there is none.
      CheckpointError: if no checkpoint can be read.
    """
    with RunFolder.read(workdir) as folder:
        return Network.of(folder.restore(experiment.init_state()))


def write(
    experiment: Experiment, network: Network, spec: ProgrammedSpec, out: Path, seed: int
) -> None:
    """Programs a chip and writes it.

    Args:
      experiment: that of the network.
      network: what was trained.
      spec: the devices of the chip.
      out: file, which is replaced.
      seed: which chip.
    """
    key = jax.random.fold_in(experiment.chip_key, seed)
    chip = hic_jax.deploy(network.weights, spec, key)
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / out.name
        hic_jax.save_chip(part, chip)
        files.write_bytes(out, part.read_bytes())


def read(
    experiment: Experiment,
    network: Network,
    spec: ProgrammedSpec,
    file: str,
    reading: inference.Reading,
) -> list[dict[str, Any]]:
    """Accuracy over time of a network on the chip in a file.

    Args:
      experiment: that of the network.
      network: what was trained.
      spec: the devices of the chip.
      file: the chip.
      reading: when it is read, how often (``chips``), and how.

    Returns:
      Rows of `inference.accuracy_over_time`.

    Raises:
      ValueError: if the file does not fit the network.
    """
    chip = hic_jax.load_chip(file, network.weights, spec)
    leaves = jax.tree.leaves(chip, is_leaf=is_analog)
    if spec.drifts and any(weight.nu is None for weight in leaves):
        terminal.note(f"{file}: what has no drift exponents there does not drift")
    return inference.accuracy_over_time(
        experiment.chip_key,
        experiment.model,
        network.replace(weights=chip),
        experiment.split("test"),
        experiment.split("train"),
        reading=reading,
    )


def table(file: str, rows: list[dict[str, Any]], measure: str) -> rich.table.Table:
    """Accuracy over time, over reads."""
    names = list(dict.fromkeys(row["compensation"] for row in rows))
    cells: dict[float, list[str]] = {}
    for row in rows:
        cells.setdefault(row["time"], []).append(words.percent(row["accuracies"]))
    reads = words.counted(len(rows[0]["accuracies"]), "read")
    return terminal.table(
        ("later", *(drawing.NAMES[name] for name in names)),
        [(words.duration(time), *row) for time, row in cells.items()],
        title=f"{measure} of the chip {file}, {reads}",
    )


def main(argv: list[str]) -> None:
    """Writes or reads as the flags say."""
    launch.start(argv)
    options = flags.FLAGS
    if (options.chip is None) == (options.out is None):
        raise ValueError(
            "chip, out: one of them must be given: a chip to be read, or a file to be "
            "written"
        )
    given = Path(options.chip or options.out)
    if given.suffix not in ENDINGS:
        raise ValueError(f"{given}: must end in {' or '.join(ENDINGS)}")
    if not (given.is_file() if options.chip else given.parent.is_dir()):
        what = "a file" if options.chip else "in a folder"
        raise ValueError(f"{given}: must be {what} that there is")
    spec = pcm.programmed_preset(options.devices)
    config = read_config_of_devices(options.workdir)
    experiment = Experiment.of(config, options.mesh)
    reading = inference.Reading(
        times=options.times,
        chips=options.reads,
        compensations=options.compensations or ["none", experiment.compensation],
    )
    network = trained_network(experiment, options.workdir)
    if options.out:
        write(experiment, network, spec, given, options.seed)
        terminal.note(f"{given}: a chip of {spec.name} (--chip={given} reads it)")
        return
    rows = read(experiment, network, spec, options.chip, reading)
    terminal.show(table(options.chip, rows, config.train.measure))


def define_flags() -> None:
    """Flags of this launcher."""
    launch.define_flags("Run folder.")
    cli.define(
        "devices",
        cli.Choice(pcm.PROGRAMMED_PRESETS),
        "nandakumar_2019",
        "Devices of the chip, whose read noise it has: one of "
        f"{', '.join(pcm.PROGRAMMED_PRESETS)}.",
    )
    cli.define("out", cli.path(), None, "File that a fresh chip is written to.")
    cli.define("seed", cli.integer(0), 0, "Which fresh chip is written.")
    cli.define("chip", cli.path(), None, "File of the chip that is read.")
    cli.define_list(
        "times",
        "25,3600,86400,31536000",
        "Times at which the chip is read, after that of its file, s.",
        kind=cli.number(),
    )
    text = "Reads of the chip, each with its own noise."
    cli.define("reads", cli.integer(1, inference.CHIPS_MAX), 10, text)
    cli.define_list(
        "compensations",
        [],
        "Compensations of drift to read with, as of experiments.drift. If none is "
        "given, none and adabs, or gdc for networks without BatchNorm.",
    )


if __name__ == "__main__":
    launch.run(main, define_flags)
