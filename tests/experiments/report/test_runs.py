"""Run folders: found, read, and never pooled with what they do not belong to."""

import dataclasses
import json
import shlex

import pytest
from absl import flags

from experiments import config as config_lib
from experiments.config import TrainConfig, resolve
from experiments.report import making, runs

SUMMARY = {"test_accuracy": 0.9, "inference_bits": 80_000, "write_erase_cycles": None}
FIELD = {"trained": "runs/a", "step": 3, "seconds": 3600.0, "shift": "none"}


@pytest.fixture
def write(tmp_path):
    """Writes a run folder with a configuration and returns its path."""

    def write(name, summary=SUMMARY, overrides=None, epochs_done=None, **fields):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        stored = resolve(TrainConfig(**fields), overrides)
        (folder / "config.json").write_text(stored.to_json())
        if summary is not None:
            (folder / "summary.json").write_text(json.dumps(summary))
        if epochs_done is not None:
            row = json.dumps({"step": 1, "epoch": epochs_done, "loss": 1.0})
            (folder / "metrics.jsonl").write_text(f"{row}\n")
        return folder

    return write


def _read(*folders):
    found, left_out = runs.read_all(folders)
    assert left_out == {}
    return found


def test_runs_are_found_two_levels_deep_and_once(tmp_path, write):
    a, b, c = (write(name) for name in ("a", "sweep/b", "sweep/c"))
    write("sweep/c/checkpoints")  # What lies in a run is no other run.
    write("sweep/deep/deeper/still/d")
    assert runs.find([tmp_path]) == [a, b, c]
    assert runs.find([b, tmp_path, str(b)]) == [b, a, c]
    for path, error in ((tmp_path / "no", "not a folder"), (c / "x", "holds no run")):
        if error != "not a folder":
            path.mkdir()
        with pytest.raises(ValueError, match=f"runs={path}: .*{error}"):
            runs.find([a, path])
    with pytest.raises(ValueError, match="runs=: must name"):
        runs.find([])


def test_a_run_is_read_in_the_units_of_the_report(write):
    row = {"time": 25.0, "compensation": "none", "accuracies": [0.9]}
    rows = [row, row | {"without": ["read_noise"]}]
    folder = write("a", SUMMARY | {"drift": rows}, width=0.5, seed=3, epochs_done=30)
    (run,) = _read(folder)
    assert (run["accuracy"], run["size_kb"]) == (90.0, 10.0)
    assert (run["algorithm"], run["width"], run["seed"]) == ("hic", 0.5, 3)
    assert run["drift"] == [row | {"devices": "trained", "ideal_reference": False}]


def test_what_cannot_be_reported_is_left_out_with_its_reason(tmp_path, write):
    folders = [
        write("no-summary", None),
        write("only-drift", {"drift": []}),
        write("stopped", epochs=4, epochs_done=1.5),
        write("old", SUMMARY | {"steps": 0}, epochs=1, epochs_done=1),
        write("field", SUMMARY | {"field": FIELD}),
        write("maker", seed=2),
        write("first", seed=1),
        write("again", seed=1, data_dir="elsewhere"),
    ]
    (folders[5] / "provenance.json").write_text("[{}]")
    for name, text in (("broken", "{"), ("list", "[]"), ("empty", "{}")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)
        (tmp_path / name / "summary.json").write_text("{}")
        folders.append(tmp_path / name)
    found, left_out = runs.read_all(folders)
    assert [run["folder"] for run in found] == [str(tmp_path / "first")]
    reasons = {folder.rsplit("/")[-1]: why for folder, why in left_out.items()}
    for name, part in {
        "no-summary": "no summary.json",
        "only-drift": "lacks test_accuracy",
        "stopped": "stopped after 1.5 of 4 epochs",
        "old": "was summarised at step 0, and trained on",
        "field": "learnt in the field",
        "maker": "provenance.json: an entry lacks its date",
        "again": f"configuration and the seed of {tmp_path / 'first'}",
        "broken": "config.json: ",
        "list": "must have type=object",
        "empty": "lacks train.algorithm",
    }.items():
        assert part in reasons[name]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"test_accuracy": None}, "test_accuracy=None: must have type=number"),
        ({"test_accuracy": 1.5}, "test_accuracy=1.5: must have maximum=1"),
        ({"inference_bits": "80"}, "inference_bits='80': must have type=integer"),
        ({"drift": [{"time": 25.0}]}, "lacks drift[0].compensation"),
        ({"write_erase_cycles": {"multilevel": {}}}, "lacks write_erase_cycles."),
        ({"operations": {"arrays": {"a": None}}}, "operations.arrays.a=None: must"),
        ({"energy": 5}, "energy=5: must have type=object"),
    ],
)
def test_a_damaged_field_is_named_and_the_others_are_reported(write, damage, reason):
    folders = [write(str(seed), seed=seed) for seed in range(3)]
    (folders[1] / "summary.json").write_text(json.dumps(SUMMARY | damage))
    found, left_out = runs.read_all(folders)
    assert [run["seed"] for run in found] == [0, 2]
    assert list(left_out) == [str(folders[1])]
    assert f"summary.json: {reason}" in left_out[str(folders[1])]


