"""The conductances of a chip as lines of text; see `hic_jax.inference.chip_files`."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

# Fields of a tensor that are of each device, and that a chip may lack.
OF_DEVICES = ("nu", "slow")

# Arrays of one tensor, by field.
Arrays = dict[str, np.ndarray]

_PLACE = ("array", "weight")
_VALUES = (
    "g_plus", "g_minus", "scale",  # Those that are needed.
    "time", "nu_plus", "nu_minus", "slow_plus", "slow_minus",
)  # fmt: skip


def write(path: Path, arrays: Mapping[str, Arrays]) -> None:
    """Writes the arrays of tensors, by path and field, as `chip_files` says."""
    columns = {name: _columns(held) for name, held in arrays.items()}
    there = {column for held in columns.values() for column in held}
    values = [column for column in _VALUES if column in there]
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow((*_PLACE, *values))
        for name, held in columns.items():
            blank = np.full(len(held["scale"]), "")
            texts = [held.get(column, blank).tolist() for column in values]
            lines.writerows(
                (name, number, *row)
                for number, row in enumerate(zip(*texts, strict=True))
            )


def _columns(held: Arrays) -> Arrays:
    """Flat arrays of text, by column."""
    plus, minus = held["g"].reshape(2, -1)
    scale = np.broadcast_to(held["scale"], held["g"].shape[1:]).ravel()
    numbers = {"g_plus": plus, "g_minus": minus, "scale": scale}
    for field in OF_DEVICES:
        if field in held:
            plus, minus = held[field].reshape(2, -1)
            numbers |= {f"{field}_plus": plus, f"{field}_minus": minus}
    columns = {
        k: np.array([f"{v:.9g}" for v in x.tolist()]) for k, x in numbers.items()
    }
    time = float(held["time"]) + float(held["time_rest"])
    return columns | {"time": np.full(len(scale), repr(time))}


def read(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Arrays]:
    """Reads what `write` writes.

    Args:
      path: the file.
      shapes: of the tensors that are known, by path.

    Returns:
      Arrays by path and field; of other tensors, flat ones.

    Raises:
      ValueError: at a line or column that cannot be read, or a weight that is missing.
    """
    rows: dict[str, dict[int, list[float]]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file)
            columns = next(lines, [])
            _check_columns(columns)
            for row in lines:
                name, number, values = _row(lines.line_num, columns, row)
                held = rows.setdefault(name, {})
                if number in held:
                    raise ValueError(
                        f"line {lines.line_num}: weight {number} of {name} stands "
                        "there twice"
                    )
                held[number] = values
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"is no CSV file in UTF-8 ({error})") from error
    names = [column for column in columns if column not in _PLACE]
    found: dict[str, Arrays] = {}
    for name, held in rows.items():
        shape = shapes.get(name, (len(held),))  # Others are refused by their names.
        size = int(np.prod(shape))
        if set(held) != set(range(size)):
            odd = min(set(held) ^ set(range(size)))
            raise ValueError(
                f"{name}: {'has' if odd in held else 'lacks'} weight {odd}; must have "
                f"those from 0 to {size - 1}"
            )
        table = np.array([held[number] for number in range(size)])
        flat = dict(zip(names, table.T, strict=True))
        found[name] = _of_columns(name, flat, shape)
    return found


def _check_columns(columns: list[str]) -> None:
    needed = (*_PLACE, *_VALUES[:3])
    missing = [column for column in needed if column not in columns]
    others = [column for column in columns if column not in (*_PLACE, *_VALUES)]
    twice = len(set(columns)) < len(columns)
    if missing or others or twice:
        raise ValueError(
            f"has the columns {', '.join(columns)}; must have {', '.join(needed)}, and "
            f"perhaps {', '.join(_VALUES[3:])}, each once"
        )


def _row(line: int, columns: list[str], row: list[str]) -> tuple[str, int, list[float]]:
    """Array, number of the weight, and values of a line; NaN for an empty cell."""
    if len(row) != len(columns):
        raise ValueError(f"line {line}: has {len(row)} cells; must have {len(columns)}")
    cells = dict(zip(columns, row, strict=True))
    values, name = [], cells.pop("array")
    for column, text in cells.items():
        try:
            value = int(text) if column == "weight" else float(text or "nan")
        except ValueError as error:
            what = "a whole number" if column == "weight" else "a number"
            raise ValueError(
                f"line {line}: {column}={text!r}: must be {what}"
            ) from error
        if column == "weight":
            number = value
        else:
            values.append(value)
    return name, int(number), values


def _of_columns(name: str, flat: Arrays, shape: tuple[int, ...]) -> Arrays:
    """Fields of a tensor, of its columns."""
    g = np.reshape([flat["g_plus"], flat["g_minus"]], (2, *shape))
    held: Arrays = {"g": g, "scale": _shared(flat["scale"].reshape(shape))}
    given = {k: x for k, x in flat.items() if not np.all(np.isnan(x))}
    for field in OF_DEVICES:
        both = [given[k] for k in (f"{field}_plus", f"{field}_minus") if k in given]
        if len(both) == 1:
            raise ValueError(
                f"{name}: must have {field}_plus and {field}_minus, or none"
            )
        if both:
            held[field] = np.reshape(both, (2, *shape))
    if "time" in given:
        time = given["time"][0]
        if not np.all(given["time"] == time):
            raise ValueError(f"{name}: has several times; must have one")
        held["time"] = np.asarray(time, np.float32)
        held["time_rest"] = np.asarray(time - held["time"])
    return held


def _shared(scale: np.ndarray) -> np.ndarray:
    """A scale with size 1 along the axes that share one; () if all do."""
    for axis in range(scale.ndim):
        first = scale.take([0], axis)
        if np.all(scale == first):
            scale = first
    return scale.reshape(()) if scale.size == 1 else scale
