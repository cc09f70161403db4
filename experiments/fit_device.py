r"""Fits a multi-level device to measured trains of pulses, for trainings to use.

    python -m experiments.fit_device --data=ramps.csv --unit=S --out=my_device.json
    python -m experiments.fit_device --data=up.csv --down=down.csv --unit=uS \
        --out=my_device.json
    python -m experiments.train --device=my_device.json --workdir=runs/mine

The files are CSV: a column a ramp, or a line a pulse with columns device, pulse and
conductance, and perhaps direction (up or down). The first value of a ramp is that
before its first pulse. Writes the device, with the standard errors of its constants and
what was assumed, and beside it a picture: the ramps under the band that it foretells.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import rich.table
from absl import flags

from experiments import cli, launch, terminal, words
from experiments.devices.ageing import Ageing, ageing, presets
from experiments.devices.constants import parameter_rows
from experiments.devices.fitted import stored
from experiments.devices.picture import picture
from experiments.devices.pulse_files import UNITS, Measurement, read_trains
from experiments.runs.files import write_text
from hic_jax import checks
from hic_jax.fitting import choice, foretold, maximum
from hic_jax.fitting.choice import Judged
from hic_jax.fitting.maximum import Fit, fit
from hic_jax.fitting.trains import Trains
from hic_jax.pcm.device import DeviceSpec

AUTO = "auto"
MODELS = tuple(model.name for model in (*choice.ONE_SIDED, *choice.TWO_SIDED))


@dataclasses.dataclass(frozen=True)
class Result:
    """A fitted device, and what stands behind it.

    Attributes:
      device: the device.
      fit: to all of the trains.
      judged: models by name, fitted to a part and judged by the rest.
      measurement: the trains.
      ageing: drift and noise of reads, from where.
      coverage: shares of the held-out values that lie in their 95 %: of the band of a
        ramp, and of what the values before each foretell.
      said: sentences on what was assumed.
    """

    device: DeviceSpec
    fit: Fit
    judged: dict[str, Judged]
    measurement: Measurement
    ageing: Ageing
    coverage: dict[str, float]
    said: list[str]


def fitted(
    measurement: Measurement, models: list[str], aged: Ageing, name: str
) -> Result:
    """Fits models, takes the one that foretells best, and fits it to everything.

    Args:
      measurement: the trains.
      models: names of models, at least one.
      aged: drift and noise of reads.
      name: of the device.

    Raises:
      ValueError: if no model can be fitted.
    """
    trains = measurement.trains
    known = choice.models_for(trains)
    found: dict[str, Judged] = {}
    for model in models:
        terminal.note(f"{model}: fitting")
        try:
            judged = choice.judged(known[model], trains)
            _device(judged.fit, aged, name, "")  # Which may be none that can be.
            found[model] = judged
        except ValueError as error:
            if len(models) == 1:
                raise
            terminal.note(f"{model}: left out: {error}")
    if not found:
        raise ValueError(f"model={AUTO}: no model can be fitted to these trains")
    best = choice.best(list(found.values()))
    whole = fit(best.fit.model, trains, start=best.fit)
    source = f"fitted to {measurement.files['data']['name']}"
    device = _device(whole, aged, name, source)
    part = _device(best.fit, aged, name, source)
    return Result(
        device=device,
        fit=whole,
        judged=found,
        measurement=measurement,
        ageing=aged,
        coverage=coverage(part, best.fit, trains),
        said=[
            *measurement.said,
            *_assumed(whole, trains),
            *aged.said,
            _reads(whole, aged),
        ],
    )


def _device(fit: Fit, aged: Ageing, name: str, source: str) -> DeviceSpec:
    constants = {**aged.otherwise, **fit.all_constants, **aged.constants}
    return fit.model.device(name, source, constants)


def _reads(fit: Fit, aged: Ageing) -> str:
    """Where the noise of reads comes from."""
    if "reads" in aged.files:
        return f"read noise: from {aged.files['reads']['name']}"
    if fit.lingers:
        share, correlation = (
            f"{fit.constants[name]:.2f}"
            + (f" +- {error:.2f}" if np.isfinite(error := fit.errors[name]) else "")
            for name in maximum.LINGERING
        )
        return (
            "read noise: that with which the trains were read; of its variance a share "
            f"of {share} lingers, correlated by {correlation} from a read to the next, "
            "where the device reads with new noise each time"
        )
    if fit.reads:
        return "read noise: that with which the trains were read"
    if aged.otherwise:
        return "read noise: none is seen in the trains; that of the preset"
    return "read noise: none is seen in the trains; there is none"


def coverage(device: DeviceSpec, fit: Fit, trains: Trains) -> dict[str, float]:
    """How often 95 % bands of a fit to a part of the trains hold for the rest."""
    part = trains.training(choice.SHARE)
    held = np.isfinite(trains.g) & ~np.isfinite(part.g)
    inside = [
        band.holds(trains.g[band.ramps])[held[band.ramps, : len(band.mean)]]
        for band in foretold.bands(device, trains, part)
    ]
    hold = foretold.next_ones_hold(fit, trains)
    return {
        "ramp": float(np.concatenate(inside).mean()),
        "next value": float(hold[held[:, 1:]].mean()),
    }


def _assumed(fit: Fit, trains: Trains) -> list[str]:
    """What the trains do not tell, in sentences."""
    said = [
        "held out: three of every ten values of each ramp, because there are few"
        if trains.few
        else "held out: the last 30 % of the ramps"
    ]
    low, high = trains.range
    if fit.model.name in ("nandakumar", "table"):
        for end, value, upper in (("lower", low, False), ("upper", high, True)):
            if trains.pile(high=upper) is None:
                said.append(
                    f"{end} end of the range: no pile of values tells it; taken is the "
                    f"outermost value, {value:.6g} uS"
                )
    if trains.from_reset.any():
        if "reset_std" not in fit.constants:
            said.append("spread after a RESET: too few ramps to tell it; taken is none")
    else:
        middle = fit.all_constants["reset_mean"]
        said.append(
            f"no ramp tells of a RESET: devices begin at {middle:.6g} uS, the middle "
            "of the range"
        )
    if trains.devices == 1:
        said.append(
            "spread from device to device: one device was measured; taken is none"
        )
    elif not fit.spread:
        said.append("spread from device to device: none is seen in the sizes of steps")
    return said


def content(result: Result) -> dict[str, Any]:
    """What the file holds."""
    trains = result.measurement.trains
    errors = _errors(result)
    return {
        "device": stored(result.device),
        "units": {row.field: row.unit for row in parameter_rows(result.device, errors)},
        "standard_errors": {name: _finite(error) for name, error in errors.items()},
        "measured": {
            "files": result.measurement.files | result.ageing.files,
            "pulses": trains.pulses,
            "ramps": len(trains.device),
            "devices": trains.devices,
        },
        "model": {
            "chosen": result.fit.model.name,
            "held_out_log_likelihood_per_pulse": {
                name: one.score for name, one in result.judged.items()
            },
        },
        "coverage_of_95_percent": result.coverage,
        "assumed": result.said,
    }


def _errors(result: Result) -> dict[str, Any]:
    """Standard errors by fields of the device, of what was fitted."""
    fit = result.fit
    errors = {**fit.errors, **result.ageing.errors}
    return fit.model.field_errors(errors, fit.all_constants)


def _finite(error: Any) -> Any:
    """Numbers, with None where there is none: JSON has no NaN."""
    values = [x if np.isfinite(x) else None for x in np.ravel(error).tolist()]
    return values[0] if np.ndim(error) == 0 else values


def scores(result: Result) -> rich.table.Table:
    """How well each model foretold what it was not fitted to."""
    chosen = result.fit.model.name
    rows = [
        (
            name,
            str(one.fit.free),
            f"{one.score:.4f}",
            "chosen" if name == chosen else "",
        )
        for name, one in sorted(result.judged.items(), key=lambda item: -item[1].score)
    ]
    heads = ("model", "constants", "held-out log-likelihood per pulse", "")
    return terminal.table(heads, rows, words=(0, 3))


def parameters(result: Result) -> rich.table.Table:
    """Constants of the device with their units and standard errors."""
    errors = _errors(result)
    rows = [
        (row.field, row.value, row.error, row.unit)
        for row in parameter_rows(result.device, errors)
    ]
    heads = ("constant", "value", "standard error", "unit")
    return terminal.table(heads, rows, title=result.device.name, words=(0, 3))


def main(argv: list[str]) -> None:
    """Fits as the flags say."""
    launch.start(argv)
    given = flags.FLAGS
    out = Path(given.out)
    if out.suffix != ".json":
        raise ValueError(f"out={given.out}: must end in .json, as a device's file does")
    if not out.parent.is_dir():
        raise ValueError(f"out={given.out}: must be in a folder that there is")
    checks.above("scale", given.scale, 0.0)
    checks.above("g_max", given.g_max, 0.0)
    measurement = read_trains(
        given.data, given.down, unit=given.unit, scale=given.scale,
        g_max=given.g_max, columns=given.columns,
    )  # fmt: skip
    models = _models(measurement.trains, given.model)
    aged, models = ageing(
        models,
        retention=given.retention,
        reads=given.reads,
        drift_from=given.drift_from,
        factor=given.scale * UNITS[given.unit],
        unit=given.unit,
    )
    result = fitted(measurement, models, aged, out.stem)
    write_text(out, json.dumps(content(result), indent=2) + "\n")
    drawn = out.with_suffix(".png")
    picture(drawn, result.device, result.fit, measurement.trains)
    terminal.show(scores(result), parameters(result))
    terminal.show(
        f"{measurement.trains.pulses:,} pulses in "
        f"{words.counted(len(measurement.trains.device), 'ramp')} of "
        f"{words.counted(measurement.trains.devices, 'device')}; of held-out values "
        f"{100 * result.coverage['ramp']:.1f} % lie in the 95 % of a ramp, "
        f"{100 * result.coverage['next value']:.1f} % in the 95 % that those before "
        "them foretell.",
        *(f"Assumed: {line}." for line in result.said),
        f"Device: {out} (--device={out}), picture: {drawn}",
    )


def _models(trains: Trains, asked: str) -> list[str]:
    """Models that are tried."""
    known = choice.models_for(trains)
    if asked == AUTO:
        return list(known)
    if asked not in known:
        ways = "in both directions" if trains.two_sided else "of SET pulses only"
        raise ValueError(
            f"model={asked}: must be auto or {checks.names(known)}, for trains {ways}"
        )
    return [asked]


def define_flags() -> None:
    """Flags of this launcher."""
    cli.define("data", cli.path(), None, "CSV file of ramps.", required=True)
    cli.define("down", cli.path(), None, "CSV file of ramps whose pulses lead down.")
    cli.define(
        "unit",
        cli.Choice(UNITS),
        None,
        "Unit of the conductances, after --scale.",
        required=True,
    )
    cli.define(
        "scale",
        cli.number(),
        1.0,
        "What values are multiplied by first: 10 makes siemens of amperes at 0.1 V.",
    )
    cli.define(
        "g_max",
        cli.number(),
        20.0,
        "End of the nominal range that normalised values are mapped to, uS: to all of "
        "it, or to its middle half for two-sided devices.",
    )
    cli.define(
        "columns",
        cli.Choice(("ramps", "devices")),
        "ramps",
        "What each column of a file with a column a ramp is: ramps of one device, or "
        "devices with a ramp each.",
    )
    cli.define(
        "model",
        cli.Choice((AUTO, *dict.fromkeys(MODELS))),
        AUTO,
        "Kind of device. With auto that under which ramps are likeliest that it was "
        "not fitted to.",
    )
    cli.define(
        "retention",
        cli.path(),
        None,
        "CSV file of drift: a column of seconds after the write, then one of "
        "conductances for each device.",
    )
    cli.define(
        "reads",
        cli.path(),
        None,
        "CSV file of reads one after another: a column of conductances a device.",
    )
    cli.define(
        "drift_from",
        cli.Choice(presets()),
        None,
        "Preset whose drift, and noise of reads if nothing was measured of it, the "
        "device has. Without it, and without --retention, it has no drift.",
    )
    cli.define("out", cli.path(), "device.json", "File of the device.")


if __name__ == "__main__":
    launch.run(main, define_flags)
