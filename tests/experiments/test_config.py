"""Configurations: a flag for every field, and what is stored is what runs."""

import dataclasses
import json
from typing import Literal

import pytest
from absl import flags

from experiments import config, config_flags
from experiments.config import Config, changed, differences, resolve
from hic_jax import HICSpec, checks, pcm
from hic_jax.algorithms.arrangement import of_no_use
from hic_jax.training import recipes

# Flags whose other value does not follow from the default.
WORDS = {
    "crossbar_adc_range": "fixed",
    "crossbar_dac_range": "running",
    "digital_layers": "stem,head",
    "devices_by_layer": "stem|head=4",
    "kernel_bits": "4",
    "algorithm": "fp32",
    "dataset": "mnist",
    "data_dir": "/data",
    "channel_plan": "textbook",
    "compute_dtype": "bfloat16",
    "schedule": "staircase",
    "optimizer": "adamw",
    "analog_optimizer": "adamw",
    "model": "mlp",
    "pcm_read_spectrum": "white",
    "pcm_drift_nu_std": "0.25",
    "augmentation": "none",
    "preset": "ideal",
    "shift": "noise",
    "hic_word_steps": "4",
    "depth": "14",
    "hic_initial_words": "zero",
    "hic_rewrite_residue": "kept",
}
# Fields without flags: parts, what a preset says of itself, and what is of no use with
# the usual device.
NO_FLAGS = {"multilevel", "binary", "name", "source"} | of_no_use(pcm.nandakumar_2018())
# What these change besides.
CONSEQUENCES = {
    "dataset": {"train.augmentation"},
    "optimizer": {"recipe.learning_rate"},
    "analog_optimizer": {
        f"analog.{name}"
        for name in ("learning_rate", "momentum", "trust_ratio", "norm_decay")
    },
    "model": {
        f"network.{name}" for name in ("depth", "channel_plan", "layers", "units")
    },
    "preset": {
        f"spec.multilevel.{field.name}"
        for field in dataclasses.fields(pcm.MultilevelSpec)
    },
}


@pytest.fixture
def parse():
    """Turns words of a command line into a configuration."""
    before = set(flags.FLAGS)
    config_flags.define_flags()

    def parse(*words):
        flags.FLAGS(["train", *words])
        return config_flags.from_flags()

    yield parse
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


def _fields():
    """(flag, path in a configuration, default) of every field."""
    default = resolve(augmentation="crop")
    for path, prefix, part in (
        ("train", "", default.train),
        ("network", "", default.network),
        ("recipe", "", default.recipe),
        ("analog", "analog_", default.analog),
        ("hardware", "", default.hardware),
        ("spec", "hic_", default.spec),
        ("spec.multilevel", "pcm_", default.spec.multilevel),
        ("spec.binary", "binary_", default.spec.binary),
        ("crossbar", "crossbar_", default.crossbar),
    ):
        for field in dataclasses.fields(part):
            if field.name not in NO_FLAGS:
                value = getattr(part, field.name)
                yield prefix + field.name, f"{path}.{field.name}", value


def _other(flag, value):
    """The words that give a flag another value than its default."""
    if flag in WORDS:
        return f"--{flag}={WORDS[flag]}"
    if isinstance(value, bool):
        return f"--{'no' if value else ''}{flag}"
    if isinstance(value, int):
        return f"--{flag}={value + 1 if value < 8 else value - 6}"
    return f"--{flag}={value / 2 if value else 0.25}"


@pytest.mark.parametrize(("flag", "path", "value"), [*_fields()], ids=lambda x: str(x))
def test_a_flag_changes_its_field_and_no_other(parse, flag, path, value):
    assert flags.FLAGS[flag].help.count(" ") >= 2
    default, other = parse(), parse(_other(flag, value))
    lines = differences(_stored(default), _stored(other))
    names = {line.split(":")[0] for line in lines}
    if flag == "algorithm":  # What it uses goes with it.
        names = {name for name in names if name.startswith("train.")}
    assert path in names
    assert names <= {path} | CONSEQUENCES.get(flag, set())


def test_without_flags_nothing_is_left_open(parse):
    assert parse() == resolve()
    assert parse().train.augmentation == "crop"
    assert parse("--dataset=cifar10").train.augmentation == "crop_flip"


