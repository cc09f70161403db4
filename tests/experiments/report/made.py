"""Runs as `experiments.report.runs` reads them, and groups of them."""

from experiments.report import groups
from experiments.report.estimates import estimate
from experiments.report.wear import WHOLE, Wear


def run(algorithm="hic", width=1.0, seed=0, *, config=None, **fields):
    """A run on devices, unless it is of fp32; `config` has more of its flags."""
    flags = {"dataset": "digits", "depth": 8, "channel_plan": "hic", "epochs": 1}
    flags |= {"algorithm": algorithm, "width": width, "seed": seed} | (config or {})
    known = {
        "folder": f"{algorithm}-{width}-{seed}", "accuracy": 90.0, "size_kb": 100.0,
        "drift": [], "wear": None, "summary": {}, "provenance": [],
        "on_devices": algorithm not in ("fp32", "int8", "int4"), "rounded": False,
        "of_devices": frozenset(),
    }  # fmt: skip
    named = {"algorithm": algorithm, "width": width, "seed": seed, "config": flags}
    return known | named | fields


def group(runs, baseline="fp32", candidate="hic"):
    """The one group of runs of one task; of no runs, that of another algorithm."""
    (found,) = groups.group(runs or [run("other")], baseline, candidate)
    return found


def recipe(runs):
    """Runs of one algorithm that differ in width and seed."""
    (found,) = group(runs).recipes
    return found


def curve(algorithm, points):
    """Runs by (width, size in kB, accuracies of the seeds)."""
    return [
        run(algorithm, width, seed, accuracy=accuracy, size_kb=size)
        for width, size, accuracies in points
        for seed, accuracy in enumerate(accuracies)
    ]


def three_seeds(algorithm, points):
    """Three seeds of each (width, size in kB, accuracy), 0.1 points apart."""
    spread = [(w, size, (a - 0.1, a, a + 0.1)) for w, size, a in points]
    return curve(algorithm, spread)


HIC = recipe([run()])


def worn(kind, worst, part=WHOLE, counts=(3, 4), of=HIC):
    """Wear of a part, with a histogram."""
    return Wear(
        of, kind, 1.0, part, 1.0, 2.0, worst, estimate([worst]), 1e9, worst / 1e9, 1.0,
        (0, 1, 2), counts,
    )  # fmt: skip
