"""Training: recipes, steps, many chips and many devices."""

from hic_jax.training import (
    chips,
    mesh,
    recipes,
    schedules,
    split,
    state,
    steps,
)

__all__ = [
    "chips",
    "mesh",
    "recipes",
    "schedules",
    "split",
    "state",
    "steps",
]
