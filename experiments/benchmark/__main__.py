"""What the devices cost: time, memory and compilation, as ratios within one run.

    python -m experiments.benchmark --json=new.json
    python -m experiments.benchmark --widths=0.5,1,2,4 --repeats=5
    python -m experiments.benchmark --depths=8 --chips=1,4,16,64
    python -m experiments.benchmark --compare=old.json,new.json

Two cores, ResNet-32, batch 100: three minutes.
"""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import rich.table
from absl import flags

from experiments import cli, launch, terminal
from experiments.benchmark import measure, results
from experiments.benchmark.programs import Size
from experiments.parts import COMPUTE_DTYPES
from experiments.runs.files import write_text
from hic_jax import models


def main(argv: list[str]) -> None:
    """Measures, or compares, as the flags say."""
    launch.start(argv)
    options = flags.FLAGS
    if options.compare:
        terminal.show(*compared(options.compare))
        return
    wanted = sizes(options)
    if options.json:
        results.check_writable(Path(options.json))
    result = results.circumstances("experiments.benchmark", sys.argv[1:])
    result["repeats"] = options.repeats
    result |= {"sizes": {}, "device_bytes": measure.device_bytes()}
    for size in wanted:
        terminal.note(f"measuring {size}")
        result["sizes"][str(size)] = measure.measure(size, options.repeats)
        result["peak_memory"] = measure.peak_memory()
        if options.json:  # What has been measured is not lost if the next size fails.
            write_text(Path(options.json), json.dumps(result, indent=2) + "\n")
    terminal.show(*results.report(result))


def sizes(options: flags.FlagValues) -> list[Size]:
    """Every combination of what the flags list; `ValueError` if one cannot be built."""
    listed: list[Any] = [
        dict.fromkeys(getattr(options, name))
        for name in ("compute_dtypes", "depths", "widths", "batch_sizes", "chips")
    ]
    return [
        Size(depth, width, batch_size, count, options.channel_plan, dtype)
        for dtype, depth, width, batch_size, count in itertools.product(*listed)
    ]


def compared(paths: list[str]) -> list[str | rich.table.Table]:
    """The comparison of two files."""
    if len(paths) != 2:
        raise ValueError(
            f"--compare={','.join(paths)}: must be two files, the old and the new one"
        )
    old, new = (cli.read("--compare", cli.path(), path) for path in paths)
    return results.compare(results.read(old), results.read(new))


def define_flags() -> None:
    """Flags of this launcher."""
    for name, kind, usual, text in (
        ("depths", cli.integer(), "32", "Layers of the ResNet, 6n + 2 each."),
        ("widths", cli.number(), "1", "Multipliers of the ResNet's channels."),
        ("batch_sizes", cli.integer(), "100", "Images per step."),
        (
            "chips",
            cli.integer(),
            "1",
            "Chips whose devices are simulated at once; with more than one, only "
            "devices and evaluations are measured.",
        ),
    ):
        cli.define_list(name, usual, text, kind=kind)
    cli.define(
        "channel_plan",
        cli.Choice(models.CHANNEL_PLANS),
        "hic",
        "Channels of the ResNet's three stages at width 1: hic, which is 16, 28, 56, "
        "or textbook, which is 16, 32, 64.",
    )
    cli.define_list(
        "compute_dtypes",
        "float32",
        f"Types of the products and of what is between them, of "
        f"{', '.join(COMPUTE_DTYPES)}.",
        kind=cli.Choice(COMPUTE_DTYPES),
    )
    cli.define(
        "repeats", cli.integer(1, 10**6), 20, "Times that each program is measured."
    )
    cli.define("json", cli.path(), None, "File for all that was measured.")
    cli.define_list(
        "compare", None, "Two such files, OLD,NEW, to be compared: nothing is measured."
    )


if __name__ == "__main__":
    launch.run(main, define_flags)
