"""Chips in files: read back as they were written, and refused where they do not fit."""

import csv
import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hic_jax
from hic_jax import pcm

# With all that a chip may keep: exponents, slow noise, stuck devices.
SPEC = dataclasses.replace(pcm.hermes_2(), read_spectrum="flicker", stuck_set=0.1)
KEY = jax.random.key(3)
PARAMS = {
    "bias": jnp.ones(4),
    "first": {"kernel": jax.random.normal(jax.random.key(0), (5, 4))},
    # A stack, whose parts are of different sizes and so have scales of their own.
    "stack": {"kernel": jnp.array([1.0, 50.0])[:, None, None] * jnp.ones((2, 3, 2))},
}  # fmt: skip


@pytest.fixture(scope="module")
def chip():
    fresh = hic_jax.deploy(PARAMS, SPEC, KEY, labels=hic_jax.analog_labels)
    assert fresh["stack"]["kernel"].scale.shape == (2, 1, 1)
    return hic_jax.drift(fresh, 1e8 + 1.0)


def _npz(path, changes):
    """Changes the arrays of a file: by name, or takes away what is None."""
    with np.load(path) as file:
        arrays = dict(file) | changes
    np.savez(path, **{k: x for k, x in arrays.items() if x is not None})


@pytest.mark.parametrize("ending", ["npz", "csv"])
def test_a_chip_is_read_as_it_was_written(chip, tmp_path, ending):
    hic_jax.save_chip(tmp_path / f"chip.{ending}", chip)
    again = hic_jax.load_chip(tmp_path / f"chip.{ending}", chip, SPEC)
    # To the last bit, which nine digits tell, too.
    chex.assert_trees_all_equal(again, chip)
    assert jax.tree.structure(again) == jax.tree.structure(chip)
    later = [hic_jax.drift(c, 1.0) for c in (again, chip)]
    chex.assert_trees_all_equal(*(hic_jax.read(c, key=KEY) for c in later))


@pytest.mark.parametrize("ending", ["npz", "csv"])
def test_a_chip_without_exponents_does_not_drift(chip, tmp_path, ending):
    bare = jax.tree.map(
        lambda w: w.replace(nu=None, slow=None), chip,
        is_leaf=lambda x: isinstance(x, hic_jax.DeployedWeight),
    )  # fmt: skip
    hic_jax.save_chip(tmp_path / f"chip.{ending}", bare)
    again = hic_jax.load_chip(tmp_path / f"chip.{ending}", chip, SPEC)
    chex.assert_trees_all_equal(again, bare)
    kernel = hic_jax.read(hic_jax.drift(again, hic_jax.YEAR))["first"]["kernel"]
    g = chip["first"]["kernel"].g
    np.testing.assert_array_equal(kernel, (g[0] - g[1]) / chip["first"]["kernel"].scale)


def test_measured_conductances_are_the_weights(tmp_path):
    """A file of one's own: scale and conductances, in both forms."""
    like = hic_jax.deploy(
        {"kernel": jnp.ones((1, 2))}, SPEC, KEY, labels={"kernel": "analog"}
    )
    g = np.array([[[20.0, 4.0]], [[0.0, 9.0]]])
    np.savez(tmp_path / "mine.npz", **{"kernel/g": g, "kernel/scale": 10})
    lines = "array,weight,g_minus,g_plus,scale\nkernel,1,9,4,10\nkernel,0,0,20.0,10\n"
    (tmp_path / "mine.csv").write_text(lines)
    for name in ("mine.npz", "mine.csv"):
        chip = hic_jax.load_chip(tmp_path / name, like, SPEC)
        np.testing.assert_allclose(
            hic_jax.read(chip)["kernel"], [[2.0, -0.5]], rtol=1e-6
        )
        assert (chip["kernel"].nu, chip["kernel"].scale.shape) == (None, ())


