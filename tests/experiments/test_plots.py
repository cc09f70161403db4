"""Pictures: files that show something, in words that can be read."""

import json
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

import experiments
import hic_jax
from experiments import demo, drawing, plots
from hic_jax import pcm
from hic_jax.inference.compensations import COMPENSATIONS
from tests.experiments import pictures

ENDURANCE = 1e9
RESULTS = Path(experiments.__file__).parent / "results"


def _curve(epochs):
    """Rows as training logs them: two an epoch, the second with a test."""
    for k in range(1, 2 * epochs + 1):
        row = {"step": k, "epoch": k / 2, "loss": 2.0 / k}
        yield row | ({} if k % 2 else {"test_accuracy": 1 - 0.5 / k})


def _ageing(times, compensations, chips, devices="trained", without=()):
    return [
        {
            "time": time,
            "devices": devices,
            "without": list(without),
            "compensation": name,
            "mean": 0.9 - 0.01 * i,
            "std": 0.02,
            "interval": (0.85 - 0.01 * i, 1.05) if chips > 1 else None,
            "accuracies": [0.9] * chips,
        }
        for i, time in enumerate(times)
        for name in compensations
    ]


def _histogram(multilevel, binary=()):
    edges = [0, 1, 2, 3, 4, 6, 8, 12, 16]
    kinds = {"multilevel": multilevel} | ({"binary": binary} if binary else {})
    return {"edges": edges[: len(multilevel) + 1]} | kinds


def _ablated(seeds):
    names = ("nonlinearity", "write_noise", "drift")
    alone = [f"{prefix}-{name}" for prefix in ("only", "without") for name in names]
    measured = [0.98, 0.999, 0.97][:seeds]
    return {
        v: {"test_accuracy": measured, "after_a_year": measured}
        for v in ("all", "none", *alone)
    }


FIELD = {
    "seconds": hic_jax.YEAR,
    "shift": "rotate",
    "accuracy_trained": 0.95,
    "accuracy_before": {"none": 0.1, "gdc": 0.8, "column": 0.81, "adabs": 0.9},
}
TIMES = (25.0, hic_jax.HOUR, hic_jax.YEAR)
# From a tenth of a second to a thousand years, one a decade.
DECADES = tuple(10.0**k for k in range(-1, 11))
PICTURES = {
    "one run": (plots.learning_curves, {"hic": list(_curve(3))}),
    "two runs": (
        plots.learning_curves,
        {"hic": list(_curve(3)), "fp32": list(_curve(2))},
    ),
    "a long run": (plots.learning_curves, {"hic": list(_curve(200))}),
    "one interval": (plots.learning_curves, {"hic": list(_curve(1))[1:]}),
    "ageing": (plots.accuracy_over_time, _ageing(TIMES, ("none", "adabs"), 3)),
    "ageing, deployed": (
        plots.accuracy_over_time,
        _ageing(TIMES, COMPENSATIONS, 3, "nandakumar_2019", ["drift_spread"]),
    ),
    "ageing, all that ages off": (
        plots.accuracy_over_time,
        _ageing(TIMES, ["adabs"], 3, "hermes_2", ["drift", "read_noise"]),
    ),
    "ageing for long": (plots.accuracy_over_time, _ageing(DECADES, COMPENSATIONS, 3)),
    "one time, one chip": (plots.accuracy_over_time, _ageing([25.0], ["none"], 1)),
    "names that look like mathematics": (
        plots.accuracy_over_time,
        _ageing(TIMES, ("none", "$x_$"), 3, "$^$"),
    ),
    "times between marks": (
        plots.accuracy_over_time,
        _ageing((200.0, 210.0, 900.0), ["none"], 1),
    ),
    "field": (plots.field_learning, list(_curve(2)), FIELD),
    "ablation": (plots.ablation, _ablated(3)),
    "ablation, one seed": (plots.ablation, _ablated(1)),
    "wear": (
        plots.wear_histogram,
        _histogram([3, 100, 50, 20, 3], [0, 80, 90, 300, 2]),
        ENDURANCE,
    ),
    "no wear": (plots.wear_histogram, _histogram([50]), ENDURANCE),
    "wear beyond the limit": (plots.wear_histogram, _histogram([1, 2, 3]), 2.5),
    "SET pulses": (plots.set_pulse_curve, pcm.nandakumar_2018()),
    "SET pulses, ideal": (plots.set_pulse_curve, pcm.ideal()),
}


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """Draws a picture and returns its figure, once it was found readable."""
    saved = pictures.recorded(monkeypatch)

    def draw(function, *arguments, **keywords):
        function(tmp_path / "picture.png", *arguments, **keywords)
        (figure,) = saved
        return figure

    return draw


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_shows_something(tmp_path, draw, name):
    figure = draw(*PICTURES[name])
    image = matplotlib.image.imread(tmp_path / "picture.png")
    assert min(image.shape[:2]) > 300
    # About as wide as a README shows it, so that words keep their size.
    assert 700 < image.shape[1] < 1300
    # More than the black and white of empty axes.
    red, green, blue = np.moveaxis(image[..., :3], -1, 0)
    coloured = np.maximum(abs(red - green), abs(green - blue)) > 0.1
    assert coloured.sum() > 200
    assert image.std() > 0.02
    assert any(axes.get_xticklabels() for axes in figure.axes)
    for axes in figure.axes:
        assert axes.get_xlabel()
        if not name.startswith("ablation"):  # Its rows have names.
            assert axes.get_ylabel()
            # Accuracies, losses, counts, conductances: nothing is below 0.
            assert min(axes.get_ylim()) >= 0
    _, labels = pictures.words_of_legend(figure)
    assert len(set(labels)) == len(labels) > 0


