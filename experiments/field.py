r"""Learning in the field: trains devices further that have drifted, where they are.

    python -m experiments.field --trained=runs/digits --workdir=runs/field
    python -m experiments.field --trained=runs/digits --workdir=runs/rotated \
        --shift=rotate --epochs=10

Takes the network of a run, lets its devices drift for a year (``--seconds``), perhaps
shows it images of another kind (``--shift``), and trains it further without programming
anything anew. The new run folder holds what every run does; ``field`` in its
``summary.json`` says what was lost, what came back and what that cost in wear.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import rich.table
from absl import flags

import hic_jax
from experiments import cli, drawing, launch, plots, terminal, train_options, words
from experiments import train as train_lib
from experiments.config import Config, changed
from experiments.drift import read_config_of_devices
from experiments.runs.run_folder import RunFolder, check_unused_or_same
from experiments.runs.stored import RunFolderError
from experiments.runs.writing import writing
from experiments.setup import Experiment
from experiments.train_options import TrainOptions
from hic_jax import checks, data
from hic_jax.accounting import device_pulses
from hic_jax.algorithms import analog_states
from hic_jax.inference.compensations import COMPENSATIONS, Reference, check_possible
from hic_jax.inference.network import Network, accuracy
from hic_jax.training.state import TrainState

# What may be other than in the training before.
CHANGES = ("epochs", "learning_rate", "analog_learning_rate", "shift")

# What is tried before anything is trained; without BatchNorm, not the last.
BEFORE = ("none", "gdc", "adabs")


def config_in_the_field(trained: Config, **changes: Any) -> Config:
    """A configuration for going on from another one, changed by some flags."""
    return changed(trained, warmup=0.0, **changes)


def usual_rates(trained: Config, *, shift: str | None = None) -> dict[str, float]:
    """Learning rates for further training, by those of the training before.

    Other images take all of them. Drift alone takes little away, and a quarter of them
    brings more of it back (`experiments/results/README.md`).
    """
    assert trained.analog is not None  # Of a run with devices.
    share = 0.25 if shift in (None, trained.train.shift) else 1.0
    return {
        "learning_rate": share * trained.recipe.learning_rate,
        "analog_learning_rate": share * trained.analog.learning_rate,
    }


def learn(
    trained: str,
    workdir: str,
    config: Config,
    *,
    seconds: float,
    mesh: int | None = None,
    options: TrainOptions = train_options.USUAL,
) -> dict:
    """Ages the devices of a run and trains them further.

    Args:
      trained: run folder with a checkpoint.
      workdir: run folder for what comes; started again it goes on where it was stopped.
      config: that of the further training, from `config_in_the_field`.
      seconds: between the two.
      mesh: as in `Experiment.of`.
      options: how much is trained, kept and told.

    Returns:
      The summary; its ``field`` holds ``trained``, ``step``, ``seconds``, ``shift``,
      ``accuracy_trained`` (on the images trained on), ``accuracy_before`` (of the aged
      chip, by compensation), ``accuracy_after``, and ``extra_cycles``, the
      write-erase cycles of the training in the field: ``max`` and ``mean`` over the
      devices of each kind (None if wear is not tracked).

    Raises:
      RunFolderError: if a folder cannot be used.
      TrainingDiverged: at a loss that is not finite.
    """
    assert config.spec is not None  # Of a run with devices.
    check_apart(trained, workdir)
    with RunFolder.read(trained) as old:
        before = Experiment.of(old.config, mesh)
        state = old.restore(before.init_state())
    origin = {
        "trained": trained,
        "step": int(state.step),
        "seconds": seconds,
        "shift": config.train.shift,
    }
    experiment = Experiment.of(config, mesh)
    started = in_the_field(state, experiment, seconds)

    keep = options.keep_checkpoints
    with RunFolder.for_training(workdir, config, keep_checkpoints=keep) as folder:
        known = folder.summary().get("field")
        if known is None:
            accuracies = {
                "accuracy_trained": before.test_accuracy(state, before.split("test")),
                "accuracy_before": accuracy_before(state, started, experiment),
            }
            known = folder.update_summary(field=origin | accuracies)["field"]
        for name, value in origin.items():
            if _resolved(known).get(name) != _resolved(origin)[name]:
                raise RunFolderError(
                    f"workdir={workdir}: went on from {name}={known.get(name)!r}, not "
                    f"from {value!r}; choose another folder"
                )
        if folder.latest_step() is None and "steps" not in folder.summary():
            folder.save(started)
        summary = train_lib.train_in(experiment, folder, options)
        after = folder.restore(experiment.init_state())
        wear = extra_cycles(state, after) if config.spec.track_wear else None
        known |= {"accuracy_after": summary["test_accuracy"], "extra_cycles": wear}
        with writing(folder.path):
            rows = folder.metrics.rows
            tested_on = config.train.tested_on
            plots.field_learning(folder.path / "field.png", rows, known, tested_on)
        return folder.update_summary(
            field=known,
            # The counters of the devices hold the training before this one, too.
            operations=summary["operations"] | {"training": None},
            energy=summary["energy"] | {"training_j": None},
        )


def check_apart(trained: str, workdir: str) -> None:
    """Raises `RunFolderError` if a run is to go on in its own folder."""
    if Path(trained).resolve() == Path(workdir).resolve():
        raise RunFolderError(
            f"workdir={workdir}: is the folder of the run to go on from; choose another"
        )


def _resolved(origin: dict[str, Any]) -> dict[str, Any]:
    """Where a training began, its folder by the one path that it has."""
    return origin | {"trained": Path(origin["trained"]).resolve()}


def in_the_field(
    state: TrainState, experiment: Experiment, seconds: float
) -> TrainState:
    """A trained network ``seconds`` later, at the start of a further training.

    The schedules and the momentum of that training start anew.
    """
    devices = iter(analog_states(hic_jax.age(state.opt_state, seconds)))
    fresh = experiment.init_state()
    opt_state = jax.tree.map(
        lambda x: next(devices) if isinstance(x, hic_jax.AnalogState) else x,
        fresh.opt_state,
        is_leaf=lambda x: isinstance(x, hic_jax.AnalogState),
    )
    weights = hic_jax.analog_weights(opt_state)
    params = hic_jax.read_params(state.params, weights, key=experiment.read_key)
    return state.replace(step=fresh.step, params=params, opt_state=opt_state)


def accuracy_before(
    trained: TrainState, aged: TrainState, experiment: Experiment
) -> dict[str, float]:
    """Test accuracy of the aged chip by compensation, before it learns anything."""
    train, test = experiment.split("train"), experiment.split("test")
    network = Network.of(aged)
    reference_key, key, read_key = jax.random.split(experiment.chip_key, 3)
    reference = Reference(Network.of(trained).weights, reference_key)
    accuracies = {}
    for name in BEFORE[: BEFORE.index(experiment.compensation) + 1]:
        check_possible(name, network, train)
        ready = COMPENSATIONS[name](key, experiment.model, network, reference, train)
        accuracies[name] = accuracy(read_key, experiment.model, ready, test)
    return accuracies


def extra_cycles(before: TrainState, after: TrainState) -> dict[str, dict[str, float]]:
    """Write-erase cycles between two states of the same devices, by their kind."""
    first, last = (
        device_pulses(hic_jax.analog_weights(state.opt_state))
        for state in (before, after)
    )
    extra = {}
    for kind in first:
        pulses = [
            late.astype(np.int64) - early
            for early, late in zip(first[kind], last[kind], strict=True)
        ]
        cycles = np.maximum(*pulses)
        extra[kind] = {"max": int(cycles.max()), "mean": float(cycles.mean())}
    return extra


def main(argv: list[str]) -> None:
    """Learns as the flags say."""
    launch.start(argv)
    given = flags.FLAGS
    trained = read_config_of_devices(given.trained, "trained")
    asked = {name: given[name].value for name in CHANGES}
    changes = {name: value for name, value in asked.items() if value is not None}
    rates = usual_rates(trained, shift=given.shift)
    config = config_in_the_field(trained, **(rates | changes))
    options = train_options.from_flags()
    check_apart(given.trained, given.workdir)
    check_unused_or_same(given.workdir, config)
    terminal.note(
        f"on from {given.trained}, {words.duration(given.seconds)} later: "
        f"{train_lib.described(config)}"
    )
    summary = learn(
        given.trained,
        given.workdir,
        config,
        seconds=given.seconds,
        mesh=given.mesh,
        options=options,
    )
    found = table(summary["field"], config.train.tested_on)
    terminal.show(found, f"Run folder: {given.workdir}")


def table(field: dict[str, Any], tested_on: str) -> rich.table.Table:
    """What drift took, what came back, and what that cost: ``field`` of the summary."""
    later = f"{words.duration(field['seconds'])} later"
    trained = words.percent([field["accuracy_trained"]])
    rows = {f"{tested_on} accuracy, as trained": trained}
    for name, share in field["accuracy_before"].items():
        rows[f"  {later}, {drawing.NAMES[name]}"] = words.percent([share])
    rows["  after learning in the field"] = words.percent([field["accuracy_after"]])
    for kind, cycles in (field["extra_cycles"] or {}).items():
        name = f"most extra write-erase cycles, {drawing.NAMES[kind]}"
        rows[name] = f"{cycles['max']:,}"
    return terminal.table(("", ""), rows.items(), title="learning in the field")


def define_flags() -> None:
    """Flags of this launcher."""
    cli.define("trained", cli.path(), None, "Run folder to go on from.", required=True)
    launch.define_flags("New run folder.")
    cli.define(
        "seconds",
        cli.number(0.0, checks.SECONDS_MAX),
        hic_jax.YEAR,
        "Time that the devices drift before they learn, s; by default a year.",
    )
    cli.define(
        "shift",
        cli.Choice(data.SHIFTS),
        None,
        "Change of all images.",
        usual="as in the training of the run",
    )
    cli.define("epochs", cli.integer(1), 5, "Passes over the training images.")
    usual = "that of the training of the run if images become others, else a quarter"
    for name, what in (
        ("learning_rate", "parameters that are held digitally"),
        ("analog_learning_rate", "analog weights"),
    ):
        text = f"Highest learning rate of {what}."
        cli.define(name, cli.number(), None, text, usual=f"{usual} of it")
    train_options.define_flags()


if __name__ == "__main__":
    launch.run(main, define_flags)
