"""The configuration of a run: typed, generated into flags, stored as it runs."""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Collection, Iterator
from typing import Any

from absl import flags

from experiments import cli
from hic_jax import HICSpec, checks, data, models, pcm
from hic_jax.algorithms.hic import INITIAL_WORDS
from hic_jax.crossbar import CrossbarSpec
from hic_jax.crossbar.spec import RANGES
from hic_jax.training.algorithms import ALGORITHMS, ANALOG_ALGORITHMS
from hic_jax.training.schedules import SCHEDULES

# Fields of `TrainConfig` that only `ANALOG_ALGORITHMS` use.
ANALOG_FIELDS = (
    "analog_learning_rate",
    "analog_trust_ratio",
    "analog_norm_decay",
    "analog_momentum",
    "analog_weight_decay",
    "preset",
    "converters",
    "digital_layers",
)

COMPUTE_DTYPES = ("float32", "bfloat16")

# Flags of the configuration by the beginning of a field's name, the longest first.
FLAG_PREFIXES = {
    "spec.multilevel.": "pcm_",
    "spec.binary.": "binary_",
    "spec.": "",
    "crossbar.": "crossbar_",
    "train.": "",
}

# What a field of `TrainConfig` may be, where that is one of several names.
CHOICES: dict[str, Collection[str]] = {
    "algorithm": ALGORITHMS,
    "channel_plan": models.CHANNEL_PLANS,
    "schedule": SCHEDULES,
    "augmentation": ("auto", *data.POLICIES),
    "shift": data.SHIFTS,
    "preset": pcm.PRESETS,
    "compute_dtype": COMPUTE_DTYPES,
}
# Of fields of the hardware, by their flags.
_SPEC_CHOICES = {
    "initial_words": INITIAL_WORDS,
    "crossbar_dac_range": RANGES,
    "crossbar_adc_range": RANGES,
}

# The group that the flag of a field of `TrainConfig` is listed in; the rest is recipe.
_GROUPS = {
    cli.NETWORK: (
        "dataset", "data_dir", "depth", "width", "channel_plan", "augmentation",
        "shift", "compute_dtype",
    ),
    cli.ALGORITHM: ("algorithm",),
    cli.DEVICE: ("preset",),
    cli.CROSSBAR: ("converters", "digital_layers"),
}  # fmt: skip

# Products of two rates stay in float32, and nothing trains far below it.
_RATE_MAX = 1e6

