"""The launcher that fits a device to measured trains."""

import json

import numpy as np
import pytest
from absl import flags

from experiments import fit_device
from experiments import launch as launch_lib
from experiments.devices.fitted import read_device
from hic_jax import pcm
from tests.experiments.devices.files import lines, wide
from tests.fitting.measured import TABLE

RAMPS, PULSES = 16, 40


@pytest.fixture
def launch():
    """Runs the launcher with some flags."""
    before = set(flags.FLAGS)
    fit_device.define_flags()

    def launch(*words):
        argv = flags.FLAGS(["fit_device", *map(str, words)])
        launch_lib.told(fit_device.main, argv)

    yield launch
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


def test_a_device_is_written_with_all_that_stands_behind_it(tmp_path, launch, capsys):
    data = wide(tmp_path / "ramps.csv", RAMPS, PULSES)
    out = tmp_path / "mine.json"
    times = np.geomspace(1.0, 1e4, 6)
    traces = (f"{t},{5 * t**-0.04:.6f},{7 * t**-0.06:.6f}" for t in times)
    retention = lines(tmp_path / "age.csv", "s,a,b", *traces)
    launch(
        f"--data={data}", "--unit=uS", "--model=table", f"--out={out}",
        f"--retention={retention}",
    )  # fmt: skip
    device = read_device(str(out)).device
    assert isinstance(device, pcm.TableSpec)
    assert (device.name, device.drift_t0) == ("mine", 1.0)
    assert device.drift_nu == pytest.approx(0.05)
    content = json.loads(out.read_text())
    assert content["measured"]["pulses"] == RAMPS * PULSES
    assert set(content["measured"]["files"]) == {"data", "retention"}
    errors = content["standard_errors"]
    near = abs(device.reset_mean - TABLE.reset_mean)
    assert near < 3 * errors["reset_mean"] < 0.3
    steps = np.interp(device.at, TABLE.at, TABLE.up_mean)
    # Between the places of the table its line bends: a tenth of a step.
    off = abs(np.subtract(device.up_mean, steps))
    assert (off < 3 * np.asarray(errors["up_mean"]) + 0.08).all()
    # Of 30 % of 640 values that are foretold 95 % lie within, give or take 5 %.
    assert content["coverage_of_95_percent"]["next value"] == pytest.approx(
        0.95, abs=0.05
    )
    assert any("end of the range" in line for line in content["assumed"])
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert "chosen" in said
    assert "drift: from age.csv" in said
    assert "read noise: none is seen in the trains; there is none" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--model=soft_bounds"],
            "model=soft_bounds: must be auto or one of nandakumar",
        ),
        (["--drift_from=ideal"], "drift_from=ideal: must be one of nandakumar_2018"),
        (["--scale=0"], "scale=0.0: must be greater than 0"),
        (["--out=x.csv"], r"out=x.csv: must end in \.json"),
        (["--retention=a", "--drift_from=projected"], "drift_from=projected: must not"),
        (["--reads=none.csv"], "reads=none.csv: cannot be read"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, launch, words, message):
    data = wide(tmp_path / "ramps.csv", 4, 10)
    out = tmp_path / "mine.json"
    words = [f"--data={data}", "--unit=uS", f"--out={out}", *words]
    error = SystemExit if "drift_from=ideal" not in str(words) else flags.Error
    with pytest.raises(error, match=message):
        launch(*words)
    assert not out.exists()
