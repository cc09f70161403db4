"""What may be fitted to measured trains: a device, and which of its constants are free.

The steps are those of the device's own methods, called with constants that JAX traces:
what is fitted is what trains later.
"""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from hic_jax.fitting.likelihood import Constants
from hic_jax.fitting.trains import Trains
from hic_jax.pcm.device import LARGEST_US, DeviceSpec
from hic_jax.pcm.drifting import DriftingState
from hic_jax.pcm.measured import TableSpec, TwoSidedTableSpec
from hic_jax.pcm.multilevel import MAX_COUNTED_PULSES, MultilevelSpec, MultilevelState

# Conductances of a table: so many pulses for each, in the mean, and how few and many.
_PULSES_PER_PLACE = 250
_PLACES = 4, 12

Bounds = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Model(abc.ABC):
    """A kind of device that can be fitted.

    Attributes:
      name: what ``--model`` calls it.
      cls: of the device.
    """

    name: ClassVar[str]
    cls: ClassVar[type[DeviceSpec]]

    @abc.abstractmethod
    def starts(
        self, trains: Trains, fixed: Mapping[str, Any]
    ) -> list[dict[str, np.ndarray]]:
        """Free constants, by fields of the device: places where a fit may begin.

        Args:
          trains: what is fitted.
          fixed: as `fixed` has it.
        """

    @abc.abstractmethod
    def bounds(self) -> dict[str, Bounds]:
        """Least and greatest values that the device takes, by fields."""

    @abc.abstractmethod
    def fixed(self, trains: Trains) -> dict[str, Any]:
        """Fields of the device that follow from the trains without a fit."""

    @abc.abstractmethod
    def moments(
        self, constants: Constants, g: jax.Array, number: jax.Array, up: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """As `likelihood.Steps` has it."""

    def ends(self, constants: Constants) -> tuple[jax.Array, jax.Array]:
        """As `likelihood.Steps` has it."""
        return constants["g_min"], constants["g_max"]

    def device(self, name: str, source: str, constants: Mapping[str, Any]) -> Any:
        """The device that has these constants, fields as the model names them.

        Raises:
          ValueError: if they are those of no device.
        """
        given = {k: _plain(v) for k, v in self._fields(constants).items()}
        return self.cls(name=name, source=source, **given)

    def field_errors(
        self, errors: Mapping[str, Any], constants: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Standard errors by fields of the device.

        Args:
          errors: those of free constants, by the names that these have in a fit.
          constants: free ones and fixed ones.
        """
        del constants
        return self._fields(errors)

    def _fields(self, constants: Mapping[str, Any]) -> dict[str, Any]:
        fields = {f.name for f in dataclasses.fields(self.cls)}
        return {k: v for k, v in constants.items() if k in fields}


def _plain(value: Any) -> Any:
    """A number or a tuple of numbers."""
    array = np.asarray(value, float)
    return float(array) if array.ndim == 0 else tuple(array.tolist())


def traced(cls: type[DeviceSpec], constants: Mapping[str, Any]) -> Any:
    """A device with constants that nothing has checked, as JAX traces them."""
    device = object.__new__(cls)
    defaults = {
        f.name: f.default
        for f in dataclasses.fields(cls)
        if f.default is not dataclasses.MISSING
    }
    for name, value in {**defaults, **constants}.items():
        object.__setattr__(device, name, value)
    return device


def range_of(trains: Trains) -> dict[str, float]:
    """Ends of the range: where values pile up, or else the outermost ones."""
    low, high = trains.range
    least, most = trains.pile(high=False), trains.pile(high=True)
    at_reset = trains.pile(high=False, at_reset=True)
    return {
        "g_min": max(low if least is None else least, 0.0),
        "g_max": high if most is None else most,
        "reset_min": 0.0 if at_reset is None else at_reset,
    }


@dataclasses.dataclass(frozen=True)
class Nandakumar(Model):
    """A `MultilevelSpec`: steps linear in conductance, with programming memory."""

    name = "nandakumar"
    cls = MultilevelSpec

    def starts(
        self, trains: Trains, fixed: Mapping[str, Any]
    ) -> list[dict[str, np.ndarray]]:
        """By least squares, for several memories: the likelihood has several maxima."""
        del fixed
        g, step, number, _ = trains.steps
        floor = 0.05 * np.std(step) + 1e-9
        found = []
        for pulses in _MEMORIES:
            columns = np.stack([g, np.ones_like(g), np.exp(-(number + 1) / pulses)], 1)
            mean, *_ = np.linalg.lstsq(columns, step, rcond=None)
            # The mean size of a Gaussian is sqrt(2 / pi) standard deviations.
            size = abs(step - columns @ mean) * np.sqrt(np.pi / 2)
            noise, *_ = np.linalg.lstsq(columns, size, rcond=None)
            mean[1], noise[1] = max(mean[1], floor), max(noise[1], floor)
            values = (*mean, *np.maximum(noise, 0), pulses)
            found.append(dict(zip(_NANDAKUMAR, map(np.asarray, values), strict=True)))
        return found

    def bounds(self) -> dict[str, Bounds]:
        """Those of the device."""
        return {
            "step_slope": (-1.0, 1.0),
            "step_offset": (1e-6, LARGEST_US),
            "step_memory": (-LARGEST_US, LARGEST_US),
            "noise_slope": (0.0, 1.0),
            "noise_offset": (0.0, LARGEST_US),
            "noise_memory": (0.0, LARGEST_US),
            "memory_pulses": (0.3, 100.0),
        }

    def fixed(self, trains: Trains) -> dict[str, Any]:
        """Ends of the range."""
        return range_of(trains)

    def moments(
        self, constants: Constants, g: jax.Array, number: jax.Array, up: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The device's own; there are SET pulses only."""
        del up
        pulses = jnp.minimum(number, MAX_COUNTED_PULSES).astype(jnp.uint8)
        device = traced(self.cls, constants)
        return device.expected_step(g, MultilevelState(g=g, pulses=pulses))


# SET pulses in which the memory may fall, where a fit begins.
_MEMORIES = (1.0, 3.0, 9.0)
_NANDAKUMAR = (
    "step_slope", "step_offset", "step_memory", "noise_slope", "noise_offset",
    "noise_memory", "memory_pulses",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Table(Model):
    """A `TableSpec`: mean and standard deviation of the step by conductance."""

    name = "table"
    cls: ClassVar[type[TableSpec]] = TableSpec

    def starts(
        self, trains: Trains, fixed: Mapping[str, Any]
    ) -> list[dict[str, np.ndarray]]:
        """Moments of the steps that are nearest to each place."""
        found: dict[str, np.ndarray] = {}
        g, step, _, up = trains.steps
        at = fixed["at"]
        for side, chosen, sign in self._sides(up):
            near = np.abs(g[chosen, None] - at).argmin(axis=1)
            steps = sign * step[chosen]
            overall = np.std(steps) + 1e-9
            moments = []
            for place in range(len(at)):
                mine = steps[near == place]
                few = len(mine) < 3
                mean = np.mean(steps if few else mine)
                std = overall if few else np.std(mine)
                moments.append((mean, max(std, 0.05 * overall)))
            mean, std = np.transpose(moments)
            found |= {f"{side}_mean": mean, f"{side}_std": std}
        return [found]

    def _sides(self, up: np.ndarray) -> list[tuple[str, np.ndarray, int]]:
        """Columns of the table: their pulses, and which way these lead."""
        return [("up", up, 1)]

    def bounds(self) -> dict[str, Bounds]:
        """Those of the device; no noise at all cannot be told from data."""
        return {"up_mean": (-LARGEST_US, LARGEST_US), "up_std": (1e-9, LARGEST_US)}

    def fixed(self, trains: Trains) -> dict[str, Any]:
        """Ends of the range, and equally spaced places between them."""
        ends = range_of(trains)
        low, high = trains.range
        if trains.two_sided:
            ends["reset_mean"] = (ends["g_min"] + ends["g_max"]) / 2
        places = np.clip(trains.pulses // _PULSES_PER_PLACE, *_PLACES)
        return ends | {"at": np.linspace(max(low, 0.0), high, int(places))}

    def moments(
        self, constants: Constants, g: jax.Array, number: jax.Array, up: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The device's own."""
        del number, up
        return traced(self.cls, constants).expected_step(g, DriftingState(g=g))


@dataclasses.dataclass(frozen=True)
class TwoSidedTable(Table):
    """A `TwoSidedTableSpec`: of steps up and steps down."""

    cls = TwoSidedTableSpec

    def _sides(self, up: np.ndarray) -> list[tuple[str, np.ndarray, int]]:
        return [("up", up, 1), ("down", ~up, -1)]

    def bounds(self) -> dict[str, Bounds]:
        """Those of the device; no noise at all cannot be told from data."""
        up = super().bounds()
        return up | {name.replace("up", "down"): ends for name, ends in up.items()}

    def moments(
        self, constants: Constants, g: jax.Array, number: jax.Array, up: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The device's own, downwards where the pulse leads there."""
        del number
        device = traced(self.cls, constants)
        mean, std = device.expected_step(g, DriftingState(g=g), up)
        return jnp.where(up, mean, -mean), std
