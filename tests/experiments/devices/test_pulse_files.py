"""Files of measured trains: what they say, and what is refused, by line and column."""

import dataclasses

import numpy as np
import pytest

from experiments.devices.pulse_files import read_trains
from tests.experiments.devices.files import lines

USUAL = {"unit": "uS", "scale": 1.0, "g_max": 20.0, "columns": "ramps"}
RISING = [f"{0.1 * i + 1:.2f},{0.2 * i + 1:.2f}" for i in range(15)]


def read(data, down=None, **given):
    down = None if down is None else str(down)
    return read_trains(str(data), down, **{**USUAL, **given})


def test_a_column_is_a_ramp_that_may_end_early(tmp_path):
    path = lines(tmp_path / "a.csv", "first,second", *RISING, "9.0,", "10.0,")
    found = read(path, unit="S", scale=0.05)
    trains = found.trains
    assert trains.g.shape == (2, 17)
    np.testing.assert_allclose(trains.g[0, [0, -1]], [0.5e5, 5e5])
    assert np.isfinite(trains.g[1]).sum() == 15
    assert trains.pulses == 16 + 14
    assert (trains.devices, trains.two_sided) == (1, False)
    assert trains.from_reset.all()
    assert found.files["data"]["name"] == "a.csv"
    assert read(path, columns="devices").trains.devices == 2
    assert found.said == []


def test_a_line_is_a_pulse_of_a_device_either_way(tmp_path):
    up = [f"a,{i},{1 + 0.1 * i:.2f},up" for i in range(12)]
    down = [f"a,{12 + i},{2 - 0.1 * i:.2f},down" for i in range(5)]
    other = [f"b,{i},{2 + 0.1 * i:.2f},up" for i in range(8)]
    again = [f"b,{i},{1 + 0.1 * i:.2f},up" for i in range(4)]
    path = lines(
        tmp_path / "a.csv", "Device,pulse,conductance,direction",
        *up, *down, *other, *again,
    )  # fmt: skip
    trains = read(path).trains
    assert np.isfinite(trains.g).sum(axis=1).tolist() == [17, 8, 4]
    assert trains.device.tolist() == [0, 1, 1]
    assert trains.up[0].tolist() == [True] * 11 + [False] * 5
    assert trains.two_sided
    assert not trains.from_reset.any()


def test_ramps_down_have_a_file_of_their_own(tmp_path):
    up = lines(tmp_path / "up.csv", "a,b", *RISING)
    down = lines(tmp_path / "down.csv", *RISING[::-1])
    found = read(up, down)
    assert found.trains.up[:, 0].tolist() == [True, True, False, False]
    assert set(found.files) == {"data", "down"}
    assert "down.csv has no line of names" in found.said[0]


def test_normalised_values_are_mapped_and_that_is_said(tmp_path):
    path = lines(tmp_path / "a.csv", "a", *(f"{x:.2f}" for x in np.linspace(-1, 3, 25)))
    found = read(path, unit="normalised", g_max=40.0)
    assert found.trains.range == (0.0, 40.0)
    assert found.said == [
        "normalised values: -1 to 3 are taken for 0 to 40 uS, of a nominal range of 40 "
        "uS (--g_max)"
    ]
    down = lines(tmp_path / "b.csv", "a", *(f"{x:.2f}" for x in np.linspace(2, -1, 9)))
    both = read(path, down, unit="normalised", g_max=40.0)
    assert both.trains.range == (10.0, 30.0)


@pytest.mark.parametrize(
    ("texts", "given", "message"),
    [
        ([""], {}, "must not be empty"),
        (["a,b"], {}, "must have lines below"),
        (["a,b", "1,2", "2,x", "3,4"], {}, "column b, line 3: must be a finite.*'x'"),
        (["a,b", "1,2", "2,nan", "3,4"], {}, "column b, line 3: must be a finite"),
        (["a,b", "1,2", ",3", "3,4"], {}, "column a, line 3: is empty, but values"),
        (["a,b", "1,2", "2,3,4"], {}, "line 3: must have 2 columns.*has 3"),
        (["a,b", "1,", "2,", "3,"], {}, "column b: must not be empty"),
        (["a,b", "1,2", "2,3"], {}, "column a: must have at least 3 values; has 2"),
        (["a,b", "1,2", "2,-3", "3,4"], {}, "column b, line 3: .* above zero; is -3"),
        (["a,b", "1,0", "2,3", "3,4"], {}, "column b, line 2: .* above zero; is 0"),
        (["a,b", "1,5", "2,4", "3,3"], {}, "column b: must rise.* 5 to 3.*--down"),
        (["a,b", *RISING], {"unit": "S", "scale": 10}, "unit=S: must be another one"),
        (["a,b", *RISING], {"scale": 1e-4}, "unit=uS: must be another one.*0.01 to"),
        (["a", "1", "2", "3"], {}, "must hold at least 20 pulses; has 2"),
        (["device,pulse,g", "a,1,2"], {}, "line 1: lacks conductance"),
        (
            ["device,pulse,conductance", "a,1,2", "a,2,3", "a,3,?"],
            {},
            "line 4, column conductance: must be a finite number; is '.'",
        ),
        (
            ["device,pulse,conductance", "a,1,2", "a,2,3", "a,3,-4"],
            {},
            "line 4: conductance must be above zero; is -4",
        ),
        (
            ["device,pulse,conductance,direction", "a,1,2,up", "a,2,3,left"],
            {},
            "line 3, column direction: must be up or down; is 'left'",
        ),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, texts, given, message):
    path = lines(tmp_path / "a.csv", *texts)
    with pytest.raises(ValueError, match=f"data=.*{message}|{message}"):
        read(path, **given)


def test_the_first_ramps_of_each_device_are_trained_on(tmp_path):
    names = ",".join("abcdefghij")
    path = lines(tmp_path / "a.csv", names, *(",".join([row] * 5) for row in RISING))
    trains = read(path).trains
    kept = np.isfinite(trains.training(0.7).g).any(axis=1)
    assert kept.tolist() == [True] * 7 + [False] * 3
    # Of few ramps seven of ten values.
    few = dataclasses.replace(
        trains,
        **{f.name: getattr(trains, f.name)[:2] for f in dataclasses.fields(trains)},
    )
    kept = np.isfinite(few.training(0.7).g[0])
    assert kept.tolist() == [True] * 7 + [False] * 3 + [True] * 5
