"""Training: recipes, steps, evaluation."""

from hic_jax.training import (
    chips,
    compensations,
    evaluation,
    mesh,
    recipes,
    schedules,
    split,
    state,
    steps,
)

__all__ = [
    "chips",
    "compensations",
    "evaluation",
    "mesh",
    "recipes",
    "schedules",
    "split",
    "state",
    "steps",
]
