"""Learning-rate schedules: functions of the step."""

import optax


def cosine(peak: float, steps: int, warmup_steps: int) -> optax.Schedule:
    """A linear rise from zero, then half a cosine down to zero."""
    return _after_warmup(
        optax.cosine_decay_schedule(peak, max(steps - warmup_steps, 1)),
        peak,
        warmup_steps,
    )


def linear(peak: float, steps: int, warmup_steps: int) -> optax.Schedule:
    """A linear rise from zero, then a line down to zero."""
    return _after_warmup(
        optax.linear_schedule(peak, 0.0, max(steps - warmup_steps, 1)),
        peak,
        warmup_steps,
    )


def constant(peak: float, steps: int, warmup_steps: int) -> optax.Schedule:
    """A linear rise from zero, then constant."""
    del steps
    return _after_warmup(optax.constant_schedule(peak), peak, warmup_steps)


def staircase(peak: float, steps: int, warmup_steps: int) -> optax.Schedule:
    """A linear rise from zero, then a tenth after 1/2 and 3/4 of the run."""
    drops: dict[int, float] = {}
    for at in (steps // 2, 3 * steps // 4):
        at = max(at - warmup_steps, 0)
        drops[at] = 0.1 * drops.get(at, 1.0)
    return _after_warmup(
        optax.piecewise_constant_schedule(peak, drops), peak, warmup_steps
    )


def _after_warmup(
    schedule: optax.Schedule, peak: float, warmup_steps: int
) -> optax.Schedule:
    rise = optax.linear_schedule(0.0, peak, max(warmup_steps, 1))
    return optax.join_schedules([rise, schedule], [warmup_steps])


SCHEDULES = {
    "cosine": cosine,
    "linear": linear,
    "constant": constant,
    "staircase": staircase,
}
