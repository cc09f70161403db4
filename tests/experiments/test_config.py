"""Configurations: a flag for every field, and what is stored is what runs."""

import dataclasses
import json

import pytest
from absl import flags

from experiments import config
from experiments.config import Config, TrainConfig, differences, resolve
from hic_jax import HICSpec, pcm

# Flags whose other value does not follow from the default.
WORDS = {
    "crossbar_adc_range": "fixed",
    "crossbar_dac_range": "running",
    "digital_layers": "stem,head",
    "algorithm": "fp32",
    "dataset": "mnist",
    "data_dir": "/data",
    "channel_plan": "textbook",
    "compute_dtype": "bfloat16",
    "schedule": "staircase",
    "augmentation": "none",
    "preset": "ideal",
    "shift": "noise",
    "word_steps": "4",
    "depth": "14",
    "initial_words": "zero",
}
# What these change besides.
CONSEQUENCES = {
    "dataset": {"train.augmentation"},
    "preset": {
        f"spec.multilevel.{field.name}"
        for field in dataclasses.fields(pcm.MultilevelSpec)
    },
}


@pytest.fixture
def parse():
    """Turns words of a command line into a configuration."""
    before = set(flags.FLAGS)
    config.define_flags()

    def parse(*words):
        flags.FLAGS(["train", *words])
        return config.from_flags()

    yield parse
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


def _fields():
    """(flag, path in a configuration, default) of every field."""
    default = resolve(TrainConfig(augmentation="crop"))
    for path, prefix, part in (
        ("train", "", default.train),
        ("spec", "", default.spec),
        ("spec.multilevel", "pcm_", default.spec.multilevel),
        ("spec.binary", "binary_", default.spec.binary),
        ("crossbar", "crossbar_", default.crossbar),
    ):
        for field in dataclasses.fields(part):
            if field.name not in ("multilevel", "binary", "name", "source"):
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
    default, changed = parse(), parse(_other(flag, value))
    names = {line.split(":")[0] for line in differences(_stored(changed), default)}
    assert path in names
    assert names <= {path} | CONSEQUENCES.get(flag, set())


def test_without_flags_nothing_is_left_open(parse):
    assert parse() == resolve(TrainConfig())
    assert parse().train.augmentation == "crop"
    assert parse("--dataset=cifar10").train.augmentation == "crop_flip"


@pytest.mark.parametrize("algorithm", ["fp32", "hic"])
def test_each_algorithm_has_learning_rates(algorithm):
    train = resolve(TrainConfig(algorithm=algorithm)).train
    assert train.learning_rate > 0
    assert train.analog_learning_rate > 0


@pytest.mark.parametrize(
    ("preset", "spread"),
    [("nandakumar_2018", 0.008), ("linear_noisy", 0.008), ("ideal", 0.0)],
)
def test_chips_of_a_device_that_drifts_have_a_spread(preset, spread):
    spec = resolve(TrainConfig(preset=preset)).spec
    assert spec.multilevel == dataclasses.replace(
        pcm.preset(preset), drift_nu_std=spread
    )
    given = resolve(TrainConfig(preset=preset), {"pcm_drift_nu_std": 0.25}).spec
    assert given.multilevel.drift_nu_std == 0.25


def test_what_is_given_goes_before_preset_and_defaults():
    overrides = {"lsb_bits": 5, "pcm_g_max": 12.0, "binary_stuck_set": 0.25}
    spec = resolve(TrainConfig(preset="linear_noisy"), overrides).spec
    device = pcm.linear_noisy(drift_nu_std=0.008)
    assert spec == HICSpec(
        multilevel=dataclasses.replace(device, g_max=12.0),
        binary=pcm.BinarySpec(stuck_set=0.25),
        lsb_bits=5,
    )


def _stored(config):
    return json.loads(config.to_json())


def test_json_round_trip():
    overrides = {
        "track_wear": False,
        "pcm_step_slope": -0.1,
        "binary_stuck_reset": 1e-3,
        "crossbar_adc_bits": 6,
    }
    first = resolve(TrainConfig(data_dir="/data", width=0.1, seed=2**32 - 1), overrides)
    text = first.to_json()
    assert Config.from_json(text) == first
    assert set(json.loads(text)) == {"train", "spec", "crossbar"}
    assert json.loads(text)["spec"]["multilevel"]["step_slope"] == -0.1
    assert json.loads(text)["crossbar"]["adc_bits"] == 6


def test_differences_name_fields_and_both_values():
    first = resolve(TrainConfig(seed=1), {"pcm_g_max": 12.0})
    second = resolve(TrainConfig(seed=2), {"pcm_g_max": 15.0, "binary_stuck_set": 0.5})
    assert differences(_stored(first), second) == [
        "train.seed: 1 != 2",
        "spec.multilevel.g_max: 12.0 != 15.0",
        "spec.binary.stuck_set: 0.0 != 0.5",
    ]
    assert differences(_stored(first), first) == []


def test_fields_of_another_version_are_differences():
    asked = resolve(TrainConfig())
    stored = _stored(asked)
    stored["train"]["dropout"] = 0.5
    del stored["train"]["shift"], stored["crossbar"]
    named = differences(stored, asked)
    assert "train.dropout: 0.5 != (no such field)" in named
    assert "train.shift: (no such field) != 'none'" in named
    assert "crossbar.adc_bits: (no such field) != 8" in named
    assert all(line.startswith(("train.", "crossbar.")) for line in named)


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("algorithm", "hicc", "one of hic, fp32.*mean 'hic'"),
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
        TrainConfig(**{field: value})


def test_converters_whose_codes_bfloat16_cannot_hold():
    train = TrainConfig(compute_dtype="bfloat16")
    resolve(train, {"crossbar_adc_bits": 9})
    with pytest.raises(ValueError, match=r"^crossbar_adc_bits=10: must be at most 9"):
        resolve(train, {"crossbar_adc_bits": 10})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", ""),
        ("--algorithm=fp32 --dataset=mnist --preset=ideal", "preset=ideal"),
        (
            "--crossbar_adc_bits=6 --pcm_g_max=12 --lsb_bits=6 --epochs=2",
            "epochs=2 lsb_bits=6 pcm_g_max=12.0 crossbar_adc_bits=6",
        ),
    ],
)
def test_what_was_given_is_said_and_what_follows_is_not(parse, given, said):
    assert sorted(config.changed_flags(parse(*given.split()))) == sorted(said.split())
