"""Runs put into recipes, which are never pooled, and recipes that may be compared."""

import collections
import dataclasses
import itertools
import json
import operator
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from experiments.drawing import COLOURS, NAMES
from experiments.parts import TrainConfig, network_flags
from experiments.report.runs import NOT_STORED, Run
from experiments.words import counted

# What the runs of a group have in common, beside the fields of their network. Runs of
# different tasks are never compared.
TASK = ("dataset", "validation", "downscale", "shift", "epochs", "model")
# What versions had that did not store it.
_BEFORE = {
    name: getattr(TrainConfig, name)
    for name in ("validation", "downscale", "shift", "model")
}

# Names of algorithms, where these are not just their words, and of readings.
_NAMES = NAMES | {
    "int8": "FP32 rounded to int8",
    "int4": "FP32 rounded to int4",
    "int4_aware": "int4 in training",
}


class Look(NamedTuple):
    """How a recipe is drawn."""

    colour: str
    marker: str


_LOOKS = {"fp32": Look(COLOURS["fp32"], "s"), "hic": Look(COLOURS["hic"], "o")}
# Of all other algorithms, in turn; Okabe and Ito, too.
_FURTHER_LOOKS = (
    Look("#009E73", "^"),
    Look("#CC79A7", "v"),
    Look("#56B4E9", "P"),
    Look("#E69F00", "D"),
    Look("#F0E442", "X"),
)


def name_of(label: str) -> str:
    """A recipe as people call it, by its algorithm and its number, if it has one."""
    algorithm, space, number = label.partition(" ")
    words = _NAMES.get(algorithm, algorithm) + space + number
    return words.replace("_", " ")


@dataclasses.dataclass(frozen=True, eq=False)
class Recipe:
    """Runs that differ in width and seed, and in no other field that they use."""

    algorithm: str  # name of the algorithm that trained them
    runs: tuple[Run, ...]  # none, if the recipe did not run
    label: str  # the algorithm, and a number if its group has several recipes of it
    file: str  # the label as names of files say it
    look: Look

    @property
    def name(self) -> str:
        """The label as people say it."""
        return name_of(self.label)

    @property
    def on_devices(self) -> bool:
        """Whether devices hold the weights."""
        return any(run["on_devices"] for run in self.runs)

    def by_width(self) -> Iterator[tuple[float, list[Run]]]:
        """The seeds of each width, the narrowest first."""
        width = operator.itemgetter("width")
        for each, seeds in itertools.groupby(sorted(self.runs, key=width), width):
            yield each, list(seeds)


@dataclasses.dataclass(frozen=True)
class Group:
    """Recipes of one task that are compared, and the pair that claims are about."""

    baseline: Recipe  # what the claims compare with; may have no runs
    candidate: Recipe  # what is to beat the baseline; may have no runs
    others: tuple[Recipe, ...]  # what ran beside, of other algorithms than the pair
    title: str  # what all of them have in common
    distinction: str  # how they differ from those of other groups; may be empty
    prefix: str = ""  # begins the names of the group's files, unless it is the only one

    @property
    def recipes(self) -> list[Recipe]:
        """Those that ran: the pair, then the others."""
        return [r for r in (self.baseline, self.candidate, *self.others) if r.runs]

    @property
    def runs(self) -> list[Run]:
        """Runs of all recipes."""
        return [run for recipe in self.recipes for run in recipe.runs]

    def file(self, name: str, recipe: Recipe) -> str:
        """The name of a file of one recipe: that of the candidate has no more words."""
        owner = "" if recipe is self.candidate else f"{recipe.file}_"
        return f"{self.prefix}{owner}{name}"

    @property
    def tested_on(self) -> str:
        """Test or validation: which data all accuracies are of."""
        return "validation" if _task(self.runs[0])["validation"] else "test"

    @property
    def unequal(self) -> list[str]:
        """Fields that a recipe and the first use both, but not alike."""
        first, *others = self.recipes
        return [
            f"{flag}: {first.name} {_shown(first.runs[0], flag)}, "
            f"{other.name} {_shown(other.runs[0], flag)}"
            for other in others
            for flag in _unequal(first.runs[0], other.runs[0])
        ]


