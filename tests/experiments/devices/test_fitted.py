"""Files of fitted devices, and runs that hold them."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
from absl import flags

from experiments import config, config_flags
from experiments.config import Config, changed, resolve
from experiments.devices.constants import digits, parameter_rows
from experiments.devices.fitted import MODELS, Fitted, read_device, restored, stored
from experiments.sweep import grid
from hic_jax import HICSpec, pcm
from tests.fitting.measured import TABLE

FAR = dataclasses.replace(
    TABLE,
    name="far",
    g_min=1600.0,
    g_max=2500.0,
    reset_mean=1630.0,
    at=(1600.0, 2000.0, 2500.0),
    up_mean=(3.0, 5.0, 8.0),
)
DEVICES = [
    FAR,
    pcm.nandakumar_2018(drift_nu_std=pcm.nandakumar_2019().drift_nu_std),
    pcm.TwoSidedTableSpec(
        **vars(TABLE), down_mean=(0.1, 0.4, 0.8), down_std=(0.1, 0.2, 0.3)
    ),
    pcm.reram_om(),
    pcm.reram_2018(),
]


pytestmark = pytest.mark.usefixtures("one_block")


@pytest.fixture
def parse():
    """Turns words of a command line into a configuration."""
    before = set(flags.FLAGS)
    config_flags.define_flags()
    grid.define_flags()

    def parse(*words):
        flags.FLAGS(["train", *words])
        return config_flags.from_flags()

    yield parse
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


def write(path, device):
    path.write_text(json.dumps({"device": stored(device)}))
    return path


@pytest.mark.parametrize("device", DEVICES, ids=[type(d).__name__ for d in DEVICES])
def test_a_device_comes_back_from_its_file(tmp_path, device):
    assert read_device(str(write(tmp_path / "x.json", device))).device == device
    assert {type(d) for d in DEVICES} == set(MODELS.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "tabel"}, "model='tabel': must be one of .* 'table'"),
        ({"g_max": None}, "g_max=None: must be a finite number"),
        ({"g_min": 5000.0}, "g_max=2500.0: must be greater than 5000.0"),
        ({"colour": 3}, "colour: must not be there, with table"),
        ({"up_mean": [1.0]}, "up_mean=.*: must be 3 numbers"),
        ({"at": [3.0, 2.0, 1.0]}, "at=.*rising"),
        ({"name": 3}, "name=3: must be a text"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path, change, message):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"device": {**stored(FAR), **change}}))
    with pytest.raises(ValueError, match=f"^must be a file of .*: {message}"):
        read_device(str(path))
    fields = stored(FAR)
    del fields["at"]
    with pytest.raises(ValueError, match="at"):
        restored(fields)
    for text in ("", "[]", "{}", '{"device": 3}'):
        path.write_text(text)
        with pytest.raises(
            ValueError, match=r"^must be a file of experiments\.fit_device: "
        ):
            read_device(str(path))
    with pytest.raises(ValueError, match="No such file"):
        read_device(str(tmp_path / "none.json"))


def test_a_run_holds_all_of_its_device(tmp_path, parse):
    made = parse(f"--device={write(tmp_path / 'far.json', FAR)}", "--pcm_g_max=2600")
    assert made.spec.multilevel == dataclasses.replace(FAR, g_max=2600.0)
    kept = json.loads(made.to_json())
    (tmp_path / "far.json").unlink()
    again = Config.from_dict(kept)
    assert again == made
    assert again.hardware.preset.device == FAR
    name = str(Fitted(FAR))
    assert name.startswith("far@")
    assert config.changed_flags(again) == [f"preset={name}", "pcm_g_max=2600.0"]
    assert changed(again, epochs=3).spec == made.spec
    assert pickle.loads(pickle.dumps(again)) == again
    # A device of other constants is another one, whatever it is called.
    assert Fitted(dataclasses.replace(FAR, reset_std=0.3)) != name


def test_thresholds_follow_from_the_device_and_flags_change_them(tmp_path, parse):
    spec = parse(f"--device={write(tmp_path / 'far.json', FAR)}").spec
    assert spec == HICSpec.suited_to(FAR)
    gained = FAR.mean_trajectory(255) - FAR.reset_mean
    assert gained[spec.refresh_pulses - 1] < 0.9 * gained[-1]
    assert FAR.reset_mean < spec.refresh_common < spec.refresh_above < FAR.g_max
    assert 0.2 < (spec.refresh_above - FAR.reset_mean) / spec.reach < 0.3
    given = parse(f"--device={tmp_path / 'far.json'}", "--hic_refresh_above=1800")
    assert given.spec == dataclasses.replace(spec, refresh_above=1800.0)
    # What suits the device of the presets are its usual values, nearly.
    usual, suited = HICSpec(), HICSpec.suited_to(pcm.nandakumar_2018())
    assert suited.multilevel_bits == usual.multilevel_bits
    assert suited.refresh_pulses == pytest.approx(usual.refresh_pulses, abs=1)
    for name in ("refresh_above", "refresh_common"):
        assert getattr(suited, name) == pytest.approx(getattr(usual, name), rel=0.03)
    assert resolve().spec.refresh_above == 2.5


def test_a_device_takes_the_place_of_a_preset(tmp_path, parse):
    path = write(tmp_path / "far.json", FAR)
    with pytest.raises(ValueError, match=r"--device=far\.json: must not be .* preset"):
        parse(f"--device={path}", "--preset=ideal")


def test_constants_that_a_device_lacks_are_refused(tmp_path, parse):
    path = write(tmp_path / "far.json", FAR)
    with pytest.raises(ValueError, match=r"--pcm_step_offset=1\.0: must not be given"):
        parse(f"--device={path}", "--pcm_step_offset=1")


def test_a_flag_says_what_is_wrong_with_the_file(tmp_path, parse):
    path = tmp_path / "x.json"
    path.write_text('{"device": {"model": "table"}}')
    with pytest.raises(flags.IllegalFlagValueError, match=r"x\.json: must be .* name="):
        parse(f"--device={path}")


def test_devices_of_a_sweep_may_be_files(tmp_path, parse):
    path = write(tmp_path / "far.json", FAR)
    parse(f"--devices=ideal,{path}", "--channel_plan=one_block")
    axes = grid.axes_from_flags()
    assert axes["preset"] == ["ideal", Fitted(FAR)]
    (run,) = grid.runs_of(axes | {"preset": axes["preset"][1:]})
    assert run.config.spec.multilevel == FAR
    assert "far_" in run.name
    assert json.loads(json.dumps(run.swept))["preset"] == Fitted(FAR)


def test_constants_have_their_units_and_errors():
    errors = {"up_mean": np.array([0.01, 0.02, np.nan]), "reset_mean": 1.3}
    rows = {row.field: row for row in parameter_rows(FAR, errors)}
    assert rows["up_mean[2]"][1:] == ("5.000", "0.020", "uS")
    assert rows["up_mean[3]"][1:] == ("8", "not told", "uS")
    assert rows["reset_mean"][1:] == ("1630.0", "1.3", "uS")
    assert rows["read_slope"].unit == "uS per uS"
    assert rows["drift_t0"].unit == "s"
    assert digits(0.012345, 0.00067) == "0.01235"
