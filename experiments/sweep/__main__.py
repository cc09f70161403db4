r"""Trains a whole grid: widths, seeds, algorithms, any flags; here or on a cluster.

    python -m experiments.sweep --workdir=runs/sweep --widths=0.5,0.75,1 --seeds=3 \
        --algorithms=fp32,hic --epochs=10
    python -m experiments.sweep --workdir=runs/bits --grid=hic_lsb_bits=5,6,7 \
        --grid=depth=8,14 --jobs=2
    python -m experiments.sweep --workdir=runs/seeds --seeds=8 --together=8
    python -m experiments.sweep --workdir=runs/c10 --widths=0.5,1,2 --seeds=3 \
        --dataset=cifar10 --depth=32 --epochs=200 --cluster=slurm \
        --slurm=partition=gpu --slurm=gpus_per_node=1 --slurm=time=600

Takes every flag of `experiments.train`, which then holds for all runs. Each run is a
run folder of its own in the work folder. Started again, with the same grid or a larger
one, it goes on: what is finished stays, everything else goes on from its last
checkpoint, and jobs that are still alive are followed.
"""

import collections
import contextlib
import dataclasses
import math
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import rich.console
import rich.live
import rich.table
from absl import flags
from tqdm import tqdm

from experiments import cli, config_flags, launch, terminal, train_options, words
from experiments.sweep import folder as sweep_folder
from experiments.sweep import grid, jobs, pools
from experiments.sweep.folder import RunPaths
from experiments.train_options import TrainOptions
from hic_jax import checks
from hic_jax.training import chips
from hic_jax.training.mesh import make_mesh

CLUSTERS = ("here", "local", "slurm")

# Of jobs at once: where Slurm decides.
ANY_NUMBER = sys.maxsize


@contextlib.contextmanager
def live_table(
    console: rich.console.Console,
    workdir: Path,
    runs: list[grid.Run],
    running: set[str],
) -> Iterator[None]:
    """Draws every second how far the sweep is, where there is a terminal.

    ``running`` names the runs that have a job, as it is at the time.
    """
    if not console.is_terminal:
        yield
        return
    started, begun_with = time.monotonic(), steps_done(workdir, runs, running)

    def draw() -> rich.console.Group:
        finished = sum(is_finished(workdir, run) for run in runs)
        line = tqdm.format_meter(
            steps_done(workdir, runs, running),
            sum(run.steps for run in runs),
            time.monotonic() - started,
            initial=begun_with,
            prefix=f"{finished} of {words.counted(len(runs), 'run')}",
            unit="steps",
            bar_format=terminal.BAR_FORMAT,
        )
        return rich.console.Group(table(workdir, runs, running), line)

    with rich.live.Live(
        get_renderable=draw, console=console, refresh_per_second=1, transient=True
    ):
        yield


def steps_done(workdir: Path, runs: list[grid.Run], running: Iterable[str]) -> int:
    """Steps of the runs that are finished or running."""
    return sum(
        run.steps
        if is_finished(workdir, run)
        else RunPaths.of(workdir, run.name).step()
        for run in runs
        if is_finished(workdir, run) or run.name in running
    )


def note_end(job: jobs.Job) -> None:
    """Says of each run of a job that has come to an end what came out."""
    for run in job.runs:
        error = job.paths(run).error()
        if error is not None:
            terminal.note(f"{run.name}: failed: {last_line(error)}")
        else:
            outcome = _outcome([job.paths(run).result()])
            terminal.note(f"{run.name}: {run.config.train.measure} {outcome}")


def last_line(text: str) -> str:
    """What happened, by a traceback."""
    return text.strip().splitlines()[-1]


def table(
    workdir: Path, runs: list[grid.Run], running: Iterable[str] = ()
) -> rich.table.Table:
    """What was measured, and size, by what is swept; and where each run is."""
    axes = list(dict.fromkeys(axis for run in runs for axis in run.swept))
    axes.remove("seed")
    rows = collections.defaultdict(list)
    for run in runs:
        rows[tuple(run.swept.get(axis, "") for axis in axes)].append(run)
    lines = []
    for values, of_seeds in rows.items():
        summaries = [
            RunPaths.of(workdir, run.name).result()
            for run in of_seeds
            if is_finished(workdir, run)
        ]
        outcome = size = ""
        if summaries:
            outcome = _outcome(summaries)
            size = words.kilobytes(summaries[0]["inference_bits"] / 8000)
        states = ", ".join(state(workdir, run, running) for run in of_seeds)
        lines.append((*map(str, values), outcome, size, states))
    measures = dict.fromkeys(run.config.train.measure for run in runs)
    heads = (*axes, " or ".join(measures), "inference model", "runs")
    return terminal.table(heads, lines, words={*range(len(axes)), len(heads) - 1})


