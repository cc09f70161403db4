"""Measured trains of pulses in CSV files: what they may look like, what is refused.

A column a ramp, or a line a pulse with columns device, pulse, conductance and perhaps
direction. The first value of a ramp is that before its first pulse.
"""

import csv
import dataclasses
import hashlib
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hic_jax.fitting.trains import Trains
from hic_jax.pcm.device import LARGEST_US

UNITS = {"S": 1e6, "uS": 1.0, "normalised": 1.0}
LONG = ("device", "pulse", "conductance")

# Devices that are all below are none: a unit was confused.
_SMALLEST_US = 0.01
# Values of a ramp, and pulses in all, that tell anything.
_FEWEST_VALUES, _FEWEST_PULSES = 3, 20


@dataclasses.dataclass
class _Ramp:
    """A ramp as the file has it: where it stands, which way its pulses lead."""

    where: str
    device: str
    values: list[float]
    up: list[bool]
    lines: list[int]


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Trains as they were read, and what was taken for granted.

    Attributes:
      trains: in uS.
      files: by the names of flags: name of the file and SHA-256 of its bytes.
      said: sentences on how the files were understood.
    """

    trains: Trains
    files: dict[str, dict[str, str]]
    said: list[str]


def read_trains(
    data: str,
    down: str | None,
    *,
    unit: str,
    scale: float,
    g_max: float,
    columns: str,
) -> Measurement:
    """Trains of pulses in one file, or two.

    Args:
      data: path of the ramps; a column or line without a direction is of SET pulses.
      down: path of ramps whose pulses lead down, or None.
      unit: of `UNITS`.
      scale: what values are multiplied by first.
      g_max: end of the nominal range that normalised values are mapped to, uS.
      columns: what each column is: "ramps" of one device, or "devices".

    Raises:
      ValueError: names the line and the column of what cannot be used.
    """
    said: list[str] = []
    files = {"data": described(data)}
    ramps = _ramps("data", data, True, columns, said)
    if down is not None:
        files["down"] = described(down)
        ramps += _ramps("down", down, False, columns, said)
    for ramp in ramps:
        _check_ramp(ramp, unit)
    trains = _trains(ramps, scale * UNITS[unit])
    low, high = trains.range
    if unit == "normalised":
        # Two-sided devices have room for ends that lie beyond what was measured.
        ends = (g_max / 4, 3 * g_max / 4) if trains.two_sided else (0.0, g_max)
        share = (trains.g - low) / (high - low)
        trains = dataclasses.replace(trains, g=ends[0] + share * (ends[1] - ends[0]))
        said.append(
            f"normalised values: {low:.6g} to {high:.6g} are taken for {ends[0]:g} to "
            f"{ends[1]:g} uS, of a nominal range of {g_max:g} uS (--g_max)"
        )
    elif high > LARGEST_US or high < _SMALLEST_US:
        raise ValueError(
            f"unit={unit}: must be another one, or with another --scale: the highest "
            f"conductance would be {high:.3g} uS, and devices have {_SMALLEST_US} to "
            f"{LARGEST_US:g} uS"
        )
    if trains.pulses < _FEWEST_PULSES:
        raise ValueError(
            f"data={data}: must hold at least {_FEWEST_PULSES} pulses; has "
            f"{trains.pulses}"
        )
    if not trains.up.any():
        raise ValueError(
            f"data={data}: must hold SET pulses; all of its pulses are down"
        )
    return Measurement(trains, files, said)


def described(path: str) -> dict[str, str]:
    """Name of a file and SHA-256 of its bytes."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    return {"name": Path(path).name, "sha256": hashlib.sha256(content).hexdigest()}


