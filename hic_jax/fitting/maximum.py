"""Maximum likelihood: constants of a model, and how well measured trains tell them."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize, stats

from hic_jax.fitting import likelihood
from hic_jax.fitting.likelihood import Data
from hic_jax.fitting.models import Model
from hic_jax.fitting.trains import Trains
from hic_jax.releases import enable_x64

# Constants that the noise of reads and the spread of devices add are kept only if they
# are seen so clearly: a chance of one in a thousand where there is none.
_SEEN = float(stats.chi2.ppf(0.998, 1)) / 2  # Half of it lies at zero.
_NEWTON_STEPS = 30
# At such a share of its bounds a constant counts as lying at one.
_AT_BOUND = 1e-9
_IMPOSSIBLE = 1e12


@dataclasses.dataclass(frozen=True)
class Fit:
    """A model fitted to trains.

    Attributes:
      model: what was fitted.
      constants: free constants, by fields of the device, and those of the noise with
        which values were read.
      errors: standard errors of these; NaN where a constant lies at its bound, or the
        trains do not tell it.
      fixed: other fields of the device that follow from the trains.
      log_likelihood: of all pulses.
      reads: whether values were found to be read with noise.
      spread: whether devices were found to have steps of their own size.
    """

    model: Model
    constants: dict[str, np.ndarray]
    errors: dict[str, np.ndarray]
    fixed: dict[str, Any]
    log_likelihood: float
    reads: bool
    spread: bool

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
            unravel = _Unravel(self.constants)
            found = _by_device(
                unravel.vector(self.constants), _arrays(self.fixed), Data.of(trains),
                unravel, self.model, self.reads, self.spread,
            )  # fmt: skip
            return float(jnp.sum(found))


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
        if _Unravel(known) == _Unravel(starts[0]):  # A table may have got more places.
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
    with enable_x64(True):
        unravel = _Unravel(starts[0])
        low, high = (
            unravel.vector({k: np.full(s, bounds[k][i]) for k, s in unravel.shapes})
            for i in (0, 1)
        )
        low = np.maximum(low, unravel.vector(_least(starts[0], noise)))
        arguments = _arrays(fixed), Data.of(trains), unravel, model, reads, spread
        tried = [
            _maximum(unravel.vector(found), low, high, arguments) for found in starts
        ]
        vector, value = max(tried, key=lambda found: found[1])
        if not np.isfinite(value):
            raise ValueError(
                f"model={model.name}: must be another one, because no constants make "
                "these trains likely"
            )
        errors = _standard_errors(vector, low, high, arguments)
    return Fit(
        model=model,
        constants=unravel(vector),
        errors=unravel(errors),
        fixed=fixed,
        log_likelihood=value,
        reads=reads,
        spread=spread,
    )


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


class _Unravel:
    """Constants by name of a vector; equal, and of one hash, for equal shapes."""

    def __init__(self, constants: dict[str, Any]):
        self.shapes = tuple((k, np.shape(v)) for k, v in sorted(constants.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Unravel) and self.shapes == other.shapes

    def __hash__(self) -> int:
        return hash(self.shapes)

    def __call__(self, vector: Any) -> dict[str, Any]:
        found, at = {}, 0
        for name, shape in self.shapes:
            size = math.prod(shape)
            found[name] = vector[at : at + size].reshape(shape)
            at += size
        return found

    def vector(self, constants: dict[str, Any]) -> np.ndarray:
        """The vector of constants."""
        return np.concatenate([np.ravel(constants[k]) for k, _ in self.shapes])


def _arrays(fixed: dict[str, Any]) -> dict[str, jax.Array]:
    return {k: jnp.asarray(v, jnp.float64) for k, v in fixed.items()}


_STATIC = (3, 4, 5, 6)


@functools.partial(jax.jit, static_argnums=_STATIC)
def _by_device(vector, fixed, data, unravel, model, reads, spread):
    constants = {**fixed, **unravel(vector)}
    return likelihood.by_device(model, constants, data, reads=reads, spread=spread)


def _loss(vector, *arguments):
    found = -jnp.sum(_by_device(vector, *arguments))
    # What is no number is no place for a maximum.
    return jnp.where(jnp.isfinite(found), found, _IMPOSSIBLE)


_slope = jax.jit(jax.value_and_grad(_loss), static_argnums=_STATIC)
_hessian = jax.jit(jax.hessian(_loss), static_argnums=_STATIC)
_scores = jax.jit(jax.jacobian(_by_device), static_argnums=_STATIC)


def _maximum(
    vector: np.ndarray, low: np.ndarray, high: np.ndarray, arguments: tuple
) -> tuple[np.ndarray, float]:
    """The place of the greatest likelihood within bounds, and its logarithm there."""
    vector = np.clip(vector, low, high)
    # In units in which the likelihood falls about alike in all directions.
    curvature = np.abs(np.diag(_hessian(vector, *arguments)))
    known = np.isfinite(curvature) & (curvature > 0)
    unit = np.where(known, 1 / np.sqrt(np.where(known, curvature, 1.0)), 1.0)
    unit = np.minimum(unit, np.maximum(abs(vector), 1e-3))

    def scaled(x):
        value, slope = _slope(vector + x * unit, *arguments)
        return float(value), np.asarray(slope) * unit

    bounds = np.stack([(low - vector) / unit, (high - vector) / unit], axis=1)
    found = optimize.minimize(
        scaled,
        np.zeros_like(vector),
        jac=True,
        bounds=bounds,
        method="L-BFGS-B",
        options={
            "maxiter": 2000,
            "maxfun": 4000,
            "ftol": 1e-13,
            "gtol": 1e-6,
            "maxcor": 10,
        },
    )
    vector = np.clip(vector + found.x * unit, low, high)
    vector = _polished(vector, low, high, arguments)
    value = float(_loss(vector, *arguments))
    return vector, -value if value < _IMPOSSIBLE else -math.inf


def _polished(
    vector: np.ndarray, low: np.ndarray, high: np.ndarray, arguments: tuple
) -> np.ndarray:
    """The same place to the last digits, by Newton's steps off the bounds."""
    value, slope = _slope(vector, *arguments)
    for _ in range(_NEWTON_STEPS):
        free = _free(vector, low, high)
        hessian = np.asarray(_hessian(vector, *arguments))[np.ix_(free, free)]
        try:
            step = np.linalg.solve(hessian, -np.asarray(slope)[free])
        except np.linalg.LinAlgError:
            break
        trial = vector.copy()
        trial[free] += step
        trial = np.clip(trial, low, high)
        new, new_slope = _slope(trial, *arguments)
        if not new < value:
            break
        done = value - new < 1e-9
        vector, value, slope = trial, new, new_slope
        if done:
            break
    return vector


def _free(vector: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Which constants lie at neither of their bounds."""
    near = _AT_BOUND * np.maximum(1.0, abs(vector))
    return (vector > low + near) & (vector < high - near)


def _standard_errors(
    vector: np.ndarray, low: np.ndarray, high: np.ndarray, arguments: tuple
) -> np.ndarray:
    """By the curvature of the likelihood at its maximum."""
    free = _free(vector, low, high)
    hessian = np.asarray(_hessian(vector, *arguments))[np.ix_(free, free)]
    errors = np.full(vector.shape, np.nan)
    try:
        variance = np.diag(np.linalg.inv(hessian))
    except np.linalg.LinAlgError:
        return errors
    errors[free] = np.where(variance > 0, np.sqrt(np.abs(variance)), np.nan)
    return errors
