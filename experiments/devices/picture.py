"""The picture of a fitted device: ramps, the band that it foretells, residuals."""

from pathlib import Path

import numpy as np

from experiments import drawing
from hic_jax.fitting import foretold
from hic_jax.fitting.maximum import Fit
from hic_jax.fitting.trains import Trains
from hic_jax.pcm.device import DeviceSpec

# Ramps that are drawn; more are a grey wall.
_MOST_RAMPS = 60
_COLOUR = drawing.COLOURS["multilevel"]


def picture(path: Path, device: DeviceSpec, fit: Fit, trains: Trains) -> None:
    """Draws ramps in grey under mean and band of the device, and residuals below.

    Args:
      path: of the picture.
      device: as it was fitted.
      fit: of the device.
      trains: what it was fitted to.
    """
    mean, std = foretold.next_ones(fit, trains)
    left = (trains.g[:, 1:] - mean) / std
    bands = foretold.bands(device, trains, trains)
    ups = "up pulses" if trains.two_sided else "SET pulses"
    with drawing.figure(path, columns=len(bands), rows=2, height=6.0) as all_axes:
        above, below = all_axes[: len(bands)], all_axes[len(bands) :]
        for band, ramps, residuals in zip(bands, above, below, strict=True):
            words = ups if trains.up[band.ramps[0], 0] else "down pulses"
            chosen = band.ramps[:: max(1, len(band.ramps) // _MOST_RAMPS)]
            pulses = np.arange(len(band.mean))
            for i, ramp in enumerate(chosen):
                label = "measured" if i == 0 else None
                ramps.plot(
                    pulses,
                    trains.g[ramp, : len(pulses)],
                    color="0.6",
                    linewidth=0.6,
                    label=label,
                )
            ramps.fill_between(
                pulses, band.low, band.high, color=_COLOUR, alpha=0.25, linewidth=0,
                label="95 % of fitted devices",
            )  # fmt: skip
            ramps.plot(pulses, band.mean, color=_COLOUR, label="mean of fitted devices")
            ramps.set(ylabel="conductance (uS)", xlabel=words)
            for ramp in chosen:
                residuals.plot(
                    pulses[1:], left[ramp, : len(pulses) - 1], ".", color="0.5",
                    markersize=2, alpha=0.5, markeredgewidth=0,
                )  # fmt: skip
            for line in (-1.96, 1.96):
                residuals.axhline(line, color=_COLOUR, linewidth=1.0, linestyle="--")
            residuals.set(
                ylabel="next value off by\n(standard deviations)", xlabel=words
            )
            most = max(4.0, min(8.0, float(np.nanmax(abs(left[band.ramps])))))
            residuals.set_ylim(-most, most)
        drawing.legend_below(above, ncols=3)
