"""The parts of a configuration: dataclasses whose fields are flags.

Which there are follows from the algorithm and from the model: their specs, and that of
the devices, are among them. An entry in `recipes.ALGORITHMS`, `pcm.PRESETS` or
`models.MODELS` has flags by being there.
"""

import dataclasses
import functools
import typing
from collections.abc import Callable, Mapping
from typing import Any

from experiments.devices.fitted import CURVES, Fitted
from hic_jax import checks, data, models, pcm
from hic_jax.algorithms.arrangement import of_no_use
from hic_jax.algorithms.pairs import DEVICES_PER_SIGN
from hic_jax.crossbar import CrossbarSpec
from hic_jax.pcm.fits import Fit
from hic_jax.training.optimizers import OPTIMIZERS
from hic_jax.training.recipes import ALGORITHMS, AnalogRecipe, Recipe
from hic_jax.training.schedules import SCHEDULES

COMPUTE_DTYPES = ("float32", "bfloat16")

# Names that a field may hold, by its flag, where they are not part of its type.
CHOICES: dict[str, Any] = {
    "algorithm": ALGORITHMS,
    "channel_plan": models.CHANNEL_PLANS,
    "optimizer": OPTIMIZERS,
    "analog_optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "augmentation": ("auto", *data.POLICIES),
    "shift": data.SHIFTS,
    "preset": pcm.PRESETS,
    "compute_dtype": COMPUTE_DTYPES,
}

# What the flags of a part begin with, where that is not where the part stands.
_PREFIXES = {
    "train": "",
    "recipe": "",
    "analog": "analog_",
    "hardware": "",
    "spec.multilevel": "pcm_",
    "crossbar": "crossbar_",
}

NUMBER_OR_CURVE = float | Fit

# Types of fields that have flags, beside one of several names, and what a preset says
# of itself, which has none.
_SIMPLE = (bool, int, float, str, str | None, NUMBER_OR_CURVE)
_TOLD = ("name", "source")

