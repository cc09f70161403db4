"""A chip in a file: the conductances of its arrays, written, measured, read again.

The end of the name says which of two forms a file has. Both are of the devices when
programming ended, and tell how long ago that was.

NPZ, by path of the weights, of shape S:

=============  ==========  ===========================================================
PATH/g         (2, *S)     conductances, (G+, G-), uS
PATH/scale     to S        uS per unit of weight, broadcastable to S
PATH/time      ()          s since programming ended; 0 if it is not there
PATH/time_rest ()          s that rounding has left out of it; 0 if it is not there
PATH/nu        (2, *S)     drift exponents; nothing drifts if they are not there
PATH/slow      (2, *S)     standard normal draws of the slow noise; none if not there
=============  ==========  ===========================================================

CSV, a line for each weight: the columns array (PATH), weight (its number, the last axis
of S being the fastest), g_plus, g_minus and scale, and perhaps time, nu_plus, nu_minus,
slow_plus and slow_minus.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hic_jax import checks
from hic_jax.inference import chip_csv
from hic_jax.inference.chip_csv import OF_DEVICES, Arrays
from hic_jax.inference.deployment import DeployedWeight
from hic_jax.packing import path_name
from hic_jax.pcm import ProgrammedSpec
from hic_jax.weights import AnalogWeight, is_analog

ENDINGS = (".npz", ".csv")

_NEEDED, _OF_TIME = ("g", "scale"), ("time", "time_rest")
_FIELDS = (*_NEEDED, *_OF_TIME, *OF_DEVICES)
# Programming noise leaves some devices above the highest conductance that is asked
# for, and none at twice that. If all are a thousand times lower, a unit was confused.
_HIGHEST, _LOWEST = 2.0, 1e-3
_NU_MOST = 1.0  # conductance then halves whenever its age doubles


def save_chip(path: str | os.PathLike, chip: Any) -> None:
    """Writes a chip: exactly to NPZ, with all digits of float32 to CSV.

    Args:
      path: ends in .npz or .csv.
      chip: of `hic_jax.deploy`, aged or not.

    Raises:
      ValueError: for another ending, or weights that are not deployed.
    """
    path = _checked_path(path)
    arrays = {}
    for name, weight in _by_path(chip).items():
        if not isinstance(weight, DeployedWeight):
            raise ValueError(
                f"chip: {name} is a {type(weight).__name__}; must be deployed, as by "
                "hic_jax.deploy"
            )
        held = {field: getattr(weight, field) for field in _FIELDS}
        arrays[name] = {k: np.asarray(x) for k, x in held.items() if x is not None}
    if path.suffix == ".csv":
        chip_csv.write(path, arrays)
        return
    flat: dict[str, Any] = {
        f"{name}/{k}": x for name, held in arrays.items() for k, x in held.items()
    }
    np.savez_compressed(path, **flat)


def load_chip(path: str | os.PathLike, weights: Any, spec: ProgrammedSpec) -> Any:
    """Reads a chip, as `save_chip` wrote it or with conductances that were measured.

    Args:
      path: ends in .npz or .csv.
      weights: of the network that the chip holds, as `hic_jax.analog_weights` or
        `hic_jax.deploy` makes them: they tell names, shapes and axes of the arrays.
      spec: the chip's devices: their read noise, and what their drift begins with.

    Returns:
      The same tree with a `DeployedWeight` in place of every weight.

    Raises:
      ValueError: if the file lacks an array, or has one too many, of another shape, or
        with numbers that are none or out of range.

    Examples:
      >>> import jax, jax.numpy as jnp, hic_jax, tempfile
      >>> params, spec = {"kernel": jnp.eye(3)}, hic_jax.pcm.nandakumar_2019()
      >>> labels, file = hic_jax.analog_labels, tempfile.mkdtemp() + "/chip.npz"
      >>> chip = hic_jax.deploy(params, spec, jax.random.key(0), labels=labels)
      >>> hic_jax.save_chip(file, chip)
      >>> measured = hic_jax.load_chip(file, chip, spec)
      >>> bool(jnp.all(measured["kernel"].g == chip["kernel"].g))
      True
    """
    if not isinstance(spec, ProgrammedSpec):
        raise ValueError(f"spec={spec!r}: must be a ProgrammedSpec")
    path = _checked_path(path)
    known = _by_path(weights)
    shapes = {name: weight.shape for name, weight in known.items()}
    try:
        read = chip_csv.read(path, shapes) if path.suffix == ".csv" else _read_npz(path)
        for name in (*shapes, *read):
            if name not in read or name not in shapes:
                lacks = "the file lacks" if name in shapes else "the network lacks"
                raise ValueError(
                    f"{lacks} the array {name}; must have {', '.join(shapes)}"
                )
        checked = {
            name: _checked(name, read[name], shapes[name], spec) for name in read
        }
        highest = max(float(held["g"].max(initial=0.0)) for held in checked.values())
        if 0 < highest < _LOWEST * spec.g_max:
            raise ValueError(
                f"the highest conductance is {highest:.3g}; must be in uS, up to "
                f"{spec.g_max:g} with {spec.name}"
            )
    except ValueError as error:
        raise ValueError(f"chip={path}: {error}") from error
    made = {name: _weight(checked[name], known[name], spec) for name in known}
    return jax.tree_util.tree_map_with_path(
        lambda path, weight: made[path_name(path)] if is_analog(weight) else weight,
        weights,
        is_leaf=is_analog,
    )


def _checked_path(path: str | os.PathLike) -> Path:
    path = Path(path)
    if path.suffix not in ENDINGS:
        raise ValueError(f"chip={path}: must end in {' or '.join(ENDINGS)}")
    return path


def _by_path(weights: Any) -> dict[str, AnalogWeight]:
    leaves = jax.tree_util.tree_leaves_with_path(weights, is_leaf=is_analog)
    found = {path_name(path): leaf for path, leaf in leaves if is_analog(leaf)}
    if not found:
        raise ValueError(
            "weights hold no analog weight: must be a tree of them, as "
            "hic_jax.analog_weights makes it"
        )
    return found


def _weight(held: Arrays, like: AnalogWeight, spec: ProgrammedSpec) -> DeployedWeight:
    arrays: dict[str, Any] = dict.fromkeys(OF_DEVICES)
    arrays |= {field: jnp.asarray(x, jnp.float32) for field, x in held.items()}
    return DeployedWeight(**arrays, spec=spec, axes=like.axes)


# ---- What may be in a file


def _checked(
    name: str, held: Mapping[str, np.ndarray], shape: tuple[int, ...],
    spec: ProgrammedSpec,
) -> Arrays:  # fmt: skip
    """Arrays of one tensor, with all fields of time; raises at what they cannot be."""
    held = {"time": np.zeros(()), "time_rest": np.zeros(())} | dict(held)
    for field in (*_NEEDED, *held):
        if field not in held or field not in _FIELDS:
            verb = "lacks" if field in _FIELDS else "must not have"
            raise ValueError(f"{name}: {verb} {field}; has fields of {_listed()}")
    for field, x in held.items():
        wanted = (2, *shape) if field in ("g", *OF_DEVICES) else ()
        fits = _broadcastable(x.shape, shape) if field == "scale" else x.shape == wanted
        if not fits:
            what = f"broadcastable to {shape}" if field == "scale" else str(wanted)
            raise ValueError(f"{name}/{field}: has the shape {x.shape}; must be {what}")
        if x.dtype.kind not in "fiu":
            raise ValueError(f"{name}/{field}: holds {x.dtype}; must hold numbers")
        _check_range(f"{name}/{field}", x, *_RANGES[field](spec))
    return held


def _listed() -> str:
    optional = ", ".join((*_OF_TIME, *OF_DEVICES))
    return f"{' and '.join(_NEEDED)}, and perhaps {optional}"


# What is allowed, from the least on to the most, by field.
_RANGES = {
    "g": lambda spec: (0.0, _HIGHEST * spec.g_max),
    "scale": lambda spec: (checks.FLOAT32_TINY, checks.FLOAT32_MAX),
    "time": lambda spec: (0.0, checks.SECONDS_MAX),
    "time_rest": lambda spec: (-checks.SECONDS_MAX, checks.SECONDS_MAX),
    "nu": lambda spec: (-_NU_MOST, _NU_MOST),
    "slow": lambda spec: (-10.0, 10.0),
}


def _check_range(name: str, x: np.ndarray, low: float, high: float) -> None:
    wrong = np.argwhere(~((x >= low) & (x <= high)))  # NaN, too.
    if len(wrong):
        place = tuple(map(int, wrong[0]))
        others = f" ({len(wrong)} such)" if len(wrong) > 1 else ""
        raise ValueError(
            f"{name}{list(place) if place else ''}={x[place]:.6g}: must lie in "
            f"[{low:g}, {high:g}]{others}"
        )


def _broadcastable(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, to) == to
    except ValueError:
        return False


# ---- NPZ


def _read_npz(path: Path) -> dict[str, Arrays]:
    found: dict[str, Arrays] = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            for key in file.files:
                name, _, field = key.rpartition("/")
                found.setdefault(name, {})[field] = file[key]
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror or error})") from error
    except Exception as error:  # Of a ZIP file, of a member, of NumPy.
        raise ValueError(
            f"is no NPZ file of numbers ({type(error).__name__}: {error})"
        ) from error
    return found
