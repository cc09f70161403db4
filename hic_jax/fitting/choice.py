"""Which model: the one under which trains that it was not fitted to are likeliest."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from hic_jax.fitting import foretold
from hic_jax.fitting.maximum import Fit, fit, fit_with, likelier
from hic_jax.fitting.models import Model, Nandakumar, Table, TwoSidedTable
from hic_jax.fitting.trains import Trains
from hic_jax.fitting.two_sided import ExpStep, LinearStep, SoftBounds

# Of the ramps, or of the pulses where these are few: what models are fitted to before
# they are judged by the rest.
SHARE = 0.7

ONE_SIDED: tuple[Model, ...] = (Nandakumar(), Table())
TWO_SIDED: tuple[Model, ...] = (
    TwoSidedTable(), SoftBounds(), LinearStep(), ExpStep(),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Judged:
    """A model fitted to a part of the trains, and what it makes of the rest.

    Attributes:
      fit: the fit to that part.
      score: logarithm of the likelihood of the rest, per pulse.
    """

    fit: Fit
    score: float


def models_for(trains: Trains) -> dict[str, Model]:
    """Models that trains can be fitted by, by name: two-sided ones for both ways."""
    models = TWO_SIDED if trains.two_sided else ONE_SIDED
    return {model.name: model for model in models}


def judged(model: Model, trains: Trains) -> Judged:
    """Fits a model to the first `SHARE` of the trains and judges it by the rest.

    Raises:
      ValueError: if it cannot be fitted to them.
    """
    part = trains.training(SHARE)
    found = _noise(fit(model, part, whole=trains), trains, part)
    of_all, of_part = (found.log_likelihood_of(x) for x in (trains, part))
    return Judged(found, (of_all - of_part) / max(trains.pulses - part.pulses, 1))


def _noise(found: Fit, trains: Trains, part: Trains) -> Fit:
    """The fit, or that with noise of reads that lingers, if that is seen in ramps, too.

    That the next value is likelier does not suffice: ramps that differ as wholes have
    values that linger, too, and are then foretold much too alike. So held-out values
    have to be likelier in the band of a ramp as well.
    """
    if not found.reads:
        return found
    try:
        more = fit_with(
            found.model, part, reads=True, lingers=True, spread=found.spread,
            start=found, whole=trains,
        )  # fmt: skip
    except ValueError:
        return found
    if likelier(found, more) is found:
        return found
    held = np.isfinite(trains.g[:, 1:]) & ~np.isfinite(part.g[:, 1:])
    scores = [np.mean(foretold.densities(one, trains)[held]) for one in (found, more)]
    return more if scores[1] > scores[0] else found


def best(found: Sequence[Judged]) -> Judged:
    """The one that foretold the rest best."""
    return max(found, key=lambda one: one.score)
