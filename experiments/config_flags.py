"""Flags of the configuration: one for every field of every algorithm and device."""

import functools
import itertools
import typing
from typing import Any

from absl import flags

from experiments import cli
from experiments.config import Config, named, resolve
from experiments.devices.fitted import CURVES, read_device, with_names
from experiments.parts import (
    CHOICES,
    NUMBER_OR_CURVE,
    Hardware,
    Part,
    TrainConfig,
    parts_of,
    used_flags,
)
from hic_jax import models, pcm
from hic_jax.training.recipes import ALGORITHMS

# The group of --help that the flags of a part are listed in; devices have their own.
_GROUPS = {
    "train": cli.NETWORK,
    "network": cli.NETWORK,
    "recipe": cli.RECIPE,
    "analog": cli.RECIPE,
    "hardware": cli.CROSSBAR,
    "spec": cli.ALGORITHM,
    "crossbar": cli.CROSSBAR,
}
# Those of single flags that are listed elsewhere.
_ELSEWHERE = {
    "algorithm": cli.ALGORITHM,
    "preset": cli.DEVICE,
    **dict.fromkeys(("epochs", "batch_size", "label_smoothing", "seed"), cli.RECIPE),
}


def define_flags() -> None:
    """Defines a flag for every field of every algorithm, device and model there is."""
    for flag, (part, field, preset) in _all_flags().items():
        usual = getattr(part.usual, field, None)
        default = usual
        if part.path == "spec.multilevel":  # Another preset has another value.
            default, usual = None, f"{cli.shown(with_names(usual))} with {preset}"
        text = cli.documented(part.cls).get(field)
        _define(
            flag,
            typing.get_type_hints(part.cls)[field],
            default,
            text or f"Field {field} of {part.cls.__name__}.",
            _ELSEWHERE.get(flag, _GROUPS.get(part.path, cli.DEVICE)),
            usual,
        )
    cli.define(
        "device",
        _Device(read_device, "the file of a fitted device", "FILE"),
        None,
        "Multi-level device in the place of the preset: a file of "
        "experiments.fit_device. A run stores all that it needs of it.",
        group=cli.DEVICE,
    )


def _all_flags() -> dict[str, tuple[Part, str, str]]:
    """By flag: the part, the field, and the first preset whose device has it.

    Raises:
      ValueError: if two fields would have one flag.
    """
    registries = ALGORITHMS, pcm.PRESETS, models.MODELS
    return _flags_of(*(tuple(registry.items()) for registry in registries))


@functools.cache
def _flags_of(*registries: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    """`_all_flags` while the algorithms, presets and models are these."""
    names = [[name for name, _ in registry] for registry in registries]
    found: dict[str, tuple[Part, str, str]] = {}
    for algorithm, preset, model in itertools.product(*names):
        for part in parts_of(algorithm, preset, model):
            for flag, field in part.fields().items():
                known, *_ = found.setdefault(flag, (part, field, preset))
                if (known.path, known.prefix) != (part.path, part.prefix):
                    of_model = part.path == "network"
                    name = f"model={model}" if of_model else f"algorithm={algorithm}"
                    raise ValueError(
                        f"{name}: must have another name, or its field {field}: "
                        f"--{flag} is of {known.cls.__name__}"
                    )
    return found


def _define(
    name: str, kind: Any, default: Any, text: str, group: str, usual: Any
) -> None:
    """Defines the flag of a field, which itself says what is allowed of its type."""
    if kind is bool:
        cli.define_switch(name, default, text, group=group, usual=usual)
        return
    takes: cli.Kind
    if name == "preset":
        takes = _Preset(CHOICES[name])
    elif name in CHOICES:
        takes = cli.Choice(CHOICES[name])
    elif typing.get_origin(kind) is typing.Literal:
        takes = cli.Choice(typing.get_args(kind))
    elif kind == NUMBER_OR_CURVE:
        takes = cli.number_or(CURVES)
    elif name == "data_dir":
        takes = cli.path()
    else:
        takes = {int: cli.integer, float: cli.number}.get(kind, cli.text)()
    cli.define(name, takes, default, text, group=group, usual=usual)


class _Device(cli.Kind):
    """The file of a fitted device; an error says what is wrong with it."""

    def parse(self, argument: Any) -> str:
        """The name of the device, which goes with it."""
        return read_device(argument)


class _Preset(cli.Choice):
    """The name of a preset, or the file of a fitted device."""

    def parse(self, argument: Any) -> str:
        """The name, or that of the device in the file."""
        if str(argument).endswith(".json"):
            return read_device(argument)
        return super().parse(argument)


def flag_names() -> list[str]:
    """Flags of the configuration: of the training, then of recipes and hardware."""
    return list(_all_flags())


def given_flags() -> dict[str, Any]:
    """Values of the flags of the configuration that stand on the command line.

    Raises:
      ValueError: if a device is given beside a preset.
    """
    given = {
        name: flags.FLAGS[name].value
        for name in flag_names()
        if flags.FLAGS[name].present
    }
    device = flags.FLAGS.device
    if device is not None:
        if "preset" in given:
            raise ValueError(
                f"device={device.file}: must not be given with preset, whose place it "
                "takes"
            )
        given["preset"] = device
    return given


def from_flags(**others: Any) -> Config:
    """The configuration that the parsed flags describe.

    Args:
      **others: values that take the place of flags, by their names.

    Raises:
      ValueError: if a value is not allowed, or makes no difference.
    """
    with named("--"):
        return resolve(**(given_flags() | others))


def from_used_flags(**others: Any) -> Config:
    """`from_flags` without those that make no difference, as one run of several."""
    values = given_flags() | others
    algorithm = values.get("algorithm", TrainConfig.algorithm)
    preset = values.get("preset", Hardware.preset)
    used = used_flags(algorithm, preset, values.get("model", TrainConfig.model))
    with named("--"):
        return resolve(**{k: v for k, v in values.items() if k in used})