# Spread of the drift exponent in experiments: what Nandakumar et al. (ICECS 2019)
# measured on devices above a third of full conductance. `nandakumar_2018` has none, but
# a chip whose devices all drift alike would make a year look too easy.
DRIFT_NU_STD = 0.008


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What is trained and how; the hardware is a `HICSpec` and a `CrossbarSpec`.

    Attributes:
      algorithm: training algorithm: hic, with weights in hybrid PCM, or fp32.
      dataset: images: digits, or a TFDS image-classification set by its name, as
        cifar10.
      data_dir: existing folder of prepared TFDS sets; the default is TFDS's own.
      depth: layers of the ResNet, 6n + 2, 8 to 1202.
      width: multiplier of the ResNet's channels, up to 100.
      channel_plan: channels of the ResNet's three stages at width 1: hic, which is 16,
        28, 56, or textbook, which is 16, 32, 64.
      epochs: passes over the training images.
      batch_size: images per training step.
      learning_rate: highest learning rate of parameters that are held digitally, up to
        1e6.
      schedule: shape of the learning rates over the run, after the warm-up: cosine and
        linear fall to zero, constant stays, staircase falls to a tenth at 1/2 and 3/4.
      warmup: share of the run in which the learning rates rise linearly from zero, 0 to
        1.
      momentum: momentum of parameters that are held digitally, 0 to 1.
      weight_decay: weight decay of digital kernels, per step and times the learning
        rate, up to 1e6.
      analog_learning_rate: highest learning rate of analog weights, up to 1e6; with
        analog_trust_ratio, their relative change in a step.
      analog_trust_ratio: whether gradients of analog weights are brought to the norm of
        the weights, tensor by tensor.
      analog_norm_decay: decay of analog weights in a step, over the square of their
        learning rate, up to 1e6, with analog_trust_ratio; at 0.5 their norm stays about
        the same.
      analog_momentum: momentum of analog weights, 0 to 1; other than 0 it costs a
        floating-point buffer.
      analog_weight_decay: weight decay of analog weights, per step and times the
        learning rate, up to 1e6.
      label_smoothing: share of the target that is spread over all classes, 0 to 1.
      augmentation: random changes of training images: none, crop, or crop_flip, which
        mirrors them, too; auto is crop for characters, and crop_flip else.
      shift: change of all images before anything else: none, dim, invert, noise or
        rotate. They are normalised by the moments of the unchanged images.
      preset: multi-level device, whose constants the pcm_ flags change one by one.
      converters: whether analog layers are computed by crossbars with converters, or
        exactly.
      digital_layers: layers that are held and computed digitally, by their paths,
        separated by commas: stem,head are the first and the last.
      compute_dtype: type of the products and of what is between them, float32 or
        bfloat16. Parameters and devices are float32 whatever it is.
      seed: seed of everything random, 0 to 2^32 - 1.
    """

    algorithm: str = "hic"
    dataset: str = "digits"
    data_dir: str | None = None
    depth: int = 8
    width: float = 1.0
    channel_plan: str = "hic"
    epochs: int = 30
    batch_size: int = 100
    learning_rate: float = 0.2
    schedule: str = "cosine"
    warmup: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    analog_learning_rate: float = 0.04
    analog_trust_ratio: bool = True
    analog_norm_decay: float = 0.5
    analog_momentum: float = 0.0
    analog_weight_decay: float = 0.0
    label_smoothing: float = 0.0
    augmentation: str = "auto"
    shift: str = "none"
    preset: str = "nandakumar_2018"
    converters: bool = True
    digital_layers: str = ""
    compute_dtype: str = "float32"
    seed: int = 0

    def __post_init__(self):
        for name, allowed in CHOICES.items():
            checks.one_of(name, getattr(self, name), allowed)
        models.check_depth(self.depth)
        models.stage_channels(self.channel_plan, self.width)
        checks.integer("epochs", self.epochs, 1)
        checks.integer("batch_size", self.batch_size, 1)
        checks.integer("seed", self.seed, 0, 2**32 - 1)
        for name in ("learning_rate", "analog_learning_rate"):
            checks.above(name, getattr(self, name), 0.0)
            checks.at_most(name, getattr(self, name), _RATE_MAX)
        for name in ("warmup", "label_smoothing", "momentum", "analog_momentum"):
            checks.within(name, getattr(self, name), 0.0, 1.0)
        for name in ("weight_decay", "analog_norm_decay", "analog_weight_decay"):
            checks.at_least(name, getattr(self, name), 0.0)
            checks.at_most(name, getattr(self, name), _RATE_MAX)

    @property
    def digital_paths(self) -> tuple[str, ...]:
        """Paths of ``digital_layers``."""
        return tuple(filter(None, self.digital_layers.split(",")))


@dataclasses.dataclass(frozen=True)
class Config:
    """A run, resolved: nothing is left to defaults.

    Attributes:
      train: network, data, optimisation.
      spec: devices.
      crossbar: arrays and converters around them.
    """

    train: TrainConfig
    spec: HICSpec
    crossbar: CrossbarSpec

    def to_json(self) -> str:
        """As stored in a run folder."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """Reads what `to_json` wrote."""
        fields = json.loads(text)
        spec = dict(fields["spec"])
        spec["multilevel"] = pcm.MultilevelSpec(**spec["multilevel"])
        spec["binary"] = pcm.BinarySpec(**spec["binary"])
        return cls(
            TrainConfig(**fields["train"]),
            HICSpec(**spec),
            CrossbarSpec(**fields["crossbar"]),
        )


def differences(stored: dict, asked: Config) -> list[str]:
    """Fields in which a stored configuration differs from one that is asked for.

    Args:
      stored: a configuration as its JSON says it, perhaps of another version, which
        had other fields.
      asked: the other one.

    Returns:
      ``name: stored != asked`` each.
    """
    mine, others = _flat(stored), _flat(json.loads(asked.to_json()))

    def shown(values: dict, name: str) -> str:
        return repr(values[name]) if name in values else "(no such field)"

    return [
        f"{name}: {shown(mine, name)} != {shown(others, name)}"
        for name in mine | others
        if name not in mine or name not in others or mine[name] != others[name]
    ]


def changed_flags(config: Config) -> list[str]:
    """FLAG=VALUE of what is not as the algorithm, the data set and the preset make it.

    These two, without which there is no run, are left out.
    """
    train = config.train
    usual = usual_fields(train.algorithm, train.dataset, train.preset)
    return [
        f"{flag_of(name)}={value}"
        for name, value in _flat(dataclasses.asdict(config)).items()
        if value != usual[name] and name not in ("train.algorithm", "train.dataset")
    ]


def usual_fields(algorithm: str, dataset: str, preset: str) -> dict[str, Any]:
    """Fields by dotted names, as they are with no flags but these.

    These themselves have their defaults.

    Raises:
      ValueError: if there is no such algorithm, or preset.
    """
    chosen = TrainConfig(algorithm=algorithm, dataset=dataset, preset=preset)
    fields = _flat(dataclasses.asdict(resolve(chosen)))
    start = TrainConfig()
    return fields | {
        f"train.{name}": getattr(start, name)
        for name in ("algorithm", "dataset", "preset")
    }


def flag_of(name: str) -> str:
    """The flag of a field by its dotted name, or the field itself if it has none."""
    return next(
        flag + name.removeprefix(prefix)
        for prefix, flag in (FLAG_PREFIXES | {"": ""}).items()
        if name.startswith(prefix)
    )


def resolve(train: TrainConfig, spec_overrides: dict[str, Any] | None = None) -> Config:
    """Fills in what was left open and builds the hardware.

    Args:
      train: may leave ``augmentation`` open.
      spec_overrides: fields of the hardware by flag name: those of `HICSpec` as they
        are, those of `MultilevelSpec` after ``pcm_``, of `BinarySpec` after
        ``binary_``, of `CrossbarSpec` after ``crossbar_``. What is absent comes from
        the preset or the defaults.
    """
    overrides = dict(spec_overrides or {})
    if train.augmentation == "auto":
        train = dataclasses.replace(
            train, augmentation=data.default_policy(train.dataset)
        )
    parts: dict[str, dict] = {"pcm_": {}, "binary_": {}, "crossbar_": {}, "": {}}
    for name, value in overrides.items():
        prefix = next(p for p in parts if name.startswith(p))
        parts[prefix][name.removeprefix(prefix)] = value
    with _named("pcm_"):
        device = dataclasses.replace(pcm.preset(train.preset), **parts["pcm_"])
        if device.drift_nu and "drift_nu_std" not in parts["pcm_"]:
            device = dataclasses.replace(device, drift_nu_std=DRIFT_NU_STD)
    with _named("binary_"):
        binary = pcm.BinarySpec(**parts["binary_"])
    with _named("crossbar_"):
        crossbar = CrossbarSpec(**parts["crossbar_"])
    if train.compute_dtype == "bfloat16":
        for name in ("dac_bits", "adc_bits", "error_dac_bits", "error_adc_bits"):
            # bfloat16 holds all whole numbers up to 256.
            if getattr(crossbar, name) > 9:
                raise ValueError(
                    f"crossbar_{name}={getattr(crossbar, name)}: must be at most 9 "
                    "with compute_dtype='bfloat16', which has no more codes"
                )
    spec = HICSpec(multilevel=device, binary=binary, **parts[""])
    return Config(train, spec, crossbar)


@contextlib.contextmanager
def _named(prefix: str) -> Iterator[None]:
    """Puts the prefix of its flag before the field that an error names."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{prefix}{error}") from error


