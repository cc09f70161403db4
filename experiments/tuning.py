"""What each contender of a comparison is trained with: chosen on data held out for it.

Everything that is compared, an algorithm on a device for one, is trained with each
combination of the values that ``--tune`` lists, with the first seed, on all training
data but ``--tune_validation`` of them. What does best on these is what its seeds are
trained with, on all training data; test data choose nothing.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from experiments import cli, config_flags
from experiments.config import changed
from experiments.runs.intervals import last_step
from experiments.runs.stored import read_summary
from experiments.setup import Experiment
from experiments.sweep import grid
from experiments.sweep.grid import Run

# What is compared, and what it is compared on.
_NOT_TUNED = ("algorithm", "preset", "model", "dataset", "seed", "validation")


@dataclasses.dataclass(frozen=True)
class Choice:
    """What a contender is trained with.

    Attributes:
      values: the best ones, by flag.
      at_an_end: flags whose best value is the smallest or the largest that was tried:
        a better one may lie beyond.
      tried: of each run that it is the best of, the values by flag, and what it came to
        on what was held out, as ``validation``: accuracy, or loss on a text.
    """

    values: dict[str, Any]
    at_an_end: tuple[str, ...]
    tried: tuple[dict[str, Any], ...]

    def __str__(self):
        values = ", ".join(f"{name}={value}" for name, value in self.values.items())
        ends = " and ".join(self.at_an_end)
        return f"{values}, the best of {len(self.tried)}" + (
            f"; {ends} at an end of what was tried" if ends else ""
        )


def define_flags() -> None:
    """Flags that say what is chosen, and on what."""
    cli.define_repeated(
        "tune",
        "Values of a flag, FLAG=VALUE,VALUE,..., of which each contender is trained "
        "with the one that does best on data held out for it; may be repeated, for "
        "every combination.",
        group=cli.SWEEP,
    )
    cli.define(
        "tune_validation",
        cli.integer(1),
        None,
        "Training images, or characters of the validation part of a text, that --tune "
        "chooses by. Runs that are compared are trained with them, too.",
        group=cli.SWEEP,
        usual="to be given with --tune",
    )


def axes_from_flags(swept: dict[str, list]) -> dict[str, list]:
    """Values to choose from, by flag; empty without ``--tune``.

    Args:
      swept: values of what is compared, by flag.

    Raises:
      ValueError: at a flag or a value that is not allowed.
    """
    options, given = flags.FLAGS, config_flags.given_flags()
    axes: dict[str, list] = {}
    for text in options.tune:
        name, values = grid.listed("--tune", text)
        if name in _NOT_TUNED:
            raise ValueError(f"--tune={text}: {name} is nothing to be tuned")
        if name in axes or name in swept:
            raise ValueError(f"--tune={text}: {name} is tuned or swept, too")
        if name in given:
            raise ValueError(f"--{name}={given[name]}: is given and tuned; do one")
        axes[name] = grid.parsed(name, values)
    if not axes:
        if options.tune_validation is not None:
            raise ValueError(
                f"--tune_validation={options.tune_validation}: is for --tune"
            )
        return {}
    if options.tune_validation is None:
        raise ValueError("--tune_validation=: must be given with --tune")
    if "validation" in swept or "validation" in given:
        raise ValueError(
            "--validation: must not be given with --tune, which holds out "
            "--tune_validation of the training data for itself"
        )
    grid.check_used({name: f"--tune={name}" for name in axes}, swept)
    return axes


def axes_to_choose_from(
    swept: dict[str, list], tuned: dict[str, list]
) -> dict[str, list]:
    """Axes of a sweep: each contender with each combination, of the first seed.

    Args:
      swept: values of what is compared, by flag.
      tuned: values to choose from, by flag.
    """
    first, held_out = swept["seed"][:1], [flags.FLAGS.tune_validation]
    return swept | tuned | {"seed": first, "validation": held_out}


def choices(
    workdir: Path, runs: Sequence[Run], tuned: dict[str, list]
) -> dict[str, Choice]:
    """The best values of each contender, by `contender`.

    Of equals, that with the lower training loss. Runs that failed, as those do that
    diverge, are no choice.

    Args:
      workdir: folder of the run folders.
      runs: of a sweep over `axes_to_choose_from`.
      tuned: values to choose from, by flag.
    """
    outcomes: dict[str, list[tuple[float, float, Run]]] = {}
    for run in runs:
        of_contender = outcomes.setdefault(contender(run, tuned), [])
        summary = read_summary(workdir / run.name)
        if "train_loss" not in summary:
            continue
        outcome, loss = summary.get("test_loss"), summary["train_loss"]
        cost = -summary["test_accuracy"] if outcome is None else outcome
        of_contender.append((cost, loss, run))
    return {name: _best(found, tuned) for name, found in outcomes.items() if found}


def _best(found: Sequence[tuple[float, float, Run]], tuned: dict[str, list]) -> Choice:
    def values_of(run: Run) -> dict[str, Any]:
        return {name: run.swept[name] for name in tuned if name in run.swept}

    _, _, best = min(found, key=lambda outcome: outcome[:2])
    values = values_of(best)
    ends = tuple(
        name
        for name, value in values.items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and len(tuned[name]) > 1
        and value in (min(tuned[name]), max(tuned[name]))
    )
    tried = [values_of(run) | {"validation": abs(cost)} for cost, _, run in found]
    return Choice(values, ends, tuple(tried))


def contender(run: Run, tuned: dict[str, list]) -> str:
    """What is compared, in words: all that is swept but seeds and what is tuned."""
    apart = ("seed", "validation", *tuned)
    kept = {name: value for name, value in run.swept.items() if name not in apart}
    return ", ".join(f"{name}={value}" for name, value in kept.items())


def with_choices(
    runs: Sequence[Run], chosen: dict[str, Choice], max_steps: int | None
) -> Iterator[Run]:
    """The runs with the values of their contenders, in their names, too.

    Args:
      runs: of what is compared, all seeds.
      chosen: of `choices`; contenders without one are left out.
      max_steps: steps to stop each training after.
    """
    for run in runs:
        choice = chosen.get(contender(run, {}))
        if choice is None:
            continue
        swept = run.swept | choice.values
        config = changed(run.config, **choice.values)
        yield Run(
            name=grid.name_of(swept),
            swept=swept,
            config=config,
            steps=last_step(Experiment.of(config), max_steps),
        )
