"""Standard errors of constants, by the likelihood around its maximum."""

import numpy as np
from scipy import optimize

from hic_jax.fitting.surface import Surface

# How many errors away a likelihood is looked at, how far a normal one has fallen there,
# as a logarithm, and how many times as far or as little one may fall that is as good.
_SIGMAS = 3.0
_FALL = _SIGMAS**2 / 2
_NORMAL = 2.0
# Where the place of that fall is looked for first, of what has no other error, and how
# much farther each time.
_FIRST, _FARTHER = 1e-3, 2.0
# How well that place is found, and the likelihood on the way.
_ROUGHLY, _WITHIN = 0.02, 1e-2


def standard_errors(surface: Surface, vector: np.ndarray) -> np.ndarray:
    """Of each constant, by the curvature of the likelihood at its maximum.

    Where the likelihood is far from normal, three errors away on either side, the
    curvature tells little: of noise that is hardly seen it may fall at once and then
    hardly any more, and of a rate that stands beside an exponent on one side only. The
    error of such a constant is a third of the distance at which the likelihood,
    whatever the others are, has fallen as much as a normal one three errors away, on
    the side where that is farther; and by a third of what the others move on the way,
    they are less certain. No error is below that of the curvature.

    Args:
      surface: of the constants, with 64-bit numbers in JAX.
      vector: where it is lowest.

    Returns:
      The errors; NaN of what the trains do not tell.
    """
    hessian, free = surface.hessian(vector), surface.free(vector)
    covariance = _covariance(hessian, free)
    curved = _errors(covariance)
    far, moved = np.full_like(vector, np.nan), np.zeros_like(vector)
    for index in range(len(vector)):
        if _is_normal(surface, vector, covariance, index):
            continue
        first = curved[index] if np.isfinite(curved[index]) else _FIRST
        ends = [_where_fallen(surface, vector, index, side, first) for side in (-1, 1)]
        if any(fallen for _, fallen in ends):
            away = np.max([abs(end - vector) for end, _ in ends], axis=0) / _SIGMAS
            far[index] = away[index]
            moved = np.hypot(moved, away)
    others = _errors(_covariance(hessian, free & np.isnan(far)))
    return np.fmax(np.where(np.isnan(far), np.hypot(others, moved), far), curved)


def _covariance(hessian: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Of constants that are free, if the others are what they are; else NaN."""
    covariance = np.full(hessian.shape, np.nan)
    try:
        covariance[np.ix_(free, free)] = np.linalg.inv(hessian[np.ix_(free, free)])
    except np.linalg.LinAlgError:
        pass
    return covariance


def _errors(covariance: np.ndarray) -> np.ndarray:
    """Its standard errors; NaN where a variance is none."""
    variance = np.diag(covariance)
    return np.sqrt(np.where(variance > 0, variance, np.nan))


def _is_normal(
    surface: Surface, vector: np.ndarray, covariance: np.ndarray, index: int
) -> bool:
    """Whether it falls about as a normal one three errors of a constant away.

    The others lie where they are likeliest then, by the covariance.
    """
    error = _errors(covariance)[index]
    if not np.isfinite(error):
        return False
    away = _SIGMAS * np.nan_to_num(covariance[index]) / error
    falls = []
    for end in (vector - away, vector + away):
        if not surface.low[index] <= end[index] <= surface.high[index]:
            return False
        end = np.clip(end, surface.low, surface.high)
        falls.append(surface(end) - surface(vector))
    return max(falls) < _FALL * _NORMAL and min(falls) > _FALL / _NORMAL


def _where_fallen(
    surface: Surface, vector: np.ndarray, index: int, side: int, first: float
) -> tuple[np.ndarray, bool]:
    """Where the likelihood has fallen on a side of a constant, and whether it has.

    Else that is where the constant lies at its bound.
    """
    value, best = vector[index], surface(vector)
    room = side * ((surface.high if side > 0 else surface.low)[index] - value)
    at = {0.0: vector}

    def above(distance: float) -> float:
        """By how many errors of a normal likelihood it has fallen too far there."""
        if distance not in at:
            start = _on_the_line(at, distance)
            start[index] = value + side * distance
            held = surface.with_constant(index, start[index])
            at[distance], _ = held.polished(start, _WITHIN)
        return np.sqrt(2 * max(surface(at[distance]) - best, 0.0)) - _SIGMAS

    near, distance = 0.0, min(first, room)
    while above(distance) < 0:
        if distance == room:
            return at[room], False
        near, distance = distance, min(distance * _FARTHER, room)
    found = optimize.brentq(above, near, distance, xtol=_ROUGHLY * distance)
    above(found)
    return at[found], True


def _on_the_line(at: dict[float, np.ndarray], distance: float) -> np.ndarray:
    """A vector at a distance, by the two that are known before it, or the one."""
    *before, near = sorted(known for known in at if known < distance)
    if not before:
        return at[near].copy()
    share = (distance - near) / (near - before[-1])
    return at[near] + share * (at[near] - at[before[-1]])
