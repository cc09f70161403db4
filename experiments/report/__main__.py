"""Judges the paper's four claims by trained runs: one HTML page, figures, tables.

    python -m experiments.report runs/sweep --out=runs/report

RUNS are run folders, or folders that hold some, such as a sweep's. The folder of
``--out`` gets ``report.html``, which is complete in itself, its figures as PNG and SVG,
and its tables as CSV. Runs that must not be pooled are judged in groups
(`experiments.report.runs.group`).
"""

import shlex
from pathlib import Path

from absl import app, flags, logging

from experiments import launch
from experiments.hardware import read_energy_table
from experiments.report import page, runs


def report(paths: list[str], out: str, energy_table: str | None = None) -> Path:
    """Writes the report on all runs in ``paths``.

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
    words = ["python", "-m", "experiments.report", *paths, f"--out={out}"]
    if energy_table:
        words.append(f"--energy_table={energy_table}")
    groups = runs.group(found)
    return page.write(Path(out), groups, left_out, shlex.join(words), table)


def main(argv: list[str]) -> None:
    """Reports as the command line says."""
    launch.quiet_libraries()
    with launch.clear_errors(ValueError, OSError):
        written = report(argv[1:], flags.FLAGS.out, flags.FLAGS.energy_table)
    logging.info("report: %s", written)


def define_flags() -> None:
    """Flags of this launcher."""
    flags.DEFINE_string("out", None, "Folder of the report.", required=True)
    flags.DEFINE_string(
        "energy_table",
        None,
        "JSON file with the energy of operations in pJ: fields of "
        "hic_jax.accounting.EnergyTable. Those that it lacks have their defaults. "
        "Without it, energies are those that the runs were summarised with.",
    )


if __name__ == "__main__":
    define_flags()
    app.run(main)
