"""Devices as they were measured: steps by conductance, in a table.

Between the conductances of the table the mean of a step and its standard deviation are
interpolated, beyond them they stay. Nothing is remembered: what a pulse does follows
from where the device stands. `hic_jax.fitting` makes such tables of measured trains.
"""

import dataclasses
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from hic_jax import checks
from hic_jax.pcm.device import LARGEST_US, SMALLEST_STEP_US
from hic_jax.pcm.drifting import DriftingSpec, DriftingState, unpacked_draws

Column = float | tuple[float, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableSpec(DriftingSpec):
    """A device whose SET steps follow from conductance, by a table.

    A number in the place of a column holds at all conductances.

    Attributes:
      at: conductances of the table, rising, uS.
      up_mean: mean SET steps there, uS.
      up_std: standard deviations of SET steps there, uS.
    """

    at: tuple[float, ...]
    up_mean: Column
    up_std: Column

    COLUMNS: ClassVar[tuple[str, ...]] = ("up_mean", "up_std")
    NOT_NUMBERS = (*DriftingSpec.NOT_NUMBERS, "at", "up_mean", "up_std")
    NON_IDEALITIES: ClassVar[dict[str, tuple[str, ...]]] = {
        "nonlinearity": (),
        "write_noise": ("up_std", "reset_std"),
        **DriftingSpec.NON_IDEALITIES,
    }

    def __post_init__(self):
        object.__setattr__(self, "at", tuple(self.at))
        at = self.at
        for value in at:
            checks.within("at", value, 0.0, LARGEST_US)
        if len(at) < 2 or np.any(np.diff(np.asarray(at, np.float32)) <= 0):
            raise ValueError(
                f"at={at}: must be two conductances or more, rising, in float32, too"
            )
        for name in self.COLUMNS:
            self._check_column(name, getattr(self, name))
        super().__post_init__()
        if self.mean_step < SMALLEST_STEP_US:
            raise ValueError(
                f"up_mean={self.up_mean}: SET pulses must add to the mean conductance "
                f"after a RESET, at least {SMALLEST_STEP_US} uS each"
            )

    def _check_column(self, name: str, column: Column) -> None:
        """Raises unless a column fits the table; JSON's lists become tuples."""
        if not isinstance(column, int | float):
            column = tuple(column)
            object.__setattr__(self, name, column)
            if len(column) != len(self.at):
                raise ValueError(
                    f"{name}={column}: must be {len(self.at)} numbers, as many as at "
                    "has, or one"
                )
        low = 0.0 if name.endswith("_std") else -LARGEST_US
        for value in np.ravel(column).tolist():
            checks.within(name, value, low, LARGEST_US)

    def fresh(self, shape: tuple[int, ...]) -> DriftingState:
        """Devices as after a RESET without noise, all alike."""
        return DriftingState(g=jnp.full(shape, self.reset_mean, jnp.float32))

    def expected_step(
        self, measured: jax.Array, state: DriftingState, up: jax.Array | bool = True
    ) -> tuple[jax.Array, jax.Array]:
        """Mean and standard deviation of the step, interpolated, uS."""
        del state, up
        return self._at(measured, self.up_mean), self._at(measured, self.up_std)

    def _at(self, g: jax.Array, column: Column) -> jax.Array:
        at = jnp.asarray(self.at)
        return jnp.interp(g, at, jnp.broadcast_to(jnp.asarray(column), at.shape))

    def step_std(self, g: float) -> float:
        """Standard deviation of a SET step at conductance ``g``, uS."""
        return float(np.interp(g, self.at, np.broadcast_to(self.up_std, len(self.at))))

    def without(self, *names: str) -> Self:
        """The same device with some non-idealities switched off.

        Args:
          *names: of ``NON_IDEALITIES``.

        Returns:
          A new spec. Without the non-linearity every step is `mean_step` in the mean,
          before clipping.
        """
        device = self
        if "nonlinearity" in names and np.ptp(self.up_mean) > 0:
            device = dataclasses.replace(self, **self._linear())
        return super(TableSpec, device).without(*names)

    def _linear(self) -> dict[str, Any]:
        """Steps of one size."""
        return {"up_mean": self.mean_step}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwoSidedTableSpec(TableSpec):
    """A device whose steps up and down follow from conductance, by a table.

    Attributes:
      down_mean: mean size of steps down, uS.
      down_std: standard deviations of steps down, uS.
    """

    down_mean: Column
    down_std: Column

    TWO_SIDED: ClassVar[bool] = True
    COLUMNS = (*TableSpec.COLUMNS, "down_mean", "down_std")
    NOT_NUMBERS = (*TableSpec.NOT_NUMBERS, "down_mean", "down_std")
    NON_IDEALITIES: ClassVar[dict[str, tuple[str, ...]]] = {
        **TableSpec.NON_IDEALITIES,
        "write_noise": ("up_std", "down_std", "reset_std"),
    }

    def pulse(
        self, state: DriftingState, normal: jax.Array, up: jax.Array | bool = True
    ) -> DriftingState:
        """Applies one blind pulse, up or down; no device leaves [g_min, g_max]."""
        mean, std = self.expected_step(state.g, state, up)
        if state.step is not None:
            mean = mean * self.step_factors(unpacked_draws(state.step))
        size = mean + std * normal
        g = state.g + jnp.where(up, size, -size)
        return state.replace(g=jnp.clip(g, self.g_min, self.g_max))

    def expected_step(
        self, measured: jax.Array, state: DriftingState, up: jax.Array | bool = True
    ) -> tuple[jax.Array, jax.Array]:
        """Mean and standard deviation of the size of the step, interpolated, uS."""
        rise = super().expected_step(measured, state)
        fall = self._at(measured, self.down_mean), self._at(measured, self.down_std)
        return jnp.where(up, rise[0], fall[0]), jnp.where(up, rise[1], fall[1])

    def _linear(self) -> dict[str, Any]:
        """Steps of one size, the same up and down."""
        return {"up_mean": self.mean_step, "down_mean": self.mean_step}
