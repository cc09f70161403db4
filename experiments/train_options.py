"""How much is trained, kept and told, whatever it is that is trained; and the flags."""

import dataclasses
from typing import Any

from absl import flags

from experiments import cli
from experiments.runs.hardware import read_energy_table
from hic_jax.accounting import ENDURANCE_CYCLES, EnergyTable


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How much is trained, kept and told.

    Attributes:
      max_steps: steps to stop after, in all; the schedule stays that of all epochs.
      log_every: steps between two rows of metrics.
      checkpoint_every: steps between two checkpoints, each at the next row of metrics.
        The highest test accuracy and the last step have one, too.
      keep_checkpoints: newest checkpoints that stay, beside that of the highest test
        accuracy.
      endurance_cycles: write-erase cycles that a device endures, for the summary.
      energy_table: energy of operations in pJ, for the summary. The flag takes a JSON
        file with fields of hic_jax.accounting.EnergyTable; those that it lacks have
        their defaults.
      progress: whether to show a bar.
    """

    max_steps: int | None = None
    log_every: int = 50
    checkpoint_every: int | None = None  # An epoch.
    keep_checkpoints: int = 2
    endurance_cycles: float = ENDURANCE_CYCLES
    energy_table: EnergyTable = dataclasses.field(default_factory=EnergyTable)
    progress: bool = True


# Training to the end.
USUAL = TrainOptions()

# What the flags take; whether there is a bar is for the caller to say.
_KINDS = {
    "max_steps": cli.integer(1),
    "log_every": cli.integer(1),
    "checkpoint_every": cli.integer(1),
    "keep_checkpoints": cli.integer(1),
    "endurance_cycles": cli.number(1.0, 1e18),
    "energy_table": cli.path(),
}


def define_flags() -> None:
    """Flags of `TrainOptions`."""
    texts = cli.documented(TrainOptions)
    defaults = vars(USUAL) | {"energy_table": None}
    for name, kind in _KINDS.items():
        usual = "an epoch" if name == "checkpoint_every" else None
        cli.define(name, kind, defaults[name], texts[name], usual=usual)


def from_flags() -> TrainOptions:
    """What the flags of `define_flags` say.

    Raises:
      ValueError: if there is no such energy table.
    """
    given: dict[str, Any] = {name: flags.FLAGS[name].value for name in _KINDS}
    given["energy_table"] = read_energy_table(given["energy_table"])
    return TrainOptions(**given)
