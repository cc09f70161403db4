"""The configuration of a run: made of values by flag, stored as it runs."""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from experiments.devices.fitted import Fitted, restored, stored, with_names
from experiments.parts import (
    DRIFT_NU_STD,
    Hardware,
    Part,
    TrainConfig,
    assembled,
    check_used,
    device_of,
    flag_of,
    parts_of,
    with_curves,
)
from hic_jax import checks, data
from hic_jax.algorithms import PairSpec
from hic_jax.crossbar import CrossbarSpec
from hic_jax.models import MODELS, ModelSpec
from hic_jax.training.recipes import (
    ALGORITHMS,
    ANALOG_WITH_ADAMW,
    WITH_ADAMW,
    AnalogRecipe,
    Recipe,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A run, resolved: nothing is left to defaults.

    Where the algorithm has no devices, those from ``analog`` on are None.

    Attributes:
      train: data, length of the training, which network.
      network: the network's own fields; None for one of the user's own.
      recipe: updates of what is held digitally, and the schedule.
      analog: updates of what devices hold.
      hardware: what is analog, and on which devices.
      spec: the algorithm's own, with the devices.
      crossbar: arrays and converters around them.
    """

    train: TrainConfig
    network: ModelSpec | None = None
    recipe: Recipe
    analog: AnalogRecipe | None = None
    hardware: Hardware | None = None
    spec: PairSpec | None = None
    crossbar: CrossbarSpec | None = None

    def __post_init__(self):
        algorithm, cls = self.train.algorithm, ALGORITHMS[self.train.algorithm]
        for name in ("analog", "hardware", "spec", "crossbar"):
            if (getattr(self, name) is None) != (cls is None):
                needed = "None, without devices" if cls is None else "given"
                raise ValueError(
                    f"{name}={getattr(self, name)!r}: must be {needed}, with "
                    f"algorithm={algorithm!r}"
                )
        if cls is not None and type(self.spec) is not cls:
            raise ValueError(
                f"spec={self.spec!r}: must be of type {cls.__name__}, with "
                f"algorithm={algorithm!r}"
            )
        model = MODELS.get(self.train.model)
        if type(self.network) is not (model or type(None)):
            raise ValueError(
                f"network={self.network!r}: must be {model and model.__name__}, with "
                f"model={self.train.model!r}"
            )
        (self.network or ModelSpec()).check_width(self.train.width)

    def to_dict(self) -> dict[str, Any]:
        """As stored in a run folder: the parts that the algorithm uses."""
        parts = with_names(self)
        kept = {name: part for name, part in parts.items() if part is not None}
        if self.hardware and isinstance(self.hardware.preset, Fitted):
            kept["device"] = stored(self.hardware.preset.device)
        return kept

    def to_json(self) -> str:
        """The text that stores it."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Config":
        """Reads what `to_dict` made.

        Raises:
          KeyError: if a part is not there.
          ValueError: if the algorithm or the model has no use for a part, or this
            version for a field, or at a value that is not allowed.
          TypeError: if a field is not there.
        """
        algorithm = fields["train"]["algorithm"]
        checks.one_of("algorithm", algorithm, ALGORITHMS)
        preset = Hardware.preset
        if ALGORITHMS[algorithm] is not None:
            preset = fields["hardware"]["preset"]
            if "device" in fields:
                preset = Fitted(restored(fields["device"]))
        model = fields["train"]["model"]
        parts = parts_of(algorithm, preset, model)
        unused = set(fields) - {part.path for part in parts}
        if isinstance(preset, Fitted):
            unused -= {"device"}
        if unused:
            raise ValueError(
                f"{min(unused)}: must not be there, with algorithm={algorithm!r} and "
                f"model={model!r}"
            )

        def made(part: Part, inner: dict[str, Any]) -> Any:
            values: Any = functools.reduce(
                lambda tree, name: tree[name], part.path.split("."), fields
            )
            known = {field.name for field in dataclasses.fields(part.cls)}
            if unknown := set(values) - known:
                raise ValueError(f"{part.path}.{min(unknown)}: must not be there")
            if part.path == "hardware":
                values = {**values, "preset": preset}
            return part.cls(**with_curves(part.cls, values | inner))

        return cls(**assembled(parts, made))


def resolve(**given: Any) -> Config:
    """The configuration in which some fields are as given, and all others as usual.

    Args:
      **given: values by the names of their flags, as ``epochs`` or ``pcm_g_max``.

    Raises:
      ValueError: if a value is not allowed, or makes no difference to the algorithm,
        the device or the model.
    """
    algorithm = given.get("algorithm", TrainConfig.algorithm)
    preset = given.get("preset", Hardware.preset)
    model = given.get("model", TrainConfig.model)
    check_used(given, algorithm, preset, model)
    for prefix, usual in (("", WITH_ADAMW), ("analog_", ANALOG_WITH_ADAMW)):
        if given.get(f"{prefix}optimizer") == "adamw":
            given = {prefix + name: value for name, value in usual.items()} | given
    if "pcm_drift_nu" in given:  # As `parts.device_of` does with that of a preset.
        own = device_of(preset).drift_nu_std or DRIFT_NU_STD
        spread = own if given["pcm_drift_nu"] else 0.0
        given = {"pcm_drift_nu_std": spread} | given
    config = _made(given, parts_of(algorithm, preset, model), lambda part: part.usual)
    if config.train.augmentation == "auto":
        policy = data.default_policy(config.train.dataset)
        config = changed(config, augmentation=policy)
    if config.crossbar and config.train.compute_dtype == "bfloat16":
        for name in ("dac_bits", "adc_bits", "error_dac_bits", "error_adc_bits"):
            # bfloat16 holds all whole numbers up to 256.
            if getattr(config.crossbar, name) > 9:
                raise ValueError(
                    f"crossbar_{name}={getattr(config.crossbar, name)}: must be at "
                    "most 9 with compute_dtype='bfloat16', which has no more codes"
                )
    return config


def changed(config: Config, **given: Any) -> Config:
    """A configuration with some fields as given, by their flags, and no other changed.

    Raises:
      ValueError: if a value is not allowed, makes no difference to the algorithm, the
        device or the model, or would change one of these three.
    """
    algorithm, model = config.train.algorithm, config.train.model
    preset = config.hardware.preset if config.hardware else Hardware.preset
    for name, own in (("algorithm", algorithm), ("preset", preset), ("model", model)):
        if given.get(name, own) != own:
            raise ValueError(f"{name}={given[name]}: must stay {own}, as its parts do")
    check_used(given, algorithm, preset, model)
    parts = parts_of(algorithm, preset, model)
    return _made(given, parts, lambda part: part.of(config))


def _made(
    given: Mapping[str, Any], parts: list[Part], of: Callable[[Part], Any]
) -> Config:
    """A configuration whose parts are ``of`` theirs, with fields as given, by flag."""

    def made(part: Part, inner: dict[str, Any]) -> Any:
        changes = {f: given[flag] for flag, f in part.fields().items() if flag in given}
        start = of(part)
        with named(part.prefix):
            changes = with_curves(part.cls, changes)
            if isinstance(start, type):
                return start(**inner, **changes)
            return dataclasses.replace(start, **inner, **changes)

    return Config(**assembled(parts, made))


@contextlib.contextmanager
def named(prefix: str) -> Iterator[None]:
    """Puts the prefix of its flag before the field that an error names."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{prefix}{error}") from error


# ---- What differs


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Fields of a stored configuration by their dotted names."""
    items: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            items |= flat(value, f"{prefix}{name}.")
        else:
            items[prefix + name] = value
    return items


def differences(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """``name: stored != asked`` of all fields in which two configurations differ.

    Both are as they are stored, perhaps by another version, which had other fields.
    """
    mine, others = flat(stored), flat(asked)

    def shown(values: dict, name: str) -> str:
        return repr(values[name]) if name in values else "(no such field)"

    return [
        f"{name}: {shown(mine, name)} != {shown(others, name)}"
        for name in mine | others
        if name not in mine or name not in others or mine[name] != others[name]
    ]


def by_flag(config: Config) -> dict[str, Any]:
    """The value of every field by its flag; a fitted device is the preset."""
    algorithm, model = config.train.algorithm, config.train.model
    return {
        flag_of(name, algorithm, model): value
        for name, value in flat(config.to_dict()).items()
        if not name.startswith("device.")  # That is what the preset is called.
    } | ({"preset": config.hardware.preset} if config.hardware else {})


def changed_flags(config: Config) -> list[str]:
    """FLAG=VALUE of what the algorithm, the data, the preset and the model do not make.

    The first two, without which there is no run, are left out.
    """
    train, hardware = config.train, config.hardware
    preset = hardware.preset if hardware else None
    usual = usual_flags(train.algorithm, train.dataset, preset, train.model)
    return [
        f"{flag}={value}"
        for flag, value in by_flag(config).items()
        if value != usual[flag] and flag not in ("algorithm", "dataset")
    ]


def usual_flags(
    algorithm: str,
    dataset: str,
    preset: str | None = None,
    model: str = TrainConfig.model,
) -> dict[str, Any]:
    """Values by flag, as they are with no flags but these, which have their defaults.

    ``preset`` is None for the usual one, or an algorithm without.

    Raises:
      ValueError: if there is no such algorithm, preset or model.
    """
    chosen = {"algorithm": algorithm, "dataset": dataset, "model": model}
    if preset is not None:
        chosen["preset"] = preset
    usual = {
        "algorithm": TrainConfig.algorithm,
        "dataset": TrainConfig.dataset,
        "model": TrainConfig.model,
        "preset": Hardware.preset,
    }
    values = by_flag(resolve(**chosen))
    return values | {flag: value for flag, value in usual.items() if flag in values}