def test_curves_are_the_rows(draw):
    rows = list(_curve(3))
    figure = draw(plots.learning_curves, {"hic": rows})
    (loss,), (accuracy,) = (axes.get_lines() for axes in figure.axes)
    np.testing.assert_allclose(
        loss.get_xydata(), [(row["epoch"], row["loss"]) for row in rows]
    )
    tested = [row for row in rows if "test_accuracy" in row]
    np.testing.assert_allclose(
        accuracy.get_xydata(),
        [(row["epoch"], 100 * row["test_accuracy"]) for row in tested],
    )
    assert {line.get_marker() for line in (loss, accuracy)} == {"o"}


def test_a_loss_is_told_in_plain_numbers(draw):
    rows = [{"epoch": k, "loss": loss} for k, loss in enumerate((3.1, 1.6), start=1)]
    axes = draw(plots.learning_curves, {"hic": rows}).axes[0]
    low, high = axes.get_ylim()
    labels = {
        label.get_text()
        for which in ("major", "minor")
        for label in axes.get_yticklabels(which=which)
        if low <= label.get_position()[1] <= high
    }
    assert labels == {"2", "3"}


@pytest.mark.parametrize("epochs", [1, 2, 3, 30, 200])
def test_epochs_are_whole(draw, epochs):
    figure = draw(plots.learning_curves, {"hic": list(_curve(epochs))})
    for axes in figure.axes:
        ticks = axes.get_xticks()
        assert (ticks == np.round(ticks)).all()
        low, high = axes.get_xlim()
        assert low == 0
        assert 2 <= sum(low <= tick <= high for tick in ticks) <= 8


def test_epochs_in_the_field_are_whole(draw):
    (axes,) = draw(plots.field_learning, list(_curve(2)), FIELD).axes
    assert [text.get_text() for text in axes.get_xticklabels()][:3] == ["0", "1", "2"]


def test_accuracy_is_percent_over_seconds(draw):
    rows = _ageing(TIMES, ("none", "adabs"), 3)
    figure = draw(plots.accuracy_over_time, rows)
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    note, labels = pictures.words_of_legend(figure)
    assert note == "Mean of 3 chips, 95 % interval; lines only join the points."
    assert labels == ["no compensation", "AdaBS: BatchNorm re-estimated"]
    for bars in pictures.points(axes).values():
        line = bars.lines[0]
        np.testing.assert_allclose(
            line.get_xydata(), list(zip(TIMES, (90.0, 89.0, 88.0), strict=True))
        )
        assert line.get_marker() in "oD"
        # An interval beyond 100 % is drawn up to there.
        np.testing.assert_allclose(
            pictures.ends(bars), [(85.0, 100.0), (84.0, 100.0), (83.0, 100.0)]
        )


def test_every_compensation_is_told_apart_and_has_its_interval(draw):
    rows = _ageing(TIMES, COMPENSATIONS, 3, "hermes_2")
    figure = draw(plots.accuracy_over_time, rows)
    together, compensated = figure.axes
    assert "hermes_2" in figure.get_suptitle()
    assert [len(pictures.points(axes)) for axes in figure.axes] == [4, 3]
    assert "no compensation" not in pictures.points(compensated)
    lines = [bars.lines[0] for bars in pictures.points(together).values()]
    for look in ("get_color", "get_marker"):
        assert len({getattr(line, look)() for line in lines}) == 4
    for axes in figure.axes:
        assert "programming" in axes.get_xlabel()
    assert len(pictures.words_of_legend(figure)[1]) == 4


