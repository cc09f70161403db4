"""The report: a page that is complete in itself, with figures and tables beside it."""

import csv
import dataclasses
import html.parser
import json
import re
import shutil

import matplotlib.image
import pytest
from absl import flags

from experiments import launch
from experiments.config import resolve
from experiments.drift import read_over_time
from experiments.report import __main__ as launcher
from experiments.report import claims, page, sections, tables
from experiments.report.sections import Verdict
from experiments.setup import Experiment
from experiments.train import train
from hic_jax import YEAR
from hic_jax.accounting import EnergyTable, Operations, energy
from hic_jax.inference import Reading
from tests.experiments import pictures
from tests.experiments.report import made

SIZES = {
    ("fp32", 1.0): 200.0,
    ("fp32", 0.5): 50.0,
    ("hic", 1.0): 30.0,
    ("hic", 2.0): 100.0,
}
MEANS = {
    ("fp32", 1.0): 92.0,
    ("fp32", 0.5): 88.0,
    ("hic", 1.0): 88.0,
    ("hic", 2.0): 92.0,
}


PAIR = made.group([made.run("fp32"), made.run("hic")])


def _wear(most):
    kind = {"max": most, "mean": 1.5, "p99": 9.0, "endurance_cycles": 1e9}
    kind["fraction_of_endurance"] = most / 1e9
    histogram = {"edges": [0, 1, 2], "multilevel": [3, 4], "binary": [5, 6]}
    part = kind | {"histogram": [3, 4]}
    return {
        "multilevel": kind,
        "binary": kind,
        "histogram": histogram,
        "layers": {"head/kernel": {"multilevel": part, "binary": part}},
        "binary_planes": [part, part],
    }


def _accounting(size, *, hic, seed):
    """Of one million products per image, with a hundred SETs in the training of HIC."""
    counts = {"analog_macs": 10**6, "adc_conversions": 10**4}
    inference = Operations(**counts if hic else {"digital_macs": 10**6})
    training = inference * 1000 + Operations(binary_sets=hic * (100 + seed))
    bits = int(8000 * size)
    return {
        "inference_bits": bits,
        "training_bits": 2 * bits if hic else bits,
        "mixed_precision_bits": 9 * bits if hic else bits,
        "fp32_bits": 8 * bits if hic else bits,
        "analog_weights": bits // 4 if hic else 0,
        "digital_weights": 0 if hic else bits // 32,
        "multilevel_devices": bits // 2 if hic else 0,
        "binary_devices": 7 * bits // 4 if hic else 0,
        "optimizer_bits": 0 if hic else bits,
        "operations": {
            "inference": dataclasses.asdict(inference),
            "training": dataclasses.asdict(training),
            "arrays": {"head/kernel": 1},
        },
        "energy": {
            "inference_j": energy(inference, EnergyTable()),
            "training_j": energy(training, EnergyTable()),
            "table": dataclasses.asdict(EnergyTable()),
        },
    }


def _drift(loss):
    return [
        {
            "time": time,
            "devices": devices,
            "compensation": name,
            "accuracies": [0.9 - lost / 100, 0.91 - lost / 100],
        }
        for devices in ("trained", "hermes_2")
        for time, lost in ((25.0, 0.0), (YEAR, loss))
        for name in ("none", "adabs")
    ]


def _sweep(folder, *, drift=True, **fields):
    """Run folders: two algorithms, two widths, three seeds."""
    for (algorithm, width), size in SIZES.items():
        for seed in range(3):
            config = resolve(algorithm=algorithm, width=width, seed=seed, **fields)
            path = folder / f"{algorithm}-width{width}-seed{seed}"
            path.mkdir(parents=True)
            (path / "config.json").write_text(config.to_json())
            hic = algorithm == "hic"
            summary = {
                "test_accuracy": (MEANS[algorithm, width] + 0.1 * seed) / 100,
                **_accounting(size, hic=hic, seed=seed),
                "write_erase_cycles": _wear(400 + seed) if hic else None,
                "seconds_per_step": 0.01,
            }
            if hic and drift:
                summary["drift"] = _drift(3.0 + 0.1 * seed)
            (path / "summary.json").write_text(json.dumps(summary))
    return folder


