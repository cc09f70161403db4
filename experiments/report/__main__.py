"""Judges the paper's four claims by trained runs: one HTML page, figures, tables.

    python -m experiments.report runs/sweep --out=runs/report

RUNS are run folders, or folders that hold some, such as a sweep's. The folder of
``--out`` gets ``report.html``, which is complete in itself, its figures as PNG and SVG,
and its tables as CSV. Runs that must not be pooled are judged in groups
(`experiments.report.runs.group`).
"""

import collections
import shlex
from pathlib import Path

import rich.table
from absl import flags

from experiments import cli, launch, terminal, words
from experiments.plots import NAMES
from experiments.report import page, runs
from experiments.report.claims import CLAIMS, statement
from experiments.runs.hardware import read_energy_table


def report(paths: list[str], out: str, energy_table: str | None = None) -> Path:
    """Writes the report on all runs in ``paths``, and shows its verdicts.

    Args:
      paths: run folders, or folders that hold some up to two levels deep.
      out: folder of the report.
      energy_table: JSON file with the energy of operations; None for what the runs were
        summarised with.

    Returns:
      The path of the page.

    Raises:
      ValueError: if a path holds no run, no run can be reported, or the energy table
        is none.
    """
    table = read_energy_table(energy_table) if energy_table else None
    found, left_out = runs.read_all(runs.find(paths))
    if not found:
        reasons = "; ".join(f"{folder} {why}" for folder, why in left_out.items())
        raise ValueError(f"runs={','.join(paths)}: none can be reported: {reasons}")
    command = ["python", "-m", "experiments.report", *paths, f"--out={out}"]
    if energy_table:
        command.append(f"--energy_table={energy_table}")
    groups = runs.group(found)
    page_path = page.write(Path(out), groups, left_out, shlex.join(command), table)
    counts = collections.Counter(NAMES[run["algorithm"]] for run in found)
    kinds = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    terminal.note(f"{words.counted(len(found), 'run')} found: {kinds}")
    for folder, why in left_out.items():
        terminal.note(f"left out: {folder} {why}")
    terminal.show(*map(verdicts, groups), f"Report: {page_path}")
    return page_path


def verdicts(group: runs.Group) -> rich.table.Table:
    """What the runs of a group say about each claim."""
    rows = []
    for claim in CLAIMS.values():
        finding = claim(group.runs)
        rows.append((statement(claim), str(finding.verdict), finding.sentences[0]))
    title = "; ".join(filter(None, [group.title, group.distinction]))
    return terminal.table(
        ("claim", "verdict", "found"), rows, title=title, words=range(3)
    )


def main(argv: list[str]) -> None:
    """Reports as the command line says."""
    launch.start(argv[:1])
    with launch.clear_errors(ValueError):
        paths = [cli.read("runs", cli.path(), word) for word in argv[1:]]
        report(paths, flags.FLAGS.out, flags.FLAGS.energy_table)


def define_flags() -> None:
    """Flags of this launcher."""
    cli.define("out", cli.path(), None, "Folder of the report.", required=True)
    cli.define(
        "energy_table",
        cli.path(),
        None,
        "JSON file with the energy of operations in pJ: fields of "
        "hic_jax.accounting.EnergyTable. Those that it lacks have their defaults. "
        "Without it, energies are those that the runs were summarised with.",
    )


if __name__ == "__main__":
    launch.run(main, define_flags)