def test_fp32_and_chance_stand_beside_a_network_that_forgets(draw):
    rows = _ageing(TIMES, COMPENSATIONS, 3)
    figure = draw(plots.accuracy_over_time, rows, classes=4, fp32=0.93)
    together, compensated = (
        {
            line.get_label(): list(line.get_ydata())
            for line in axes.get_lines()
            if not line.get_label().startswith("_")
        }
        for axes in figure.axes
    )
    fp32 = {"FP32, which does not drift": [93.0, 93.0]}
    assert together == fp32 | {"chance, 1 of 4 classes": [25.0, 25.0]}
    # What differs by little is seen from nearby.
    assert compensated == fp32
    assert figure.axes[0].get_ylim()[0] == 0
    assert figure.axes[1].get_ylim()[0] > 50
    _, labels = pictures.words_of_legend(figure)
    assert labels[:1] == list(fp32)


@pytest.mark.parametrize(
    ("times", "labels"),
    [
        (TIMES, ["min", "hour", "day", "month", "year"]),
        ((1.0, 25.0), ["second"]),
        ((25.0,), ["25 s"]),
        # Those of three minutes would overlap.
        ((180.0, 190.0, 1500.0), ["3.17 minutes", "25 minutes"]),
        ((1.0, 100 * hic_jax.YEAR), ["second", "min", "hour", "day", "year", "years"]),
    ],
)
def test_times_have_the_names_that_people_use(times, labels):
    axes = Figure().subplots()
    drawing.time_axis(axes, times, "training")
    found = sorted(zip(axes.get_xticks(), axes.get_xticklabels(), strict=True))
    words = [text.get_text().replace("\n", " ").removeprefix("1 ") for _, text in found]
    assert [word.removeprefix("100 ") for word in words] == labels
    low, high = axes.get_xlim()
    assert low < min(times) <= max(times) < high
    assert all(low <= tick <= high for tick, _ in found)


def test_devices_that_were_never_written_are_counted(draw):
    histogram = _histogram([2, 1, 1], [0, 5, 7])
    (axes,) = draw(plots.wear_histogram, histogram, ENDURANCE).axes
    filled, outline = axes.patches
    np.testing.assert_array_equal(filled.get_data().values, [2, 1, 1])
    np.testing.assert_array_equal(filled.get_data().edges, [0.5, 1, 2, 3])
    # Where both are, none is a third colour.
    assert (filled.get_fill(), outline.get_fill()) == (True, False)
    assert axes.get_xticklabels()[0].get_text() == "0"
    assert 0.5 < axes.get_xticks()[0] < 1
    assert axes.get_xlim()[1] > ENDURANCE
    (limit,) = axes.texts
    assert limit.get_text() == "endurance limit 10⁹"
    assert axes.get_xticklabels()[-1].get_text() == "10⁹"


def test_bars_of_an_ablation_end_at_100_percent(draw):
    figure = draw(plots.ablation, _ablated(2))
    for axes in figure.axes:
        for bars in axes.containers:
            for (start, _), (end, _) in bars.lines[2][0].get_segments():
                # 98 and 99.9 %: a standard deviation of 1.3 points.
                assert start == pytest.approx(98.95 - 1.3435, abs=1e-3)
                assert end == pytest.approx(100.0)


def test_conductances_are_not_spread_below_zero(draw):
    (axes,) = draw(plots.set_pulse_curve, pcm.nandakumar_2018()).axes
    (band,) = axes.collections
    assert band.get_paths()[0].vertices[:, 1].min() >= 0
    _, labels = pictures.words_of_legend(axes.figure)
    assert labels[1:] == ["± standard deviation of a device", "mean of 4,000 devices"]


def test_the_demo_is_drawn_from_what_its_folders_say(tmp_path, monkeypatch):
    runs = {}
    for name in demo.ALGORITHMS:
        run = RESULTS / "digits" / f"{name}-seed0"
        (tmp_path / run.name).symlink_to(run)
        runs[name] = json.loads((run / "summary.json").read_text())
    saved = pictures.recorded(monkeypatch)
    demo.draw(tmp_path)
    _, ageing, wear, _ = saved
    (axes,) = ageing.axes
    lines = {line.get_label(): line.get_ydata()[0] for line in axes.get_lines()}
    expected = 100 * runs["fp32"]["test_accuracy"]
    assert lines["FP32, which does not drift"] == pytest.approx(expected)
    assert lines["chance, 1 of 10 classes"] == pytest.approx(10.0)
    filled, _ = wear.axes[0].patches
    stored = runs["hic"]["write_erase_cycles"]["histogram"]["multilevel"]
    np.testing.assert_array_equal(filled.get_data().values, stored)


def test_simulated_pulses_are_those_of_the_device():
    g = np.asarray(plots.simulate_pulses(pcm.ideal(), 40, 8))
    assert g.shape == (41, 8)
    expected = np.minimum(0.625 * np.arange(41), 20.0)
    np.testing.assert_allclose(g, np.broadcast_to(expected[:, None], g.shape))
