"""Which non-ideality of the hardware hurts: each on alone, and off alone.

    python -m experiments.ablate --workdir=runs/ablate --seeds=3 --epochs=30

Takes every flag of `experiments.train`. Each training is a run folder of its own in the
work folder, and goes on where it was stopped.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import rich.table
from absl import flags

import hic_jax
from experiments import (
    cli,
    config_flags,
    drift,
    launch,
    plots,
    programs,
    terminal,
    train_options,
    words,
)
from experiments import train as train_lib
from experiments.config import Config, changed
from experiments.parts import Hardware
from experiments.runs.files import write_text
from experiments.runs.run_folder import check_unused_or_same
from experiments.runs.writing import held
from experiments.setup import Experiment
from experiments.train_options import TrainOptions
from hic_jax import checks, inference, pcm
from hic_jax.algorithms import PairSpec
from hic_jax.training.recipes import ALGORITHMS

# Beside those of the multi-level device, its `NON_IDEALITIES`.
STUCK_CELLS, CONVERTERS = "stuck_cells", "converters"


def present(config: Config) -> tuple[str, ...]:
    """Non-idealities that the hardware of ``config`` has."""
    hardware, spec = _hardware_of(config)
    device = spec.multilevel
    names = [
        name
        for name, constants in device.NON_IDEALITIES.items()
        if any(getattr(device, constant) for constant in constants)
    ]
    if any(cells != pcm.BinarySpec() for cells in _cells(spec).values()):
        names.append(STUCK_CELLS)
    if hardware.converters:
        names.append(CONVERTERS)
    return tuple(names)


def only(config: Config, *names: str) -> Config:
    """``config`` with every non-ideality off but ``names``."""
    _, spec = _hardware_of(config)
    device = spec.multilevel
    device = device.only(*(n for n in names if n in device.NON_IDEALITIES))
    return _replace(config, device, STUCK_CELLS in names, CONVERTERS in names)


def without(config: Config, name: str) -> Config:
    """``config`` with one non-ideality off."""
    hardware, spec = _hardware_of(config)
    device = spec.multilevel
    if name in device.NON_IDEALITIES:
        device = device.without(name)
    converters = hardware.converters and name != CONVERTERS
    return _replace(config, device, name != STUCK_CELLS, converters)


def _replace(
    config: Config, device: pcm.DeviceSpec, stuck_cells: bool, converters: bool
) -> Config:
    hardware, spec = _hardware_of(config)
    changes: dict[str, Any] = {"multilevel": device}
    if not stuck_cells:
        changes |= dict.fromkeys(_cells(spec), pcm.BinarySpec())
    return dataclasses.replace(
        config,
        hardware=dataclasses.replace(hardware, converters=converters),
        spec=dataclasses.replace(spec, **changes),
    )


def _hardware_of(config: Config) -> tuple[Hardware, PairSpec]:
    """What an algorithm with devices has; there is nothing else to ablate."""
    assert config.hardware is not None
    assert config.spec is not None
    return config.hardware, config.spec


def _cells(spec: PairSpec) -> dict[str, pcm.BinarySpec]:
    """The binary cells of an algorithm, by the fields of its spec; it may have none."""
    return {name: x for name, x in vars(spec).items() if isinstance(x, pcm.BinarySpec)}


def variants(config: Config) -> dict[str, Config]:
    """The trainings by the names of their folders, all on and all off first."""
    runs = {"all": config, "none": only(config)}
    for name in present(config):
        if name != "drift_spread":  # `only` keeps drift with it: as only-drift.
            runs[f"only-{name}"] = only(config, name)
        runs[f"without-{name}"] = without(config, name)
    return runs


def run(
    config: Config,
    workdir: Path,
    *,
    seeds: int,
    chips: int,
    mesh: int | None = None,
    options: TrainOptions = train_options.USUAL,
) -> dict[str, dict]:
    """Trains and reads every variant that is not there yet, with the seeds from its on.

    Returns:
      By variant: ``test_accuracy`` and ``after_a_year`` (with AdaBS, or with GDC for
      lack of BatchNorm; mean over chips), a list over seeds each.
    """
    runs = [
        (name, seed, changed(variant, seed=seed), str(workdir / f"{name}-seed{seed}"))
        for name, variant in variants(config).items()
        for seed in range(config.train.seed, config.train.seed + seeds)
    ]
    for *_, variant, folder in runs:
        check_unused_or_same(folder, variant)
    results: dict[str, dict] = {}
    with terminal.bar(len(runs), desc="ablation", unit="runs") as bar:
        for name, seed, variant, folder in runs:
            bar.set_description_str(f"ablation: {name}, seed {seed}")
            experiment = Experiment.of(variant, mesh)
            summary = train_lib.train(experiment, folder, options)
            reading = inference.Reading(
                times=[hic_jax.YEAR],
                chips=chips,
                compensations=[experiment.compensation],
            )
            (after,) = drift.read_once(experiment, folder, reading)
            result = results.setdefault(name, {"test_accuracy": [], "after_a_year": []})
            result["test_accuracy"].append(summary["test_accuracy"])
            result["after_a_year"].append(after["mean"])
            bar.update()
            programs.drop_if_many()
            terminal.note(
                f"{name}, seed {seed}: {config.train.measure} "
                f"{words.percent([summary['test_accuracy']])}, a year later "
                f"{words.percent([after['mean']])}"
            )
    return results


def table(results: dict[str, dict], measure: str) -> rich.table.Table:
    """Accuracy of all variants, mean and standard deviation over seeds."""
    return terminal.table(
        ("non-idealities", "after training", "a year later, compensated"),
        [(name, *map(words.percent, r.values())) for name, r in results.items()],
        title=measure,
    )


def main(argv: list[str]) -> None:
    """Ablates as the flags say."""
    launch.start(argv)
    given = flags.FLAGS
    workdir = Path(given.workdir)
    config = config_flags.from_flags()
    options = train_options.from_flags()
    with_devices = [name for name, spec in ALGORITHMS.items() if spec is not None]
    checks.one_of("algorithm", config.train.algorithm, with_devices)
    if not present(config):
        raise ValueError("the hardware has no non-ideality to be told apart")
    count = words.counted(given.seeds * len(variants(config)), "training")
    terminal.note(f"{count} of {train_lib.described(config)}")
    with held(workdir):
        results = run(
            config,
            workdir,
            seeds=given.seeds,
            chips=given.chips,
            mesh=given.mesh,
            options=options,
        )
        write_text(workdir / "ablation.json", json.dumps(results, indent=2) + "\n")
        plots.ablation(workdir / "ablation.png", results, config.train.tested_on)
    found = table(results, config.train.measure)
    terminal.show(found, f"Run folders and picture: {workdir}")


def define_flags() -> None:
    """Flags of this launcher."""
    launch.define_flags("Folder of the run folders.")
    cli.define_count("seeds", 1, "Trainings of each variant, from --seed on.")
    text = "Chips of each training that are read after a year of drift."
    cli.define_count("chips", 5, text)
    train_options.define_flags()
    config_flags.define_flags()


if __name__ == "__main__":
    launch.run(main, define_flags)