def group(
    runs: Sequence[Run], baseline: str = "fp32", candidate: str = "hic"
) -> list[Group]:
    """Puts runs together that may be compared.

    All runs of a group have one task: data set, what its images become, network but for
    its width, and epochs. Seeds are pooled only if every other field is the same that
    their algorithm uses. Each recipe of the candidate is compared with the recipe of
    the baseline whose digital fields are the same; if there is none, with each of the
    task, and `Group.unequal` says what differs. Recipes of the baseline that remain
    stand alone. Other algorithms stand beside the pairs whose candidate has their
    digital fields; if there is none, beside those whose baseline has them, or beside
    all pairs of the task.
    """
    tasks: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        recipes = tasks.setdefault(json.dumps(_task(run)), {})
        recipes.setdefault(json.dumps(_fields(run), sort_keys=True), []).append(run)
    groups: list[Group] = []
    for recipes in tasks.values():
        groups += _of_task([tuple(r) for r in recipes.values()], baseline, candidate)
    if len(groups) == 1:
        return groups
    return [
        dataclasses.replace(group, prefix=f"group{number}_")
        for number, group in enumerate(groups, 1)
    ]


# Runs of a recipe that has no name yet.
_Runs = tuple[Run, ...]


def _of_task(
    recipes: Sequence[_Runs], baseline: str, candidate: str
) -> Iterator[Group]:
    by_algorithm: dict[str, list[_Runs]] = {baseline: [], candidate: []}
    for runs in recipes:
        by_algorithm.setdefault(runs[0]["algorithm"], []).append(runs)
    baselines, candidates, *others = by_algorithm.values()
    pairs: list[tuple[_Runs, _Runs]] = []
    for mine in candidates:
        pairs += [(b, mine) for b in _alike(mine, baselines) or baselines or [()]]
    compared = [id(b) for b, _ in pairs]
    pairs += [(b, ()) for b in baselines if id(b) not in compared]
    for pair in pairs or [((), ())]:
        first = pair[1] or pair[0]
        known = (candidates, pair[1]), (baselines, pair[0])
        beside = [
            runs for runs in itertools.chain(*others) if _stands_beside(runs, known)
        ]
        ran = [*zip((baseline, candidate), pair, strict=True)]
        ran += [(runs[0]["algorithm"], runs) for runs in beside]
        theirs, ours, *more = named = _named(ran)
        title = _title((first or beside[0])[0])
        distinction = "; ".join(
            filter(None, (_differs(r, by_algorithm) for r in named))
        )
        yield Group(theirs, ours, tuple(more), title, distinction)


def _stands_beside(runs: _Runs, known: Sequence[tuple[Sequence[_Runs], _Runs]]) -> bool:
    """Whether these are the pair's that have their digital fields, or nobody's."""
    for every, of_pair in known:
        if _alike(runs, every):
            return bool(of_pair) and bool(_alike(runs, [of_pair]))
    return True


def _alike(mine: _Runs, others: Sequence[_Runs]) -> list[_Runs]:
    """Those whose digital fields are these; runs that there are none of are, too."""
    return [
        runs for runs in others
        if not runs or not _unequal(mine[0], runs[0], digital=True)
    ]  # fmt: skip


def _named(found: Sequence[tuple[str, _Runs]]) -> list[Recipe]:
    """Recipes of a group, told apart by their labels, files and looks."""
    words = [file_word(algorithm) for algorithm, _ in found]
    looks = itertools.cycle(_FURTHER_LOOKS)
    recipes = []
    for place, (algorithm, runs) in enumerate(found):
        several = words.count(words[place]) > 1
        number = f"{words[:place].count(words[place]) + 1}" if several else ""
        look = _LOOKS.get(algorithm) or next(looks)
        label = f"{algorithm} {number}".rstrip()
        recipes.append(Recipe(algorithm, runs, label, words[place] + number, look))
    return recipes


def file_word(text: str) -> str:
    """A text as it may stand in the name of a file."""
    return re.sub(r"[^\w.+-]+", "_", text)[:40]


