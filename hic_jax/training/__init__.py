"""Training: algorithms, steps, evaluation."""

from hic_jax.training import (
    algorithms,
    chips,
    compensations,
    evaluation,
    mesh,
    schedules,
    split,
    state,
    steps,
)

__all__ = [
    "algorithms",
    "chips",
    "compensations",
    "evaluation",
    "mesh",
    "schedules",
    "split",
    "state",
    "steps",
]
