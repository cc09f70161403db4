"""Maximum likelihood: constants of a model, and how well measured trains tell them."""

import dataclasses
import functools
from typing import Any

import numpy as np
from scipy import optimize, stats

from hic_jax.fitting.likelihood import Data
from hic_jax.fitting.models import Model
from hic_jax.fitting.standard_errors import standard_errors
from hic_jax.fitting.surface import IMPOSSIBLE, Surface, Unravel
from hic_jax.fitting.trains import Trains
from hic_jax.releases import enable_x64

# Constants that the noise of reads and the spread of devices add are kept only if they
# are seen so clearly: a chance of one in a thousand where there is none.
_SEEN = float(stats.chi2.ppf(0.998, 1)) / 2  # Half of it lies at zero.


@dataclasses.dataclass(frozen=True)
class Fit:
    """A model fitted to trains.

    Attributes:
      constants: free constants, by fields of the device, and those of the noise with
        which values were read.
      log_likelihood: of all pulses.
      surface: the likelihood around it.
    """

    constants: dict[str, np.ndarray]
    log_likelihood: float
    surface: Surface

    @property
    def model(self) -> Model:
        """What was fitted."""
        return self.surface.model

    @property
    def fixed(self) -> dict[str, Any]:
        """Other fields of the device, which follow from the trains."""
        return self.surface.fixed

    @property
    def reads(self) -> bool:
        """Whether values were found to be read with noise."""
        return self.surface.reads

    @property
    def spread(self) -> bool:
        """Whether devices were found to have steps of their own size."""
        return self.surface.spread

    @functools.cached_property
    def errors(self) -> dict[str, np.ndarray]:
        """Standard errors of the constants; NaN of what the trains do not tell."""
        unravel = self.surface.unravel
        with enable_x64(True):
            vector = unravel.vector(self.constants)
            return unravel(standard_errors(self.surface, vector))

    @property
    def lingers(self) -> bool:
        """Whether a share of the noise of reads was found to linger to the next."""
        return "read_lingering" in self.constants

    @property
    def all_constants(self) -> dict[str, Any]:
        """Free ones and fixed ones."""
        return {**self.fixed, **self.constants}

    @property
    def free(self) -> int:
        """Numbers that were fitted."""
        return sum(np.size(x) for x in self.constants.values())

    def log_likelihood_of(self, trains: Trains) -> float:
        """Of other trains, with these constants."""
        with enable_x64(True):
            of_others = dataclasses.replace(self.surface, data=Data.of(trains))
            return -of_others(of_others.unravel.vector(self.constants))


def fit(
    model: Model,
    trains: Trains,
    *,
    start: Fit | None = None,
    whole: Trains | None = None,
) -> Fit:
    """Fits a model: with noise of reads and spread of devices, where they are seen.

    Args:
      model: what is fitted.
      trains: what it is fitted to.
      start: a fit of the model to a part of the trains, to save time. Only if noise of
        reads lingers in it, that is looked for: see `choice.judged`.
      whole: trains that these are a part of, whose range the device has.

    Raises:
      ValueError: if no constants make the trains likely.
    """
    of = functools.partial(fit_with, model, trains, whole=whole)
    found = of(reads=False, spread=False, start=start)
    # Read with noise, no two values would be the same at an end of the range.
    piles = [trains.pile(high=high) for high in (False, True)]
    if piles == [None, None]:
        more = of(reads=True, spread=False, start=found)
        found = likelier(found, more)
    if found.reads and start and start.lingers:
        more = of(reads=True, lingers=True, spread=False, start=found)
        found = likelier(found, more)
    if trains.devices > 1:
        more = of(reads=found.reads, lingers=found.lingers, spread=True, start=found)
        found = likelier(found, more)
    return found


def likelier(found: Fit, more: Fit) -> Fit:
    """The fit with a constant or two more, if that is seen clearly."""
    return more if more.log_likelihood > found.log_likelihood + _SEEN else found