@pytest.mark.parametrize(
    ("preset", "spread"),
    [
        ("nandakumar_2018", pcm.nandakumar_2019().drift_nu_std),
        ("linear_noisy", pcm.nandakumar_2019().drift_nu_std),
        ("projected", 0.003),
        ("ideal", 0.0),
    ],
)
def test_chips_of_a_device_that_drifts_have_a_spread(preset, spread):
    spec = resolve(preset=preset).spec
    assert spec.multilevel == dataclasses.replace(
        pcm.preset(preset), drift_nu_std=spread
    )
    given = resolve(preset=preset, pcm_drift_nu_std=0.25).spec
    assert given.multilevel.drift_nu_std == 0.25


def test_a_flag_takes_the_spread_of_a_programmed_device_by_its_name(parse):
    given = parse("--pcm_drift_nu_std=hermes_2")
    assert given.spec.multilevel == pcm.nandakumar_2018(
        drift_nu_std=pcm.hermes_2().drift_nu_std
    )
    stored = _stored(given)
    assert stored["spec"]["multilevel"]["drift_nu_std"] == "hermes_2"
    assert Config.from_dict(stored) == given
    assert config.changed_flags(given) == ["pcm_drift_nu_std=hermes_2"]
    # Another constant leaves it as it is.
    assert changed(given, pcm_g_max=12.0).spec.multilevel == dataclasses.replace(
        given.spec.multilevel, g_max=12.0
    )
    assert parse("--pcm_drift_nu_std=0.01").spec.multilevel.drift_nu_std == 0.01


def test_a_spread_that_no_device_has_is_refused(parse):
    with pytest.raises(flags.IllegalFlagValueError, match="or one of nandakumar_2019"):
        parse("--pcm_drift_nu_std=nandakumar")
    with pytest.raises(ValueError, match="drift_nu_std='icecs': must be one of"):
        resolve(pcm_drift_nu_std="icecs")


def test_what_is_given_goes_before_preset_and_defaults():
    overrides = {"hic_lsb_bits": 5, "pcm_g_max": 12.0, "binary_stuck_set": 0.25}
    spec = resolve(preset="linear_noisy", **overrides).spec
    device = pcm.linear_noisy(drift_nu_std=pcm.nandakumar_2019().drift_nu_std)
    assert spec == HICSpec(
        multilevel=dataclasses.replace(device, g_max=12.0),
        binary=pcm.BinarySpec(stuck_set=0.25),
        lsb_bits=5,
    )


def _stored(config):
    return json.loads(config.to_json())


def test_json_round_trip():
    overrides = {
        "hic_track_wear": False,
        "pcm_step_slope": -0.1,
        "binary_stuck_reset": 1e-3,
        "crossbar_adc_bits": 6,
    }
    first = resolve(data_dir="/data", width=0.1, seed=2**32 - 1, **overrides)
    text = first.to_json()
    assert Config.from_dict(json.loads(text)) == first
    assert json.loads(text)["spec"]["multilevel"]["step_slope"] == -0.1
    assert json.loads(text)["crossbar"]["adc_bits"] == 6


def test_differences_name_fields_and_both_values():
    first = resolve(seed=1, pcm_g_max=12.0)
    second = resolve(seed=2, pcm_g_max=15.0, binary_stuck_set=0.5)
    assert differences(_stored(first), _stored(second)) == [
        "train.seed: 1 != 2",
        "spec.multilevel.g_max: 12.0 != 15.0",
        "spec.binary.stuck_set: 0.0 != 0.5",
    ]
    assert differences(_stored(first), _stored(first)) == []


