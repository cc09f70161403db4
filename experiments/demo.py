"""Trains HIC and FP32 on handwritten digits, ages HIC by a year, prints one table.

    make demo

Two minutes on two cores; nothing is downloaded but packages.
"""

from pathlib import Path

import rich.table
from absl import flags

import hic_jax
from experiments import cli, drift, launch, plots, terminal, words
from experiments import train as train_lib
from experiments.config import resolve
from experiments.runs.stored import read_config, read_rows, read_summary
from experiments.runs.writing import held
from experiments.setup import Experiment
from hic_jax import data, inference

TIMES = (25.0, hic_jax.HOUR, hic_jax.DAY, hic_jax.MONTH, hic_jax.YEAR)
ALGORITHMS = ("fp32", "hic")


def run(
    workdir: Path, *, epochs: int, seeds: int, chips: int, mesh: int | None = None
) -> rich.table.Table:
    """Trains and reads every run that is not there yet; returns the table."""
    summaries: dict[str, list[dict]] = {name: [] for name in ALGORITHMS}
    for seed in range(seeds):
        for name in ALGORITHMS:
            config = resolve(algorithm=name, epochs=epochs, seed=seed)
            folder = str(workdir / f"{name}-seed{seed}")
            experiment = Experiment.of(config, mesh)
            summary = train_lib.train(experiment, folder)
            if name == "hic":
                reading = inference.Reading(times=TIMES, chips=chips)
                summary["drift"] = drift.read_once(experiment, folder, reading)
            summaries[name].append(summary)
    draw(workdir)
    return table(summaries)


def draw(workdir: Path) -> None:
    """Pictures of the first seed's runs, of what their folders say in text."""
    runs = {name: workdir / f"{name}-seed0" for name in ALGORITHMS}
    summaries = {name: read_summary(path) for name, path in runs.items()}
    config, hic = read_config(runs["hic"]), summaries["hic"]
    plots.learning_curves(
        workdir / "learning_curves.png",
        {name: read_rows(path)[0] for name, path in runs.items()},
    )
    plots.accuracy_over_time(
        workdir / "accuracy_over_time.png",
        as_trained(hic["drift"]),
        classes=data.load(config.train.dataset).num_classes,
        fp32=summaries["fp32"]["test_accuracy"],
    )
    wear = hic["write_erase_cycles"]
    plots.wear_histogram(
        workdir / "wear.png",
        wear["histogram"],
        wear["multilevel"]["endurance_cycles"],
    )
    if config.spec is not None:
        plots.set_pulse_curve(workdir / "set_pulses.png", config.spec.multilevel)


def as_trained(rows: list[dict]) -> list[dict]:
    """The rows of the devices that were trained: a run may hold others."""
    return [row for row in rows if row["devices"] == inference.TRAINED]


def table(summaries: dict[str, list[dict]]) -> rich.table.Table:
    """Accuracy, size, drift and wear of both algorithms."""
    fp32, hic = (train_lib.outcome(summaries[name]) for name in ALGORITHMS)

    def year(compensation: str) -> str:
        return words.percent(
            [
                row["mean"]
                for summary in summaries["hic"]
                for row in summary["drift"]
                if row["time"] == hic_jax.YEAR and row["compensation"] == compensation
            ]
        )

    rows = []
    for name in hic:
        rows.append((name, fp32.get(name, "-"), hic[name]))
        if name == "test accuracy":
            rows.append(("  a year later, no compensation", "-", year("none")))
            rows.append(("  a year later, AdaBS", "-", year("adabs")))
    return terminal.table(("", "FP32", "HIC"), rows)


def main(argv: list[str]) -> None:
    """Runs the demo as the flags say."""
    launch.start(argv)
    options = flags.FLAGS
    workdir = Path(options.workdir)
    with held(workdir):
        outcome = run(
            workdir,
            epochs=options.epochs,
            seeds=options.seeds,
            chips=options.chips,
            mesh=options.mesh,
        )
    terminal.show(outcome, f"Run folders and pictures: {workdir}")


def define_flags() -> None:
    """Flags of this launcher."""
    launch.define_flags("Folder of the run folders.", "runs/demo")
    cli.define("epochs", cli.integer(1), 30, "Passes over the training images.")
    cli.define_count("seeds", 1, "Trainings of each algorithm, from seed 0 on.")
    text = "Chips of each HIC training that are read over a year of drift."
    cli.define_count("chips", 5, text)


if __name__ == "__main__":
    launch.run(main, define_flags)
