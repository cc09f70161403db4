"""Run folders: found, read, and never pooled with what they do not belong to."""

import json
import shlex

import pytest
from absl import flags

from experiments import config_flags
from experiments.config import resolve
from experiments.report import groups, making, runs
from tests.experiments.report.conftest import SUMMARY

FIELD = {"trained": "runs/a", "step": 3, "seconds": 3600.0, "shift": "none"}


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


def test_a_run_is_read_in_the_units_of_the_report(write, read):
    row = {"time": 25.0, "compensation": "none", "accuracies": [0.9]}
    rows = [row, row | {"without": ["read_noise"]}]
    folder = write("a", SUMMARY | {"drift": rows}, width=0.5, seed=3, epochs_done=30)
    (run,) = read(folder)
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
        "empty": "lacks algorithm",
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


def test_the_command_of_a_run_makes_its_configuration(write, read):
    """Parsed again, the flags give what is stored."""
    fields = {"preset": "linear_noisy", "width": 0.5, "converters": False, "seed": 2}
    fields |= {
        "hic_lsb_bits": 6,
        "pcm_g_max": 12.0,
        "binary_stuck_set": 0.01,
        "crossbar_adc_bits": 6,
        "hic_track_wear": False,
    }
    (run,) = read(write("with space", digital_layers="", **fields))
    words = shlex.split(making.training_command(run))
    assert words[:4] == [
        "python",
        "-m",
        "experiments.train",
        f"--workdir={run['folder']}",
    ]
    before = set(flags.FLAGS)
    config_flags.define_flags()
    try:
        flags.FLAGS(["train", *words[4:]])
        assert config_flags.from_flags() == resolve(**fields)
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)
    assert len(words) == 4 + len(fields)


def test_commands_of_readings(write, read):
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
    (run,) = read(write("a", SUMMARY | {"drift": rows}))
    what = "--times=25,31536000 --chips=3 --compensations=none,adabs"
    start = f"python -m experiments.drift --workdir={run['folder']}"
    assert making.drift_commands(run) == [
        f"{start} {what}",
        f"{start} --deploy=hermes_1 {what}",
    ]


def test_an_ideal_reference_is_another_compensation(write, read):
    rows = [
        {"time": 25.0, "compensation": name, "accuracies": [0.9], "devices": "trained",
         "ideal_reference": True}
        for name in ("none", "gdc")
    ]  # fmt: skip
    (run,) = read(write("a", SUMMARY | {"drift": rows}))
    names = [row["compensation"] for row in run["drift"]]
    assert names == ["none", "gdc, ideal reference"]
    (command,) = making.drift_commands(run)
    assert command.endswith("--compensations=none,gdc --ideal_reference")


@pytest.mark.parametrize("name", ["preset", "algorithm"])
def test_what_this_version_does_not_know_is_reported_with_all_its_flags(
    write, read, name
):
    """A device, or an algorithm, of another version or of a user's file."""
    folder = write("a", stored={name: "of the future"})
    (run,) = read(folder)
    assert (run["config"][name], run["on_devices"]) == ("of the future", True)
    words = shlex.split(making.training_command(run))
    assert f"--{name}=of the future" in words
    own = "hic" if name == "preset" else "of the future"
    assert f"--{own}_lsb_bits=7" in words and "--batch_size=100" in words


def test_fields_of_devices_are_told_from_the_others(write, read):
    digital, analog = read(write("a", algorithm="fp32"), write("b"))
    assert digital["of_devices"] == frozenset()
    assert analog["of_devices"] == set(analog["config"]) - set(digital["config"])
    folder = write("c", stored={"field_of_another_version": 3}, seed=1)
    (other,) = read(folder)
    assert "field_of_another_version" in set(other["config"]) - other["of_devices"]


def test_a_network_rounded_afterwards_stands_beside_itself(write, read):
    after = {
        "int8": {"test_accuracy": 0.89, "inference_bits": 24_000},
        "int4": {"test_accuracy": 0.7, "inference_bits": 16_000},
    }
    folder = write("fp32", SUMMARY | {"post_training": after}, algorithm="fp32")
    exact, *rounded = read(folder)
    assert (exact["accuracy"], exact["size_kb"], exact["rounded"]) == (90, 10, False)
    found = [
        (r["algorithm"], r["accuracy"], r["size_kb"], r["rounded"]) for r in rounded
    ]
    assert found == [("int8", 89, 3, True), ("int4", 70, 2, True)]
    (group,) = groups.group([exact, *rounded, *read(write("hic"))])
    assert [r.name for r in group.recipes] == [
        "FP32", "HIC", "FP32 rounded to int8", "FP32 rounded to int4",
    ]  # fmt: skip


def test_a_digital_network_of_few_bits_is_an_algorithm_of_its_own(write, read):
    folders = [
        write("fp32", algorithm="fp32"),
        write("int4", algorithm="fp32", kernel_bits=4),
        write("hic"),
    ]
    (group,) = groups.group(read(*folders))
    assert [(r.name, r.on_devices) for r in group.recipes] == [
        ("FP32", False), ("HIC", True), ("int4 in training", False),
    ]  # fmt: skip
