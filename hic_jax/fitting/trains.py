"""Measured trains of pulses, as arrays, and what is seen in them at once."""

import dataclasses
from typing import Self

import numpy as np

# A device stands at the end of its range where several values are the same, and those
# next to them, so many, are not: rounded values are equal now and then.
_NEXT = 20
# What counts as the same, over the range: float32 and six decimals round more finely.
_SAME = 1e-5


@dataclasses.dataclass(frozen=True)
class Trains:
    """Ramps: conductances before the first pulse and after each one.

    Attributes:
      g: (ramps, pulses + 1) float64, uS; NaN behind the last value of a ramp.
      up: (ramps, pulses) bool, whether a pulse is a SET, towards higher conductance.
      device: (ramps,) int, the device, from 0.
      from_reset: (ramps,) bool, whether a ramp begins as a RESET leaves the device.
    """

    g: np.ndarray
    up: np.ndarray
    device: np.ndarray
    from_reset: np.ndarray

    @property
    def there(self) -> np.ndarray:
        """(ramps, pulses) bool: pulses before and after which there is a value."""
        return np.isfinite(np.diff(self.g, axis=1))

    @property
    def pulses(self) -> int:
        """How many pulses these are."""
        return int(self.there.sum())

    @property
    def devices(self) -> int:
        """Devices that were measured."""
        measured = np.isfinite(self.g).any(axis=1)
        return len(np.unique(self.device[measured]))

    @property
    def two_sided(self) -> bool:
        """Whether pulses of both directions are among them."""
        up = self.up[self.there]
        return bool(up.any() and not up.all())

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest conductance that was measured, uS."""
        return float(np.nanmin(self.g)), float(np.nanmax(self.g))

    @property
    def steps(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Of every pulse: conductance before, change, number in its ramp, direction.

        (n,) each, of the pulses whose effect was measured.
        """
        number = np.broadcast_to(np.arange(self.up.shape[1]), self.up.shape)
        before, change = self.g[:, :-1], np.diff(self.g, axis=1)
        there = self.there
        return before[there], change[there], number[there], self.up[there]

    def training(self, share: float) -> Self:
        """The first share of the ramps of every device, without the values of others.

        Of devices with one ramp each, the first devices; of fewer than four ramps in
        one direction, the first of every ten values of each.
        """
        if self.few:
            late = np.arange(self.g.shape[1]) % 10 >= 10 * share
            return dataclasses.replace(self, g=np.where(late, np.nan, self.g))
        single = self.devices == len(self.device)
        kept = np.zeros(len(self.device), bool)
        groups = self.up[:, 0] + (0 if single else 2 * self.device)
        for group in np.unique(groups):
            ramps = np.flatnonzero(groups == group)
            kept[ramps[: max(1, round(share * len(ramps)))]] = True
        return dataclasses.replace(self, g=np.where(kept[:, None], self.g, np.nan))

    @property
    def few(self) -> bool:
        """Whether fewer than four ramps begin in one of the directions."""
        _, counts = np.unique(self.up[:, 0], return_counts=True)
        return bool(counts.min() < 4)

    def pile(self, *, high: bool, at_reset: bool = False) -> float | None:
        """The end of the range where values pile up, uS; None if they do at none.

        Args:
          high: whether it is the upper end.
          at_reset: whether values after a RESET count, or those after pulses.
        """
        values = self.g[self.from_reset, 0] if at_reset else self.g[:, 1:]
        values = np.sort(values[np.isfinite(values)])
        if len(values) < 2:
            return None
        low, top = self.range
        values = values[::-1] if high else values
        # Values that are the same: as many as stand between two gaps.
        gaps = np.flatnonzero(abs(np.diff(values)) > _SAME * (top - low))
        counts = np.diff(np.r_[-1, gaps, len(values) - 1])
        most = int(counts[1 : _NEXT + 1].max(initial=1))
        return float(values[0]) if counts[0] > (1 if most == 1 else 3 * most) else None

    def are_at(self, end: float | None) -> np.ndarray:
        """Which values are that end of the range, (ramps, pulses + 1) bool."""
        if end is None:
            return np.zeros(self.g.shape, bool)
        low, top = self.range
        return abs(self.g - end) <= _SAME * (top - low)