def define_flags() -> None:
    """Defines a flag for every field of `TrainConfig` and of the hardware."""
    groups = {name: group for group, names in _GROUPS.items() for name in names}
    texts = cli.documented(TrainConfig)
    for field in dataclasses.fields(TrainConfig):
        name, group = field.name, groups.get(field.name, cli.RECIPE)
        _define(name, field.type, field.default, texts[name], group)
    for name, (kind, usual, text, group) in _hardware_flags().items():
        _define(name, kind, None, text, group, usual)


def from_flags(**others: Any) -> Config:
    """The configuration that the parsed flags describe.

    Args:
      **others: values that take the place of flags, by their names.

    Raises:
      ValueError: if a value is not allowed.
    """
    values = {name: flags.FLAGS[name].value for name in flag_names()} | others
    recipe = {f.name: values.pop(f.name) for f in dataclasses.fields(TrainConfig)}
    with _named("--"):
        return resolve(
            TrainConfig(**recipe), {k: v for k, v in values.items() if v is not None}
        )


def flag_names() -> list[str]:
    """Flags of the configuration: of the recipe, then of the hardware."""
    recipe = [field.name for field in dataclasses.fields(TrainConfig)]
    return [*recipe, *_hardware_flags()]


def is_used(name: str, algorithm: str) -> bool:
    """Whether a flag of the configuration makes a difference to an algorithm.

    A digital one has no devices: their constants, and the recipe of the weights in
    them, are nothing to it.
    """
    if algorithm in ANALOG_ALGORITHMS:
        return True
    recipe = {field.name for field in dataclasses.fields(TrainConfig)}
    return name in recipe - set(ANALOG_FIELDS)