def fit_with(
    model: Model,
    trains: Trains,
    *,
    reads: bool,
    spread: bool,
    lingers: bool = False,
    start: Fit | None = None,
    whole: Trains | None = None,
) -> Fit:
    """Fits a model with or without noise of reads and spread of devices.

    Args:
      model: what is fitted.
      trains: what it is fitted to.
      reads: whether values were read with noise.
      spread: whether devices have steps of their own size.
      lingers: whether a share of the noise of reads lingers to the next.
      start: a fit to begin from.
      whole: see `fit`.

    Raises:
      ValueError: if no constants make the trains likely.
    """
    fixed = model.fixed(trains if whole is None else whole)
    first = trains.g[trains.from_reset, 0]
    first = first[np.isfinite(first)]
    if len(first):
        fixed.setdefault("reset_mean", float(np.mean(first)))
    common: dict[str, Any] = {}
    if len(first) > 2 and np.std(first) > 0:
        common = {"reset_mean": np.mean(first), "reset_std": np.std(first)}
    bounds = dict(model.bounds()) | _OTHER_BOUNDS
    noise = float(np.std(trains.steps[1])) + 1e-9
    if reads:
        common["read_offset"] = np.asarray(0.3 * noise)
    if spread:
        common["step_spread"] = np.asarray(0.1)
    starts = model.starts(trains, fixed)
    if start:
        known = {name: start.constants[name] for name in starts[0]}
        if Unravel(known) == Unravel(starts[0]):  # A table may have got more places.
            starts = [known]
            # Lingering noise moves the others far: what was found is where they begin.
            common |= {k: start.constants[k] for k in common if k in start.constants}
    starts = [common | found for found in starts]
    if lingers:
        starts = [
            found
            | {"read_lingering": np.asarray(0.5), "read_correlation": np.asarray(x)}
            for found in starts
            for x in _CORRELATIONS
        ]
    unravel = Unravel(starts[0])
    low, high = (
        unravel.vector({k: np.full(s, bounds[k][i]) for k, s in unravel.shapes})
        for i in (0, 1)
    )
    low = np.maximum(low, unravel.vector(_least(starts[0], noise)))
    with enable_x64(True):
        data = Data.of(trains)
        surface = Surface(model, fixed, data, unravel, low, high, reads, spread)
        tried = [_lowest(surface, unravel.vector(found)) for found in starts]
    vector, value = min(tried, key=lambda found: found[1])
    if not value < IMPOSSIBLE:
        raise ValueError(
            f"model={model.name}: must be another one, because no constants make "
            "these trains likely"
        )
    return Fit(unravel(vector), -value, surface)


# Constants of noise that lingers: of no device, which reads it anew each time.
LINGERING = ("read_lingering", "read_correlation")
# From a read to the next, where a fit begins: for two reads and for ten.
_CORRELATIONS = 0.5, 0.9
# Of constants that no model has for itself; what data can tell from zero begins above.
_OTHER_BOUNDS = {
    "reset_mean": (0.0, np.inf),
    "reset_std": (0.0, np.inf),
    "read_offset": (0.0, np.inf),
    "read_lingering": (0.0, 1.0),
    "read_correlation": (0.0, 0.999),
    "step_spread": (1e-3, 2.0),
}


def _least(constants: dict[str, Any], noise: float) -> dict[str, np.ndarray]:
    """Lower bounds of deviations: what no data can tell from zero."""
    floor = {"reset_std": 1e-6 * noise, "read_offset": 1e-3 * noise}
    return {
        k: np.full(np.shape(v), floor.get(k, -np.inf)) for k, v in constants.items()
    }


def _lowest(surface: Surface, vector: np.ndarray) -> tuple[np.ndarray, float]:
    """The lowest place of the surface that is found from there, and its value."""
    vector = np.clip(vector, surface.low, surface.high)
    # In units in which the likelihood falls about alike in all directions.
    curvature = np.abs(np.diag(surface.hessian(vector)))
    known = np.isfinite(curvature) & (curvature > 0)
    unit = np.where(known, 1 / np.sqrt(np.where(known, curvature, 1.0)), 1.0)
    unit = np.minimum(unit, np.maximum(abs(vector), 1e-3))

    def scaled(x):
        value, slope = surface.slope(vector + x * unit)
        return value, slope * unit

    bounds = [(surface.low - vector) / unit, (surface.high - vector) / unit]
    found = optimize.minimize(
        scaled,
        np.zeros_like(vector),
        jac=True,
        bounds=np.stack(bounds, axis=1),
        method="L-BFGS-B",
        options={
            "maxiter": 2000,
            "maxfun": 4000,
            "ftol": 1e-13,
            "gtol": 1e-6,
            "maxcor": 10,
        },
    )
    return surface.polished(vector + found.x * unit)