# Spread of the drift exponent in experiments: what Nandakumar et al. (ICECS 2019)
# measured on devices of a chip. `nandakumar_2018` has none, but one whose devices all
# drift alike would make a year look too easy.
DRIFT_NU_STD = pcm.nandakumar_2019().drift_nu_std


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What is trained, on what and for how long.

    Attributes:
      algorithm: training algorithm; all but fp32 hold weights in devices.
      dataset: images: digits, a TFDS image-classification set by its name, as cifar10,
        or images:PATH, your own, in a folder that holds one for each class, perhaps
        under train and test, or in the arrays train_images, train_labels, test_images
        and test_labels, or images and labels, of an NPZ file; where nothing says what
        is for tests, a fifth of each class is. Or text: TFDS's tiny_shakespeare, or
        text:FILE, the characters of a file in UTF-8, of which the first nine tenths are
        for training, a twentieth for validation and a twentieth for tests.
      data_dir: existing folder of prepared TFDS sets; the default is TFDS's own.
      validation: training images that are held out and take the place of the test
        images, to choose a recipe by, or so many characters of the validation part of a
        text in the place of its test part; 0 for none.
      downscale: pixels, each way, whose mean is one pixel of the images, for a quick
        look; 1 leaves them as they are.
      model: network: resnet, cnn, mlp or vit of images, gpt of text, or a function of
        your own that makes a flax module, as package.module:factory.
      width: multiplier of the network's channels, up to 100.
      epochs: passes over the training images, or as many characters as the training
        part of a text has.
      batch_size: images, or windows of text, per training step.
      label_smoothing: share of the target that is spread over all classes, 0 to 1.
      augmentation: random changes of training images: none, crop, or crop_flip, which
        mirrors them, too; auto is crop for images of characters, crop_flip for others,
        and none for text.
      shift: change of all images before anything else: none, dim, invert, noise or
        rotate. They are normalised by the moments of the unchanged images.
      compute_dtype: type of the products and of what is between them, float32 or
        bfloat16. Parameters and devices are float32 whatever it is.
      seed: seed of everything random, 0 to 2^32 - 1.
    """

    algorithm: str = "hic"
    dataset: str = "digits"
    data_dir: str | None = None
    validation: int = 0
    downscale: int = 1
    model: str = "resnet"
    width: float = 1.0
    epochs: int = 30
    batch_size: int = 100
    label_smoothing: float = 0.0
    augmentation: str = "auto"
    shift: str = "none"
    compute_dtype: str = "float32"
    seed: int = 0

    def __post_init__(self):
        _check_choices(self)
        is_text = data.is_text(self.dataset)
        models.check_takes(self.model, "text" if is_text else "images", self.dataset)
        if is_text:
            _check_images(self)
        checks.integer("validation", self.validation, 0)
        checks.integer("downscale", self.downscale, 1)
        checks.integer("epochs", self.epochs, 1)
        checks.integer("batch_size", self.batch_size, 1)
        checks.integer("seed", self.seed, 0, 2**32 - 1)
        checks.within("label_smoothing", self.label_smoothing, 0.0, 1.0)

    @property
    def tested_on(self) -> str:
        """What a training is judged by: the test part, or what is held out for it."""
        return "validation" if self.validation else "test"

    @property
    def measure(self) -> str:
        """What is told of a training: loss on a text, or accuracy on images."""
        of = "loss (nats)" if data.is_text(self.dataset) else "accuracy"
        return f"{self.tested_on} {of}"


def _check_images(train: TrainConfig) -> None:
    """Raises `ValueError` if images are to be changed, and there are none."""
    for name, allowed in (
        ("downscale", (1,)),
        ("shift", ("none",)),
        ("augmentation", ("auto", "none")),
    ):
        if getattr(train, name) not in allowed:
            raise ValueError(
                f"{name}={getattr(train, name)}: must be {allowed[-1]}, with "
                f"dataset={train.dataset!r}, which holds no images"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hardware:
    """What of a network is analog, and on which devices.

    Attributes:
      preset: multi-level device, whose constants the pcm_ flags change one by one: a
        preset, or the file of a fitted device, as with --device.
      converters: whether analog layers are computed by crossbars with converters, or
        exactly.
      digital_layers: layers that are held and computed digitally, by their paths,
        separated by commas: stem,head are the first and the last.
      devices_by_layer: devices on each side of a pair, where they are not as many as
        everywhere: RULE=NUMBER, separated by commas, as stem|head=8,stage1=4. A rule is
        a regular expression of the beginnings of layers' paths; the first that matches
        counts.
      state_shards: equal parts that the state of devices is divided into, up to 65536,
        with parameters and momentum of the same weights: each device of the mesh, whose
        size must divide them, holds as many, and updates one after the other, in less
        memory. What is drawn depends on their number, but not on the mesh. 0 keeps a
        copy of all on each device.
    """

    preset: str = "nandakumar_2018"
    converters: bool = True
    digital_layers: str = ""
    devices_by_layer: str = ""
    state_shards: int = 0

    def __post_init__(self):
        _check_choices(self)
        checks.integer("state_shards", self.state_shards, 0, 65536)
        _devices_by_rule(self.devices_by_layer)

    @property
    def digital_paths(self) -> tuple[str, ...]:
        """Paths of ``digital_layers``."""
        return tuple(filter(None, self.digital_layers.split(",")))

    @property
    def devices_by_rule(self) -> dict[str, int]:
        """Numbers of ``devices_by_layer`` by their rules."""
        return _devices_by_rule(self.devices_by_layer)


def _devices_by_rule(text: str) -> dict[str, int]:
    """Numbers by rules, or `ValueError`."""
    rules: dict[str, int] = {}
    allowed = [str(number) for number in DEVICES_PER_SIGN]
    for item in filter(None, text.split(",")):
        rule, _, number = item.rpartition("=")
        if not rule or rule in rules or number not in allowed:
            raise ValueError(
                f"devices_by_layer={text}: must be RULE=NUMBER, separated by commas, "
                f"each rule once, with numbers among {', '.join(allowed)}"
            )
        rules[rule] = int(number)
    return rules


def _check_choices(part: TrainConfig | Hardware) -> None:
    """Raises `ValueError` unless fields of few names hold one of these."""
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if field.name in CHOICES and not isinstance(value, Fitted):
            checks.one_of(field.name, value, CHOICES[field.name])


@dataclasses.dataclass(frozen=True)
class Part:
    """A dataclass in a configuration, whose fields have flags.

    Attributes:
      path: place in the configuration, as spec.multilevel.
      prefix: letters that the flags of its fields begin with.
      usual: the values without flags: an instance, or the class with its defaults.
      without: fields that make no difference, and have no flags.
    """

    path: str
    prefix: str
    usual: Any
    without: frozenset[str] = frozenset()

    @property
    def cls(self) -> type:
        """The dataclass."""
        return self.usual if isinstance(self.usual, type) else type(self.usual)

    def of(self, config: Any) -> Any:
        """This part of a configuration."""
        return functools.reduce(getattr, self.path.split("."), config)

    def fields(self) -> dict[str, str]:
        """Names of the fields by their flags."""
        names = _numbers_and_words(self.cls)
        return {self.prefix + name: name for name in names if name not in self.without}


def parts_of(algorithm: str, preset: str, model: str = TrainConfig.model) -> list[Part]:
    """Parts of a configuration, what a part holds before the part itself.

    Raises:
      ValueError: if there is no such algorithm, preset or model.
    """
    checks.one_of("algorithm", algorithm, ALGORITHMS)
    models.check_known(model)
    parts: dict[str, Any] = {"train": TrainConfig}
    if model in models.MODELS:
        parts["network"] = models.MODELS[model]
    parts["recipe"] = Recipe
    without: dict[str, frozenset[str]] = {}
    if (spec := ALGORITHMS[algorithm]) is not None:
        parts |= {"analog": AnalogRecipe, "hardware": Hardware}
        devices = _devices(spec) | {"multilevel": device_of(preset)}
        without["spec"] = of_no_use(devices["multilevel"])
        parts |= {f"spec.{name}": device for name, device in devices.items()}
        # Thresholds in uS follow from a device that was fitted.
        is_fitted = isinstance(preset, Fitted)
        parts["spec"] = spec.suited_to(device_of(preset)) if is_fitted else spec
        parts["crossbar"] = CrossbarSpec
    none = frozenset[str]()
    return [
        Part(path, _prefix(path, algorithm, model), part, without.get(path, none))
        for path, part in parts.items()
    ]


@functools.cache
def _numbers_and_words(cls: type) -> tuple[str, ...]:
    """Fields of a dataclass that a flag can change."""
    return tuple(
        name
        for name, kind in typing.get_type_hints(cls).items()
        if name not in _TOLD
        and (kind in _SIMPLE or typing.get_origin(kind) is typing.Literal)
    )


def _devices(spec: type) -> dict[str, Any]:
    """Dataclasses that a spec holds by default, by their fields."""
    values = {
        field.name: field.default
        if field.default_factory is dataclasses.MISSING
        else field.default_factory()
        for field in dataclasses.fields(spec)
    }
    return {
        name: value
        for name, value in values.items()
        if dataclasses.is_dataclass(value) and not isinstance(value, type)
    }


def _prefix(path: str, algorithm: str, model: str) -> str:
    """What the flags of a part begin with."""
    if path == "spec":
        return f"{algorithm}_"
    if path == "network":
        return "" if model == TrainConfig.model else f"{model}_"
    return _PREFIXES.get(path, f"{path.removeprefix('spec.')}_")


def assembled(
    parts: list[Part], made: Callable[[Part, dict[str, Any]], Any]
) -> dict[str, Any]:
    """Parts of a configuration, put together.

    Args:
      parts: of `parts_of`.
      made: makes one of them, given those that it holds.

    Returns:
      Fields of `Config`.
    """
    whole: dict[str, Any] = {}
    held: dict[str, Any] = {}
    for part in parts:
        if part.path.startswith("spec."):
            held[part.path.removeprefix("spec.")] = made(part, {})
        else:
            whole[part.path] = made(part, held if part.path == "spec" else {})
    return whole


def flag_of(name: str, algorithm: str, model: str = TrainConfig.model) -> str:
    """The flag of a field as spec.multilevel.g_max; the name itself if it has none."""
    path, _, field = name.rpartition(".")
    is_part = path in _PREFIXES or path.split(".")[0] in ("spec", "network")
    return _prefix(path, algorithm, model) + field if is_part else name


def with_curves(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a dataclass, with the curves that some of them name.

    Raises:
      ValueError: if there is no curve of that name.
    """
    kinds, curves = typing.get_type_hints(cls), {}
    for name, value in values.items():
        if kinds.get(name) == NUMBER_OR_CURVE and isinstance(value, str):
            checks.one_of(name, value, CURVES)
            curves[name] = CURVES[value]
    return {**values, **curves}