def test_widths_and_seeds_of_one_recipe_are_one_group(write):
    folders = [
        write(
            f"{algorithm}-{width}-{seed}", algorithm=algorithm, width=width, seed=seed
        )
        for algorithm in ("fp32", "hic")
        for width in (0.5, 1.0)
        for seed in (0, 1)
    ]
    (group,) = runs.group(_read(*folders))
    assert (len(group.fp32), len(group.hic)) == (4, 4)
    assert group.title == "digits, ResNet-8, 30 epochs"
    assert (group.distinction, group.unequal) == ("", [])


@pytest.mark.parametrize(
    "other",
    [
        {"dataset": "mnist"},
        {"depth": 14},
        {"epochs": 3},
        {"channel_plan": "textbook"},
        {"shift": "rotate"},
    ],
)
def test_tasks_are_never_pooled(write, other):
    folders = [
        write("a"), write("b", algorithm="fp32"),
        write("c", **other), write("d", algorithm="fp32", **other),
    ]  # fmt: skip
    groups = runs.group(_read(*folders))
    assert [(len(g.fp32), len(g.hic)) for g in groups] == [(1, 1), (1, 1)]
    assert groups[0].title != groups[1].title


def test_each_recipe_of_hic_meets_the_same_fp32(write):
    folders = [
        write("fp32", algorithm="fp32"),
        write("hic"),
        write("coarse", overrides={"lsb_bits": 6}),
        write("exact", converters=False),
    ]
    groups = runs.group(_read(*folders))
    assert [len(g.hic) for g in groups] == [1, 1, 1]
    assert {g.fp32[0]["folder"] for g in groups} == {str(folders[0])}
    assert groups[1].distinction == "HIC with converters=True, lsb_bits=6"
    assert groups[2].distinction == "HIC with converters=False, lsb_bits=7"


def test_analog_fields_mean_nothing_to_fp32(write):
    folders = [
        write("a", algorithm="fp32", analog_learning_rate=0.1, seed=0),
        write("b", algorithm="fp32", overrides={"lsb_bits": 6}, seed=1),
    ]
    (group,) = runs.group(_read(*folders))
    assert len(group.fp32) == 2


def test_fp32_of_equal_digital_fields_goes_first(write):
    folders = [
        write("hic", learning_rate=0.1),
        write("same", algorithm="fp32", learning_rate=0.1),
        write("other", algorithm="fp32", learning_rate=0.3),
    ]
    pair, alone = runs.group(_read(*folders))
    assert [run["folder"] for run in pair.runs] == [str(folders[1]), str(folders[0])]
    assert (len(alone.fp32), len(alone.hic)) == (1, 0)
    assert alone.distinction == "FP32 with learning_rate=0.3"
    (unequal,) = runs.group(_read(folders[0], folders[2]))
    assert unequal.unequal == ["learning_rate: FP32 0.3, HIC 0.1"]


def test_a_field_that_one_side_did_not_store_is_unequal(write):
    hic, fp32 = write("hic"), write("fp32", algorithm="fp32")
    for name in ("shift", "warmup"):
        stored = json.loads((fp32 / "config.json").read_text())
        del stored["train"][name]
        (fp32 / "config.json").write_text(json.dumps(stored))
    (group,) = runs.group(_read(hic, fp32))  # There were no shifts.
    assert group.unequal == [
        "shift: FP32 not stored, HIC none",
        "warmup: FP32 not stored, HIC 0.05",
    ]


