"""What is stored of a run: read, and checked before anything is done with it.

Whatever is wrong with a file is one `RunFolderError` that names the file and the field.
Files of other versions may have more fields, or fewer.
"""

import dataclasses
import json
import reprlib
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.config import Config
from experiments.parts import (
    NUMBER_OR_CURVE,
    Hardware,
    Part,
    TrainConfig,
    assembled,
    parts_of,
)
from hic_jax import models, pcm
from hic_jax.training.recipes import ALGORITHMS

# No file of a run folder has lists and objects nested half as deep.
DEEPEST = 20


class RunFolderError(ValueError):
    """The folder cannot be used for what was asked."""


def read_config(workdir: str | Path) -> Config:
    """The configuration stored in a run folder, or `RunFolderError`."""
    stored = read_fields(workdir)
    try:
        return Config.from_dict(stored)
    except KeyError as error:
        raise fault(workdir, "config.json", f"lacks {error.args[0]}") from error
    except (ValueError, TypeError, ArithmeticError) as error:
        raise fault(workdir, "config.json", error) from error


def read_fields(workdir: str | Path) -> dict[str, Any]:
    """The fields of that configuration as they are stored, perhaps by another version.

    Raises:
      RunFolderError: if there are none, or one is not of the type that it has here.
    """
    if not (Path(workdir) / "config.json").is_file():
        raise RunFolderError(f"workdir={workdir}: is not a run (it has no config.json)")
    # First what says which parts there are.
    names = (TrainConfig, "train"), (Hardware, "hardware")
    known = _object(**{name: _object(**_numbers_and_words(cls)) for cls, name in names})
    stored = _read(workdir, "config.json", known)
    algorithm = stored.get("train", {}).get("algorithm")
    preset = stored.get("hardware", {}).get("preset", Hardware.preset)
    model = stored.get("train", {}).get("model", TrainConfig.model)
    known_model = model in models.MODELS or models.is_own(model)
    if algorithm in ALGORITHMS and preset in pcm.PRESETS and known_model:
        _read(workdir, "config.json", _schema_of(algorithm, preset, model))
    return stored


def read_summary(workdir: str | Path) -> dict[str, Any]:
    """The result stored in a run folder; empty before there is one.

    Raises:
      RunFolderError: if it is no result.
    """
    if not (Path(workdir) / "summary.json").exists():
        return {}
    summary = _read(workdir, "summary.json", SUMMARY)
    for name, histogram, edges in _histograms(summary.get("write_erase_cycles") or {}):
        if len(histogram) != len(edges) - 1 or edges != sorted(set(edges)):
            text = f"write_erase_cycles.{name}: must be counts between rising edges"
            raise fault(workdir, "summary.json", text)
    return summary


