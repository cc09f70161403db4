"""The page: claims and verdicts, then the accounting, of every group, in one file."""

import collections
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
from hic_jax.accounting import EnergyTable


class Judged(NamedTuple):
    """A group on the page."""

    number: int  # number of the group, from 1
    group: Group  # runs that are compared
    claims: list[Claim]
    topics: list[Section]  # sections on what the hardware takes


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
      groups: groups, each of which is judged by itself.
      left_out: by the folder of a run that was left out, why.
      command: shell line that makes this report.
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
    # A run may stand in several groups, and beside itself with its kernels rounded.
    every = [run for one in judged for run in one.group.runs]
    runs = list({run["folder"]: run for run in every if not run["rounded"]}.values())
    of_runs = tables.Table("runs", "Each run once", _RUNS, list(map(run_row, runs)))
    of_makers = making.table(runs)
    files: dict[str, list[tables.Row]] = collections.defaultdict(list)
    for table in filter(None, (of_runs, of_makers)):
        files[table.name] = table.rows
    for one in judged:
        rows = [("verdicts", list(map(_verdict, one.claims)))]
        for section in (*one.claims, *one.topics):
            rows += [(table.name, table.rows) for table in section.tables]
        for name, mine in rows:
            files[name] += [{"group": one.number} | row for row in mine]
    tables.write(folder, files)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("experiments.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("report.html").render(
        zip=zip,
        judged=judged,
        count=len(runs),
        table_of_runs=of_runs,
        table_of_makers=of_makers,
        unrecorded=sum(not run["provenance"] for run in runs),
        left_out=left_out,
        differing=differing_fields(runs),
        command=command,
        training=[making.training_command(run) for run in runs],
        drift=[line for run in runs for line in making.drift_commands(run)],
        versions={"hic_jax": hic_jax.__version__, "JAX": jax.__version__},
    )
    (folder / output.PAGE).write_text(html, encoding="utf-8")


# ---- Tables


def _verdict(claim: Claim) -> tables.Row:
    """A verdict and the quantity that it judges."""
    finding = claim.finding
    return {
        "claim": claim.name,
        "verdict": str(finding.verdict),
        "quantity": finding.quantity,
        "unit": finding.unit if finding.estimate else "",
        **tables.fields_of(finding.estimate),
        "found": " ".join(finding.sentences),
        "rival_verdict": finding.beside and str(finding.beside.verdict),
        "rival_found": finding.beside and finding.beside.judged,
    }


def run_row(run: Run) -> tables.Row:
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


_RUNS = (
    tables.ALGORITHM,
    tables.WIDTH,
    tables.number("seed", "seed"),
    tables.number("accuracy (%)", "accuracy_percent", ".2f"),
    tables.number("inference (kB)", "inference_kb", ",.1f"),
    tables.number("training (kB)", "training_kb", ",.1f"),
    tables.number("epochs", "epochs"),
    tables.word("data set", "dataset"),
    tables.number("depth", "depth"),
    tables.number("ms per step", "seconds_per_step", lambda s: f"{1000 * s:,.1f}"),
    tables.word("folder", "folder"),
)
