"""Numbers as pages and terminals say them."""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from hic_jax import DAY, HOUR, MINUTE, MONTH, YEAR
from hic_jax.inference import TRAINED

# What stands in a table where there is no value.
ABSENT = "–"


def kilobytes(size_kb: float) -> str:
    """A size with three digits."""
    return f"{size_kb:.3g} kB" if size_kb < 1000 else f"{size_kb:,.0f} kB"


def less(size: float, than: float) -> str:
    """How much less a size is than another, or how much more."""
    saved = 100 * (1 - size / than)
    return f"{abs(saved):.0f} % {'less' if saved >= 0 else 'more'}"


def percent(shares: Sequence[float]) -> str:
    """The mean of shares, and the standard deviation of several: 98.4 +- 0.2 %."""
    spread = f" +- {100 * statistics.stdev(shares):.1f}" if len(shares) > 1 else ""
    return f"{100 * statistics.mean(shares):.1f}{spread} %"


def nats(losses: Sequence[float]) -> str:
    """The mean of losses, and the standard deviation of several: 1.623 +- 0.012."""
    spread = f" +- {statistics.stdev(losses):.3f}" if len(losses) > 1 else ""
    return f"{statistics.mean(losses):.3f}{spread}"


def most_cycles(kinds: Sequence[dict[str, Any]]) -> str:
    """Cycles and limit of the most worn device, of kinds as in `hic_jax.endurance`."""
    most = max(kinds, key=lambda kind: kind["fraction_of_endurance"])
    share, limit = most["fraction_of_endurance"], most["endurance_cycles"]
    return f"{most['max']:,}, or {_short(share, '.1g')} of {_short(limit, 'g')}"


def _short(number: float, form: str) -> str:
    """A positive number in plain letters: 10^9, 5e8, 3e-8, 0.02."""
    digits, letter, exponent = format(number, form).partition("e")
    if not letter:
        return digits
    power = int(exponent)
    return f"10^{power}" if digits == "1" and power > 0 else f"{digits}e{power}"


def si(number: float, unit: str = "") -> str:
    """A number to three digits with the prefix of its size: 11.1 G, 136 nJ."""
    from matplotlib.ticker import EngFormatter  # Not before: it loads as long as JAX.

    return EngFormatter(unit, sep="\u00a0")(float(f"{number:.3g}"))


def scientific(number: float) -> str:
    """A positive number as 5.1 × 10⁻⁷; powers of ten without their one."""
    if not 0 < number < math.inf:
        return f"{number:g}"
    digits, exponent = f"{number:.1e}".split("e")
    power = "10" + str(int(exponent)).translate(_SUPERSCRIPTS)
    return power if digits == "1.0" else f"{digits}\u00a0×\u00a0{power}"


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def signed(points: float) -> str:
    """Points with their sign and two decimals."""
    return minus(f"{points:+.2f}")


def minus(number: str) -> str:
    """A number with a minus sign, which is as wide as a plus."""
    return number.replace("-", "−")


def duration(seconds: float) -> str:
    """Seconds in the largest unit that is not below one."""
    units = {"year": YEAR, "month": MONTH, "day": DAY, "hour": HOUR, "minute": MINUTE}
    for name, unit in units.items():
        if seconds >= unit:
            count = f"{seconds / unit:.3g}"
            return f"{count} {name}" + ("" if count == "1" else "s")
    return f"{seconds:.3g} s"


def counted(count: int, noun: str) -> str:
    """A number of things."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def some_of(names: Iterable[str], most: int = 8) -> str:
    """Names in a line, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def on_devices(devices: str) -> str:
    """The devices of `Ageing` in words."""
    return "the trained devices" if devices == TRAINED else f"chips of {devices}"


def trainings(count: float) -> str:
    """How many a device survives, to two digits."""
    if math.isinf(count):
        return "any number of"
    return f"{round(count, 2 - len(str(int(count)))):,}"
