"""What a sweep trains: lists of values in, named runs out.

A run is named by its algorithm, width and seed, and by the values of whatever else is
swept. What an algorithm does not use is not swept over for it: one FP32 run stands
beside HIC runs of any number of hardware settings.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Iterable
from typing import Any

from absl import flags

from experiments import cli
from experiments.config import Config, by_flag, changed
from experiments.config_flags import flag_names, from_used_flags, given_flags
from experiments.parts import CHOICES, Hardware, TrainConfig, used_flags
from experiments.runs.intervals import last_step
from experiments.setup import Experiment
from hic_jax import checks

# Flags that list values of another one.
SHORTHANDS = {"algorithms": "algorithm", "devices": "preset", "widths": "width"}

# Stand in the name of every run, swept or not.
NAMED = ("algorithm", "width", "seed")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One training of a sweep.

    Attributes:
      name: what the run and its folder are called.
      swept: what distinguishes it from the others, by flag.
      config: the whole configuration.
      steps: number of steps of the whole training.
    """

    name: str
    swept: dict[str, Any]
    config: Config
    steps: int


def define_flags() -> None:
    """Flags that name what is swept."""
    cli.define_list(
        "algorithms",
        None,
        f"Algorithms to sweep over, of {', '.join(CHOICES['algorithm'])}.",
        group=cli.SWEEP,
    )
    cli.define_list(
        "devices",
        None,
        f"Multi-level devices to sweep over, of {', '.join(CHOICES['preset'])}, or "
        "files of experiments.fit_device.",
        group=cli.SWEEP,
    )
    cli.define_list(
        "widths",
        None,
        "Multipliers of the network's channels to sweep over.",
        group=cli.SWEEP,
    )
    text = "Runs of each configuration, from --seed on."
    cli.define_count("seeds", 1, text, group=cli.SWEEP)
    cli.define_repeated(
        "grid",
        "Values of a flag to sweep over, FLAG=VALUE,VALUE,..., of any flag of the "
        "configuration (network and data to crossbar); may be repeated. Values that "
        "hold commas are separated by semicolons.",
        group=cli.SWEEP,
    )


def axes_from_flags() -> dict[str, list]:
    """Values of everything that is swept, by flag: `NAMED` first.

    Raises:
      ValueError: at a flag or a value that is not allowed.
    """
    options = flags.FLAGS
    words: dict[str, list[str]] = {}
    for shorthand, name in SHORTHANDS.items():
        if options[shorthand].present:
            words[name] = getattr(options, shorthand)
    several = options.seeds > 1
    if several:
        words["seed"] = [str(options.seed + i) for i in range(options.seeds)]
    for text in options.grid:
        name, values = listed("--grid", text)
        if name in words:
            raise ValueError(f"--grid={text}: {name} is swept twice")
        words[name] = values
    given = given_flags()
    for name in words:
        if name in given and not (name == "seed" and several):
            raise ValueError(
                f"--{name}={given[name]}: is given and swept; do one of the two"
            )
    single = {name: [options[name].value] for name in NAMED}
    axes = single | {name: parsed(name, texts) for name, texts in words.items()}
    ways = {name: f"--{name}={value}" for name, value in given.items()}
    check_used(ways | {name: f"--grid={name}" for name in axes}, axes)
    return axes


def listed(option: str, text: str) -> tuple[str, list[str]]:
    """A flag and its values, of FLAG=VALUE,VALUE,... that was given with an option."""
    name, _, values = text.partition("=")
    checks.one_of(option, name, flag_names())
    return name, values.split(";" if ";" in values else ",")


def check_used(ways: dict[str, str], axes: dict[str, list]) -> None:
    """Raises `ValueError` if a flag makes no difference to any run.

    Args:
      ways: how it was given, by flag.
      axes: values of what is swept, by flag.
    """
    presets = axes.get("preset", [given_flags().get("preset", Hardware.preset)])
    models = axes.get("model", [flags.FLAGS.model])
    used = set[str]().union(
        *itertools.starmap(
            used_flags, itertools.product(axes["algorithm"], presets, models)
        )
    )
    for name, how in ways.items():
        if name not in used:
            raise ValueError(
                f"{how}: makes no difference to "
                f"algorithm={','.join(axes['algorithm'])} with "
                f"preset={','.join(presets)} and model={','.join(models)}"
            )


def in_common(axes: dict[str, list]) -> dict[str, Any]:
    """Values by flag that hold for all runs, and the usual ones of what is swept.

    Args:
      axes: values by flag, from `axes_from_flags`.
    """
    usual = {name: getattr(TrainConfig, name) for name in NAMED}
    shared = given_flags()
    models = axes.get("model", [flags.FLAGS.model])
    for algorithm, model in itertools.product(axes["algorithm"], models):
        one = {"algorithm": algorithm, "model": model}
        shared |= by_flag(from_used_flags(**usual | one))
    shared["model"] = models[0]
    return {name: value for name, value in shared.items() if name not in NAMED}


def parsed(name: str, texts: list[str]) -> list:
    """Values, as the flag itself reads them."""
    if not texts:
        raise ValueError(f"--{name}s=: must list at least one value")
    parser = flags.FLAGS[name].parser
    values = []
    for text in texts:
        try:
            values.append(parser.parse(text))
        except (ValueError, TypeError) as error:
            why = ": ".join(map(str, error.args))
            raise ValueError(f"{name}={text}, in a sweep: {why}") from error
        if values[-1] in values[:-1]:
            raise ValueError(f"{name}={text}, in a sweep: stands there twice")
    return values


def runs_of(axes: dict[str, list], max_steps: int | None = None) -> list[Run]:
    """A run for every combination of values that makes a difference, seed by seed.

    Args:
      axes: values by flag, from `axes_from_flags`.
      max_steps: steps to stop each training after.

    Raises:
      ValueError: if one of them cannot be trained.
    """

    @functools.cache
    def steps(config: Config) -> int:
        return last_step(Experiment.of(config), max_steps)

    # Seeds change slowest: there is something of everything early on.
    order = sorted(axes, key=lambda name: name != "seed")
    runs: dict[str, Run] = {}
    for values in itertools.product(*(axes[name] for name in order)):
        combination = dict(zip(order, values, strict=True))
        preset = combination.get("preset", given_flags().get("preset", Hardware.preset))
        model = combination.get("model", flags.FLAGS.model)
        used = used_flags(combination["algorithm"], preset, model)
        swept = {name: combination[name] for name in axes if name in used}
        name = name_of(swept)
        if name not in runs:
            config = from_used_flags(**swept)
            runs[name] = Run(
                name=name, swept=swept, config=config, steps=steps(seedless(config))
            )
        elif runs[name].swept != swept:
            raise ValueError(f"{name}: two values of a sweep look alike in this name")
    return list(runs.values())


def name_of(swept: dict[str, Any]) -> str:
    """The name of a run, which is the name of a folder, too."""
    others: Iterable[str] = (name for name in swept if name not in NAMED)
    return "-".join(
        [
            _text(swept["algorithm"]),
            f"width{_text(swept['width'])}",
            f"seed{swept['seed']}",
            *(f"{name}={_text(swept[name])}" for name in others),
        ]
    )


def _text(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return re.sub(r"[^\w.,+-]", "_", text)


def seedless(config: Config) -> Config:
    """What runs have in common that differ in their seeds."""
    return changed(config, seed=0)
