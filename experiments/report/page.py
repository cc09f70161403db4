"""The page: claims and verdicts, figures and tables of every group, in one file."""

import base64
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
import jinja2

import hic_jax
from experiments.plots import NAMES
from experiments.report import claims, figures, runs, tables
from experiments.report.claims import CLAIMS, Finding, Verdict
from experiments.report.estimates import (
    Ageing,
    Point,
    Run,
    ageing,
    baseline_of,
    curve,
    gain_at_equal_size,
    smallest_reaching,
    wear,
)
from experiments.report.tables import Table

# How a verdict looks: a class of the style sheet, and a sign beside its words.
LOOKS = {
    Verdict.SUPPORTED: ("yes", "✓"),
    Verdict.NOT_SUPPORTED: ("no", "✕"),
    Verdict.TOO_LITTLE: ("open", "?"),
}


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure on the page.

    Attributes:
      path: of its files, without ending.
      alt: what it shows, in words.
      caption: under it.
    """

    path: Path
    alt: str
    caption: str

    @property
    def source(self) -> str:
        """The figure itself, as the address of an image."""
        svg = base64.b64encode(Path(f"{self.path}.svg").read_bytes())
        return f"data:image/svg+xml;base64,{svg.decode()}"


@dataclasses.dataclass(frozen=True)
class Section:
    """A claim on the page.

    Attributes:
      name: of the claim.
      statement: the claim.
      rule: of its verdict.
      finding: verdict, and what was found.
      pictures: its figures.
      tables: its tables.
    """

    name: str
    statement: str
    rule: str
    finding: Finding
    pictures: list[Picture]
    tables: list[Table]

    @property
    def look(self) -> tuple[str, str]:
        """Class and sign of the verdict."""
        return LOOKS[self.finding.verdict]

    @property
    def judged(self) -> str:
        """The quantity that the verdict judges, with its statistics."""
        estimate, unit = self.finding.estimate, self.finding.unit
        if estimate is None:
            return ""
        form = ".2f" if unit == "points" else ",.1f"

        def number(value: float) -> str:
            return claims.minus(f"{value:{form}}")

        parts = [f"{self.finding.quantity}: {number(estimate.mean)} {unit}"]
        if estimate.interval is not None:
            low, high = map(number, estimate.interval)
            parts.append(f"95 % interval {low} to {high}")
            parts.append(f"standard deviation {number(estimate.std)}")
        return ", ".join([*parts, claims.counted(estimate.seeds, "seed")])


def write(
    out: Path,
    groups: Sequence[runs.Group],
    left_out: dict[str, str],
    command: str,
) -> Path:
    """Draws the figures, writes the tables and the page.

    Args:
      out: folder of all of them.
      groups: each is judged by itself.
      left_out: by the folder of a run that was, why.
      command: that makes this report.

    Returns:
      The path of the page.
    """
    out.mkdir(parents=True, exist_ok=True)
    judged = []
    for number, group in enumerate(groups, 1):
        prefix = f"group{number}_" if len(groups) > 1 else ""
        judged.append((number, group, judge(group, out, prefix)))
    # A run may stand in several groups.
    everything = list({run["folder"]: run for g in groups for run in g.runs}.values())
    rows = [tables.run_row(run) for run in everything]
    table_of_runs = Table("runs", "Each run once", tables.RUNS, rows)
    tables.write(
        out,
        [
            table_of_runs,
            *(
                table.of_group(number)
                for number, _, sections in judged
                for section in sections
                for table in (_verdict(section), *section.tables)
            ),
        ],
    )
    page = out / "report.html"
    html = _template().render(
        judged=judged,
        count=len(everything),
        table_of_runs=table_of_runs,
        left_out=left_out,
        differing=runs.differing_fields(everything),
        command=command,
        training=[runs.training_command(run) for run in everything],
        drift=[line for run in everything for line in runs.drift_commands(run)],
        versions={"hic_jax": hic_jax.__version__, "JAX": jax.__version__},
    )
    page.write_text(html, encoding="utf-8")
    return page


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("experiments.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["zip"] = zip
    return environment.get_template("report.html")


def _verdict(section: Section) -> Table:
    return Table(
        "verdicts", "", (), [tables.verdict_row(section.name, section.finding)]
    )


def judge(group: runs.Group, out: Path, prefix: str) -> list[Section]:
    """Every claim of a group, with figures drawn to ``out`` under names of a prefix."""
    fp32, hic = curve(group.runs, "fp32"), curve(group.runs, "hic")
    evidence = {
        "equal-size": _equal_size(fp32, hic, out, prefix),
        "half-size": _half_size(fp32, hic, out, prefix),
        "drift": _drift(group.hic, out, prefix),
        "endurance": _endurance(group.hic, out, prefix),
    }
    return [
        Section(
            name, claims.statement(claim), claims.rule(claim), claim(group.runs),
            *evidence[name],
        )
        for name, claim in CLAIMS.items()
    ]  # fmt: skip


# ---- Figures and tables of each claim

Evidence = tuple[list[Picture], list[Table]]


def _equal_size(
    fp32: Sequence[Point], hic: Sequence[Point], out: Path, prefix: str
) -> Evidence:
    curves = {n: points for n, points in (("fp32", fp32), ("hic", hic)) if points}
    gain = gain_at_equal_size(fp32, hic)
    picture = Picture(
        out / f"{prefix}accuracy_size",
        "Test accuracy against inference model size. "
        + " ".join(_in_words(name, points) for name, points in curves.items()),
        "Means over seeds with their standard deviation; single seeds are faint, and "
        "×1 is the width.",
    )
    figures.accuracy_against_size(picture.path, curves, gain)
    rows = [tables.point_row(n, p) for n, points in curves.items() for p in points]
    shown = [Table("accuracy_size", "Accuracy by size", tables.POINTS, rows)]
    if gain is not None:
        shown.append(
            Table(
                "gain",
                "Gain of HIC at equal size, and its mean over the range",
                tables.GAINS,
                tables.gain_rows(gain),
            )
        )
    return [picture], shown


def _half_size(
    fp32: Sequence[Point], hic: Sequence[Point], out: Path, prefix: str
) -> Evidence:
    baseline = baseline_of(fp32)
    if baseline is None or not hic:
        return [], []
    target = baseline.accuracy.mean - claims.COMPARABLE_POINTS
    picture = Picture(
        out / f"{prefix}smallest_hic",
        f"HIC beside the baseline. {_in_words('fp32', [baseline])} "
        f"{_in_words('hic', hic)}",
        "HIC beside the FP32 baseline, which it should reach left of the dashed line: "
        "at less than half its size.",
    )
    reached = smallest_reaching(hic, target)
    figures.smallest_comparable(picture.path, baseline, hic, reached)
    return [picture], []


def _drift(hic: Sequence[Run], out: Path, prefix: str) -> Evidence:
    cases = ageing(hic)
    pictures = []
    for devices, width in dict.fromkeys((c.devices, c.width) for c in cases):
        mine = [c for c in cases if (c.devices, c.width) == (devices, width)]
        path = out / f"{prefix}drift_{devices}_width{width:g}"
        pictures.append(_over_time(path, mine))
        compensated = [case for case in mine if case.compensation != "none"]
        if 0 < len(compensated) < len(mine):
            path = path.with_name(path.name + "_compensated")
            pictures.append(_over_time(path, compensated))
    if not cases:
        return [], []
    return pictures, [
        Table(
            "drift_loss",
            "Accuracy lost from the first time to the last",
            tables.LOSSES,
            [tables.loss_row(case) for case in cases],
        ),
        Table("drift", "", (), [row for c in cases for row in tables.ageing_rows(c)]),
    ]


def _over_time(path: Path, cases: Sequence[Ageing]) -> Picture:
    """Compensations of one width on one kind of devices."""
    seeds, chips = cases[0].loss.seeds, cases[0].chips
    where = f"{claims.on_devices(cases[0].devices)}, width {cases[0].width:g}"
    figures.accuracy_over_time(path, cases)
    curves = " ".join(
        f"{NAMES.get(case.compensation, case.compensation)}: "
        f"{case.chip_mean[0]:.1f} % at {claims.duration(case.times[0])}, "
        f"{case.chip_mean[-1]:.1f} % at {claims.duration(case.times[-1])}."
        for case in cases
    )
    return Picture(
        path,
        f"Test accuracy over time, {where}. {curves}",
        f"{where[0].upper()}{where[1:]}: mean of {claims.counted(chips, 'chip')} of "
        f"{claims.counted(seeds, 'seed')}; the band is the standard deviation of one "
        "chip.",
    )


def _endurance(hic: Sequence[Run], out: Path, prefix: str) -> Evidence:
    cases = wear(hic)
    if not cases:
        return [], []
    picture = Picture(
        out / f"{prefix}write_erase_cycles",
        "Write-erase cycles of the most worn device beside the endurance limit. "
        + " ".join(
            f"{NAMES[c.kind]}, width {c.width:g}: {c.worst:,} of "
            f"{claims.scientific(c.endurance_cycles)} cycles."
            for c in cases
        ),
        "Bars reach to the most worn device of all seeds; the white marks are the mean "
        "device and the 99th percentile.",
    )
    figures.cycles_against_endurance(picture.path, cases)
    pictures = [picture]
    for width in dict.fromkeys(case.width for case in cases if case.edges):
        mine = [case for case in cases if case.width == width]
        histogram = Picture(
            out / f"{prefix}write_erase_cycles_width{width:g}",
            f"Histogram of the write-erase cycles of all devices, width {width:g}.",
            f"All devices of all seeds, width {width:g}.",
        )
        figures.cycles_of_devices(histogram.path, mine)
        pictures.append(histogram)
    rows = [tables.wear_row(case) for case in cases]
    return pictures, [
        Table("wear", "Write-erase cycles after training", tables.WEAR, rows)
    ]


def _in_words(name: str, points: Sequence[Point]) -> str:
    values = ", ".join(
        f"{point.accuracy.mean:.1f} % at {claims.kilobytes(point.size_kb)}"
        for point in points
    )
    return f"{NAMES[name]}: {values}."
