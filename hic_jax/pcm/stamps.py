"""When devices were last written, in 16 bits each.

A stamp is a float16: the time of a write, counted from an epoch that all devices share
and that follows the clock. So it has two kinds of error, both small beside the age that
they are an error of. What was written since the epoch is known to 1/512 of a unit, and
a unit is at most twice the age at which devices begin to drift. What was written before
is known to 1/1024 of its age: with an exponent of 0.04 that is 4e-5 of a conductance.

The epoch moves by powers of two, which the stamps of old writes are multiples of, so
that their errors do not add up. For that its moves grow with the clock: from 16,384
units on (a million seconds, ten million training steps) what is new is known to a
millionth of the clock.
"""

import math
import numbers
from typing import Self

import jax
import jax.numpy as jnp
from flax import struct

# Units in a stamp of 1: ages of 2.7e8 units are the oldest that a stamp tells, and what
# float16 holds without subnormal numbers, which not all hardware has, begins at 1/4.
_UNITS = 4096.0
_OLDEST = float(jnp.finfo(jnp.float16).max)
# The epoch follows when the clock is so many units ahead, or this share of the clock.
_AHEAD = 8.0
_SHARE_EXPONENT = -11
# A unit is not longer: the ages in `hic_jax.checks` can be told in it.
_LONGEST = 64.0


class Stamps(struct.PyTreeNode):
    """Times of the last write, an entry per device.

    Attributes:
      stamps: float16, times after ``epoch``, in 4096 units.
      epoch: () float32, s.
      unit: s, a power of two, static.
    """

    stamps: jax.Array
    epoch: jax.Array
    unit: float = struct.field(pytree_node=False)

    @classmethod
    def at_zero(cls, shape: tuple[int, ...], seconds: float) -> Self:
        """Devices that were written at time 0.

        Args:
          shape: of the devices.
          seconds: age that is to be told from 0: the youngest at which anything
            changes, or what the clock advances by.
        """
        unit = 2.0 ** math.ceil(math.log2(min(max(seconds, 1e-6), _LONGEST)))
        return cls(jnp.zeros(shape, jnp.float16), jnp.zeros((), jnp.float32), unit)

    @property
    def times(self) -> jax.Array:
        """Times of the last write, float32, s."""
        return self.epoch + self._after_epoch

    def ages(self, time: jax.Array) -> jax.Array:
        """Ages at a time, float32, s."""
        return (time - self.epoch) - self._after_epoch

    def written(self, time: jax.Array, where: jax.Array | bool = True) -> Self:
        """The stamps after a write of some devices.

        Args:
          time: s.
          where: bool, the shape of the stamps, or all.
        """
        now = self._stamp(time - self.epoch)
        return self.replace(stamps=jnp.where(where, now, self.stamps))

    def set_back(self, seconds: jax.Array | float) -> Self:
        """All writes so much further back.

        Raises:
          ValueError: for more seconds than stamps can tell, if it is a number.
        """
        oldest = _OLDEST * self._scale
        if isinstance(seconds, numbers.Real) and seconds > oldest:
            raise ValueError(
                f"seconds={seconds}: must be at most {oldest:.3g}, the oldest that "
                f"stamps in units of {self.unit:g} s tell, where devices drift so early"
            )
        # A map, because an nnx.Optimizer holds variables instead of arrays.
        return self.replace(epoch=jax.tree.map(lambda x: x - seconds, self.epoch))

    def following(self, time: jax.Array) -> Self:
        """The same times, counted from near the clock where it has left the epoch."""
        _, exponent = jnp.frexp(time)
        move = jnp.ldexp(jnp.float32(1.0), exponent + _SHARE_EXPONENT)
        move = jnp.maximum(move, _AHEAD * self.unit)
        moved = jnp.floor((time - self.epoch) / move) * move
        stamps = jax.lax.cond(
            moved > 0,
            lambda stamps: self._stamp(self._after_epoch - moved),
            lambda stamps: stamps,
            self.stamps,
        )
        return self.replace(stamps=stamps, epoch=self.epoch + moved)

    @property
    def _scale(self) -> float:
        return _UNITS * self.unit

    @property
    def _after_epoch(self) -> jax.Array:
        return self.stamps.astype(jnp.float32) * self._scale

    def _stamp(self, seconds: jax.Array) -> jax.Array:
        stamp = jnp.clip(seconds / self._scale, -_OLDEST, _OLDEST)
        return stamp.astype(jnp.float16)