def _outcome(summaries: list[dict[str, Any]]) -> str:
    """What trainings of several seeds have come to."""
    if any("test_loss" in summary for summary in summaries):
        return words.nats([summary["test_loss"] for summary in summaries])
    return words.percent([summary["test_accuracy"] for summary in summaries])


def is_finished(workdir: Path, run: grid.Run) -> bool:
    """Whether a run has come to its end."""
    return RunPaths.of(workdir, run.name).is_finished(run.steps)


def state(workdir: Path, run: grid.Run, running: Iterable[str]) -> str:
    """Where a run is: waiting, at a step, failed, or what it has come to."""
    paths = RunPaths.of(workdir, run.name)
    if paths.is_finished(run.steps):
        return _outcome([paths.result()])
    if run.name in running:
        return f"step {paths.step()}/{run.steps}"
    return "waiting" if paths.error() is None else "failed"


def slurm_parameters(words: list[str]) -> dict[str, int | str]:
    """What the words of ``--slurm`` say."""
    parameters: dict[str, int | str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals and value):
            raise ValueError(f"--slurm={word}: must be OPTION=VALUE")
        parameters[name] = int(value) if value.isdecimal() else value
    time = parameters.get("time", 1)
    if not (isinstance(time, int) and 1 <= time <= checks.INT32_MAX):
        raise ValueError(f"--slurm=time={time}: must be minutes")
    if "job_name" in parameters:
        raise ValueError("--slurm=job_name: is taken; jobs are known by their names")
    return parameters


def cluster_from_flags() -> str:
    """Where the runs are to run, of `CLUSTERS`."""
    options = flags.FLAGS
    several = (options.jobs or 1) > 1
    cluster = options.cluster or ("local" if several else "here")
    if cluster == "here" and several:
        raise ValueError(f"--jobs={options.jobs}: is for --cluster=local or slurm")
    if cluster != "slurm" and options.slurm:
        raise ValueError(f"--slurm={options.slurm[0]}: is for --cluster=slurm")
    return cluster


def default_together(cluster: str, at_once: int, runs: int) -> int:
    """How many runs that differ in their seeds are one job, if nothing else is said.

    What `chips.default_at_once` says of this process; of processes beside it, each of
    which has one accelerator, as many, but not so many that one of them gets nothing.
    What Slurm's nodes have is not known here: one.
    """
    if cluster == "here":
        return chips.default_at_once()
    if cluster == "local" and pools.visible_gpus():
        return min(chips.PER_DEVICE, math.ceil(runs / at_once))
    return 1


def check_mesh(
    mesh: int | None, cluster: str, runs: list[grid.Run], together: int
) -> None:
    """Raises `ValueError` unless each run can have such a mesh."""
    if together > 1 and (shards := max(map(state_shards, runs))):
        raise ValueError(
            f"--state_shards={shards}: is for runs trained alone; must not be given "
            f"with --together={together}, which spreads runs over the devices"
        )
    if mesh is None:
        return
    if together > 1:
        raise ValueError(
            f"--mesh={mesh}: is for runs trained alone; must not be given with "
            f"--together={together}, which spreads runs over the devices"
        )
    sizes = {(run.config.train.batch_size, state_shards(run)) for run in runs}
    for batch_size, shards in sizes:
        if cluster == "here":
            make_mesh(batch_size, mesh, shards)
        elif batch_size % mesh:
            raise ValueError(f"mesh={mesh}: must divide batch_size={batch_size}")
        elif shards % mesh:
            raise ValueError(f"mesh={mesh}: must divide state_shards={shards}")


def state_shards(run: grid.Run) -> int:
    """Parts that the state of its devices is divided into; 0 without any."""
    hardware = run.config.hardware
    return 0 if hardware is None else hardware.state_shards


def main(argv: list[str]) -> None:
    """Sweeps as the flags say."""
    manner, workdir = start(argv), Path(flags.FLAGS.workdir)
    axes = grid.axes_from_flags()
    runs = grid.runs_of(axes, flags.FLAGS.max_steps)
    failed = train(manner, workdir.resolve(), axes, runs)
    terminal.show(table(workdir.resolve(), runs))
    if failed:
        sys.exit(failures(workdir, failed, len(runs)))


@dataclasses.dataclass(frozen=True)
class Manner:
    """How runs are trained.

    Attributes:
      cluster: where, of `CLUSTERS`.
      slurm: options of sbatch.
      at_once: jobs at once.
      together: runs that differ in their seeds in one job; None for as many as suit.
      mesh: devices of each run, as ``--mesh`` says.
      options: how a training is logged and kept.
    """

    cluster: str
    slurm: dict[str, int | str]
    at_once: int
    together: int | None
    mesh: int | None
    options: TrainOptions


