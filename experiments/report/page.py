"""The page: claims and verdicts, then the accounting, of every group, in one file."""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax
import jinja2

import hic_jax
from experiments.report import (
    claims,
    making,
    output,
    runs,
    tables,
)
from experiments.report.claims import CLAIMS
from experiments.report.estimates import Run
from experiments.report.sections import Finding, Picture, Verdict
from experiments.report.tables import (
    ALGORITHM,
    WIDTH,
    Column,
    Row,
    Table,
    fields_of,
    plain,
)
from experiments.words import ABSENT, counted, minus
from hic_jax.accounting import EnergyTable

# How a verdict looks: a class of the style sheet, and a sign beside its words.
LOOKS = {
    Verdict.SUPPORTED: ("yes", "✓"),
    Verdict.NOT_SUPPORTED: ("no", "✕"),
    Verdict.TOO_LITTLE: ("open", "?"),
}


@dataclasses.dataclass(frozen=True)
class Section:
    """A claim on the page.

    Attributes:
      name: of the claim.
      statement: the claim.
      rule: of its verdict.
      finding: verdict, and what was found.
      pictures: its figures.
      tables: its tables.
    """

    name: str
    statement: str
    rule: str
    finding: Finding
    pictures: list[Picture]
    tables: list[Table]

    @property
    def look(self) -> tuple[str, str]:
        """Class and sign of the verdict."""
        return LOOKS[self.finding.verdict]

    @property
    def judged(self) -> str:
        """The quantity that the verdict judges, with its statistics."""
        estimate, unit = self.finding.estimate, self.finding.unit
        if estimate is None:
            return ""
        form = ".2f" if unit == "points" else ",.1f"

        def number(value: float) -> str:
            return minus(f"{value:{form}}")

        parts = [f"{self.finding.quantity}: {number(estimate.mean)} {unit}"]
        if estimate.interval is not None:
            low, high = map(number, estimate.interval)
            parts.append(f"95 % interval {low} to {high}")
            parts.append(f"standard deviation {number(estimate.std)}")
        return ", ".join([*parts, counted(estimate.seeds, "seed")])


def write(
    out: Path,
    groups: Sequence[runs.Group],
    left_out: dict[str, str],
    command: str,
    energy_table: EnergyTable | None = None,
) -> Path:
    """Draws the figures, writes the tables and the page.

    Args:
      out: folder of all of them.
      groups: each is judged by itself.
      left_out: by the folder of a run that was, why.
      command: that makes this report.
      energy_table: energy of each operation; None for what the runs have.

    Returns:
      The path of the page.

    Raises:
      ValueError: if a file in the folder would be lost that no report made. Then
        nothing is changed.
    """
    output.check(out)
    with tempfile.TemporaryDirectory() as made:
        _make(Path(made), groups, left_out, command, energy_table)
        output.publish(Path(made), out)
    return out / output.PAGE


def _make(
    folder: Path,
    groups: Sequence[runs.Group],
    left_out: dict[str, str],
    command: str,
    energy_table: EnergyTable | None,
) -> None:
    """Makes the files of a report in an empty folder; see `write`."""
    judged = []
    for number, group in enumerate(groups, 1):
        prefix = f"group{number}_" if len(groups) > 1 else ""
        topics = claims.account(group.runs, folder, prefix, energy_table)
        judged.append((number, group, judge(group, folder, prefix), topics))
    # A run may stand in several groups.
    everything = list({run["folder"]: run for g in groups for run in g.runs}.values())
    rows = [run_row(run) for run in everything]
    table_of_runs = Table("runs", "Each run once", RUNS, rows)
    table_of_makers = making.table(everything)
    all_tables = [
        table_of_runs,
        *filter(None, [table_of_makers]),
        *(
            table.of_group(number)
            for number, _, sections, topics in judged
            for table in (
                *map(_verdict, sections),
                *(table for part in (*sections, *topics) for table in part.tables),
            )
        ),
    ]
    tables.write(folder, all_tables)
    html = _template().render(
        judged=judged,
        count=len(everything),
        table_of_runs=table_of_runs,
        table_of_makers=table_of_makers,
        unrecorded=making.unrecorded(everything),
        left_out=left_out,
        differing=runs.differing_fields(everything),
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


def _verdict(section: Section) -> Table:
    return Table("verdicts", "", (), [verdict_row(section.name, section.finding)])


def judge(group: runs.Group, out: Path, prefix: str) -> list[Section]:
    """Every claim of a group, with figures drawn to ``out`` under names of a prefix."""
    shown = claims.evidence(group.runs, out, prefix)
    return [
        Section(
            name, claims.statement(claim), claims.rule(claim), claim(group.runs),
            *shown[name],
        )
        for name, claim in CLAIMS.items()
    ]  # fmt: skip


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
        "epochs": config["train.epochs"],
        "dataset": config["train.dataset"],
        "depth": config["train.depth"],
        "seconds_per_step": summary.get("seconds_per_step"),
        "folder": run["folder"],
    }


def verdict_row(claim: str, finding: Finding) -> Row:
    """A verdict and the quantity that it judges."""
    return {
        "claim": claim,
        "verdict": str(finding.verdict),
        "quantity": finding.quantity,
        "unit": finding.unit if finding.estimate else "",
        **fields_of(finding.estimate),
        "found": " ".join(finding.sentences),
    }


def _milliseconds(row: Row) -> str:
    seconds = row["seconds_per_step"]
    return ABSENT if seconds is None else f"{1000 * seconds:,.1f}"


RUNS = (
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
