"""Drift from traces of retention, and noise from reads one after another."""

import dataclasses

import numpy as np
from scipy import optimize


@dataclasses.dataclass(frozen=True)
class Measured:
    """Constants by fields of a device, and their standard errors.

    Attributes:
      constants: values by field.
      errors: standard errors by field; NaN where what was measured does not tell.
    """

    constants: dict[str, float]
    errors: dict[str, float]


def drift(times: np.ndarray, g: np.ndarray) -> Measured:
    """The law g (t / t0)^-nu of every device, and the spread of nu.

    A straight line in logarithms for each device; what its own error adds to the spread
    is taken off.

    Args:
      times: (n,) s after the write, rising, above zero; the first is t0.
      g: (n, devices) conductances, above zero, in any unit.
    """
    x = np.log(times / times[0])
    x = x - x.mean()
    slopes = x @ np.log(g) / (x @ x)
    exponents = -slopes
    residual = np.log(g) - np.log(g).mean(axis=0) - x[:, None] * slopes
    of_fit = (residual**2).sum(axis=0) / max(len(x) - 2, 1) / (x @ x)
    devices = len(exponents)
    spread = error = of_spread = float("nan")
    if devices > 1:
        variance = exponents.var(ddof=1)
        error = float(np.sqrt(variance / devices))
        spread = float(np.sqrt(max(variance - of_fit.mean(), 0.0)))
        # Of a standard deviation; larger where much of the variance is error.
        of_spread = float(variance / np.sqrt(2 * (devices - 1)) / max(spread, 1e-12))
    return Measured(
        {
            "drift_nu": float(exponents.mean()),
            "drift_nu_std": 0.0 if devices == 1 else spread,
            "drift_t0": float(times[0]),
        },
        {
            "drift_nu": float(np.sqrt(of_fit[0])) if devices == 1 else error,
            "drift_nu_std": of_spread,
            "drift_t0": float("nan"),
        },
    )


def read_noise(g: np.ndarray, *, one_size: bool) -> Measured:
    """The deviation of a read, slope g + offset, by maximum likelihood.

    Args:
      g: (reads, devices) conductances, uS, of devices that are left alone.
      one_size: whether it is to be the same at all conductances.
    """
    mean, n = g.mean(axis=0), len(g)
    variance = g.var(axis=0, ddof=1)
    pooled = float(np.sqrt(variance.mean()))
    free = n - 1
    names = (
        ["read_offset"] if one_size or g.shape[1] < 3 else ["read_offset", "read_slope"]
    )
    columns = np.stack([np.ones_like(mean), mean], axis=1)[:, : len(names)]

    def loss(x):
        std = np.maximum(columns @ x, 1e-12)
        return float(np.sum(free * (np.log(std) + variance / std**2 / 2)))

    start = np.array([pooled, 0.0])[: len(names)]
    bounds = [(0.0, None), (0.0, 1.0)][: len(names)]
    unit = np.array([pooled, pooled / max(mean.mean(), 1e-12)])[: len(names)]
    found = optimize.minimize(
        lambda x: loss(x * unit), start / unit, bounds=np.array(bounds, object),
        method="L-BFGS-B",
    )  # fmt: skip
    values = found.x * unit
    # Fisher's information of standard deviations.
    std = np.maximum(columns @ values, 1e-12)
    weights = 2 * free / std**2
    information = (columns * weights[:, None]).T @ columns
    errors = np.sqrt(np.diag(np.linalg.pinv(information)))
    return Measured(
        dict(zip(names, map(float, values), strict=True)),
        dict(zip(names, map(float, errors), strict=True)),
    )