# ---- Fields


def _fields(run: Run) -> dict[str, Any]:
    """What runs must share to be seeds of one another, beside the width."""
    return {k: v for k, v in run["config"].items() if k not in ("width", "seed")}


def _task(run: Run) -> dict[str, Any]:
    """Values of `TASK` and of the fields of the network, by their flags."""
    config = _BEFORE | run["config"]
    return {flag: config.get(flag) for flag in (*TASK, *network_flags(config["model"]))}


def _title(run: Run) -> str:
    task = _task(run)
    shift, model, plan = task["shift"], task["model"], task.get("channel_plan")
    if model == "resnet":
        network = f"ResNet-{task['depth']}"
        network += "" if plan == "hic" else f" ({plan} channels)"
    else:
        usual = network_flags(model)
        own = [f"{flag}={task[flag]}" for flag in usual if task[flag] != usual[flag]]
        network = model + (f" ({', '.join(own)})" if own else "")
    changes = [] if shift == "none" else [shift]
    if task["downscale"] > 1:
        changes.append(f"smaller by {task['downscale']}")
    data = task["dataset"] + (f" ({', '.join(changes)})" if changes else "")
    title = f"{data}, {network}, {counted(task['epochs'], 'epoch')}"
    # Not what verdicts are for: recipes are chosen by it.
    return title + (", on validation data" if task["validation"] else "")


def _unequal(one: Run, other: Run, *, digital: bool = False) -> list[str]:
    """Fields that two runs do not have alike, of those that both use.

    Of ``digital`` fields those are left out that mean nothing without devices.
    """
    mine, others = (
        {_in_common(flag, run): value for flag, value in _fields(run).items()}
        for run in (one, other)
    )
    of_devices = {_in_common(f, run) for run in (one, other) for f in run["of_devices"]}
    return [
        flag
        for flag in dict.fromkeys((*mine, *others))
        if flag != "algorithm"
        and (
            flag not in of_devices or (not digital and flag in mine and flag in others)
        )
        and mine.get(flag, NOT_STORED) != others.get(flag, NOT_STORED)
    ]


def _in_common(flag: str, run: Run) -> str:
    """The name of a field that fields of other algorithms may have, too."""
    prefix = f"{run['algorithm']}_"
    of_its_own = flag in run["of_devices"] and flag.startswith(prefix)
    return f"spec.{flag.removeprefix(prefix)}" if of_its_own else flag


def _differs(recipe: Recipe, by_algorithm: dict[str, list[_Runs]]) -> str:
    """A recipe's values in the fields that vary over all recipes of its algorithm."""
    same = [runs[0] for runs in by_algorithm[recipe.algorithm]]
    varying = [f for f, _ in differing_fields(same) if f not in ("width", "seed")]
    if not recipe.runs or not varying:
        return ""
    values = [f"{flag}={_shown(recipe.runs[0], flag)}" for flag in varying[:4]]
    if more := len(varying[4:]):
        values.append(counted(more, "more field"))
    return f"{recipe.name} with {', '.join(values)}"


def differing_fields(runs: Sequence[Run]) -> list[tuple[str, list[tuple[str, int]]]]:
    """Fields in which runs differ: by flag, each value and how many runs have it.

    Fields of devices are those of the runs whose algorithm uses them.
    """
    rows = []
    of_devices = frozenset[str]().union(*(run["of_devices"] for run in runs))
    for flag in dict.fromkeys(flag for run in runs for flag in run["config"]):
        users = {run["algorithm"] for run in runs if flag in run["config"]}
        counts = collections.Counter(
            _shown(run, flag)
            for run in runs
            if flag not in of_devices or run["algorithm"] in users
        )
        if len(counts) > 1:
            rows.append((flag, sorted(counts.items())))
    return rows


def _shown(run: Run, flag: str) -> str:
    """The value of a field, by its flag or by the name that `_in_common` gives it."""
    values = {_in_common(f, run): value for f, value in run["config"].items()}
    return str((values | run["config"]).get(flag, NOT_STORED)) or "''"