def _record_makers(folder):
    """Three runs say what made them, one of them was gone on with by another."""
    first = {
        "date": "2026-01-02T03:04:05+00:00", "hic_jax": "0.1.0", "commit": 40 * "a",
        "jax": "0.10.1", "device": "cpu", "devices": 1, "host": "h", "processes": 1,
    }  # fmt: skip
    again = first | {"date": "2026-01-05T00:00:00+00:00"}
    later = first | {"date": "2026-03-04T05:06:07+00:00", "devices": 8}
    later["commit"] = f"{40 * 'b'}-dirty"
    outside = {name: value for name, value in first.items() if name != "commit"}
    for seed, entries in enumerate(([first], [again, later], [outside])):
        path = folder / f"fp32-width0.5-seed{seed}" / "provenance.json"
        path.write_text(json.dumps(entries))


def _rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """The report of one sweep, with a run in it that did not finish."""
    folder = _sweep(tmp_path_factory.mktemp("runs") / "sweep <1>")
    _record_makers(folder)
    (folder / "cut" / "off").mkdir(parents=True)
    config = resolve(seed=9)
    (folder / "cut" / "off" / "config.json").write_text(config.to_json())
    out = tmp_path_factory.mktemp("out") / "report"
    launcher.report([str(folder)], str(out))
    return out


