"""Rows and columns of the tables that stand with the claims."""

from experiments.report.claims import Finding, drift_verdict
from experiments.report.estimates import Ageing, Gain, Point, Run
from experiments.report.tables import (
    ALGORITHM,
    WIDTH,
    Column,
    Row,
    name_of,
    plain,
    statistics,
    statistics_columns,
)
from experiments.words import ABSENT, duration, signed


def run_row(run: Run) -> Row:
    """A run: what it is and what came out."""
    config, summary = run["config"], run["summary"]
    training_bits = summary.get("training_bits")
    return {
        "algorithm": run["algorithm"],
        "width": run["width"],
        "seed": run["seed"],
        "accuracy_percent": run["accuracy"],
        "inference_kb": run["size_kb"],
        "training_kb": None if training_bits is None else training_bits / 8000,
        "epochs": config["train.epochs"],
        "dataset": config["train.dataset"],
        "depth": config["train.depth"],
        "seconds_per_step": summary.get("seconds_per_step"),
        "folder": run["folder"],
    }


def point_row(algorithm: str, point: Point) -> Row:
    """Accuracy of one width, in %."""
    return {
        "algorithm": algorithm,
        "width": point.width,
        "inference_kb": point.size_kb,
        **statistics(point.accuracy),
    }


def gain_rows(gain: Gain) -> list[Row]:
    """Gain in points at each size; the last row is the mean over the range."""
    sizes = [*gain.sizes_kb, None]
    return [
        {"inference_kb": size, **statistics(at)}
        for size, at in zip(sizes, [*gain.at, gain.mean], strict=True)
    ]


def ageing_rows(case: Ageing) -> list[Row]:
    """Accuracy in % at each time: over seeds, and over all chips."""
    return [
        {
            "devices": case.devices,
            "width": case.width,
            "compensation": case.compensation,
            "time_s": time,
            **statistics(accuracy),
            "chips": case.chips,
            "chip_mean": mean,
            "chip_std": std,
        }
        for time, accuracy, mean, std in zip(
            case.times, case.accuracy, case.chip_mean, case.chip_std, strict=True
        )
    ]


def loss_row(case: Ageing) -> Row:
    """Points lost from the first time to the last."""
    return {
        "devices": case.devices,
        "width": case.width,
        "compensation": case.compensation,
        "first_time_s": case.times[0],
        "last_time_s": case.times[-1],
        "first_accuracy_percent": case.accuracy[0].mean,
        "last_accuracy_percent": case.accuracy[-1].mean,
        **statistics(case.loss),
        "chips": case.chips,
        "last_chip_std": case.chip_std[-1],
        "verdict": str(drift_verdict(case)),
    }


def verdict_row(claim: str, finding: Finding) -> Row:
    """A verdict and the quantity that it judges."""
    return {
        "claim": claim,
        "verdict": str(finding.verdict),
        "quantity": finding.quantity,
        "unit": finding.unit if finding.estimate else "",
        **statistics(finding.estimate),
        "found": " ".join(finding.sentences),
    }


# ---- Columns


def _milliseconds(row: Row) -> str:
    seconds = row["seconds_per_step"]
    return ABSENT if seconds is None else f"{1000 * seconds:,.1f}"


RUNS = (
    ALGORITHM,
    WIDTH,
    Column("seed", plain("d", "seed")),
    Column("accuracy (%)", plain(".2f", "accuracy_percent")),
    Column("inference (kB)", plain(",.1f", "inference_kb")),
    Column("training (kB)", plain(",.1f", "training_kb")),
    Column("epochs", plain("d", "epochs")),
    Column("data set", lambda row: row["dataset"], look=""),
    Column("depth", plain("d", "depth")),
    Column("ms per step", _milliseconds),
    Column("folder", lambda row: row["folder"], look=""),
)

POINTS = (
    ALGORITHM,
    WIDTH,
    Column("size (kB)", plain(",.1f", "inference_kb")),
    *statistics_columns("accuracy (%)"),
)

GAINS = (
    Column(
        "size (kB)",
        lambda row: (
            "mean" if row["inference_kb"] is None else f"{row['inference_kb']:,.1f}"
        ),
    ),
    Column("gain (points)", lambda row: signed(row["mean"])),
    *statistics_columns("")[1:],
)

LOSSES = (
    Column("devices", lambda row: row["devices"], look=""),
    WIDTH,
    Column("compensation", name_of("compensation"), look=""),
    Column("from", lambda row: duration(row["first_time_s"])),
    Column("to", lambda row: duration(row["last_time_s"])),
    Column("first (%)", plain(".2f", "first_accuracy_percent")),
    Column("last (%)", plain(".2f", "last_accuracy_percent")),
    *statistics_columns("loss (points)"),
    Column("chips", plain("d", "chips")),
    Column("verdict", lambda row: row["verdict"], look=""),
)
