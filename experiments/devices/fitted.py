"""Devices that were fitted: their file, and how a configuration stores them.

`experiments.fit_device` writes such a file. A run holds the whole device in its
configuration and needs the file no more.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from hic_jax import checks, pcm
from hic_jax.pcm.device import DeviceSpec
from hic_jax.pcm.fits import Fit

# Kinds of devices that files hold, by the names that these have for them.
MODELS: dict[str, type[DeviceSpec]] = {
    "nandakumar": pcm.MultilevelSpec,
    "table": pcm.TableSpec,
    "two_sided_table": pcm.TwoSidedTableSpec,
    "soft_bounds": pcm.SoftBoundsSpec,
    "exp_step": pcm.ExpStepSpec,
}

# Curves of conductance that stand in the place of a constant, by the names that flags
# and stored configurations have for them: spreads of the drift exponent, each that of a
# preset of the programmed regime.
CURVES: dict[str, Fit | None] = {
    name: make().drift_nu_std for name, make in pcm.PROGRAMMED_PRESETS.items()
}


class Fitted(str):
    """What a fitted device is called where others have the name of a preset.

    The name ends in a sum over all constants: two that are equal are one device.

    Attributes:
      device: the device.
    """

    device: DeviceSpec

    def __new__(cls, device: DeviceSpec) -> Self:
        """The name of a device, which goes with it."""
        constants = json.dumps(stored(device), sort_keys=True)
        digest = hashlib.sha256(constants.encode()).hexdigest()[:8]
        name = super().__new__(cls, f"{device.name}@{digest}")
        name.device = device
        return name

    def __reduce__(self) -> tuple:
        """Made of the device again where it is unpickled."""
        return type(self), (self.device,)

    @property
    def file(self) -> str:
        """What the file was called, without its folder."""
        return f"{self.device.name}.json"


def stored(device: DeviceSpec) -> dict[str, Any]:
    """A device as JSON holds it; `restored` is the way back."""
    model = next(name for name, cls in MODELS.items() if type(device) is cls)
    return {"model": model, **with_names(device)}


def restored(fields: Mapping[str, Any]) -> DeviceSpec:
    """The device of `stored`.

    Raises:
      ValueError: if it is none, or lacks a field, or has one that this version does not
        know, or at a value that is not allowed.
    """
    checks.one_of("model", fields.get("model", ""), MODELS)
    cls = MODELS[fields["model"]]
    known = {field.name for field in dataclasses.fields(cls)}
    given = {name: value for name, value in fields.items() if name != "model"}
    if unknown := set(given) - known:
        raise ValueError(f"{min(unknown)}: must not be there, with {fields['model']}")
    for name in ("name", "source"):
        if not isinstance(given.get(name), str):
            raise ValueError(f"{name}={given.get(name)!r}: must be a text")
    if isinstance(curve := given.get("drift_nu_std"), str):
        checks.one_of("drift_nu_std", curve, CURVES)
        given["drift_nu_std"] = CURVES[curve]
    try:
        return cls(**given)
    except TypeError as error:  # A field that is missing, or a list that is none.
        raise ValueError(f"{fields['model']}: {error}") from error


def read_device(path: str) -> Fitted:
    """The device in a file of `experiments.fit_device`.

    Raises:
      ValueError: if the file cannot be read, or holds no device.
    """
    try:
        content = json.loads(Path(path).expanduser().read_bytes())
        if not isinstance(content, dict) or not isinstance(content.get("device"), dict):
            raise ValueError("it holds no device")
        return Fitted(restored(content["device"]))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"must be a file of experiments.fit_device: {error}"
        ) from error


def with_names(part: Any) -> Any:
    """A part as it is stored: a dictionary, with names in the place of curves."""
    if isinstance(part, tuple):
        return list(part)
    if not dataclasses.is_dataclass(part):
        return part
    names = (name for name, curve in CURVES.items() if curve == part)
    fields = [field.name for field in dataclasses.fields(part)]
    return next(names, {name: with_names(getattr(part, name)) for name in fields})
