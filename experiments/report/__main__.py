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
from experiments.report import page, runs


def report(paths: list[str], out: str) -> Path:
    """Writes the report on all runs in ``paths``.

    Args:
      paths: run folders, or folders that hold some up to two levels deep.
      out: folder of the report.

    Returns:
      The path of the page.

    Raises:
      ValueError: if a path holds no run, or no run can be reported.
    """
    found, left_out = runs.read_all(runs.find(paths))
    if not found:
        reasons = "; ".join(f"{folder} {why}" for folder, why in left_out.items())
        raise ValueError(f"runs={','.join(paths)}: none can be reported: {reasons}")
    command = shlex.join(["python", "-m", "experiments.report", *paths, f"--out={out}"])
    return page.write(Path(out), runs.group(found), left_out, command)


def main(argv: list[str]) -> None:
    """Reports as the command line says."""
    launch.quiet_libraries()
    with launch.clear_errors(ValueError, OSError):
        written = report(argv[1:], flags.FLAGS.out)
    logging.info("report: %s", written)


def define_flags() -> None:
    """Flags of this launcher."""
    flags.DEFINE_string("out", None, "Folder of the report.", required=True)


if __name__ == "__main__":
    define_flags()
    app.run(main)
