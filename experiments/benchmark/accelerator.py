r"""What an accelerator makes of the paper's table in so many minutes.

    python -m experiments.benchmark.accelerator --workdir=runs/gpu --minutes=13 \
        --dataset=cifar10

Two stages, each in a process of its own: times of steps, and of devices on one chip and
on eight at once (benchmark.json); then the paper's table (table/), FP32 and HIC at
several widths, their seeds trained together, for as many epochs as the rest of the time
allows by the steps that were measured. Started again it goes on where it was stopped:
what was measured is not measured again, and the sweep of the table resumes with the
epochs that it was begun with (plan.json).
"""

import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from experiments import cli, launch, terminal
from experiments.benchmark import results
from experiments.benchmark.programs import FP32_STEP, Size
from experiments.runs.files import write_text

# Of an epoch's steps, what data, tests and checkpoints take besides.
_BESIDES = 1.3
# Seconds that each group of runs takes to start and to compile.
_START = 45.0
# Seconds in which a stage that is told to stop saves what it has.
_PATIENCE = 30.0


def main(argv: list[str]) -> None:
    """Runs the stages that have no result, as long as there is time."""
    del argv
    options = flags.FLAGS
    folder, end = Path(options.workdir), time.monotonic() + 60 * options.minutes
    for width in options.widths:  # Whether each can be built.
        Size(depth=options.depth, width=width)
    folder.mkdir(parents=True, exist_ok=True)
    times, plan = folder / "benchmark.json", folder / "plan.json"
    if not is_complete(times, options.depth):
        words = (f"--depths={options.depth}", "--chips=1,8", f"--json={times}")
        run("experiments.benchmark", words, end)
    if not plan.exists():
        epochs = affordable_epochs(
            seconds_per_step(results.read(str(times)), options.depth),
            options.steps_per_epoch,
            options.widths,
            options.seeds,
            end - time.monotonic(),
        )
        write_text(plan, json.dumps({"epochs": epochs}) + "\n")
    epochs = json.loads(plan.read_text())["epochs"]
    terminal.note(f"the table: {epochs} epochs")
    table = (
        f"--workdir={folder / 'table'}",
        f"--dataset={options.dataset}",
        f"--depth={options.depth}",
        "--algorithms=fp32,hic",
        f"--widths={','.join(f'{width:g}' for width in options.widths)}",
        f"--seeds={options.seeds}",
        f"--together={options.seeds}",
        f"--epochs={epochs}",
    )
    run("experiments.sweep", table, end)


def is_complete(times: Path, depth: int) -> bool:
    """Whether a file has the times of one chip and of eight."""
    sizes = (str(Size(depth=depth, chips=chips)) for chips in (1, 8))
    return times.exists() and set(sizes) <= set(results.read(str(times))["sizes"])


def run(module: str, words: Sequence[str], end: float) -> None:
    """Runs a launcher, and stops it when the time is over.

    Raises:
      ValueError: if it fails, or the time is over.
    """
    shown = f"python -m {module} {' '.join(words)}"
    terminal.note(shown)
    process = subprocess.Popen([sys.executable, "-m", module, *words])
    try:
        status = process.wait(max(0.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
        raise ValueError(
            f"minutes={flags.FLAGS.minutes:g}: over before the end of {shown}; the "
            "same command goes on from there"
        ) from None
    if status:
        raise ValueError(f"{shown}: ended with status {status}")


def seconds_per_step(measured: dict, depth: int) -> float:
    """Of a step of FP32 and one of HIC together, at width 1, s."""
    programs = measured["sizes"][str(Size(depth=depth))]["programs"]
    return sum(programs[name]["median"] for name in (FP32_STEP, "hic step"))


def affordable_epochs(
    seconds: float,
    steps_per_epoch: int,
    widths: Sequence[float],
    seeds: int,
    left: float,
) -> int:
    """Epochs of all trainings that fit into the time that is left; at least 1.

    Args:
      seconds: of a step of every algorithm, one after the other, at width 1.
      steps_per_epoch: of a training.
      widths: trained one after the other. A step is assumed to take as long as at
        width 1 below it, and in proportion above.
      seeds: trained together, assumed to take as long as one after the other.
      left: s.
    """
    starts = 2 * len(widths) * _START
    epoch = seconds * steps_per_epoch * seeds * sum(max(1.0, w) for w in widths)
    return max(1, math.floor((left - starts) / (_BESIDES * epoch)))


def define_flags() -> None:
    """Flags of this launcher."""
    cli.define("workdir", cli.path(), None, "Folder of all results.", required=True)
    cli.define("minutes", cli.number(1.0, 1e6), 13.0, "Minutes after which all stops.")
    cli.define("depth", cli.integer(8), 32, "Layers of the ResNet, 6n + 2.")
    cli.define("seeds", cli.integer(1, 64), 3, "Seeds of each training.")
    cli.define("dataset", cli.text(), "cifar10", "What the table is trained on.")
    cli.define(
        "steps_per_epoch", cli.integer(1), 500, "Steps of 100 images in an epoch of it."
    )
    cli.define_list(
        "widths", "0.5,1,2", "Multipliers of the channels.", kind=cli.number()
    )


if __name__ == "__main__":
    launch.run(main, define_flags)
