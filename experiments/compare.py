r"""Training algorithms and devices side by side: one table, one picture.

    python -m experiments.compare --workdir=runs/compare --seeds=3 \
        --algorithms=fp32,hic,mixed_precision,pulsed_sgd,volatile
    python -m experiments.compare --workdir=runs/devices --seeds=3 \
        --algorithms=hic,mixed_precision --devices=nandakumar_2018,linear_noisy \
        --tune=analog_learning_rate=0.02,0.04,0.08 --tune_validation=300

Trains the same network on the same images, or text, by each of them, as
`experiments.sweep` does and with its flags, reads every one that has devices a year
later, and shows what each takes: accuracy, or loss on a text, memory, wear, energy,
time. Recipes suit one better than another: with --tune each is trained with what does
best, for it, on data that are held out. Started again it goes on where it was stopped.
In the work folder lie the runs, comparison.json and comparison.png, and in tuning the
runs that it chose by.
"""

import collections
import dataclasses
import functools
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import rich.table
from absl import flags
from matplotlib.ticker import (
    LogLocator,
    MaxNLocator,
    NullFormatter,
    StrMethodFormatter,
)

import hic_jax
from experiments import (
    cli,
    drawing,
    drift,
    launch,
    programs,
    terminal,
    tuning,
    words,
)
from experiments.runs.files import write_text
from experiments.runs.stored import read_summary
from experiments.runs.writing import writing
from experiments.setup import Experiment
from experiments.sweep import __main__ as sweep
from experiments.sweep import folder as sweep_folder
from experiments.sweep import grid
from hic_jax import inference
from hic_jax.inference import Reading

# Folder of the runs that --tune chooses by, in that of the comparison: deeper than
# reports look for runs, as these are of held-out data.
TUNING = Path("tuning", "runs")

# What networks are read with a year later: the first that one can be compensated by.
COMPENSATIONS = ("adabs", "gdc")


@dataclasses.dataclass(frozen=True)
class Contender:
    """What one algorithm on one device came to; each list has an entry per seed.

    Attributes:
      algorithm: name of the training algorithm.
      setting: what else was swept, by flag: the device for one.
      tuned: what was chosen for it, by flag; empty if nothing was tuned.
      at_an_end: flags of these whose value is the smallest or the largest of those that
        were tried.
      tried: what it was chosen from, of `tuning.Choice`.
      accuracy: shares of answers to the test set that are right after training.
      year: shares of answers that are right a year later with AdaBS, or with GDC for
        lack of BatchNorm, means over chips; empty without devices.
      loss: of a text, nats per character, after training; empty for images.
      year_loss: of a text, nats per character, when ``year`` is; empty for images.
      inference_kb: memory of the model in inference, kB.
      training_kb: memory of the weights and of the optimizer's buffers in training, kB.
      worst_cycles: write-erase cycles of the most worn multi-level device; empty
        without devices.
      mean_cycles: write-erase cycles of all multi-level devices in the mean; empty
        without devices.
      energy_j: estimated energy of the training, J.
      step_s: time of a training step on this computer, s.
    """

    algorithm: str
    setting: dict[str, Any]
    tuned: dict[str, Any]
    at_an_end: tuple[str, ...]
    tried: tuple[dict[str, Any], ...]
    accuracy: list[float]
    year: list[float]
    loss: list[float]
    year_loss: list[float]
    inference_kb: float
    training_kb: float
    worst_cycles: list[int]
    mean_cycles: list[float]
    energy_j: list[float]
    step_s: list[float]

    @property
    def name(self) -> str:
        """What a table calls it."""
        parts = [drawing.words_for(self.algorithm)]
        for flag, value in self.setting.items():
            field = flag.removeprefix(f"{self.algorithm}_")
            parts.append(str(value) if flag == "preset" else f"{field}={value}")
        return ", ".join(parts)


def read_a_year_later(workdir: Path, runs: Sequence[grid.Run], chips: int) -> None:
    """Reads every run that has devices."""
    for run in runs:
        if run.config.spec is None:
            continue
        experiment = Experiment.of(run.config)
        names = ["none", experiment.compensation]
        reading = Reading(times=[hic_jax.YEAR], chips=chips, compensations=names)
        drift.read_once(experiment, str(workdir / run.name), reading)
        programs.drop_if_many()


def contenders(
    workdir: Path,
    runs: Sequence[grid.Run],
    tuned: dict[str, list] | None = None,
    chosen: dict[str, tuning.Choice] | None = None,
) -> list[Contender]:
    """What all runs came to, seeds of one configuration together.

    Args:
      workdir: folder of the run folders.
      runs: all of them.
      tuned: values that were chosen from, by flag; None for nothing.
      chosen: of `tuning.choices`.
    """
    tuned, chosen = tuned or {}, chosen or {}
    several = {
        name
        for name in dict.fromkeys(axis for run in runs for axis in run.swept)
        if len({run.swept.get(name) for run in runs if name in run.swept}) > 1
    } - {"algorithm", "seed", *tuned}
    together: dict[str, list[grid.Run]] = collections.defaultdict(list)
    for run in runs:
        together[grid.name_of(run.swept | {"seed": ""})].append(run)
    return [
        _contender(
            [read_summary(workdir / run.name) for run in seeds],
            {name: v for name, v in seeds[0].swept.items() if name in several},
            chosen.get(tuning.contender(seeds[0], tuned)),
        )
        for seeds in together.values()
    ]


