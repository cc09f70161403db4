"""The page: claims and verdicts, then the accounting, of every group, in one file."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jinja2

import hic_jax
from experiments.report import claims, making, output, tables
from experiments.report.groups import Group, differing_fields
from experiments.report.runs import Run
from experiments.report.sections import Claim, Section
from experiments.report.tables import (
    ALGORITHM,
    WIDTH,
    Column,
    Row,
    Table,
    fields_of,
    plain,
)
from experiments.words import ABSENT
from hic_jax.accounting import EnergyTable


class Judged(NamedTuple):
    """A group on the page.

    Attributes:
      number: number of the group, from 1.
      group: runs that are compared.
      claims: a section for each.
      topics: sections on what the hardware takes.
    """

    number: int
    group: Group
    claims: list[Claim]
    topics: list[Section]


def write(
    out: Path,
    groups: Sequence[Group],
    left_out: dict[str, str],
    command: str,
    energy_table: EnergyTable | None = None,
) -> list[Judged]:
    """Draws the figures, writes the tables and the page, `output.PAGE` in the folder.

    Args:
      out: folder of all of them.
      groups: each is judged by itself.
      left_out: by the folder of a run that was, why.
      command: that makes this report.
      energy_table: energy of each operation; None for what the runs have.

    Returns:
      What the page says of each group.

    Raises:
      ValueError: if a file in the folder would be lost that no report made. Then
        nothing is changed.
    """
    output.check(out)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        judged = [
            Judged(
                number,
                group,
                claims.judge(group, folder),
                claims.account(group, folder, energy_table),
            )
            for number, group in enumerate(groups, 1)
        ]
        _make(folder, judged, left_out, command)
        output.publish(folder, out)
    return judged


def _make(
    folder: Path, judged: Sequence[Judged], left_out: dict[str, str], command: str
) -> None:
    """Writes tables and page to a folder where the figures are; see `write`."""
    # A run may stand in several groups.
    everything = list(
        {r["folder"]: r for one in judged for r in one.group.runs}.values()
    )
    table_of_runs = Table(
        "runs", "Each run once", _RUNS, list(map(run_row, everything))
    )
    table_of_makers = making.table(everything)
    of_groups = [
        table.of_group(one.number)
        for one in judged
        for table in (
            Table("verdicts", "", (), list(map(_verdict, one.claims))),
            *(table for part in (*one.claims, *one.topics) for table in part.tables),
        )
    ]
    makers = [table_of_makers] if table_of_makers else []
    tables.write(folder, [table_of_runs, *makers, *of_groups])
    html = _template().render(
        judged=judged,
        count=len(everything),
        table_of_runs=table_of_runs,
        table_of_makers=table_of_makers,
        unrecorded=making.unrecorded(everything),
        left_out=left_out,
        differing=differing_fields(everything),
        command=command,
        training=[making.training_command(run) for run in everything],
        drift=[line for run in everything for line in making.drift_commands(run)],
        versions={"hic_jax": hic_jax.__version__, "JAX": jax.__version__},
    )
    (folder / output.PAGE).write_text(html, encoding="utf-8")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("experiments.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["zip"] = zip
    return environment.get_template("report.html")


# ---- Tables


def _verdict(claim: Claim) -> Row:
    """A verdict and the quantity that it judges."""
    finding = claim.finding
    return {
        "claim": claim.name,
        "verdict": str(finding.verdict),
        "quantity": finding.quantity,
        "unit": finding.unit if finding.estimate else "",
        **fields_of(finding.estimate),
        "found": " ".join(finding.sentences),
    }


def run_row(run: Run) -> Row:
    """A run: what it is and what came out."""
    config, summary = run["config"], run["summary"]
    training_bits = summary.get("training_bits")
    return {
        "algorithm": run["algorithm"],
        "width": run["width"],
        "seed": run["seed"],
        "accuracy_percent": run["accuracy"],
        "inference_kb": run["size_kb"],
        "training_kb": None if training_bits is None else training_bits / 8000,
        "epochs": config["epochs"],
        "dataset": config.get("dataset"),
        "depth": config.get("depth"),
        "seconds_per_step": summary.get("seconds_per_step"),
        "folder": run["folder"],
    }


def _milliseconds(row: Row) -> str:
    seconds = row["seconds_per_step"]
    return ABSENT if seconds is None else f"{1000 * seconds:,.1f}"


_RUNS = (
    ALGORITHM,
    WIDTH,
    Column("seed", plain("d", "seed")),
    Column("accuracy (%)", plain(".2f", "accuracy_percent")),
    Column("inference (kB)", plain(",.1f", "inference_kb")),
    Column("training (kB)", plain(",.1f", "training_kb")),
    Column("epochs", plain("d", "epochs")),
    Column("data set", lambda row: row["dataset"], look=""),
    Column("depth", plain("d", "depth")),
    Column("ms per step", _milliseconds),
    Column("folder", lambda row: row["folder"], look=""),
)