def read_rows(workdir: str | Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of metrics, and what is wrong with lines that are none.

    Nothing is wrong with a last line that was cut off when the run was killed.
    """
    path = Path(workdir) / "metrics.jsonl"
    try:
        *lines, rest = path.read_bytes().split(b"\n") if path.exists() else [b""]
    except OSError as error:
        raise fault(workdir, "metrics.jsonl", error) from error
    rows: list[dict[str, Any]] = []
    faults = []
    for number, line in enumerate([*lines, rest] if rest else lines, 1):
        try:
            row = parsed(line)
            _check_row(row, after=rows[-1]["step"] if rows else 0)
        except ValueError as error:
            if number <= len(lines):
                faults.append(f"metrics.jsonl: line {number}: {short(error)}")
        else:
            rows.append(row)
    return rows, faults


def _check_row(row: Any, after: int) -> None:
    if not isinstance(row, dict):
        raise ValueError(f"{reprlib.repr(row)}: must be an object")
    for name, value in row.items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"{name}={reprlib.repr(value)}: must be a number")
    step = row.get("step")
    if not isinstance(step, int) or step <= after:
        raise ValueError(f"step={step}: must be a whole number above {after}")
    if missing := {"epoch", "loss"} - set(row):
        raise ValueError(f"lacks {', '.join(sorted(missing))}")


# ---- JSON


def read_object(path: Path, schema: dict[str, Any]) -> dict[str, Any]:
    """An object in a JSON file.

    Raises:
      ValueError: if the file is none, or not as the schema says: names the field.
      OSError: if it cannot be read.
    """
    import jsonschema  # Not before: most starts have nothing to read.

    content = parsed(path.read_bytes())
    error = jsonschema.exceptions.best_match(
        jsonschema.Draft202012Validator(schema).iter_errors(content)
    )
    if error is None:
        return content
    field = error.json_path.removeprefix("$").removeprefix(".")
    if error.validator == "required":
        missing = next(n for n in error.validator_value if n not in error.instance)
        raise ValueError(f"lacks {field}{'.' if field else ''}{missing}")
    value = f"{field}={reprlib.repr(error.instance)}: " if field else ""
    raise ValueError(f"{value}must have {error.validator}={error.validator_value}")


def _read(workdir: str | Path, name: str, schema: dict[str, Any]) -> dict[str, Any]:
    try:
        return read_object(Path(workdir) / name, schema)
    except (OSError, ValueError) as error:
        raise fault(workdir, name, error) from error


def fault(workdir: str | Path, name: str, what: object) -> RunFolderError:
    """What is wrong with a file of a run folder."""
    return RunFolderError(f"workdir={workdir}: {name}: {short(what)}")


def short(text: object) -> str:
    """One line about something that may be long, and may be anything."""
    line = " ".join(str(text).encode(errors="replace").decode().split())
    return line if len(line) <= 400 else f"{line[:300]} ... {line[-60:]}"


def parsed(text: bytes) -> Any:
    """A JSON value whose numbers and texts can be used, or `ValueError`."""
    try:
        content = json.loads(
            text.decode(),
            parse_int=_number,
            parse_float=_number,
            parse_constant=_number,
        )
        _check_depth_and_texts(content)
    except RecursionError:
        raise ValueError(f"is nested deeper than {DEEPEST} levels") from None
    return content


def _check_depth_and_texts(item: Any, depth: int = 1) -> None:
    if depth > DEEPEST:
        raise RecursionError
    if isinstance(item, str):
        item.encode()  # Half a pair of surrogates is no text.
    elif isinstance(item, dict | list):
        values = item.values() if isinstance(item, dict) else ()
        for child in (*item, *values):
            _check_depth_and_texts(child, depth + 1)


def _number(digits: str) -> int | float:
    """A JSON number; a float holds it, and its square."""
    if not abs(float(digits)) < 1e150:
        raise ValueError(f"{reprlib.repr(digits)}: must be a number below 1e150")
    return int(digits) if digits.lstrip("-").isdecimal() else float(digits)


# ---- What fields are (JSON Schema)

_TYPES = {int: "integer", float: "number", bool: "boolean", str: "string"}


def _schema_of(algorithm: str, preset: str, model: str) -> dict[str, Any]:
    """The schema of a configuration; parts are checked for their numbers and words."""

    def made(part: Part, inner: dict[str, Any]) -> dict[str, Any]:
        return _object(**_numbers_and_words(part.cls), **inner)

    return _object(**assembled(parts_of(algorithm, preset, model), made))


def _numbers_and_words(cls: type) -> dict[str, dict[str, Any]]:
    """Schemas of the fields of a dataclass that are numbers and words."""
    fields: dict[str, Any] = {}
    hints = typing.get_type_hints(cls)
    for name in (field.name for field in dataclasses.fields(cls)):
        literal = typing.get_origin(hints[name]) is typing.Literal
        kind = str if literal else hints[name]
        options = typing.get_args(kind) or (kind,)
        types = [_TYPES[option] for option in options if option in _TYPES]
        if kind == NUMBER_OR_CURVE:
            types = ["number", "string"]
        elif len(options) > 1:
            types = [*types, "null"]
        if types:
            fields[name] = {"type": types if len(types) > 1 else types[0]}
    return fields


def _object(*required: str, others: Any = True, **fields: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": fields,
        "required": list(required),
        "additionalProperties": others,
    }


def _list(items: dict[str, Any], **limits: int) -> dict[str, Any]:
    return {"type": "array", "items": items, **limits}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return schema | {"type": [schema["type"], "null"]}


_TEXT, _NUMBER, _YES_OR_NO = {"type": "string"}, {"type": "number"}, {"type": "boolean"}
_COUNT = {"type": "integer", "minimum": 0}
_SOME = {"type": "integer", "minimum": 1}
_AMOUNT = {"type": "number", "minimum": 0}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_AMOUNTS = _object(others=_AMOUNT)

_CYCLES = {"max": _COUNT, "mean": _AMOUNT, "p99": _AMOUNT}
_CYCLES |= {"sets": _COUNT, "resets": _COUNT, "fraction_of_endurance": _AMOUNT}
_USED = ("max", "mean", "p99", "fraction_of_endurance")
_KIND = _object(
    *_USED, "endurance_cycles", **_CYCLES,
    endurance_cycles={"type": "number", "exclusiveMinimum": 0},
)  # fmt: skip
_PART = _object(*_USED, "histogram", **_CYCLES, histogram=_list(_COUNT))

# Of `hic_jax.endurance`: whatever has another name is one more kind of device.
_WEAR = _object(
    full_counters=_COUNT,
    others=_KIND,
    trainings=_object(others=_or_null(_AMOUNT)),
    histogram=_object("edges", edges=_list(_COUNT), others=_list(_COUNT)),
    binary_planes=_list(_PART),
    layers=_object(others=_object(others=_PART)),
)

# Of `hic_jax.inference.accuracy_over_time`.
_READING = _object(
    "time",
    "compensation",
    "accuracies",
    time={"type": "number", "exclusiveMinimum": 0},
    devices=_TEXT,
    without=_list(_TEXT),
    compensation=_TEXT,
    ideal_reference=_YES_OR_NO,
    mean=_SHARE,
    std=_or_null(_AMOUNT),
    interval=_or_null(_list(_NUMBER, minItems=2, maxItems=2)),
    accuracies=_list(_SHARE, minItems=1),
    losses=_list(_AMOUNT, minItems=1),
)

# Of `experiments.field`.
_FIELD = _object(
    "trained", "seconds", "shift",
    trained=_TEXT, step=_COUNT, seconds=_AMOUNT, shift=_TEXT,
    accuracy_trained=_SHARE,
    accuracy_before=_object(
        "none", none=_SHARE, gdc=_SHARE, adabs=_SHARE, others=False
    ),
    accuracy_after=_SHARE, extra_cycles=_or_null(_object(others=_AMOUNTS)),
)  # fmt: skip

SUMMARY = _object(
    algorithm=_TEXT,
    dataset=_TEXT,
    num_classes=_SOME,
    test_accuracy=_SHARE,
    train_loss=_NUMBER,
    test_loss=_AMOUNT,
    test_perplexity=_AMOUNT,
    unknown_characters=_COUNT,
    steps=_COUNT,
    seconds_per_step=_AMOUNT,
    metrics_fault=_TEXT,
    inference_bits=_SOME,
    training_bits=_SOME,
    mixed_precision_bits=_SOME,
    fp32_bits=_SOME,
    optimizer_bits=_COUNT,
    post_training=_object(
        others=_object(
            "test_accuracy",
            "inference_bits",
            test_accuracy=_SHARE,
            inference_bits=_SOME,
        )
    ),
    analog_weights=_COUNT,
    digital_weights=_COUNT,
    multilevel_devices=_COUNT,
    binary_devices=_COUNT,
    write_erase_cycles=_or_null(_WEAR),
    operations=_object(
        inference=_AMOUNTS, training_step=_object(others=_AMOUNTS),
        training=_or_null(_AMOUNTS),
        arrays=_object(others=_COUNT),
    ),
    energy=_object(
        basis=_TEXT, inference_j=_AMOUNTS, training_j=_or_null(_AMOUNTS),
        table=_AMOUNTS,
    ),
    drift=_list(_READING),
    field=_FIELD,
)  # fmt: skip

# Of `experiments.runs.run_folder`, in each checkpoint.
RECORD = _object(
    "step",
    step=_COUNT,
    score=_or_null(_NUMBER),
    config=_object(),
    logged=_object(
        "rows", "crc32", "sums", "best_accuracy", "last",
        rows=_COUNT, crc32=_COUNT, sums=_object(others=_NUMBER),
        best_accuracy=_SHARE, last=_object(others=_NUMBER),
    ),
)  # fmt: skip


def _histograms(wear: dict[str, Any]) -> Iterator[tuple[str, list[int], list[int]]]:
    """Every histogram of write-erase cycles: its field, its counts, the edges."""
    own = wear.get("histogram", {})
    edges = own.get("edges", [])
    yield from (
        (f"histogram.{kind}", own[kind], edges) for kind in own if kind != "edges"
    )
    for bit, plane in enumerate(wear.get("binary_planes", ())):
        yield f"binary_planes[{bit}].histogram", plane["histogram"], edges
    for name, layer in wear.get("layers", {}).items():
        for kind, part in layer.items():
            yield f"layers.{name}.{kind}.histogram", part["histogram"], edges