@functools.cache
def _hardware_flags() -> dict[str, tuple[Any, Any, str, str]]:
    """(type, usual value, help, group) of the fields of the hardware by their flags."""
    usual = resolve(TrainConfig())
    found = {}
    for prefix, part, group in (
        ("", usual.spec, cli.ALGORITHM),
        ("pcm_", usual.spec.multilevel, cli.DEVICE),
        ("binary_", usual.spec.binary, cli.DEVICE),
        ("crossbar_", usual.crossbar, cli.CROSSBAR),
    ):
        texts = cli.documented(type(part))
        for field in dataclasses.fields(part):
            if field.name not in ("multilevel", "binary", "name", "source"):
                value, text = getattr(part, field.name), texts[field.name]
                if prefix == "pcm_":
                    value = f"{cli.shown(value)} with {usual.train.preset}"
                found[prefix + field.name] = (field.type, value, text, group)
    return found


def _define(
    name: str, kind: Any, default: Any, text: str, group: str, usual: Any = None
) -> None:
    """Defines the flag of a field, which itself says what is allowed of its type."""
    if kind is bool:
        cli.define_switch(name, default, text, group=group, usual=usual)
        return
    if choices := (CHOICES | _SPEC_CHOICES).get(name):
        takes = cli.Choice(choices)
    elif name == "data_dir":
        takes = cli.path()
    else:
        takes = {int: cli.integer, float: cli.number}.get(kind, cli.text)()
    cli.define(name, takes, default, text, group=group, usual=usual)


def _flat(tree: dict, prefix: str = "") -> dict[str, Any]:
    items: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            items |= _flat(value, f"{prefix}{name}.")
        else:
            items[prefix + name] = value
    return items
