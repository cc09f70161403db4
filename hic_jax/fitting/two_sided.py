"""Two-sided devices that can be fitted: symbols as in `hic_jax.pcm.two_sided`."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from hic_jax.fitting.likelihood import Constants
from hic_jax.fitting.models import Bounds, Model, traced
from hic_jax.fitting.trains import Trains
from hic_jax.pcm.presets import reram_2018
from hic_jax.pcm.two_sided import (
    ExpStepSpec,
    SoftBoundsSpec,
    TwoSidedSpec,
    TwoSidedState,
)

# Room beyond the measured range on both sides, over it and as far as zero: for ends
# that steps only tend to.
_ROOM = 0.5
_COMMON_BOUNDS: dict[str, Bounds] = {
    "step": (1e-7, 1.0),
    "asymmetry": (-0.9, 0.9),
    "step_noise": (1e-6, 100.0),
}


class TwoSided(Model):
    """What all of them have in common: steps in half ranges, ends, noise."""

    def fixed(self, trains: Trains) -> dict[str, Any]:
        """The range, with room, and its middle, where devices are made."""
        low, high = trains.range
        room = min(_ROOM * (high - low), low)
        middle = (low + high) / 2
        return {"g_min": low - room, "g_max": high + room, "reset_mean": middle}

    def _sizes(self, trains: Trains, fixed: Mapping[str, Any]) -> dict[str, Any]:
        """Steps up and down as they are in the mean, and their deviation."""
        _, change, _, up = trains.steps
        std = np.std(change)
        rise, fall = (max(x.mean(), 1e-3 * std) for x in (change[up], -change[~up]))
        step = (rise + fall) / 2
        return {
            "step": np.asarray(step / _half(fixed)),
            "asymmetry": np.clip((rise - fall) / (rise + fall), -0.8, 0.8),
            "step_noise": np.clip(std / step, 0.01, 90.0),
        }

    def _outermost(self, trains: Trains, fixed: Mapping[str, Any]) -> dict[str, float]:
        """Ends of the range as far as was measured, half ranges from the middle."""
        low, high = trains.range
        middle, half = fixed["reset_mean"], _half(fixed)
        return {"bottom": (low - middle) / half, "top": (high - middle) / half}

    def moments(
        self, constants: Constants, g: jax.Array, number: jax.Array, up: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The device's own."""
        del number
        device = traced(self.cls, constants)
        size, std = device.step_of(TwoSidedState(g=g), up)
        half = device.half_range
        return half * jnp.where(up, size, -size), half * std

    def ends(self, constants: Constants) -> tuple[jax.Array, jax.Array]:
        """Of the device, which lie within the range."""
        low, high = constants["g_min"], constants["g_max"]
        middle, half = (low + high) / 2, (high - low) / 2
        return middle + half * constants["bottom"], middle + half * constants["top"]

    def device(self, name: str, source: str, constants: Mapping[str, Any]) -> Any:
        """The device; its step is a median, its spread one of logarithms."""
        given = dict(constants)
        given["read_noise"] = given.pop("read_offset", 0.0) / _half(given)
        if "step_spread" in given:
            given["step_spread"], to_median, _ = _log_normal(given["step_spread"])
            given["step"] = given["step"] * to_median
        return super().device(name, source, given)

    def field_errors(
        self, errors: Mapping[str, Any], constants: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Also of the noise of reads; of steps without what their spread adds."""
        found = super().field_errors(errors, constants)
        if "read_offset" in errors:
            found["read_noise"] = errors["read_offset"] / _half(constants)
        if "step_spread" in errors:
            _, to_median, slope = _log_normal(constants["step_spread"])
            found["step_spread"] = errors["step_spread"] * slope
            found["step"] = errors["step"] * to_median
        return found


def _half(constants: Mapping[str, Any]) -> float:
    """Half of the range, uS."""
    return float(constants["g_max"] - constants["g_min"]) / 2


def _log_normal(spread: Any) -> tuple[float, float, float]:
    """Of a log-normal factor of mean one, by its standard deviation.

    Returns:
      The deviation of its logarithm, its median, and how fast the first grows with the
      deviation of the factor.
    """
    variance = math.log1p(float(spread) ** 2)
    deviation = math.sqrt(variance)
    slope = float(spread) / (1 + float(spread) ** 2) / deviation
    return deviation, math.exp(-variance / 2), slope


@dataclasses.dataclass(frozen=True)
class SoftBounds(TwoSided):
    """A `SoftBoundsSpec` whose steps vanish at the end they lead to."""

    name = "soft_bounds"
    cls: ClassVar[type[TwoSidedSpec]] = SoftBoundsSpec

    def starts(
        self, trains: Trains, fixed: Mapping[str, Any]
    ) -> list[dict[str, np.ndarray]]:
        """Steps as they are in the mean, ends a little beyond what was measured."""
        ends = self._outermost(trains, fixed)
        beyond = {
            "bottom": np.clip(1.2 * ends["bottom"], -1.0, -0.02),
            "top": np.clip(1.2 * ends["top"], 0.02, 1.0),
        }
        return [self._sizes(trains, fixed) | beyond]

    def bounds(self) -> dict[str, Bounds]:
        """Those of the device."""
        return _COMMON_BOUNDS | {"bottom": (-1.0, -0.01), "top": (0.01, 1.0)}


@dataclasses.dataclass(frozen=True)
class LinearStep(TwoSided):
    """A `SoftBoundsSpec` whose steps shrink by less before the ends of their range.

    Or not at all: steps may be constant.
    """

    name = "linear_step"
    cls: ClassVar[type[TwoSidedSpec]] = SoftBoundsSpec

    def fixed(self, trains: Trains) -> dict[str, Any]:
        """Also ends as far as was measured."""
        fixed = super().fixed(trains)
        return fixed | self._outermost(trains, fixed)

    def starts(
        self, trains: Trains, fixed: Mapping[str, Any]
    ) -> list[dict[str, np.ndarray]]:
        """Steps that lose little or much: short ramps tell the two hardly apart."""
        return [
            self._sizes(trains, fixed)
            | {"softness_up": np.asarray(lost), "softness_down": np.asarray(lost)}
            for lost in (0.1, 0.9)
        ]

    def bounds(self) -> dict[str, Bounds]:
        """Those of the device."""
        return _COMMON_BOUNDS | {"softness_up": (0.0, 1.0), "softness_down": (0.0, 1.0)}


@dataclasses.dataclass(frozen=True)
class ExpStep(TwoSided):
    """An `ExpStepSpec` whose exponents are counted as in `reram_2018`."""

    name = "exp_step"
    cls: ClassVar[type[TwoSidedSpec]] = ExpStepSpec

    def fixed(self, trains: Trains) -> dict[str, Any]:
        """Also ends as far as was measured, and the unit of exponents."""
        fixed = super().fixed(trains)
        unit = {name: getattr(reram_2018(), name) for name in ("z_slope", "z_offset")}
        return fixed | self._outermost(trains, fixed) | unit

    def starts(
        self, trains: Trains, fixed: Mapping[str, Any]
    ) -> list[dict[str, np.ndarray]]:
        """Steps that grow or shrink by several factors: the likelihood has maxima."""
        common = self._sizes(trains, fixed)
        return [
            common
            | {
                "factor_up": np.asarray(factor),
                "factor_down": np.asarray(factor),
                "exponent_up": np.asarray(exponent),
                "exponent_down": np.asarray(exponent),
            }
            for factor, exponent in ((-1.0, 5.0), (-0.1, 5.0), (0.3, 2.0))
        ]

    def bounds(self) -> dict[str, Bounds]:
        """Those of the device."""
        return _COMMON_BOUNDS | {
            "factor_up": (-100.0, 100.0),
            "factor_down": (-100.0, 100.0),
            # Below half of one an exponential is a line: factors would not be told.
            "exponent_up": (0.5, 20.0),
            "exponent_down": (0.5, 20.0),
        }
