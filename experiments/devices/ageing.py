"""Drift and read noise of a fitted device: measured, of a preset by name, or none."""

import dataclasses
from typing import Any

import numpy as np

from experiments.devices.pulse_files import described, number_in, read_table
from hic_jax import pcm
from hic_jax.fitting import ageing as laws
from hic_jax.fitting.choice import ONE_SIDED, TWO_SIDED
from hic_jax.pcm.drifting import DriftingSpec

_DRIFT = ("drift_nu", "drift_nu_std", "drift_t0")
_READS = ("read_offset", "read_slope")


def presets() -> dict[str, DriftingSpec]:
    """Presets whose devices drift, by name."""
    made = {name: make() for name, make in pcm.PRESETS.items()}
    return {
        name: device
        for name, device in made.items()
        if isinstance(device, DriftingSpec) and device.drift_nu
    }


@dataclasses.dataclass(frozen=True)
class Ageing:
    """What a device has of drift and read noise, beside what trains of pulses tell.

    Attributes:
      constants: fields of the device.
      errors: their standard errors, where they were measured.
      otherwise: fields that the device has if the trains do not tell them.
      files: by flag: name and SHA-256.
      said: sentences on where they come from.
    """

    constants: dict[str, Any]
    errors: dict[str, float]
    otherwise: dict[str, Any]
    files: dict[str, dict[str, str]]
    said: list[str]


def ageing(
    models: list[str],
    *,
    retention: str | None,
    reads: str | None,
    drift_from: str | None,
    unit: str,
    factor: float,
) -> tuple[Ageing, list[str]]:
    """Drift and read noise, and those of the models that can have them.

    Args:
      models: names of models.
      retention: path of traces of retention, or None.
      reads: path of reads one after another, or None.
      drift_from: preset, or None.
      unit: of the conductances.
      factor: what values are multiplied by to be in uS.

    Raises:
      ValueError: names what cannot be used.
    """
    if retention and drift_from:
        raise ValueError(
            f"drift_from={drift_from}: must not be given with --retention, which tells"
        )
    found = Ageing({}, {}, {}, {}, [])
    if retention or drift_from:
        drifting = {
            model.name
            for model in (*ONE_SIDED, *TWO_SIDED)
            if issubclass(model.cls, DriftingSpec)
        }
        kept = [name for name in models if name in drifting]
        if not kept:
            flag = "retention" if retention else "drift_from"
            raise ValueError(
                f"{flag}={retention or drift_from}: must not be given with "
                f"model={models[0]}, which does not drift"
            )
        if len(kept) < len(models):
            left = ", ".join(sorted(set(models) - drifting))
            found.said.append(f"models that cannot drift were left out: {left}")
        models = kept
    if retention:
        times, g = _traces(retention)
        _add(found, laws.drift(times, g), "retention", retention)
        found.said.append(
            f"drift: from {found.files['retention']['name']}; devices are taken not to "
            f"drift before its first time, {times[0]:g} s"
        )
    elif drift_from:
        preset = presets()[drift_from]
        found.constants.update({name: getattr(preset, name) for name in _DRIFT})
        found.otherwise.update({name: getattr(preset, name) for name in _READS})
        found.said.append(f"drift: not measured; that of {drift_from}")
    else:
        found.said.append("drift: not measured, and no preset named; there is none")
    if reads:
        if unit == "normalised":
            raise ValueError(f"reads={reads}: must not be given with unit=normalised")
        by_conductance = all(name in ("nandakumar", "table") for name in models)
        g = factor * _columns("reads", reads)
        _add(found, laws.read_noise(g, one_size=not by_conductance), "reads", reads)
    return found, models


def _add(found: Ageing, measured: laws.Measured, flag: str, path: str) -> None:
    found.constants.update(measured.constants)
    found.errors.update(measured.errors)
    found.files[flag] = described(path)


def _columns(flag: str, path: str) -> np.ndarray:
    """Values, (lines, columns): above zero, none missing."""
    names, cells, begin = read_table(flag, path)
    names = names or [str(i + 1) for i in range(len(cells[0]))]
    values = [
        [
            number_in(cell, f"{flag}={path}: line {number}, column {name}")
            for name, cell in zip(names, line, strict=True)
        ]
        for number, line in enumerate(cells, begin)
    ]
    found = np.array(values)
    if len(found) < 3:
        raise ValueError(f"{flag}={path}: must have at least 3 lines of values")
    below = np.argwhere(found <= 0)
    if len(below):
        line, column = below[0]
        raise ValueError(
            f"{flag}={path}: line {line + begin}, column {names[column]}: must be "
            f"above zero; is {found[line, column]:g}"
        )
    return found


def _traces(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Times, s, and conductances of the devices."""
    found = _columns("retention", path)
    times, g = found[:, 0], found[:, 1:]
    if not g.shape[1]:
        raise ValueError(
            f"retention={path}: must have a column of seconds and one for each device"
        )
    if np.any(np.diff(times) <= 0):
        raise ValueError(f"retention={path}: times in the first column must rise")
    return times, g
