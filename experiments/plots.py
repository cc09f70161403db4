"""The pictures of a run."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import files
from hic_jax import DAY, HOUR, MONTH, YEAR, inference, pcm
from hic_jax.pcm import multilevel

STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 150,
    "font.size": 10,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}
COLOURS = {
    "hic": "#0b6e8f",
    "fp32": "#555555",
    "none": "#c4552d",
    "gdc": "#d99a2b",
    "column": "#6a8f3c",
    "adabs": "#0b6e8f",
    "multilevel": "#0b6e8f",
    "binary": "#d99a2b",
}
NAMES = {
    "hic": "HIC",
    "fp32": "FP32",
    "none": "no compensation",
    "gdc": "one gain per layer (GDC)",
    "column": "one gain per column",
    "adabs": "AdaBS",
    "multilevel": "multi-level devices (MSB)",
    "binary": "binary cells (LSB)",
}
MARKERS = {"none": "o", "gdc": "s", "column": "^", "adabs": "D"}
TIME_MARKS = {
    "1 min": 60,
    "1 hour": HOUR,
    "1 day": DAY,
    "1 month": MONTH,
    "1 year": YEAR,
}


@contextmanager
def figure(*paths: Path, columns: int = 1, height: float = 3.6) -> Iterator[list[Axes]]:
    """Axes side by side, saved to all ``paths`` at the end, by one process."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2 * columns, height))
        yield list(np.ravel(figure.subplots(1, columns)))
        for path in paths if jax.process_index() == 0 else ():
            drawn = io.BytesIO()
            figure.savefig(drawn, format=path.suffix.removeprefix("."))
            files.write_bytes(path, drawn.getvalue())


def literal(text: str) -> str:
    """A text that is drawn as it is: between dollars Matplotlib sees mathematics."""
    return text.replace("$", r"\$")


def learning_curves(path: Path, runs: dict[str, Sequence[dict[str, Any]]]) -> None:
    """Training loss and test accuracy against epochs.

    Args:
      path: of the picture.
      runs: rows of ``metrics.jsonl`` by the algorithm that made them.
    """
    with figure(path, columns=2) as (loss, accuracy):
        for name, rows in runs.items():
            style = {
                "color": COLOURS.get(name),
                "label": NAMES.get(name, literal(name)),
                "marker": "o",
                "markersize": 4,
            }
            loss.plot([r["epoch"] for r in rows], [r["loss"] for r in rows], **style)
            tested = [r for r in rows if "test_accuracy" in r]
            accuracy.plot(
                [r["epoch"] for r in tested],
                [100 * r["test_accuracy"] for r in tested],
                **style,
            )
        loss.set(xlabel="epoch", ylabel="training loss", yscale="log")
        accuracy.set(xlabel="epoch", ylabel="test accuracy (%)")
        accuracy.legend(loc="lower right")