def test_fields_of_another_version_are_differences():
    asked = resolve()
    stored = _stored(asked)
    stored["train"]["dropout"] = 0.5
    del stored["train"]["shift"], stored["crossbar"]
    named = differences(stored, _stored(asked))
    assert "train.dropout: 0.5 != (no such field)" in named
    assert "train.shift: (no such field) != 'none'" in named
    assert "crossbar.adc_bits: (no such field) != 8" in named
    assert all(line.startswith(("train.", "crossbar.")) for line in named)


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("algorithm", "hicc", "one of hic, .*, fp32.*mean 'hic'"),
        ("channel_plan", "wide", "one of hic, textbook"),
        ("schedule", "cosin", "mean 'cosine'"),
        ("augmentation", "flip", "one of auto, none, crop, crop_flip"),
        ("preset", "nandakumar", "mean 'nandakumar_2018'"),
        ("compute_dtype", "float16", "one of float32, bfloat16"),
        ("epochs", 0, "at least 1"),
        ("epochs", 1.5, "an integer"),
        ("batch_size", -1, "at least 1"),
        ("seed", 2**32, r"in \[0, 4294967295\]"),
        ("width", 0.0, "greater than 0"),
        ("learning_rate", 0.0, "greater than 0"),
        ("analog_learning_rate", float("nan"), "a finite number"),
        ("warmup", 1.5, r"in \[0.0, 1.0\]"),
        ("momentum", -0.1, r"in \[0.0, 1.0\]"),
        ("analog_momentum", 1.1, r"in \[0.0, 1.0\]"),
        ("label_smoothing", 2.0, r"in \[0.0, 1.0\]"),
        ("weight_decay", -1.0, "at least 0"),
        ("analog_weight_decay", -1.0, "at least 0"),
    ],
)
def test_a_value_that_is_not_allowed(field, value, allowed):
    with pytest.raises(ValueError, match=rf"^{field}={value!r}: .*{allowed}"):
        resolve(**{field: value})


def test_converters_whose_codes_bfloat16_cannot_hold():
    resolve(compute_dtype="bfloat16", crossbar_adc_bits=9)
    with pytest.raises(ValueError, match=r"^crossbar_adc_bits=10: must be at most 9"):
        resolve(compute_dtype="bfloat16", crossbar_adc_bits=10)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", ""),
        ("--algorithm=hic --dataset=mnist --preset=ideal", "preset=ideal"),
        (
            "--crossbar_adc_bits=6 --pcm_g_max=12 --hic_lsb_bits=6 --epochs=2",
            "epochs=2 hic_lsb_bits=6 pcm_g_max=12.0 crossbar_adc_bits=6",
        ),
    ],
)
def test_what_was_given_is_said_and_what_follows_is_not(parse, given, said):
    assert sorted(config.changed_flags(parse(*given.split()))) == sorted(said.split())


# ---- What an algorithm uses


def test_what_is_stored_is_what_the_algorithm_uses():
    digital, analog = (_stored(resolve(algorithm=name)) for name in ("fp32", "hic"))
    assert list(digital) == ["train", "network", "recipe"]
    assert list(analog) == [
        "train", "network", "recipe", "analog", "hardware", "spec", "crossbar",
    ]  # fmt: skip
    for stored in (digital, analog):
        assert Config.from_dict(stored).to_dict() == stored


def test_parts_that_do_not_belong_to_the_algorithm_are_refused():
    digital, analog = resolve(algorithm="fp32"), resolve()
    with pytest.raises(ValueError, match=r"^spec=HICSpec.*None, without devices"):
        dataclasses.replace(digital, spec=analog.spec)
    with pytest.raises(
        ValueError, match=r"^crossbar=None: must be given, with .*'hic'"
    ):
        dataclasses.replace(analog, crossbar=None)
    with pytest.raises(
        ValueError, match=r"^spec=MultilevelSpec.* must be of type HICSpec"
    ):
        dataclasses.replace(analog, spec=analog.spec.multilevel)
    with pytest.raises(ValueError, match=r"^spec: must not be there, .*'fp32'"):
        Config.from_dict(_stored(digital) | {"spec": _stored(analog)["spec"]})
    with pytest.raises(ValueError, match=r"^recipe\.dropout: must not be there"):
        Config.from_dict(_stored(digital) | {"recipe": {"dropout": 0.5}})


@pytest.mark.parametrize(
    "flag",
    [
        "hic_lsb_bits=6",
        "analog_learning_rate=0.1",
        "preset=ideal",
        "pcm_g_max=12.0",
        "binary_stuck_set=0.5",
        "digital_layers=stem",
        "crossbar_adc_bits=6",
    ],
)
def test_flags_of_another_algorithm_are_refused(parse, flag):
    told = f"--{flag}: must not be given with algorithm=fp32, .*; needs algorithm=hic"
    with pytest.raises(ValueError, match=told):
        parse("--algorithm=fp32", f"--{flag}")