def _contender(
    summaries: list[dict[str, Any]],
    setting: dict[str, Any],
    choice: tuning.Choice | None,
) -> Contender:
    first = summaries[0]
    wear = [s["write_erase_cycles"] for s in summaries]
    worn = [w["multilevel"] for w in wear if w]
    energies = [s["energy"]["training_j"] for s in summaries]
    readings = [
        row
        for s in summaries
        for row in s.get("drift", [])
        if row["time"] == hic_jax.YEAR
        and row["devices"] == inference.TRAINED
        and not row["without"]
    ]
    read_with = {row["compensation"] for row in readings}
    best = next((name for name in COMPENSATIONS if name in read_with), None)
    readings = [row for row in readings if row["compensation"] == best]
    of_text = [s["test_loss"] for s in summaries if "test_loss" in s]
    return Contender(
        algorithm=first["algorithm"],
        setting=setting,
        tuned=choice.values if choice else {},
        at_an_end=choice.at_an_end if choice else (),
        tried=choice.tried if choice else (),
        accuracy=[s["test_accuracy"] for s in summaries],
        year=[row["mean"] for row in readings],
        loss=of_text,
        year_loss=[statistics.mean(row["losses"]) for row in readings if of_text],
        inference_kb=first["inference_bits"] / 8000,
        training_kb=(first["training_bits"] + first["optimizer_bits"]) / 8000,
        worst_cycles=[w["max"] for w in worn],
        mean_cycles=[w["mean"] for w in worn],
        energy_j=[joules["total"] for joules in energies if joules],
        step_s=[s["seconds_per_step"] for s in summaries if "seconds_per_step" in s],
    )


def table(found: Sequence[Contender], tested_on: str = "test") -> rich.table.Table:
    """A row for each contender: means over seeds, and their standard deviations."""

    def cell(values: Sequence[float], shown: Callable[[Sequence[float]], str]) -> str:
        return shown(values) if values else words.ABSENT

    measure = f"accuracy on {tested_on} images"
    figures: dict[str, Callable[[Contender], str]] = {
        "accuracy": lambda c: cell(c.accuracy, words.percent),
        "a year later": lambda c: cell(c.year, words.percent),
    }
    if _are_of_text(found):
        measure = f"loss on the {tested_on} part of the text, nats per character"
        figures = {
            "loss": lambda c: cell(c.loss, words.nats),
            "a year later": lambda c: cell(c.year_loss, words.nats),
        }
    columns: dict[str, Callable[[Contender], str]] = {
        "": lambda c: c.name,
        **figures,
        "inference": lambda c: words.kilobytes(c.inference_kb),
        "training": lambda c: words.kilobytes(c.training_kb),
        "most cycles": lambda c: cell(c.worst_cycles, lambda v: f"{max(v):,}"),
        "mean": lambda c: cell(c.mean_cycles, lambda v: f"{statistics.mean(v):.3g}"),
        "energy": lambda c: cell(
            c.energy_j, lambda v: words.si(statistics.mean(v), "J")
        ),
        "step": lambda c: cell(
            c.step_s, lambda v: f"{1000 * statistics.mean(v):,.0f} ms"
        ),
    }
    for flag in dict.fromkeys(flag for c in found for flag in c.tuned):
        columns[flag] = functools.partial(_tuned, flag=flag)
    seeds = {len(c.accuracy) for c in found}
    counts = " or ".join(words.counted(n, "seed") for n in sorted(seeds))
    title = (
        f"{measure}, memory of the model in inference and in training, "
        "write-erase cycles of multi-level devices, energy of the training, estimated; "
        f"{counts} each"
    )
    rows = [tuple(column(c) for column in columns.values()) for c in found]
    return terminal.table(tuple(columns), rows, title=title)


def _tuned(contender: Contender, flag: str) -> str:
    """A value that was chosen, and whether a better one may lie beyond."""
    if flag not in contender.tuned:
        return words.ABSENT
    value = contender.tuned[flag]
    return f"{value} (an end)" if flag in contender.at_an_end else str(value)


def _are_of_text(found: Sequence[Contender]) -> bool:
    return any(c.loss for c in found)


# What is drawn of a contender, by axes: markers, what they stand for, and their values
# over seeds. Hollow ones are the second of their axes. The first axes say on what data.
_Drawn = dict[str, list[tuple[str, str, Callable[[Contender], Sequence[float]]]]]
_OF_IMAGES: _Drawn = {
    "accuracy (%)": [
        ("o", "after training", lambda c: [100 * x for x in c.accuracy]),
        ("D", "a year later, compensated", lambda c: [100 * x for x in c.year]),
    ]
}
_OF_TEXT: _Drawn = {
    "loss (nats per character)": [
        ("o", "after training", lambda c: c.loss),
        ("D", "a year later, compensated", lambda c: c.year_loss),
    ]
}
_OF_ALL: _Drawn = {
    "memory in training (kB)": [
        ("s", "weights and buffers of the optimizer", lambda c: [c.training_kb]),
    ],
    "write-erase cycles": [
        ("^", "most worn device", lambda c: c.worst_cycles),
        ("v", "mean of all devices", lambda c: c.mean_cycles),
    ],
    "energy of the training (J)": [("s", "an estimate", lambda c: c.energy_j)],
}