def device_of(preset: str) -> Any:
    """A multi-level device as experiments take it; one that was fitted is as it is."""
    if isinstance(preset, Fitted):
        return preset.device
    device: Any = pcm.preset(preset)
    if getattr(device, "drift_nu_std", None) == 0 and device.drift_nu:
        device = dataclasses.replace(device, drift_nu_std=DRIFT_NU_STD)
    return device


def used_flags(
    algorithm: str, preset: str = Hardware.preset, model: str = TrainConfig.model
) -> set[str]:
    """Flags of the configuration that make a difference.

    Training without devices has no use for their constants, nor for the recipe of the
    weights in them; no algorithm, and no model, has for the fields of another one.
    """
    parts = parts_of(algorithm, preset, model)
    return {flag for part in parts for flag in part.fields()}


def network_flags(model: str) -> dict[str, Any]:
    """Flags of the fields of a model alone, with their defaults; of one's own, none."""
    if model not in models.MODELS:
        return {}
    cls = models.MODELS[model]
    part = Part("network", _prefix("network", "", model), cls)
    return {flag: getattr(cls, field) for flag, field in part.fields().items()}


def check_used(
    given: Mapping[str, Any], algorithm: str, preset: str, model: str
) -> None:
    """Raises `ValueError` if a value, by its flag, makes no difference."""
    used = used_flags(algorithm, preset, model)
    for flag, value in given.items():
        if flag in used:
            continue
        others = [name for name in models.MODELS if flag in network_flags(name)]
        if others:
            raise ValueError(
                f"{flag}={value}: must not be given with model={model}, which has no "
                f"use for it; needs model={' or '.join(others)}"
            )
        where = {a: [p for p in pcm.PRESETS if flag in used_flags(a, p)]
                 for a in ALGORITHMS}  # fmt: skip
        if presets := where[algorithm]:
            raise ValueError(
                f"{flag}={value}: must not be given with preset={preset}, which has no "
                f"such constant; needs preset={' or '.join(presets)}"
            )
        if algorithms := [a for a, presets in where.items() if presets]:
            raise ValueError(
                f"{flag}={value}: must not be given with algorithm={algorithm}, which "
                f"has no use for it; needs algorithm={' or '.join(algorithms)}"
            )
        raise ValueError(f"{flag}={value}: must be a flag of the configuration")