NAN = np.full((2, 5, 4), 3.0)
NAN[1, 4, 2] = np.nan
MINUS = np.full((2, 5, 4), -1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first/kernel/g": None}, "first/kernel: lacks g; has fields of g and scale"),
        ({f"first/kernel/{k}": None for k in
          ("g", "scale", "time", "time_rest", "nu", "slow")},
         "the file lacks the array first/kernel; must have first/kernel, stack/kernel"),
        ({"head/g": NAN}, "the network lacks the array head; must have first/kernel"),
        ({"first/kernel/mu": NAN}, "first/kernel: must not have mu; has fields of g"),
        ({"first/kernel/g": NAN[:, :, :3]},
         r"first/kernel/g: has the shape \(2, 5, 3\); must be \(2, 5, 4\)"),
        ({"first/kernel/g": NAN}, r"g\[1, 4, 2\]=nan: must lie in \[0, 41\.4\]$"),
        ({"first/kernel/g": MINUS},
         r"g\[0, 0, 0\]=-1: must lie in \[0, 41\.4\] \(40 such\)"),
        ({"first/kernel/g": -1000 * MINUS}, r"g\[0, 0, 0\]=1000: must"),
        ({"first/kernel/nu": 0 * NAN}, r"nu\[1, 4, 2\]=nan: must lie in \[-1, 1\]"),
        ({"first/kernel/scale": 0.0}, "first/kernel/scale=0: must lie in"),
        ({"first/kernel/scale": np.ones(3)},
         r"scale: has the shape \(3,\); must be broadcastable to \(5, 4\)"),
        ({"first/kernel/time": -1.0}, r"/time=-1: must lie in \[0, 1e\+10\]"),
        ({"first/kernel/g": MINUS.astype(str)}, "holds <U32; must hold numb"),
        ({"first/kernel/g": 1e-6 * np.ones((2, 5, 4)),
          "stack/kernel/g": 1e-6 * np.ones((2, 2, 3, 2))},
         "the highest conductance is 1e-06; must be in uS, up to 20.7 with hermes_2"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit_are_refused(chip, tmp_path, changes, message):
    path = tmp_path / "chip.npz"
    hic_jax.save_chip(path, chip)
    _npz(path, changes)
    with pytest.raises(ValueError, match=rf"^chip=.*chip\.npz: .*{message}"):
        hic_jax.load_chip(path, chip, SPEC)


@pytest.mark.parametrize(
    ("cell", "value", "message"),
    [
        (("weight", 3), "2", "line 5: weight 2 of first/kernel stands there twice"),
        (("weight", 3), "x", "line 5: weight='x': must be a whole number"),
        (
            ("weight", 3),
            "20",
            "first/kernel: lacks weight 3; must have those from 0 to 19",
        ),
        (("g_plus", 0), "1O", "line 2: g_plus='1O': must be a number"),
        (("g_plus", 0), "", r"first/kernel/g\[0, 0, 0\]=nan: must lie in"),
        (("time", 7), "3", "first/kernel: has several times; must have one"),
        (("array", 2), "frist", "first/kernel: lacks weight 2"),
        (
            ("g_plus", None),
            "",
            "has the columns array, .*; must have array, weight, g_p",
        ),
        (("nu_plus", None), "", "must have nu_plus and nu_minus, or none"),
    ],
)
def test_lines_that_do_not_fit_are_refused(chip, tmp_path, cell, value, message):
    path, (column, line) = tmp_path / "chip.csv", cell
    hic_jax.save_chip(path, chip)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = list(rows[0])
    if line is None:
        columns.remove(column)
    else:
        rows[line][column] = value
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(ValueError, match=rf"^chip=.*chip\.csv: .*{message}"):
        hic_jax.load_chip(path, chip, SPEC)


def test_files_that_are_none(chip, tmp_path):
    (tmp_path / "bad.npz").write_text("none")
    (tmp_path / "bad.csv").write_bytes(b"\xff\xfe")
    for name, message in {
        "bad.npz": "is no NPZ file of numbers",
        "bad.csv": "is no CSV file in UTF-8",
        "absent.npz": "cannot be read .*No such file",
        "absent.csv": "cannot be read .*No such file",
        "chip.txt": r"must end in \.npz or \.csv",
    }.items():
        with pytest.raises(ValueError, match=f"chip=.*{name}: .*{message}"):
            hic_jax.load_chip(tmp_path / name, chip, SPEC)
    with pytest.raises(ValueError, match=r"must end in \.npz or \.csv"):
        hic_jax.save_chip(tmp_path / "chip.txt", chip)
    trained = hic_jax.hic(hic_jax.HICSpec(), 0).init({"kernel": jnp.ones((2, 2))})
    with pytest.raises(ValueError, match="kernel is a HybridWeight; must be deployed"):
        hic_jax.save_chip(tmp_path / "chip.npz", hic_jax.analog_weights(trained))
