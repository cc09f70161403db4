"""Shell lines that make the runs of a report again."""

import shlex

from experiments.config import flag_of
from experiments.report import runs
from experiments.report.estimates import Run
from hic_jax.inference import TRAINED

# Where the data lies is no part of a command; the preset names its constants.
NO_FLAGS = ("train.data_dir", "spec.multilevel.name", "spec.multilevel.source")


def training_command(run: Run) -> str:
    """A shell line that trains it again: flags where it differs from the defaults."""
    usual = runs.defaults(run)
    words = ["python", "-m", "experiments.train", f"--workdir={run['folder']}"]
    for name, value in run["config"].items():
        if name not in NO_FLAGS and value != usual.get(name, value):
            words.append(f"--{flag_of(name)}={value}")
    return shlex.join(words)


def drift_commands(run: Run) -> list[str]:
    """Shell lines that read it again over time, one for each kind of devices."""
    lines = []
    for devices in dict.fromkeys(row["devices"] for row in run["drift"]):
        rows = [row for row in run["drift"] if row["devices"] == devices]
        times = dict.fromkeys(f"{row['time']:.10g}" for row in rows)
        compensations = dict.fromkeys(
            row["compensation"].removesuffix(runs.IDEAL_REFERENCE) for row in rows
        )
        words = ["python", "-m", "experiments.drift", f"--workdir={run['folder']}"]
        if devices != TRAINED:
            words.append(f"--deploy={devices}")
        words += [
            f"--times={','.join(times)}",
            f"--chips={len(rows[0]['accuracies'])}",
            f"--compensations={','.join(compensations)}",
        ]
        if rows[0]["ideal_reference"]:
            words.append("--ideal_reference")
        lines.append(shlex.join(words))
    return lines
