"""Constants of a fitted device in words: value, standard error, unit."""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments import cli
from hic_jax.pcm.device import DeviceSpec

# Fields that say nothing of a device that was fitted.
_TOLD = ("name", "source", "stuck_set", "stuck_reset", "read_spectrum", "read_time")
_UNITS = ("uS per uS", "uS", "half ranges", "s", "pulses")


class Row(NamedTuple):
    """A constant as it is shown."""

    field: str
    value: str
    error: str
    unit: str


def parameter_rows(device: DeviceSpec, errors: Mapping[str, Any]) -> list[Row]:
    """A row for each constant, and each number of a table."""
    rows = []
    texts = cli.documented(type(device))
    for field in dataclasses.fields(device):
        if field.name in _TOLD:
            continue
        unit = unit_of(field.name, texts.get(field.name, ""))
        values = getattr(device, field.name)
        error = errors.get(field.name)
        column = np.ndim(values) > 0
        for i, value in enumerate(np.ravel(values).tolist()):
            mine = None if error is None else float(np.ravel(error)[i])
            name = f"{field.name}[{i + 1}]" if column else field.name
            rows.append(Row(name, digits(value, mine), _shown(mine), unit))
    return rows


def unit_of(name: str, text: str) -> str:
    """The unit that the text of a field ends with, or names; 1 without one."""
    if name == "memory_pulses":
        return "pulses"
    for unit in _UNITS:
        if re.search(rf"\b{unit}\b(?=[,.;]|$)", text):
            return unit
    return "1"


def _shown(error: float | None) -> str:
    """A standard error; empty for what was not fitted."""
    if error is None:
        return ""
    return digits(error, error) if math.isfinite(error) else "not told"


def digits(value: float, error: float | None) -> str:
    """A number to the second digit of its standard error, or of five digits."""
    if error is None or not 0 < error < math.inf:
        return f"{value:.5g}"
    places = 1 - math.floor(math.log10(error))
    return f"{value:.{min(max(places, 0), 9)}f}"
