"""How long the read noise of a device stays what it is: its variance by duration.

The 1/f noise of a device has as much variance in every decade of durations, from the
length of a read to the age of the device. What of it lasts for hours is a property of
the device to all who read it within them; what lasts less than a product of its array
is another one in every product; what is between is drawn at every read.

Of the noise of a year, at a read time of 250 ns, 28 % lasts longer than an hour, 46 %
from an hour down to a millisecond, and 26 % less. That the noise is log-uniform down to
the read time is how the model of Nandakumar et al. (ICECS 2019), as IBM's aihwkit has
it, lets it grow with age; the hour and the millisecond are choices of this project.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

# Networks are calibrated and used within an hour, and an image takes a millisecond.
SLOW_SECONDS = 3600.0
PRODUCT_SECONDS = 1e-3

# All of it new at every read; in every product; or of all durations.
Spectrum = Literal["per_read", "white", "flicker"]


class Parts(NamedTuple):
    """A variance, or shares of it, by how long the noise stays.

    Attributes:
      slow: of what stays for hours.
      read: of what is new at every read.
      fresh: of what is new in every product.
    """

    slow: jax.Array | float
    read: jax.Array | float
    fresh: jax.Array | float

    def times(self, variance: jax.Array) -> "Parts":
        """The parts of a variance of which these are the shares."""
        return Parts(*(share * variance for share in self))


def shares(spectrum: Spectrum, age: jax.Array, read_time: float) -> Parts:
    """Shares of the variance of read noise.

    Args:
      spectrum: which noise it is.
      age: s since the last write of each device.
      read_time: shortest duration of flicker noise, s.

    Returns:
      Three shares, which add up to 1.
    """
    if spectrum == "per_read":
        return Parts(0.0, 1.0, 0.0)
    if spectrum == "white":
        return Parts(0.0, 0.0, 1.0)
    age = jnp.maximum(age, PRODUCT_SECONDS)
    decades = jnp.log(age / read_time)
    slow = jnp.log(jnp.maximum(age / SLOW_SECONDS, 1.0)) / decades
    fresh = jnp.log(PRODUCT_SECONDS / read_time) / decades
    return Parts(slow, jnp.maximum(1.0 - slow - fresh, 0.0), fresh)