def test_fields_in_which_runs_differ(write):
    old = write("old", seed=1)
    stored = json.loads((old / "config.json").read_text())
    del stored["crossbar"]["adc_bits"]
    (old / "config.json").write_text(json.dumps(stored))
    fp32 = write("fp32", algorithm="fp32", overrides={"lsb_bits": 5})
    found = _read(write("a", overrides={"lsb_bits": 6}), old, fp32)
    assert dict(runs.differing_fields(found)) == {
        "algorithm": [("fp32", 1), ("hic", 2)],
        "seed": [("0", 2), ("1", 1)],
        "lsb_bits": [("6", 1), ("7", 1)],
        "crossbar_adc_bits": [("8", 1), ("not stored", 1)],
    }
    assert len(runs.group(found)) == 2


def test_the_command_of_a_run_makes_its_configuration(write):
    """Parsed again, the flags give what is stored."""
    fields = {"preset": "linear_noisy", "width": 0.5, "converters": False, "seed": 2}
    overrides = {
        "lsb_bits": 6,
        "pcm_g_max": 12.0,
        "binary_stuck_set": 0.01,
        "crossbar_adc_bits": 6,
        "track_wear": False,
    }
    (run,) = _read(
        write("with space", overrides=overrides, digital_layers="", **fields)
    )
    words = shlex.split(making.training_command(run))
    assert words[:4] == [
        "python",
        "-m",
        "experiments.train",
        f"--workdir={run['folder']}",
    ]
    before = set(flags.FLAGS)
    config_lib.define_flags()
    try:
        flags.FLAGS(["train", *words[4:]])
        assert config_lib.from_flags() == resolve(TrainConfig(**fields), overrides)
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)
    assert len(words) == 4 + len(fields) + len(overrides)


def test_commands_of_readings(write):
    rows = [
        {
            "time": time,
            "compensation": name,
            "accuracies": [0.9] * 3,
            "devices": devices,
        }
        for devices in ("trained", "hermes_1")
        for time in (25.0, 31_536_000.0)
        for name in ("none", "adabs")
    ]
    (run,) = _read(write("a", SUMMARY | {"drift": rows}))
    what = "--times=25,31536000 --chips=3 --compensations=none,adabs"
    start = f"python -m experiments.drift --workdir={run['folder']}"
    assert making.drift_commands(run) == [
        f"{start} {what}",
        f"{start} --deploy=hermes_1 {what}",
    ]


def test_an_ideal_reference_is_another_compensation(write):
    rows = [
        {"time": 25.0, "compensation": name, "accuracies": [0.9], "devices": "trained",
         "ideal_reference": True}
        for name in ("none", "gdc")
    ]  # fmt: skip
    (run,) = _read(write("a", SUMMARY | {"drift": rows}))
    names = [row["compensation"] for row in run["drift"]]
    assert names == ["none", "gdc, ideal reference"]
    (command,) = making.drift_commands(run)
    assert command.endswith("--compensations=none,gdc --ideal_reference")


def test_a_preset_of_another_version_is_left_out(write):
    folder = write("a")
    stored = json.loads((folder / "config.json").read_text())
    stored["train"]["preset"] = "future"
    (folder / "config.json").write_text(json.dumps(stored))
    _, left_out = runs.read_all([folder])
    assert "preset='future'" in left_out[str(folder)]


def test_every_field_of_the_devices_is_told_from_the_others():
    """A new field of the configuration must be put on one of both sides."""
    digital = {
        "algorithm", "dataset", "data_dir", "depth", "width", "channel_plan", "epochs",
        "batch_size", "learning_rate", "schedule", "warmup", "momentum", "weight_decay",
        "label_smoothing", "augmentation", "shift", "compute_dtype", "seed",
    }  # fmt: skip
    names = {field.name for field in dataclasses.fields(TrainConfig)}
    assert {n for n in names if not f"train.{n}".startswith(runs.DEVICES)} == digital
