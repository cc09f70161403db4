"""The pictures of a run."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.ticker import LogLocator

from experiments import drawing
from experiments.words import duration
from hic_jax import inference, pcm

# More rows than this have no marks of their own: these would hide the curve.
_MARKED = 60


def learning_curves(
    path: Path, runs: dict[str, Sequence[dict[str, Any]]], tested_on: str = "test"
) -> None:
    """Training loss, and accuracy on test or validation data.

    Args:
      path: of the picture.
      runs: rows of ``metrics.jsonl`` by algorithm.
      tested_on: test or validation.
    """
    with drawing.figure(path, columns=2) as both:
        loss, accuracy = both
        for name, rows in runs.items():
            tested = [row for row in rows if "test_accuracy" in row]
            for axes, mine, key, scale in (
                (loss, rows, "loss", 1),
                (accuracy, tested, "test_accuracy", 100),
            ):
                line, marker = ("--", "s") if name == "fp32" else ("-", "o")
                axes.plot(
                    [row["epoch"] for row in mine], [scale * row[key] for row in mine],
                    color=drawing.COLOURS.get(name), linestyle=line, linewidth=1.4,
                    marker=marker * (len(mine) <= _MARKED), markersize=3.5,
                    label=drawing.NAMES.get(name, drawing.literal(name)),
                )  # fmt: skip
        loss.set(ylabel="training loss", yscale="log")
        loss.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
        loss.yaxis.set_major_formatter("{x:g}")
        loss.yaxis.set_minor_formatter("{x:g}")
        drawing.accuracy_axis(accuracy, tested_on)
        for axes in both:
            drawing.epoch_axis(axes)
        drawing.legend_below(both)


def accuracy_over_time(
    path: Path,
    rows: Sequence[dict[str, Any]],
    *,
    classes: int | None = None,
    fp32: float | None = None,
    tested_on: str = "test",
) -> None:
    """Accuracy against time after training: mean over chips, and its 95 % interval.

    Where an uncompensated network stands beside several compensated ones, these have a
    second picture to themselves: they differ by less than it loses.

    Args:
      path: of the picture.
      rows: rows of `hic_jax.inference.accuracy_over_time`, all of the same devices.
      classes: of the images, to show chance beside a network without compensation;
        None shows none.
      fp32: accuracy of the same network in floating point; None shows none.
      tested_on: test or validation, whose data it is.
    """
    digital = None if fp32 is None else ("FP32", 100 * fp32)
    draw = functools.partial(
        drawing.ageing, classes=classes, digital=digital, tested_on=tested_on
    )
    _over_time(path, rows, _accuracies, draw)


def loss_over_time(
    path: Path, rows: Sequence[dict[str, Any]], tested_on: str = "test"
) -> None:
    """Loss on a text against time after training, as `accuracy_over_time` shows it."""
    draw = functools.partial(drawing.loss_ageing, tested_on=tested_on)
    _over_time(path, rows, _losses, draw)


def _over_time(
    path: Path,
    rows: Sequence[dict[str, Any]],
    curve: Callable[[Sequence[dict[str, Any]]], drawing.Curve],
    draw: Callable[..., None],
) -> None:
    devices, chips = rows[0]["devices"], len(rows[0]["accuracies"])
    deployed = devices != inference.TRAINED
    curves = {
        name: curve([row for row in rows if row["compensation"] == name])
        for name in dict.fromkeys(row["compensation"] for row in rows)
    }
    panels = [curves]
    compensated = {n: line for n, line in curves.items() if n != "none"}
    if 1 < len(compensated) < len(curves):
        panels.append(compensated)
    with drawing.figure(path, columns=len(panels), height=4.2) as all_axes:
        for axes, panel in zip(all_axes, panels, strict=True):
            draw(axes, panel, deployed=deployed)
        title = f"HIC on chips of {devices}" if deployed else "HIC"
        without = [name.replace("_", " ") for name in rows[0].get("without", [])]
        if "drift" not in without:
            title += " while its devices drift"
        title += f", without {' and '.join(without)}" if without else ""
        all_axes[0].figure.suptitle(drawing.literal(title))
        shown = f"Mean of {chips} chips, 95 % interval" if chips > 1 else "One chip"
        drawing.legend_below(all_axes, f"{shown}; lines only join the points.")


def _accuracies(rows: Sequence[dict[str, Any]]) -> drawing.Curve:
    """Of one compensation, in %, with the interval of the mean."""
    means = [100 * row["mean"] for row in rows]
    ends = np.array([row["interval"] or (row["mean"], row["mean"]) for row in rows])
    return [row["time"] for row in rows], means, tuple(100 * ends.T)


def _losses(rows: Sequence[dict[str, Any]]) -> drawing.Curve:
    """Of one compensation, with the interval of the mean."""
    chips = [row["losses"] for row in rows]
    means = [float(np.mean(losses)) for losses in chips]
    ends = [
        inference.interval_of_mean(losses) if len(losses) > 1 else (losses[0],) * 2
        for losses in chips
    ]
    return [row["time"] for row in rows], means, tuple(np.array(ends).T)


def field_learning(
    path: Path,
    rows: Sequence[dict[str, Any]],
    field: dict[str, Any],
    tested_on: str = "test",
) -> None:
    """Accuracy in the field: what drift took, and what learning brings back.

    Args:
      path: of the picture.
      rows: of ``metrics.jsonl`` in the field.
      field: of ``summary.json``: accuracies as trained, and before learning.
      tested_on: test or validation, whose images they are of.
    """
    tested = [row for row in rows if "test_accuracy" in row]
    epochs = [0, *(row["epoch"] for row in tested)]
    learnt = [field["accuracy_before"]["none"], *(r["test_accuracy"] for r in tested)]
    with drawing.figure(path, height=4.2) as (axes,):
        drawing.accuracy_line(axes, 100 * field["accuracy_trained"], "as trained")
        styles = iter((":", "-.", (0, (1, 3)), (0, (5, 1, 1, 1, 1, 1))))
        for name, accuracy in field["accuracy_before"].items():
            if name != "none":
                axes.axhline(
                    100 * accuracy, color=drawing.COLOURS[name], linestyle=next(styles),
                    label=f"{drawing.NAMES[name]} instead",
                )  # fmt: skip
        axes.plot(
            epochs, 100 * np.array(learnt), color=drawing.COLOURS["hic"], linewidth=1.4,
            marker="o" * (len(epochs) <= _MARKED), markersize=5,
            label="learning in the field",
        )  # fmt: skip
        drawing.epoch_axis(axes, "epochs in the field (0: no compensation)")
        drawing.accuracy_axis(axes, tested_on)
        shift = "" if field["shift"] == "none" else f", images: {field['shift']}"
        axes.set_title(f"HIC after {duration(field['seconds'])} of drift{shift}")
        drawing.legend_below([axes])


def ablation(
    path: Path, results: dict[str, dict[str, list[float]]], tested_on: str = "test"
) -> None:
    """Accuracy with each non-ideality on alone and off alone.

    Args:
      path: of the picture.
      results: by variant (all, none, only-X, without-X), a list over seeds of
        ``test_accuracy`` and ``after_a_year``.
      tested_on: test or validation, whose images they are of.
    """
    names = [n.removeprefix("only-") for n in results if n.startswith("only-")]
    titles = {
        "test_accuracy": "after training",
        "after_a_year": "a year later, compensated",
    }
    with drawing.figure(path, columns=2) as both:
        for axes, (measure, title) in zip(both, titles.items(), strict=True):
            accuracy = {n: 100 * np.array(r[measure]) for n, r in results.items()}
            for variant, label, colour, style in (
                ("none", "all off", drawing.COLOURS["fp32"], "--"),
                ("all", "all on", drawing.COLOURS["hic"], "-"),
            ):
                axes.axvline(
                    accuracy[variant].mean(), color=colour, linestyle=style, label=label
                )
            for prefix, label, name, marker, shift in (
                ("only-", "on alone", "none", "o", 0.12),
                ("without-", "off alone", "hic", "D", -0.12),
            ):
                values = [accuracy[prefix + name] for name in names]
                means = np.array([v.mean() for v in values])
                stds = np.array([v.std(ddof=1) if len(v) > 1 else 0.0 for v in values])
                # No further than accuracies go.
                bars = [np.minimum(stds, means), np.minimum(stds, 100 - means)]
                axes.errorbar(
                    means, np.arange(len(names)) + shift, xerr=bars, fmt=marker,
                    color=drawing.COLOURS[name], label=label,
                )  # fmt: skip
            axes.set(xlabel=f"{tested_on} accuracy (%)", title=title)
            axes.set_yticks(range(len(names)), [n.replace("_", " ") for n in names])
            axes.invert_yaxis()
        both[1].tick_params(labelleft=False)
        seeds = len(results["all"]["test_accuracy"])
        note = f"Mean of {seeds} seeds ± standard deviation of one."
        drawing.legend_below(both, note if seeds > 1 else "", ncols=4)


def wear_histogram(
    path: Path, histogram: dict[str, Sequence[int]], endurance_cycles: float
) -> None:
    """Devices by write-erase cycles, as in `hic_jax.endurance`, beside their limit."""
    counts = {kind: n for kind, n in histogram.items() if kind != "edges"}
    with drawing.figure(path) as (axes,):
        drawing.devices_by_cycles(axes, histogram["edges"], counts, endurance_cycles)


def set_pulse_curve(path: Path, spec: pcm.DeviceSpec) -> None:
    """Conductance against SET pulses from RESET: mean, spread, a few devices."""
    pulses, devices = 25, 4000
    with drawing.figure(path, height=4.0) as (axes,):
        g = np.asarray(simulate_pulses(spec, pulses, devices))
        count = np.arange(pulses + 1)
        mean, std = g.mean(axis=1), g.std(axis=1)
        few = axes.plot(count, g[:, :6], color="#999999", linewidth=0.7)
        few[0].set_label("six of them")
        axes.fill_between(
            count, np.maximum(mean - std, 0), mean + std, color=drawing.COLOURS["hic"],
            alpha=0.2, linewidth=0, label="± standard deviation of a device",
        )  # fmt: skip
        axes.plot(
            count, mean, color=drawing.COLOURS["hic"], marker="o", markersize=3,
            label=f"mean of {devices:,} devices",
        )  # fmt: skip
        axes.set(xlabel="SET pulses after RESET", ylabel="conductance (µS)")
        axes.set_title(drawing.literal(spec.name))
        axes.set_ylim(bottom=0)
        drawing.legend_below([axes])


def simulate_pulses(spec: pcm.DeviceSpec, pulses: int, devices: int) -> jax.Array:
    """(pulses + 1, devices) conductances in uS, from RESET on."""
    pulse_key, device_key = jax.random.key(0), jax.random.key(1)
    normal = jax.random.normal(pulse_key, (pulses + 1, devices))

    def fire(state, normal):
        state = spec.pulse(state, normal)
        return state, state.g

    start = spec.reset(spec.init(device_key, (devices,)), normal[0])
    return jnp.concatenate([start.g[None], jax.lax.scan(fire, start, normal[1:])[1]])