def read_table(flag: str, path: str) -> tuple[list[str] | None, list[list[str]], int]:
    """Names of the columns, cells, and the line that the first of these stand in.

    Args:
      flag: names the file in errors.
      path: of the file.

    Raises:
      ValueError: if it is no table.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{flag}={path}: cannot be read: {error}") from error
    while lines and not any(lines[-1]):
        lines.pop()
    if not lines:
        raise ValueError(f"{flag}={path}: must not be empty")
    first = lines[0]
    names = None if all(_is_number(cell) for cell in first if cell) else first
    cells, begin = (lines, 1) if names is None else (lines[1:], 2)
    width = len(first)
    for number, line in enumerate(cells, begin):
        if len(line) > width:
            raise ValueError(
                f"{flag}={path}: line {number}: must have {width} columns, as the "
                f"first line has; has {len(line)}"
            )
        line += [""] * (width - len(line))
    if names is not None and not cells:
        raise ValueError(f"{flag}={path}: must have lines below that of the names")
    return names, cells, begin


def number_in(cell: str, where: str) -> float:
    """The number in a cell, or `ValueError`."""
    if not _is_number(cell):
        raise ValueError(f"{where}: must be a finite number; is {cell!r}")
    return float(cell)


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _ramps(
    flag: str, path: str, up: bool, columns: str, said: list[str]
) -> list[_Ramp]:
    names, cells, begin = read_table(flag, path)
    lowered = [name.lower() for name in names or ()]
    if set(LONG) <= set(lowered):
        return _long(f"{flag}={path}", lowered, cells, begin, up)
    if names and set(LONG) & set(lowered):
        missing = sorted(set(LONG) - set(lowered))
        raise ValueError(
            f"{flag}={path}: line 1: lacks {', '.join(missing)}; a line a pulse has "
            f"columns {', '.join(LONG)} and perhaps direction"
        )
    if names is None:
        said.append(f"{Path(path).name} has no line of names: its columns are numbered")
        names = [str(i) for i in range(1, len(cells[0]) + 1)]
    return _wide(f"{flag}={path}", names, cells, begin, up, columns)


def _wide(
    file: str,
    names: Sequence[str],
    cells: list[list[str]],
    begin: int,
    up: bool,
    columns: str,
) -> list[_Ramp]:
    """A column a ramp, which ends at the first empty cell."""
    ramps = []
    for i, name in enumerate(names):
        where = f"{file}: column {name or i + 1}"
        column = [line[i] for line in cells]
        while column and not column[-1]:
            column.pop()
        if not column:
            raise ValueError(f"{where}: must not be empty")
        values = []
        for number, cell in enumerate(column, begin):
            if not cell:
                raise ValueError(
                    f"{where}, line {number}: is empty, but values follow; a ramp may "
                    "end early, not pause"
                )
            values.append(number_in(cell, f"{where}, line {number}"))
        device = name if columns == "devices" else ""
        lines = list(range(begin, begin + len(values)))
        ramps.append(_Ramp(where, device, values, [up] * (len(values) - 1), lines))
    return ramps


def _long(
    file: str, names: Sequence[str], cells: list[list[str]], begin: int, up: bool
) -> list[_Ramp]:
    """A line a pulse; a ramp begins with another device, or an earlier pulse."""
    at = {name: i for i, name in enumerate(names)}
    ramps: list[_Ramp] = []
    last = math.inf
    for number, line in enumerate(cells, begin):
        where = f"{file}: line {number}"
        device = line[at["device"]]
        if not device:
            raise ValueError(f"{where}, column device: must not be empty")
        pulse = number_in(line[at["pulse"]], f"{where}, column pulse")
        value = number_in(line[at["conductance"]], f"{where}, column conductance")
        way = up
        if "direction" in at:
            word = line[at["direction"]].lower()
            if word not in ("up", "down"):
                raise ValueError(
                    f"{where}, column direction: must be up or down; is {word!r}"
                )
            way = word == "up"
        if not ramps or ramps[-1].device != device or pulse <= last:
            ramps.append(_Ramp(f"{where}, device {device}", device, [], [], []))
        elif ramps[-1].values:
            ramps[-1].up.append(way)
        ramps[-1].values.append(value)
        ramps[-1].lines.append(number)
        last = pulse
    return ramps


def _check_ramp(ramp: _Ramp, unit: str) -> None:
    """Raises unless a ramp may be one of a device."""
    if len(ramp.values) < _FEWEST_VALUES:
        raise ValueError(
            f"{ramp.where}: must have at least {_FEWEST_VALUES} values; has "
            f"{len(ramp.values)}"
        )
    if unit != "normalised":
        for value, line in zip(ramp.values, ramp.lines, strict=True):
            if value <= 0:
                raise ValueError(
                    f"{re.sub(', line .*', '', ramp.where)}, line {line}: conductance "
                    f"must be above zero; is {value:g} (--unit=normalised takes any)"
                )
    first, last = ramp.values[0], ramp.values[-1]
    if len(set(ramp.up)) == 1 and (last <= first if ramp.up[0] else last >= first):
        way, others = ("rise", "--down") if ramp.up[0] else ("fall", "--data")
        raise ValueError(
            f"{ramp.where}: must {way} from its first value to its last; goes from "
            f"{first:g} to {last:g}. What leads the other way is for {others}"
        )


def _trains(ramps: list[_Ramp], factor: float) -> Trains:
    longest = max(len(ramp.values) for ramp in ramps)
    g = np.full((len(ramps), longest), np.nan)
    up = np.empty((len(ramps), longest - 1), bool)
    for i, ramp in enumerate(ramps):
        g[i, : len(ramp.values)] = np.multiply(ramp.values, factor)
        up[i] = (ramp.up + [ramp.up[-1]] * longest)[: longest - 1]
    names = [ramp.device for ramp in ramps]
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    two_sided = up.any() and not all(all(ramp.up) for ramp in ramps)
    return Trains(
        g=g,
        up=up,
        device=np.array([numbers[name] for name in names]),
        # Of a two-sided device no ramp begins with a RESET.
        from_reset=np.full(len(ramps), not two_sided),
    )