@pytest.fixture(scope="module")
def text(out):
    """The HTML."""
    return (out / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def unrendered(monkeypatch):
    pictures.unrendered(monkeypatch)


class _Elements(html.parser.HTMLParser):
    """Start tags and their attributes; whether all that open also close."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_complete_in_itself(text):
    elements = _Elements(text)
    assert elements.open == []
    for tag, attributes in elements.found:
        assert tag not in ("link", "script", "iframe", "object")
        for name in ("src", "href"):
            if name in attributes:
                assert attributes[name].startswith(("data:image/svg+xml;base64,", "#"))
    assert "url(" not in text and "@import" not in text
    ids = {a["id"] for _, a in elements.found if "id" in a}
    links = [a["href"][1:] for tag, a in elements.found if tag == "a"]
    assert len(links) == 7  # Four claims, three topics of the accounting.
    assert set(links) <= ids
    assert any(a.get("name") == "viewport" for _, a in elements.found)


def test_verdicts_and_their_rules_are_on_the_page(text, out):
    verdicts = {row["claim"]: row for row in _rows(out / "verdicts.csv")}
    assert {name: row["verdict"] for name, row in verdicts.items()} == {
        "equal-size": "supported",
        "half-size": "supported",
        "drift": "not supported",
        "endurance": "supported",
    }
    words = " ".join(re.sub(r"<[^>]+>", " ", text).split())
    for name, (claim, _) in claims.CLAIMS.items():
        for part in (*claims.stated(claim, PAIR), verdicts[name]["found"]):
            assert part.replace("'", "&#39;").replace("\xa0", " ") in words
    # A badge in the card and in the section of each claim.
    assert text.count('class="badge yes"') == 6
    assert text.count('class="badge no"') == 2


def test_figures_are_files_and_have_words(text, out):
    images = [a for tag, a in _Elements(text).found if tag == "img"]
    pictures = {path.stem for path in out.glob("*.png")}
    assert pictures == {path.stem for path in out.glob("*.svg")}
    assert pictures == {
        "accuracy_size",
        "smallest_hic",
        "write_erase_cycles",
        *(f"write_erase_cycles_width{width}" for width in (1, 2)),
        "training_memory",
        *(f"energy_{what}" for what in ("inference", "training")),
        *(
            f"wear_{part}s"
            for part in ("multilevel_layer", "binary_layer", "binary_plane")
        ),
        *(
            f"drift_{devices}_width{width}{which}"
            for devices in ("trained", "hermes_2")
            for width in (1, 2)
            for which in ("", "_compensated")
        ),
    }
    assert len(images) == len(pictures)
    assert all(len(image["alt"]) > 40 for image in images)
    for path in out.glob("*.png"):
        image = matplotlib.image.imread(path)
        assert min(image.shape[:2]) > 300
        assert image.std() > 0.02


def test_tables_hold_the_numbers(out):
    runs = _rows(out / "runs.csv")
    assert len(runs) == 12
    assert {float(row["accuracy_percent"]) for row in runs if row["seed"] == "0"} == {
        88.0, 92.0,
    }  # fmt: skip
    points = _rows(out / "accuracy_size.csv")
    assert [(p["algorithm"], float(p["width"])) for p in points] == [
        ("fp32", 0.5), ("fp32", 1.0), ("hic", 1.0), ("hic", 2.0),
    ]  # fmt: skip
    for point in points:
        assert float(point["mean"]) == pytest.approx(
            MEANS[point["algorithm"], float(point["width"])] + 0.1
        )
        assert float(point["std"]) == pytest.approx(0.1)
        assert point["seeds"] == "3"
    drift = _rows(out / "drift_loss.csv")
    assert len(drift) == 8
    assert all(float(row["mean"]) == pytest.approx(3.1) for row in drift)
    times = _rows(out / "drift.csv")
    assert len(times) == 16
    assert {row["devices"] for row in times} == {"trained", "hermes_2"}
    wear = _rows(out / "wear.csv")
    assert {row["worst_cycles"] for row in wear} == {"402"}
    assert {row["trainings_survived"] for row in wear} == {str(10**9 // 402)}
    gains = _rows(out / "gain.csv")
    assert [row["inference_kb"] for row in gains] == ["50.0", "100.0", ""]
    assert float(gains[1]["mean"]) == pytest.approx(2.0)


def test_the_accounting_is_on_the_page(text):
    words = " ".join(re.sub(r"<[^>]+>", " ", text).split()).replace("\xa0", " ")
    for part in (
        # 60 kB beside 240 and 270 at width 1.
        "holds the weights in 60 kB: 75 % less than FP32 (240 kB) and 78 % less than "
        "mixed precision with a floating-point accumulator (270 kB)",
        # A million products of 24 pJ, and ten thousand conversions of 52.3; a thousand
        # times that and the SETs.
        "An inference of one image takes an estimated 24 µJ by FP32 and 523 nJ by HIC",
        "how full arrays are: from 204 nJ to 523 nJ by HIC, if all were used in full",
        "A training takes an estimated 24 mJ by FP32 and 523 µJ by HIC at width 1.",
        "Every energy is an estimate",
        "Le Gallo et al., Nat. Electron. 2023",
        "Binary cells by bit of their word: most in bit 0, where one has seen 402",
    ):
        assert part in words
    assert text.count("<details>") == 3


def test_tables_of_the_accounting_hold_the_numbers(out):
    memory = {(m["algorithm"], m["width"]): m for m in _rows(out / "memory.csv")}
    assert len(memory) == 4
    hic = memory["hic", "2.0"]
    assert (hic["inference_bits"], hic["training_bits"]) == ("800000", "1600000")
    training = {
        (row["algorithm"], row["width"]): row
        for row in _rows(out / "operations_training.csv")
    }
    assert float(training["hic", "1.0"]["binary_sets"]) == 101.0
    assert float(training["fp32", "1.0"]["digital_macs"]) == 1e9
    energies = _rows(out / "energy_training.csv")
    assert float(energies[-1]["binary_sets_j"]) == pytest.approx(101 * 13.5e-12)
    # Seeds differ by one SET of 13.5 pJ.
    assert float(energies[-1]["std"]) == pytest.approx(13.5e-12, rel=1e-3)
    assert {row["seeds"] for row in energies} == {"3"}
    planes = _rows(out / "wear_planes.csv")
    assert [(row["width"], row["part"]) for row in planes] == [
        (width, part) for width in ("1.0", "2.0") for part in ("bit 0", "bit 1")
    ]
    assert {row["part"] for row in _rows(out / "wear_layers.csv")} == {"head"}
    bins = _rows(out / "wear_histograms.csv")
    (of_plane,) = (
        row for row in bins
        if (row["part"], row["width"], row["cycles_from"]) == ("bit 1", "2.0", "1")
    )  # fmt: skip
    assert (of_plane["cycles_to"], of_plane["devices"]) == ("2", "12")


def test_what_was_left_out_and_how_it_was_made_are_said(text):
    assert "off</code> has no summary.json" in text
    assert "sweep &lt;1&gt;" in text
    assert "sweep <1>" not in text
    assert "--algorithm=fp32 --width=0.5 --seed=2" in text
    assert "--deploy=hermes_2 --times=25,31536000 --chips=2" in text
    assert "judged by 12 runs" in text


def test_what_made_the_runs_is_on_the_page(text, out):
    rows = {row["commit"]: row for row in _rows(out / "made_by.csv")}
    assert {commit: row["runs"] for commit, row in rows.items()} == {
        40 * "a": "2", "": "1", f"{40 * 'b'}-dirty": "1",
    }  # fmt: skip
    words = " ".join(re.sub(r"<[^>]+>", " ", text).split())
    for part in (
        "Of the 12 runs, 9 do not say which versions",
        "0.1.0 aaaaaaaaaa 0.10.1 cpu 1 h 2026-01-02 to 2026-01-05 2",
        "0.1.0 – 0.10.1 cpu 1 h 2026-01-02 1",
        "0.1.0 bbbbbbbbbb, changed 0.10.1 8 × cpu 1 h 2026-03-04 1",
    ):
        assert part in words


@pytest.mark.usefixtures("unrendered")
def test_groups_are_judged_apart(tmp_path, capsys):
    _sweep(tmp_path / "runs" / "a", drift=False)
    _sweep(tmp_path / "runs" / "b", drift=False, epochs=3)
    launcher.report([str(tmp_path / "runs")], str(tmp_path / "out"))
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Group 1: digits, ResNet-8, 30 epochs" in text
    assert "Group 2: digits, ResNet-8, 3 epochs" in text
    verdicts = _rows(tmp_path / "out" / "verdicts.csv")
    assert [row["group"] for row in verdicts] == 4 * ["1"] + 4 * ["2"]
    printed = capsys.readouterr()
    assert "24 runs found: 12 FP32, 12 HIC" in printed.err
    for title in ("digits, ResNet-8, 30 epochs", "digits, ResNet-8, 3 epochs"):
        assert title in printed.out
    for verdict in Verdict:
        count = sum(row["verdict"] == verdict for row in verdicts)
        assert printed.out.count(f"  {verdict}  ") == count
    points = _rows(tmp_path / "out" / "accuracy_size.csv")
    assert {row["seeds"] for row in points} == {"3"}
    assert (tmp_path / "out" / "group2_accuracy_size.svg").is_file()


def _as_trained_by(folder, path, algorithm, accuracy, *, binary=True):
    """A run folder like another one, by another algorithm, whose result is another."""
    config = json.loads((folder / "config.json").read_text())
    config["train"]["algorithm"] = algorithm
    summary = json.loads((folder / "summary.json").read_text())
    summary["test_accuracy"] = accuracy
    if not binary:
        del summary["binary_devices"]
        wear = summary["write_erase_cycles"]
        for part in (wear, wear["histogram"], wear["layers"]["head/kernel"]):
            del part["binary"]
        del wear["binary_planes"]
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config))
    (path / "summary.json").write_text(json.dumps(summary))


@pytest.mark.usefixtures("unrendered")
def test_algorithms_of_any_name_stand_beside_the_pair(tmp_path, capsys):
    """Each by itself: a table and a figure have what it reached, and no other."""
    _sweep(tmp_path / "all", drift=False)
    runs = tmp_path / "runs"
    for seed in range(2):
        for algorithm in ("fp32", "hic"):
            name = f"{algorithm}-width1.0-seed{seed}"
            shutil.copytree(tmp_path / "all" / name, runs / name)
        hic = tmp_path / "all" / f"hic-width1.0-seed{seed}"
        accuracy = 0.94 + seed / 100
        _as_trained_by(
            hic, runs / f"other{seed}", "mixed_precision", accuracy, binary=False
        )
    strange = "<b>$x_$ rule"
    _as_trained_by(hic, runs / "strange", strange, 0.5)
    out = tmp_path / "out"
    path = launcher.report([str(runs)], str(out), candidate="mixed_precision")
    points = {row["algorithm"]: row for row in _rows(out / "accuracy_size.csv")}
    means = {name: (float(p["mean"]), p["seeds"]) for name, p in points.items()}
    assert means == {
        "fp32": (pytest.approx(92.05), "2"),
        "mixed_precision": (pytest.approx(94.5), "2"),
        "hic": (pytest.approx(88.05), "2"),
        strange: (50.0, "1"),
    }
    verdicts = {row["claim"]: row for row in _rows(out / "verdicts.csv")}
    assert "The smallest mixed precision that" in verdicts["half-size"]["found"]
    assert verdicts["endurance"]["verdict"] == "supported"
    wear = [(row["algorithm"], row["kind"]) for row in _rows(out / "wear.csv")]
    assert wear == [
        ("mixed_precision", "multilevel"),
        *((name, k) for name in ("hic", strange) for k in ("multilevel", "binary")),
    ]
    text = path.read_text(encoding="utf-8")
    assert _Elements(text).open == []
    assert "<td>&lt;b&gt;$x $ rule</td>" in text
    assert "mixed precision beats the FP32 baseline" in text
    assert "--candidate=mixed_precision" in text
    assert "7 runs found: 1 <b>$x $ rule, 2 FP32, 2 HIC, 2 mixed prec" in (
        capsys.readouterr().err
    )
    for pair, error in (
        ({"candidate": "hci"}, "candidate='hci': must be one of .*did you mean 'hic'"),
        ({"baseline": "hic"}, "candidate=hic: must be another than the baseline"),
    ):
        with pytest.raises(ValueError, match=error):
            launcher.report([str(runs)], str(tmp_path / "none"), **pair)
    assert not (tmp_path / "none").exists()


@pytest.mark.usefixtures("unrendered")
def test_runs_that_show_little_are_a_page_too(tmp_path):
    """FP32 alone, one seed, nothing read, nothing tracked."""
    folder = _sweep(tmp_path / "all") / "fp32-width0.5-seed0"
    launcher.report([str(folder)], str(tmp_path / "out"))
    verdicts = _rows(tmp_path / "out" / "verdicts.csv")
    assert {row["verdict"] for row in verdicts} == {Verdict.TOO_LITTLE}
    assert not (tmp_path / "out" / "wear.csv").exists()
    assert "There are no HIC runs." in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.usefixtures("one_block")
def test_a_run_that_was_trained_is_reported(tmp_path):
    """What the launchers write is what the report reads."""
    fields = {"channel_plan": "one_block", "epochs": 1, "batch_size": 479}
    experiment = Experiment.of(resolve(converters=False, **fields))
    folder = str(tmp_path / "run")
    summary = train(experiment, folder)
    reading = Reading(times=[25.0], chips=1, compensations=["none"])
    (row,) = read_over_time(experiment, folder, reading)
    launcher.report([folder], str(tmp_path / "out"))
    (run,) = _rows(tmp_path / "out" / "runs.csv")
    assert float(run["accuracy_percent"]) == 100 * summary["test_accuracy"]
    assert float(run["inference_kb"]) == summary["inference_bits"] / 8000
    (reading,) = _rows(tmp_path / "out" / "drift.csv")
    assert float(reading["mean"]) == 100 * row["mean"]
    wear = {row["kind"]: row for row in _rows(tmp_path / "out" / "wear.csv")}
    for kind in ("multilevel", "binary"):
        most = summary["write_erase_cycles"][kind]["max"]
        assert int(wear[kind]["worst_cycles"]) == most
    (memory,) = _rows(tmp_path / "out" / "memory.csv")
    assert int(memory["binary_devices"]) == summary["binary_devices"]
    (operations,) = _rows(tmp_path / "out" / "operations_training.csv")
    counted = summary["operations"]["training"]
    assert {n: int(float(operations[n])) for n in counted} == counted
    (joules,) = _rows(tmp_path / "out" / "energy_inference.csv")
    assert float(joules["mean"]) == summary["energy"]["inference_j"]["total"]
    assert len(_rows(tmp_path / "out" / "wear_planes.csv")) == 7
    layers = {row["part"] for row in _rows(tmp_path / "out" / "wear_layers.csv")}
    arrays = summary["operations"]["arrays"]
    assert layers == {name.removesuffix("/kernel") for name in arrays}

    # Another table of energies, in the same folder.
    mine = tmp_path / "out" / "mine.txt"
    mine.write_text("mine")
    (tmp_path / "table.json").write_text('{"adc_conversion_pj": 104.6}')
    page = launcher.report(
        [folder], str(tmp_path / "out"), str(tmp_path / "table.json")
    )
    (again,) = _rows(tmp_path / "out" / "energy_inference.csv")
    assert float(again["mean"]) == pytest.approx(2 * float(joules["mean"]))
    assert f"--energy_table={tmp_path / 'table.json'}" in page.read_text()

    # What the next report does not have is not left from this one.
    folder = str(tmp_path / "fp32")
    digital = resolve(algorithm="fp32", **fields)
    train(Experiment.of(digital), folder)
    launcher.report([folder], str(tmp_path / "out"))
    assert not (tmp_path / "out" / "wear_planes.csv").exists()
    assert not list((tmp_path / "out").glob("drift*"))
    assert mine.read_text() == "mine"


def test_nothing_to_report_is_one_error_and_no_folder(tmp_path):
    flags_before = set(flags.FLAGS)
    launcher.define_flags()
    try:
        (tmp_path / "run").mkdir()
        config = resolve()
        (tmp_path / "run" / "config.json").write_text(config.to_json())
        out = tmp_path / "out"
        for words, error in (
            ([], "runs=: must name at least one"),
            ([str(tmp_path / "no")], "is not a folder"),
            ([str(tmp_path)], "none can be reported: .*run has no summary.json"),
        ):
            argv = flags.FLAGS(["report", *words, f"--out={out}"])
            with pytest.raises(SystemExit, match=f"error: .*{error}") as stop:
                launch.told(launcher.main, argv)
            assert "\n" not in str(stop.value)
        assert not out.exists()
    finally:
        for name in set(flags.FLAGS) - flags_before:
            delattr(flags.FLAGS, name)


def test_a_page_of_others_is_one_error_before_anything_is_drawn(tmp_path, monkeypatch):
    folder = _sweep(tmp_path / "all") / "fp32-width0.5-seed0"
    mine = tmp_path / "out" / "report.html"
    mine.parent.mkdir()
    mine.write_text("mine")
    monkeypatch.setattr(page, "_make", None)
    with pytest.raises(ValueError, match=r"report\.html was not written by a report"):
        launcher.report([str(folder)], str(tmp_path / "out"))
    assert mine.read_text() == "mine"


def test_numbers_have_their_places():
    row = {"mean": -1.234, "std": None, "seeds": 1}
    columns = tables.statistics_columns("gain", "+.2f")
    for interval, text in (((-1.234, 5.0), "−1.23 to 5.00"), ((None, None), "–")):
        low, high = interval
        row |= {"interval_low": low, "interval_high": high}
        cells = [column.text(row) for column in columns]
        assert cells == ["−1.23", "–", text, "1"]


def test_looks_are_told_apart_without_colour():
    assert set(sections.LOOKS) == set(Verdict)
    assert len({sign for _, sign in sections.LOOKS.values()}) == 3
