"""Standard errors of constants, by the likelihood around its maximum."""

import math

import numpy as np
from scipy import optimize

from hic_jax.fitting.surface import Surface

# Errors that the range of a constant has to leave room for, or they are not those of a
# normal likelihood; how far such a one has fallen there, as a logarithm.
_SIGMAS = 3.0
_FALL = _SIGMAS**2 / 2
# Where the place of that fall is looked for first, of what has no other error, and how
# much farther each time.
_FIRST, _FARTHER = 1e-3, 3.0


def standard_errors(surface: Surface, vector: np.ndarray) -> np.ndarray:
    """Of each constant, by the curvature of the likelihood at its maximum.

    Near a bound, as of noise that is hardly seen, the likelihood is not normal: it may
    fall at once and then hardly any more. The error of such a constant is a third of
    the distance at which the likelihood, whatever the others are, has fallen as much as
    a normal one three errors away; and by a third of what the others move on the way,
    they are less certain. No error is below that of the curvature.

    Args:
      surface: of the constants, with 64-bit numbers in JAX.
      vector: where it is lowest.

    Returns:
      The errors; NaN of what the trains do not tell.
    """
    hessian, free = surface.hessian(vector), surface.free(vector)
    curved = _by_curvature(hessian, free)
    room = np.fmin(vector - surface.low, surface.high - vector)
    found, moved = {}, np.zeros_like(vector)
    for index in np.flatnonzero(~free | (room < _SIGMAS * curved)):
        first = _SIGMAS * curved[index]
        error, far = _from_bound(surface, vector, int(index), first)
        if np.isfinite(error):
            found[index] = error
            moved = np.hypot(moved, (far - vector) / _SIGMAS)
    near = np.isin(np.arange(len(vector)), list(found))
    errors = np.hypot(_by_curvature(hessian, free & ~near), moved)
    errors[near] = list(found.values())
    return np.fmax(errors, curved)


def _by_curvature(hessian: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Of constants that are free, if the others are what they are; else NaN."""
    errors = np.full(free.shape, np.nan)
    try:
        variance = np.diag(np.linalg.inv(hessian[np.ix_(free, free)]))
    except np.linalg.LinAlgError:
        return errors
    errors[free] = np.sqrt(np.where(variance > 0, variance, np.nan))
    return errors


def _from_bound(
    surface: Surface, vector: np.ndarray, index: int, first: float
) -> tuple[float, np.ndarray]:
    """A third of how far a constant may be from its bound, and the others there.

    NaN if it may be anywhere.
    """
    value, best = vector[index], surface(vector)
    low, high = surface.low[index], surface.high[index]
    side = 1.0 if value - low < high - value else -1.0
    room = high - value if side > 0 else value - low
    at = {0.0: vector}

    def above(distance: float) -> float:
        """How much lower the likelihood is there than where it has fallen."""
        start = at[max(known for known in at if known <= distance)].copy()
        start[index] = value + side * distance
        held = surface.with_constant(index, start[index])
        at[distance], lowest = held.polished(start)
        return lowest - best - _FALL

    distance = min(first if first > 0 else _FIRST, room)
    while above(distance) < 0:
        if distance == room:
            return math.nan, vector
        distance = min(distance * _FARTHER, room)
    found = optimize.brentq(above, 0.0, distance, xtol=1e-2 * distance, rtol=1e-2)
    above(found)
    return found / _SIGMAS, at[found]
