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


class TwoSided(Model):
    """What both models have in common: steps in half ranges, ends, noise."""

    def fixed(self, trains: Trains) -> dict[str, Any]:
        """The range, with room, and its middle, where devices are made."""
        low, high = trains.range
        room = min(_ROOM * (high - low), low)
        middle = (low + high) / 2
        return {"g_min": low - room, "g_max": high + room, "reset_mean": middle}

    def _sizes(
        self, trains: Trains, fixed: Mapping[str, Any]
    ) -> tuple[float, float, float, float]:
        """Mean sizes of steps up and down, their deviation, and ends, half ranges."""
        _, change, _, up = trains.steps
        half = _half(fixed)
        least = 1e-3 * np.std(change)
        rise, fall = max(change[up].mean(), least), max(-change[~up].mean(), least)
        return rise / half, fall / half, float(np.std(change)) / half, half

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
        rise, fall, std, half = self._sizes(trains, fixed)
        ends = [(end - fixed["reset_mean"]) / half for end in trains.range]
        step = (rise + fall) / 2
        found = {
            "step": step,
            "asymmetry": np.clip((rise - fall) / (rise + fall), -0.8, 0.8),
            "bottom": np.clip(1.2 * ends[0], -1.0, -0.02),
            "top": np.clip(1.2 * ends[1], 0.02, 1.0),
            "step_noise": np.clip(std / step, 0.01, 90.0),
        }
        return [{name: np.asarray(value) for name, value in found.items()}]

    def bounds(self) -> dict[str, Bounds]:
        """Those of the device."""
        return {
            "step": (1e-7, 1.0),
            "asymmetry": (-0.9, 0.9),
            "bottom": (-1.0, -0.01),
            "top": (0.01, 1.0),
            "step_noise": (1e-6, 100.0),
        }


@dataclasses.dataclass(frozen=True)
class ExpStep(TwoSided):
    """An `ExpStepSpec` whose exponents are counted as in `reram_2018`."""

    name = "exp_step"
    cls: ClassVar[type[TwoSidedSpec]] = ExpStepSpec

    def fixed(self, trains: Trains) -> dict[str, Any]:
        """Also ends as far as was measured, and the unit of exponents."""
        fixed = super().fixed(trains)
        half = _half(fixed)
        bottom, top = ((end - fixed["reset_mean"]) / half for end in trains.range)
        unit = reram_2018()
        return fixed | {
            "bottom": bottom,
            "top": top,
            "z_slope": unit.z_slope,
            "z_offset": unit.z_offset,
        }

    def starts(
        self, trains: Trains, fixed: Mapping[str, Any]
    ) -> list[dict[str, np.ndarray]]:
        """Steps that grow or shrink by several factors: the likelihood has maxima."""
        rise, fall, std, _ = self._sizes(trains, fixed)
        step = (rise + fall) / 2
        common = {
            "step": step,
            "asymmetry": np.clip((rise - fall) / (rise + fall), -0.8, 0.8),
            "step_noise": np.clip(std / step, 0.01, 90.0),
        }
        return [
            {
                name: np.asarray(value)
                for name, value in {
                    **common,
                    "factor_up": factor,
                    "factor_down": factor,
                    "exponent_up": exponent,
                    "exponent_down": exponent,
                }.items()
            }
            for factor, exponent in ((-1.0, 5.0), (-0.1, 5.0), (0.3, 2.0))
        ]

    def bounds(self) -> dict[str, Bounds]:
        """Those of the device."""
        return {
            "step": (1e-7, 1.0),
            "asymmetry": (-0.9, 0.9),
            "step_noise": (1e-6, 100.0),
            "factor_up": (-100.0, 100.0),
            "factor_down": (-100.0, 100.0),
            # Below half of one an exponential is a line: factors would not be told.
            "exponent_up": (0.5, 20.0),
            "exponent_down": (0.5, 20.0),
        }
