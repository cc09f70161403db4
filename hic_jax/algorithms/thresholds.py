"""What of a `PairSpec` is in uS, or counts steps, for devices of any range."""

import math
from typing import Any

import numpy as np

from hic_jax.pcm.device import DeviceSpec

# What the usual values are on `nandakumar_2018`, over the 9.3 uS that twenty pulses add
# in the mean, and these over all that pulses add.
_MOST_PULSES = 255
_REACH, _FULL_SCALE, _REFRESH_ABOVE, _REFRESH_COMMON = 0.9, 2 / 3, 0.26, 0.043


def suited_to(device: DeviceSpec) -> dict[str, Any]:
    """Fields of a `PairSpec` that suit a device, in the proportions of the usual ones.

    They follow from where SET pulses lead in the mean: weights of two thirds of the
    reach, and refreshes from a quarter of it on. Of two-sided devices none does: their
    weights have a share of the range anyhow.

    Args:
      device: the devices of the pairs.
    """
    if device.TWO_SIDED:
        return {}
    trajectory = device.mean_trajectory(_MOST_PULSES)
    gained = trajectory - trajectory[0]
    # Until nothing much is gained: 20 pulses lead 0.9 of the way there.
    pulses = max(int(np.searchsorted(gained, _REACH * gained[-1])), 1)
    reach = float(gained[pulses])
    steps = max(_FULL_SCALE * reach / device.mean_step, 1.0)
    return {
        "refresh_pulses": pulses,
        "multilevel_bits": min(max(round(math.log2(steps)) + 1, 2), 8),
        "refresh_above": device.reset_mean + _REFRESH_ABOVE * reach,
        "refresh_common": device.reset_mean + _REFRESH_COMMON * reach,
    }