# An axis to less than so many times its beginning has too few round powers for marks.
_NARROW = 5.0


def draw(path: Path, found: Sequence[Contender], tested_on: str = "test") -> None:
    """Accuracy or loss, memory, wear, energy of each contender, one under the other."""
    everything = {
        label: drawn
        for label, drawn in (
            (_OF_TEXT if _are_of_text(found) else _OF_IMAGES) | _OF_ALL
        ).items()
        if any(values(c) for _, _, values in drawn for c in found)
    }
    places = list(range(len(found), 0, -1))
    height = 1.9 + 0.42 * len(found)
    with drawing.figure(path, columns=len(everything), height=height) as panels:
        for axes, (label, drawn) in zip(panels, everything.items(), strict=True):
            for i, (marker, text, values) in enumerate(drawn):
                style: dict[str, Any] = {
                    "marker": marker,
                    "markerfacecolor": "white" if i else None,
                }
                for place, c in zip(places, found, strict=True):
                    if seeds := values(c):
                        axes.errorbar(
                            statistics.mean(seeds),
                            place,
                            xerr=statistics.stdev(seeds) if len(seeds) > 1 else 0.0,
                            markersize=6,
                            color=drawing.colour_of(c.algorithm),
                            linestyle="none",
                            **style,
                        )
                axes.plot([], [], color="0.3", linestyle="none", label=text, **style)
            axes.legend(
                loc="upper center", bbox_to_anchor=(0.5, 0.0), borderaxespad=4.5
            )
            axes.set(xlabel=label, ylim=(0.4, len(found) + 0.6))
            axes.set_yticks(places, [""] * len(found))
        panels[0].set_yticks(places, [c.name for c in found])
        panels[0].set_xlabel(f"{tested_on} {panels[0].get_xlabel()}")
        for axes in panels[1:]:
            axes.set(xscale="log")
            low, high = axes.get_xlim()
            if high < _NARROW * low:
                axes.set(xscale="linear", xlim=(low, high))
                axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
                axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.10g}"))
                continue
            subs = (1,) if high > 300 * low else (1, 2, 5)
            axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=6))
            axes.xaxis.set_major_formatter(lambda x, position: words.si(x))
            axes.xaxis.set_minor_formatter(NullFormatter())


def main(argv: list[str]) -> None:
    """Compares as the flags say."""
    given = flags.FLAGS
    manner = sweep.start(argv)
    workdir = Path(given.workdir).resolve()
    axes = grid.axes_from_flags()
    tuned = tuning.axes_from_flags(axes)
    runs = grid.runs_of(axes, given.max_steps)
    chosen: dict[str, tuning.Choice] = {}
    if tuned:
        # What cannot go there is to be known before what takes long.
        sweep_folder.prepare(workdir, grid.in_common(axes), [])
        chosen = choose(manner, workdir / TUNING, axes, tuned)
        runs = list(tuning.with_choices(runs, chosen, given.max_steps))
    failed = sweep.train(manner, workdir, axes, runs)
    if failed:
        sys.exit(sweep.failures(Path(given.workdir), failed, len(runs)))
    read_a_year_later(workdir, runs, given.chips)
    found = contenders(workdir, runs, tuned, chosen)
    rows = [dataclasses.asdict(contender) for contender in found]
    tested_on = " or ".join(dict.fromkeys(run.config.train.tested_on for run in runs))
    with writing(workdir):
        write_text(workdir / "comparison.json", json.dumps(rows, indent=2) + "\n")
        draw(workdir / "comparison.png", found, tested_on)
    terminal.show(table(found, tested_on), f"Runs and picture: {given.workdir}")


def choose(
    manner: sweep.Manner, workdir: Path, axes: dict[str, list], tuned: dict[str, list]
) -> dict[str, tuning.Choice]:
    """Trains what is chosen from, and says what was chosen.

    Exits where every run of a contender failed.
    """
    every = tuning.axes_to_choose_from(axes, tuned)
    runs = grid.runs_of(every, flags.FLAGS.max_steps)
    failed = sweep.train(manner, workdir, every, runs)
    chosen = tuning.choices(workdir, runs, tuned)
    without = [r for r in failed if tuning.contender(r, tuned) not in chosen]
    if without:
        sys.exit(sweep.failures(workdir, without, len(runs)))
    for name, choice in chosen.items():
        if choice.values:
            terminal.note(f"{name}: {choice}")
    return chosen


def define_flags() -> None:
    """Flags of this launcher: those of a sweep, and its own."""
    sweep.define_flags()
    tuning.define_flags()
    text = "Chips of each training that are read a year later."
    cli.define_count("chips", 5, text)


if __name__ == "__main__":
    launch.run(main, define_flags)
