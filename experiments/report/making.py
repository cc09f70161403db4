"""How the runs of a report were made: shell lines, versions, hardware, dates."""

import shlex
from collections.abc import Sequence

from experiments.devices.fitted import Fitted
from experiments.report import runs
from experiments.report.runs import Run
from experiments.report.tables import Column, Row, Table, number, word
from experiments.words import ABSENT
from hic_jax.inference import TRAINED

# The preset names its constants.
NO_FLAGS = ("pcm_name", "pcm_source")


def training_command(run: Run) -> str:
    """A shell line that trains it again: flags where it differs from the defaults.

    All flags, where this version does not know the defaults.
    """
    usual = runs.usual(run)
    words = ["python", "-m", "experiments.train", f"--workdir={run['folder']}"]
    for flag, value in run["config"].items():
        if flag not in NO_FLAGS and value != usual.get(flag, value if usual else None):
            fitted = flag == "preset" and isinstance(value, Fitted)
            words.append(f"--device={value.file}" if fitted else f"--{flag}={value}")
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


# What tells one maker from another, of the entries of `experiments.runs.provenance`.
FIELDS = ("hic_jax", "commit", "jax", "device", "devices", "processes", "host")


def table(runs: Sequence[Run]) -> Table | None:
    """A row for each maker, with its dates and runs; None if no run records any.

    A run that another version went on with is in a row of each.
    """
    made: dict[tuple, list[tuple[str, str]]] = {}
    for run in runs:
        for entry in run["provenance"]:
            maker = tuple(entry.get(name) for name in FIELDS)
            made.setdefault(maker, []).append((str(entry["date"]), run["folder"]))
    rows = [
        dict(zip(FIELDS, maker, strict=True))
        | {
            "first_date": min(dates)[0],
            "last_date": max(dates)[0],
            "runs": len({folder for _, folder in dates}),
        }
        for maker, dates in made.items()
    ]
    rows.sort(key=lambda row: row["first_date"])
    return Table("made_by", "What made the runs", COLUMNS, rows) if rows else None


def _commit(row: Row) -> str:
    commit, dirty, _ = (row["commit"] or ABSENT).partition("-dirty")
    return commit[:10] + (", changed" if dirty else "")


def _device(row: Row) -> str:
    device = ABSENT if row["device"] is None else str(row["device"])
    return device if row["devices"] in (None, 1) else f"{row['devices']} × {device}"


def _dates(row: Row) -> str:
    return " to ".join(dict.fromkeys([row["first_date"][:10], row["last_date"][:10]]))


COLUMNS = (
    word("hic_jax", "hic_jax"),
    Column("commit", _commit),
    word("JAX", "jax"),
    Column("devices", _device),
    number("processes", "processes", str),
    word("host", "host"),
    Column("begun (UTC)", _dates),
    number("runs", "runs"),
)
