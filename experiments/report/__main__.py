"""Judges the paper's four claims by trained runs: one HTML page, figures, tables.

    python -m experiments.report runs/sweep --out=runs/report

RUNS are run folders, or folders that hold some, such as a sweep's. The folder of
``--out`` gets ``report.html``, which is complete in itself, its figures as PNG and SVG,
and its tables as CSV. Runs that must not be pooled are judged in groups
(`experiments.report.groups.group`).
Claims are judged for the algorithm of ``--candidate`` against that of ``--baseline``;
other algorithms that ran stand beside them in figures and tables.
"""

import collections
import shlex
from pathlib import Path

import rich.table
from absl import flags

from experiments import cli, launch, terminal, words
from experiments.report import output, page, runs
from experiments.report.groups import group, name_of
from experiments.runs.hardware import read_energy_table
from hic_jax import checks

# The algorithms that the paper compares.
BASELINE, CANDIDATE = "fp32", "hic"


def report(
    paths: list[str],
    out: str,
    energy_table: str | None = None,
    *,
    baseline: str = BASELINE,
    candidate: str = CANDIDATE,
) -> Path:
    """Writes the report on all runs in ``paths``, and shows its verdicts.

    Args:
      paths: run folders, or folders that hold some up to two levels deep.
      out: folder of the report.
      energy_table: JSON file with the energy of operations; None for what the runs were
        summarised with.
      baseline: the algorithm that claims compare with.
      candidate: the algorithm that they are about.

    Returns:
      The path of the page.

    Raises:
      ValueError: if a path holds no run, no run can be reported, the energy table is
        none, or the pair is none that ran.
    """
    table = read_energy_table(energy_table) if energy_table else None
    found, left_out = runs.read_all(runs.find(paths))
    if not found:
        reasons = "; ".join(f"{folder} {why}" for folder, why in left_out.items())
        raise ValueError(f"runs={','.join(paths)}: none can be reported: {reasons}")
    algorithms = {BASELINE, CANDIDATE, *(run["algorithm"] for run in found)}
    for name, algorithm in (("baseline", baseline), ("candidate", candidate)):
        checks.one_of(name, algorithm, sorted(algorithms))
    if candidate == baseline:
        raise ValueError(f"candidate={candidate}: must be another than the baseline")
    given = {"energy_table": energy_table, "baseline": baseline, "candidate": candidate}
    usual = {"energy_table": None, "baseline": BASELINE, "candidate": CANDIDATE}
    command = ["python", "-m", "experiments.report", *paths, f"--out={out}"]
    command += [f"--{name}={x}" for name, x in given.items() if x != usual[name]]
    groups = group(found, baseline, candidate)
    judged = page.write(Path(out), groups, left_out, shlex.join(command), table)
    trained = [run["algorithm"] for run in found if not run["rounded"]]
    counts = sorted(collections.Counter(trained).items())
    kinds = ", ".join(f"{number} {name_of(name)}" for name, number in counts)
    terminal.note(f"{words.counted(len(trained), 'run')} found: {kinds}")
    for folder, why in left_out.items():
        terminal.note(f"left out: {folder} {why}")
    page_path = Path(out) / output.PAGE
    terminal.show(*map(verdicts, judged), f"Report: {page_path}")
    return page_path


def verdicts(judged: page.Judged) -> rich.table.Table:
    """What the runs of a group say about each claim."""
    rows = [
        (claim.title, str(claim.finding.verdict), claim.finding.short)
        for claim in judged.claims
    ]
    title = "; ".join(filter(None, [judged.group.title, judged.group.distinction]))
    return terminal.table(
        ("claim", "verdict", "found"), rows, title=title, words=range(3)
    )


def main(argv: list[str]) -> None:
    """Reports as the command line says."""
    launch.start(argv[:1])
    given = flags.FLAGS
    paths = [cli.read("runs", cli.path(), word) for word in argv[1:]]
    pair = {"baseline": given.baseline, "candidate": given.candidate}
    report(paths, given.out, given.energy_table, **pair)


def define_flags() -> None:
    """Flags of this launcher."""
    cli.define("out", cli.path(), None, "Folder of the report.", required=True)
    name, what = cli.text("NAME"), "Training algorithm that claims"
    cli.define("baseline", name, BASELINE, f"{what} compare with.")
    cli.define("candidate", name, CANDIDATE, f"{what} are about.")
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