def test_changed_leaves_the_rest_as_it_is():
    before = resolve(preset="linear_noisy", pcm_drift_nu_std=0.25, augmentation="none")
    after = changed(before, seed=3, hic_lsb_bits=6, pcm_g_max=12.0)
    assert differences(_stored(before), _stored(after)) == [
        "train.seed: 0 != 3",
        f"spec.multilevel.g_max: {before.spec.multilevel.g_max} != 12.0",
        "spec.lsb_bits: 7 != 6",
    ]
    with pytest.raises(ValueError, match=r"^hic_lsb_bits=1: must be in \[2, 8\]"):
        changed(before, hic_lsb_bits=1)
    with pytest.raises(ValueError, match=r"^lsb_bits=6: must be a flag of the config"):
        changed(before, lsb_bits=6)
    with pytest.raises(ValueError, match=r"^preset=ideal: must stay linear_noisy"):
        changed(before, preset="ideal")


# ---- Algorithms and devices of others


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leaky(pcm.MultilevelSpec):
    """A device with a constant of its own.

    Attributes:
      leak: share that is lost in a step.
    """

    leak: float = 0.25


@dataclasses.dataclass(frozen=True, kw_only=True)
class Toy(HICSpec):
    """A rule with fields of its own.

    Attributes:
      rounds: how often it is done, 1 to 3.
    """

    rounds: int = 2
    order: Literal["up", "down"] = "up"

    def __post_init__(self):
        super().__post_init__()
        checks.integer("rounds", self.rounds, 1, 3)


@pytest.fixture
def registered(monkeypatch):
    """An algorithm and a device that nothing else knows."""
    monkeypatch.setitem(recipes.ALGORITHMS, "toy", Toy)
    constants = dataclasses.asdict(pcm.linear_noisy())
    monkeypatch.setitem(
        pcm.PRESETS, "leaky", lambda: Leaky(**constants | {"name": "leaky"})
    )


def test_what_is_registered_has_flags_and_help(registered, parse):
    helps = {name: flags.FLAGS[name].help for name in config_flags.flag_names()}
    assert helps["toy_rounds"] == "How often it is done, 1 to 3. (default 2)"
    assert helps["toy_lsb_bits"] == helps["hic_lsb_bits"]
    assert helps["toy_order"] == "Field order of Toy. (one of up, down; default up)"
    assert helps["pcm_leak"].endswith("in a step. (default 0.25 with leaky)")
    assert "toy" in helps["algorithm"].split(";")[-2]
    made = parse(
        "--algorithm=toy", "--toy_rounds=3", "--preset=leaky", "--pcm_leak=0.5"
    )
    assert (made.spec.rounds, made.spec.multilevel.leak) == (3, 0.5)
    assert type(made.spec.multilevel) is Leaky
    assert sorted(config.changed_flags(made)) == [
        "pcm_leak=0.5", "preset=leaky", "toy_rounds=3",
    ]  # fmt: skip
    assert Config.from_dict(_stored(made)) == made


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--algorithm=toy --toy_rounds=4", r"^--toy_rounds=4: must be in \[1, 3\]"),
        ("--toy_rounds=1", "^--toy_rounds=1: .*algorithm=hic.* needs algorithm=toy$"),
        (
            "--algorithm=toy --hic_lsb_bits=6",
            "^--hic_lsb_bits=6: .* needs algorithm=hic$",
        ),
        ("--pcm_leak=0.5", "^--pcm_leak=0.5: .*preset=nandakumar_2018.* preset=leaky$"),
    ],
)
def test_flags_of_what_was_not_chosen_are_refused(registered, parse, words, told):
    with pytest.raises(ValueError, match=told):
        parse(*words.split())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stuck(HICSpec):
    """A rule whose field, under an unlucky name, has the flag of another."""

    stuck_set: float = 0.0


def test_two_fields_of_one_flag_are_refused(monkeypatch):
    monkeypatch.setitem(recipes.ALGORITHMS, "binary", Stuck)
    with pytest.raises(ValueError, match=r"^algorithm=binary: must have another name"):
        config_flags.flag_names()


def test_a_device_has_the_flags_that_are_of_use_with_it():
    """A two-sided one does without pairs and refreshes; others cannot."""
    found = resolve(preset="ecram", hic_arrangement="pair", pcm_step=0.01).spec
    assert found.arrangement == "pair"
    assert found.multilevel.step == 0.01
    with pytest.raises(ValueError, match=r"hic_arrangement=pair: .*needs preset=reram"):
        resolve(hic_arrangement="pair")
    with pytest.raises(ValueError, match=r"hic_refresh_every=7: .* preset=ecram"):
        resolve(preset="ecram", hic_refresh_every=7)
