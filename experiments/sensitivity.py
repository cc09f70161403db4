r"""Finds where a year costs, and which layers had better have more devices.

    python -m experiments.sensitivity --workdir=runs/digits --budget=1.5

Lets the devices of one layer after the other grow old, all others being new, and
measures by how much the cross-entropy of images rises. Writes ``sensitivity.json``
into the run folder, and says with which ``--devices_by_layer`` a training would lose
least within the budget. The images are those of the validation, if the run has held
some out, or else training images: test images choose nothing.
"""

import json
from typing import Any

import numpy as np
import rich.table
from absl import flags

from experiments import cli, launch, terminal, words
from experiments.drift import read_config_of_devices
from experiments.runs.run_folder import RunFolder
from experiments.runs.writing import writing
from experiments.setup import Experiment
from hic_jax import YEAR, checks
from hic_jax.accounting.tensors import analog_tensors
from hic_jax.inference.network import Network
from hic_jax.inference.sensitivity import allocated, expected_rise, sensitivities


def measure(
    experiment: Experiment,
    workdir: str,
    *,
    seconds: float,
    chips: int,
    images: int,
    budget: float,
) -> dict[str, Any]:
    """Measures, allocates, and writes the result into the run folder.

    Args:
      experiment: that of the configuration in the folder.
      workdir: run folder with a checkpoint.
      seconds: age, s.
      chips: chips that are read.
      images: at most so many are classified.
      budget: devices in all, over those with one on each side.

    Returns:
      ``seconds``, ``chips``, ``images`` (how many, of which split), ``layers`` (by
      path ``weights``, ``devices_per_sign`` of the run, ``rise`` on every chip, nats,
      and the number ``proposed``), ``all`` (rise with all layers old), ``budget`` and
      what the rises ``add_up_to`` ``now`` and as ``proposed``.

    Raises:
      RunFolderError: if the folder cannot be used, before anything is computed.
      CheckpointError: if no checkpoint can be read.
    """
    validated = experiment.config.train.validation > 0
    with RunFolder.for_results(workdir) as folder:
        network = Network.of(folder.restore(experiment.init_state()))
        split = "test" if validated else "train"
        classified = experiment.split(split).first(images)
        rises = sensitivities(
            experiment.chip_key,
            experiment.model,
            network,
            classified,
            experiment.split("train"),
            seconds=seconds,
            chips=chips,
            compensation=experiment.compensation,
        )
        together = rises.pop("")
        tensors = analog_tensors(network.weights)
        weights = {path: tensors[path].size for path in rises}
        numbers = {path: tensors[path].spec.devices_per_sign for path in rises}
        # With one device on a side, as variances fall by their number.
        single = {path: numbers[path] * float(np.mean(r)) for path, r in rises.items()}
        proposed = allocated(single, weights, budget)
        result = {
            "seconds": seconds,
            "chips": chips,
            "images": {
                "number": classified.size,
                "split": "validation" if validated else "train",
            },
            "layers": {
                path: {
                    "weights": weights[path],
                    "devices_per_sign": numbers[path],
                    "rise": rises[path],
                    "proposed": proposed[path],
                }
                for path in rises
            },
            "all": together,
            "budget": budget,
            "add_up_to": {
                "now": expected_rise(single, numbers),
                "proposed": expected_rise(single, proposed),
            },
        }
        with writing(folder.path):
            path = folder.path / "sensitivity.json"
            path.write_text(json.dumps(result, indent=2) + "\n")
    return result


def table(result: dict[str, Any]) -> rich.table.Table:
    """What each layer costs, dearest first."""
    layers = result["layers"]
    total = sum(layer["weights"] for layer in layers.values())
    rises = {path: float(np.mean(layer["rise"])) for path, layer in layers.items()}
    summed = sum(max(rise, 0.0) for rise in rises.values()) or 1.0
    rows = [
        (
            path.removesuffix("/kernel"),
            f"{layers[path]['weights']:,}",
            f"{100 * layers[path]['weights'] / total:.1f} %",
            f"{rises[path]:.4f}",
            f"{100 * max(rises[path], 0.0) / summed:.0f} %",
            str(layers[path]["devices_per_sign"]),
            str(layers[path]["proposed"]),
        )
        for path in sorted(rises, key=rises.__getitem__, reverse=True)
    ]
    heads = ("layer", "weights", "", "rise", "", "devices on a side", "proposed")
    title = (
        f"cross-entropy after {words.duration(result['seconds'])}, one layer old at a "
        f"time, {words.counted(result['chips'], 'chip')}"
    )
    return terminal.table(heads, rows, title=title)


def rules(result: dict[str, Any]) -> str:
    """The value of ``--devices_by_layer`` that stands for a proposal."""
    by_number: dict[int, list[str]] = {}
    for path, layer in result["layers"].items():
        by_number.setdefault(layer["proposed"], []).append(path.removesuffix("/kernel"))
    return ",".join(
        f"{'|'.join(paths)}={number}"
        for number, paths in sorted(by_number.items(), reverse=True)
        if number > 1
    )


def main(argv: list[str]) -> None:
    """Measures as the flags say."""
    launch.start(argv)
    options = flags.FLAGS
    checks.above("time", options.time, 0.0)
    checks.at_most("time", options.time, checks.SECONDS_MAX)
    checks.at_least("budget", options.budget, 1.0)
    config = read_config_of_devices(options.workdir)
    result = measure(
        Experiment.of(config, options.mesh),
        options.workdir,
        seconds=options.time,
        chips=options.chips,
        images=options.images,
        budget=options.budget,
    )
    terminal.show(table(result), f"--devices_by_layer='{rules(result)}'")


def define_flags() -> None:
    """Flags of this launcher."""
    launch.define_flags("Run folder.")
    cli.define("time", cli.number(), YEAR, "Age of the devices, s.")
    cli.define_count("chips", 3, "Chips, each with its own drift.")
    cli.define("images", cli.integer(1), 5000, "Images that are classified, at most.")
    cli.define(
        "budget",
        cli.number(),
        1.5,
        "Devices that may be used in all, over those of one on each side.",
    )


if __name__ == "__main__":
    launch.run(main, define_flags)