def accuracy_over_time(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Accuracy against time after training: mean over chips, and its 95 % interval.

    Where an uncompensated network stands beside several compensated ones, these have a
    second picture to themselves: they differ by less than it loses.

    Args:
      path: of the picture.
      rows: of `hic_jax.inference.accuracy_over_time`, all of the same devices.
    """
    devices, chips = rows[0]["devices"], len(rows[0]["accuracies"])
    without = rows[0].get("without", [])
    deployed = devices != inference.TRAINED
    compensated = [row for row in rows if row["compensation"] != "none"]
    panels = [rows]
    if len(compensated) < len(rows) and _compensations(compensated)[1:]:
        panels.append(compensated)
    with figure(path, columns=len(panels)) as all_axes:
        for axes, panel in zip(all_axes, panels, strict=True):
            for name in _compensations(panel):
                _draw_ageing(axes, name, panel)
            axes.set(
                xscale="log",
                xlabel=f"time after {'programming' if deployed else 'training'}",
                ylabel="test accuracy (%)",
            )
            what = f"mean of {chips} chips, 95 % interval" if chips > 1 else "one chip"
            named = [devices] if deployed or without else []
            named += [f"without {' and '.join(without)}"] if without else []
            title = f"{' '.join(named)}: {what}" if named else what
            axes.set_title(literal(title), fontsize=11)
            axes.set_xticks(list(TIME_MARKS.values()), list(TIME_MARKS))
            times = [row["time"] for row in rows]
            axes.set_xlim(0.5 * min(times), 2 * max(times))
            axes.minorticks_off()
        all_axes[0].legend()


def _compensations(rows: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["compensation"] for row in rows))


def _draw_ageing(axes: Axes, name: str, rows: Sequence[dict[str, Any]]) -> None:
    """One compensation's accuracy, and a band for the interval of its mean."""
    mine = [row for row in rows if row["compensation"] == name]
    time = [row["time"] for row in mine]
    ends = np.array([row["interval"] or (row["mean"], row["mean"]) for row in mine])
    low, high = np.clip(100 * ends.T, 0, 100)
    colour = COLOURS.get(name)
    axes.fill_between(time, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(
        time,
        [100 * row["mean"] for row in mine],
        marker=MARKERS.get(name, "o"),
        markersize=5,
        color=colour,
        label=NAMES.get(name, literal(name)),
    )


def field_learning(
    path: Path, rows: Sequence[dict[str, Any]], field: dict[str, Any]
) -> None:
    """Test accuracy in the field: what drift took, and what learning brings back.

    Args:
      path: of the picture.
      rows: of ``metrics.jsonl`` in the field.
      field: of ``summary.json``: accuracies as trained, and before learning.
    """
    tested = [row for row in rows if "test_accuracy" in row]
    epochs = [0, *(row["epoch"] for row in tested)]
    learnt = [field["accuracy_before"]["none"], *(r["test_accuracy"] for r in tested)]
    with figure(path, height=4.4) as (axes,):
        axes.axhline(
            100 * field["accuracy_trained"],
            color=COLOURS["fp32"],
            linestyle="--",
            label="as trained",
        )
        for name, accuracy in field["accuracy_before"].items():
            if name != "none":
                axes.axhline(
                    100 * accuracy,
                    color=COLOURS[name],
                    linestyle=":",
                    label=f"{NAMES[name]} instead",
                )
        axes.plot(
            epochs,
            100 * np.array(learnt),
            color=COLOURS["hic"],
            marker="o",
            markersize=4,
            label="learning in the field",
        )
        shift = "" if field["shift"] == "none" else f", images: {field['shift']}"
        axes.set(
            xlabel="epochs in the field",
            ylabel="test accuracy (%)",
            title=f"after {_duration(field['seconds'])} of drift{shift}",
        )
        axes.figure.legend(loc="outside lower center", ncols=2)


def _duration(seconds: float) -> str:
    """As a person says it."""
    for name, unit in (("years", YEAR), ("days", DAY), ("hours", HOUR)):
        if seconds >= unit:
            count = seconds / unit
            return f"{count:.3g} {name}" if count != 1 else f"one {name[:-1]}"
    return f"{seconds:g} s"


def ablation(path: Path, results: dict[str, dict[str, list[float]]]) -> None:
    """Accuracy with each non-ideality on alone and off alone.

    Args:
      path: of the picture.
      results: by variant (all, none, only-X, without-X), a list over seeds of
        ``test_accuracy`` and ``after_a_year``.
    """
    names = [n.removeprefix("only-") for n in results if n.startswith("only-")]
    titles = {"test_accuracy": "after training", "after_a_year": "a year later, AdaBS"}
    with figure(path, columns=2) as both:
        for axes, (measure, title) in zip(both, titles.items(), strict=True):
            accuracy = {n: 100 * np.array(r[measure]) for n, r in results.items()}
            for variant, label, colour in (
                ("none", "all off", COLOURS["fp32"]),
                ("all", "all on", COLOURS["hic"]),
            ):
                axes.axvline(accuracy[variant].mean(), color=colour, label=label)
            for prefix, label, colour, shift in (
                ("only-", "on alone", COLOURS["none"], 0.12),
                ("without-", "off alone", COLOURS["hic"], -0.12),
            ):
                values = [accuracy[prefix + name] for name in names]
                axes.errorbar(
                    [v.mean() for v in values],
                    np.arange(len(names)) + shift,
                    xerr=[v.std(ddof=1) if len(v) > 1 else 0.0 for v in values],
                    fmt="o",
                    color=colour,
                    label=label,
                )
            axes.set(xlabel="test accuracy (%)", title=title)
            axes.set_yticks(range(len(names)), [n.replace("_", " ") for n in names])
            axes.invert_yaxis()
        both[1].tick_params(labelleft=False)
        handles, labels = both[0].get_legend_handles_labels()
        both[0].figure.legend(
            handles, labels, loc="outside lower center", ncols=len(labels)
        )


def wear_histogram(
    path: Path, cycles: dict[str, np.ndarray], endurance_cycles: float
) -> None:
    """How many devices have seen how many write-erase cycles.

    Args:
      path: of the picture.
      cycles: per device, by kind of device.
      endurance_cycles: the limit to show beside them.
    """
    edges = np.concatenate([[0.5], np.geomspace(1, endurance_cycles * 3, 60)])
    with figure(path) as (axes,):
        for name, counts in cycles.items():
            axes.hist(
                np.maximum(counts, 0.6),
                bins=edges,
                histtype="stepfilled",
                alpha=0.55,
                color=COLOURS[name],
                label=NAMES[name],
            )
        axes.axvline(endurance_cycles, color="#c4552d", linestyle="--")
        axes.annotate(
            f"endurance limit {endurance_cycles:.0e}",
            (endurance_cycles, 0.5),
            xycoords=("data", "axes fraction"),
            rotation=90,
            ha="right",
            va="center",
            color="#c4552d",
        )
        axes.set(
            xscale="log",
            yscale="log",
            xlabel="write-erase cycles (leftmost bin: none)",
            ylabel="devices",
        )
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)


def set_pulse_curve(
    path: Path, spec: pcm.MultilevelSpec, *, pulses: int = 25, devices: int = 4000
) -> None:
    """Conductance against SET pulses from RESET: mean, spread, a few devices."""
    with figure(path) as (axes,):
        g = np.asarray(simulate_pulses(spec, pulses, devices))
        count = np.arange(pulses + 1)
        mean, std = g.mean(axis=1), g.std(axis=1)
        axes.plot(count, g[:, :6], color="#999999", linewidth=0.7)
        axes.fill_between(
            count, mean - std, mean + std, color=COLOURS["hic"], alpha=0.2, linewidth=0
        )
        axes.plot(count, mean, color=COLOURS["hic"])
        axes.set(
            xlabel="SET pulses after RESET",
            ylabel="conductance (µS)",
            title=f"{literal(spec.name)}: mean ± std, six devices in grey",
        )


def simulate_pulses(spec: pcm.MultilevelSpec, pulses: int, devices: int) -> jax.Array:
    """(pulses + 1, devices) conductances in uS, from RESET on."""
    key = jax.random.key(0)
    normal = jax.random.normal(key, (pulses + 1, devices))

    def fire(carry, normal):
        carry = multilevel.set_pulse(*carry, normal, spec)
        return carry, carry[0]

    g = multilevel.reset(normal[0], spec)
    start = (g, jnp.zeros(devices, jnp.uint8))
    return jnp.concatenate([g[None], jax.lax.scan(fire, start, normal[1:])[1]])