def start(argv: list[str]) -> Manner:
    """Starts this process as the flags say, and reads how runs are to be trained."""
    given = flags.FLAGS
    cluster, slurm = cluster_from_flags(), slurm_parameters(given.slurm)
    at_once = given.jobs or (ANY_NUMBER if cluster == "slurm" else 1)
    if cluster != "here":
        # What only looks on leaves the accelerator to those that train.
        jax.config.update("jax_platforms", "cpu")
    launch.start(argv)
    if cluster != "here" and jax.process_count() > 1:
        raise ValueError(
            f"--cluster={cluster}: starts processes; must itself be one, not "
            f"{jax.process_count()}"
        )
    # The table says how far they are.
    options = dataclasses.replace(train_options.from_flags(), progress=False)
    return Manner(cluster, slurm, at_once, given.together, given.mesh, options)


def train(
    manner: Manner, workdir: Path, axes: dict[str, list], runs: list[grid.Run]
) -> list[grid.Run]:
    """Trains runs that are not there yet.

    Args:
      manner: how.
      workdir: folder of the run folders.
      axes: values of what they are swept over, by flag.
      runs: all of them.

    Returns:
      Those that failed.
    """
    cluster, at_once = manner.cluster, manner.at_once
    alone = manner.mesh or any(state_shards(run) for run in runs)
    together = manner.together or (
        1 if alone else default_together(cluster, at_once, len(runs))
    )
    chips.check_at_once("--together", together)
    check_mesh(manner.mesh, cluster, runs, together)
    sweep_folder.prepare(workdir, grid.in_common(axes), runs)
    terminal.note(f"{words.counted(len(runs), 'run')}: {described(axes)}")
    folders = [RunPaths.of(workdir, run.name).job for run in runs]
    pool: pools.Pool = pools.Here()
    if cluster == "local":
        pool = pools.Local(folders, at_once)
    elif cluster == "slurm":
        pool = pools.Slurm(folders, manner.slurm)
    running: set[str] = set()
    console = terminal.console_of(stderr=True)
    with live_table(console, workdir, runs, running):
        try:
            pools.follow(
                pool,
                jobs.of_runs(
                    workdir, runs, together, options=manner.options, mesh=manner.mesh
                ),
                at_once=at_once,
                running=running,
                ended=lambda job: None if console.is_terminal else note_end(job),
            )
        except KeyboardInterrupt:
            pool.stop()
            raise  # Started again, the sweep goes on.
    return [run for run in runs if not is_finished(workdir, run)]


def described(axes: dict[str, list]) -> str:
    """A sweep in a line: what it is over, and flags that hold for all runs."""
    given = {name: [value] for name, value in config_flags.given_flags().items()}
    fields = {"dataset": [flags.FLAGS.dataset]} | axes
    fields |= {name: values for name, values in given.items() if name not in fields}
    return ", ".join(
        f"{name}={','.join(map(str, values))}" for name, values in fields.items()
    )


def failures(workdir: Path, failed: list[grid.Run], total: int) -> str:
    """Which runs failed, why, and where to look."""
    lines = [f"error: {len(failed)} of {total} runs failed; see {workdir}/jobs"]
    for run in failed:
        error = RunPaths.of(workdir, run.name).error() or "unknown"
        lines.append(f"  {run.name}: {last_line(error)}")
    return "\n".join(lines)


def define_flags() -> None:
    """Flags of this launcher, and those of a training."""
    launch.define_flags("Folder of the run folders.")
    train_options.define_flags()
    config_flags.define_flags()
    grid.define_flags()
    cli.define(
        "cluster",
        cli.Choice(CLUSTERS),
        None,
        "Where the runs run: here, in this process; local, in processes beside it; on "
        "slurm.",
        group=cli.SWEEP,
        usual="here, and local with --jobs",
    )
    cli.define(
        "jobs",
        cli.integer(1),
        None,
        "Jobs at once, each of a run or of --together.",
        group=cli.SWEEP,
        usual="1 on this machine, any number on Slurm",
    )
    cli.define(
        "together",
        cli.integer(1),
        None,
        "Runs that differ in their seeds to train at once in one process: as many as "
        "the memory of its accelerators holds.",
        group=cli.SWEEP,
        usual="up to 8 on each accelerator, 1 on the CPU and on Slurm",
    )
    cli.define_repeated(
        "slurm",
        "Option of sbatch, OPTION=VALUE, with underscores, such as partition=gpu, "
        "gpus_per_node=1, cpus_per_task=8; time is in minutes. May be repeated.",
        group=cli.SWEEP,
    )


if __name__ == "__main__":
    launch.run(main, define_flags)
