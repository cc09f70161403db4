"""Write-erase cycles of whole networks against the endurance of their devices."""

from collections.abc import Sequence
from pathlib import Path

from experiments.drawing import (
    NO_CYCLE,
    colour_of,
    cycle_axis,
    devices_by_cycles,
    legend_above,
    limit_line,
    literal,
    words_for,
)
from experiments.report.groups import Group, name_of
from experiments.report.sections import Finding, Picture, Verdict, saved, too_little
from experiments.report.tables import Table
from experiments.report.wear import WEAR, WHOLE, Wear, device_of, table_of, wear
from experiments.words import scientific, trainings

# Share of its endurance limit that a device may use up.
SMALL_FRACTION = 0.01


def spares_the_devices(group: Group) -> Finding:
    """Write-erase cycles are a small fraction of the endurance of PCM.

    Rule: the fraction of the endurance limit that the most worn device of all runs has
    used up in training. The claim is supported if it is below 1 % and there are at
    least two seeds of some width, so that a spread is known, and not supported if it is
    1 % or more. The limit is the one that the runs were summarised with.
    """
    runs, name = group.candidate.runs, group.candidate.name
    cases = [case for case in wear(group.candidate) if case.level == WHOLE]
    if not runs:
        return too_little(f"There are no {name} runs.")
    if not cases:
        return too_little(
            f"No run tracked its wear (--{runs[0]['algorithm']}_track_wear)."
        )
    worst = max(cases, key=lambda case: case.fraction)
    device = device_of(worst.kind)
    sentences = [
        f"The most worn device, a {device} at width {worst.width:g}, has "
        f"seen {worst.worst:,} cycles, {scientific(worst.fraction)} of a limit of "
        f"{scientific(worst.endurance_cycles)}: it survives "
        f"{trainings(worst.trainings)} such trainings."
    ]
    verdict = Verdict.SUPPORTED
    if worst.fraction >= SMALL_FRACTION:
        verdict = Verdict.NOT_SUPPORTED
    elif max(case.most.seeds for case in cases) < 2:
        verdict = Verdict.TOO_LITTLE
        sentences.append("It takes two seeds of a width.")
    if untracked := sum(not run["wear"] for run in runs):
        sentences.append(
            f"{untracked} of {len(runs)} {name} runs did not track their wear."
        )
    return Finding(
        verdict,
        tuple(sentences),
        f"cycles of the most worn {device} at width {worst.width:g}",
        worst.most,
        "cycles",
    )


def against_endurance(group: Group, out: Path) -> tuple[list[Picture], list[Table]]:
    """Every recipe that tracked its wear; the figures are drawn to ``out``."""
    cases = [c for r in group.recipes for c in wear(r) if c.level == WHOLE]
    if not cases:
        return [], []
    several = len({case.algorithm for case in cases}) > 1
    picture = Picture(
        out / f"{group.prefix}write_erase_cycles",
        "Write-erase cycles of the most worn device beside the endurance limit. "
        + " ".join(
            (f"{name_of(c.algorithm)}, " if several else "")
            + f"{words_for(c.kind)}, width {c.width:g}: {c.worst:,} of "
            f"{scientific(c.endurance_cycles)} cycles."
            for c in cases
        ),
        "Bars reach to the most worn device of all seeds; the white marks are the mean "
        "device and the 99th percentile.",
    )
    draw_endurance(picture.path, cases)
    pictures = [picture]
    for recipe in group.recipes:
        drawn = [c for c in cases if c.algorithm == recipe.label and c.edges]
        for width in dict.fromkeys(case.width for case in drawn):
            whose = f"{recipe.name}, " if several else ""
            histogram = Picture(
                out / group.file(f"write_erase_cycles_width{width:g}", recipe),
                f"Histogram of the write-erase cycles of all devices, {whose}width "
                f"{width:g}.",
                f"All devices of all seeds, {whose}width {width:g}.",
            )
            draw_devices(histogram.path, [c for c in drawn if c.width == width])
            pictures.append(histogram)
    return pictures, [table_of("wear", "after training", cases, WEAR)]


def draw_endurance(path: Path, cases: Sequence[Wear]) -> None:
    """Write-erase cycles by width and kind of device, beside the endurance limit.

    Args:
      path: of the figure.
      cases: whole networks.
    """
    several = len({case.algorithm for case in cases}) > 1
    rows = list(dict.fromkeys((case.algorithm, case.width) for case in cases))
    kinds = list(dict.fromkeys(case.kind for case in cases))
    limit = min(case.endurance_cycles for case in cases)
    named: set[str] = set()
    with saved(path) as axes:
        for case in cases:
            shift = 0.4 * (kinds.index(case.kind) - (len(kinds) - 1) / 2)
            row = rows.index((case.algorithm, case.width)) + shift
            label = None if case.kind in named else words_for(case.kind)
            named.add(case.kind)
            axes.barh(
                row, max(case.worst, NO_CYCLE), height=0.36,
                color=colour_of(case.kind), label=label,
            )  # fmt: skip
            axes.plot(
                [max(case.mean, NO_CYCLE), max(case.p99, NO_CYCLE)],
                [row, row],
                marker="|",
                linestyle="none",
                color="white",
            )
            axes.annotate(
                f"{case.worst:,}: {scientific(case.fraction)} of the limit",
                (max(case.worst, NO_CYCLE), row),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
            )
        limit_line(axes, limit)
        names = [
            (f"{literal(name_of(algorithm))} " if several else "") + f"×{width:g}"
            for algorithm, width in rows
        ]
        axes.set_yticks(range(len(rows)), names)
        axes.invert_yaxis()
        high = 3 * max(limit, *(case.worst for case in cases))
        cycle_axis(axes, high, "write-erase cycles of the most worn device")
        axes.set_ylabel("width")
        axes.grid(visible=False, axis="y")
        legend_above(axes, "White marks: the mean device, and 99 % of the devices.")


def draw_devices(path: Path, cases: Sequence[Wear]) -> None:
    """How many devices have seen how many write-erase cycles.

    Args:
      path: of the figure.
      cases: all kinds of device of one recipe and width, with histograms.
    """
    limit = min(case.endurance_cycles for case in cases)
    edges = max((case.edges for case in cases), key=len)
    counts: dict[str, Sequence[int]] = {c.kind: c.counts for c in cases}
    with saved(path) as axes:
        devices_by_cycles(axes, edges, counts, limit)
