"""Pictures: files that show something, with words on their axes."""

import matplotlib.image
import numpy as np
import pytest

import hic_jax
from experiments import plots
from hic_jax import pcm
from hic_jax.training.compensations import COMPENSATIONS

ENDURANCE = 1e9


def _curve(epochs):
    """Rows as training logs them: two an epoch, the second with a test."""
    for k in range(1, 2 * epochs + 1):
        row = {"step": k, "epoch": k / 2, "loss": 2.0 / k}
        yield row | ({} if k % 2 else {"test_accuracy": 1 - 0.5 / k})


def _ageing(times, compensations, chips, devices="trained"):
    return [
        {
            "time": time,
            "devices": devices,
            "compensation": name,
            "mean": 0.9 - 0.01 * i,
            "std": 0.02,
            "interval": (0.85 - 0.01 * i, 1.05) if chips > 1 else None,
            "accuracies": [0.9] * chips,
        }
        for i, time in enumerate(times)
        for name in compensations
    ]


TIMES = (25.0, hic_jax.HOUR, hic_jax.YEAR)
PICTURES = {
    "one run": (plots.learning_curves, {"hic": list(_curve(3))}),
    "two runs": (
        plots.learning_curves,
        {"hic": list(_curve(3)), "fp32": list(_curve(2))},
    ),
    "one interval": (plots.learning_curves, {"hic": list(_curve(1))[1:]}),
    "ageing": (plots.accuracy_over_time, _ageing(TIMES, ("none", "adabs"), 3)),
    "ageing, deployed": (
        plots.accuracy_over_time,
        _ageing(TIMES, COMPENSATIONS, 3, "hermes_2"),
    ),
    "one time, one chip": (plots.accuracy_over_time, _ageing([25.0], ["none"], 1)),
    "wear": (
        plots.wear_histogram,
        {"multilevel": np.arange(500), "binary": np.arange(0, 9000, 3)},
        ENDURANCE,
    ),
    "no wear": (plots.wear_histogram, {"multilevel": np.zeros(50, int)}, ENDURANCE),
    "SET pulses": (plots.set_pulse_curve, pcm.nandakumar_2018()),
    "SET pulses, ideal": (plots.set_pulse_curve, pcm.ideal()),
}


@pytest.fixture
def axes(monkeypatch):
    """The axes of pictures that are drawn, once they are saved."""
    drawn = []

    class Figure(plots.Figure):
        def savefig(self, *arguments, **keywords):
            drawn.extend(self.axes)
            super().savefig(*arguments, **keywords)

    monkeypatch.setattr(plots, "Figure", Figure)
    return drawn


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_shows_something(tmp_path, axes, name):
    draw, *arguments = PICTURES[name]
    draw(tmp_path / "picture.png", *arguments)
    image = matplotlib.image.imread(tmp_path / "picture.png")
    assert min(image.shape[:2]) > 300
    # More than the black and white of empty axes.
    red, green, blue = np.moveaxis(image[..., :3], -1, 0)
    coloured = np.maximum(abs(red - green), abs(green - blue)) > 0.1
    assert coloured.sum() > 200
    assert image.std() > 0.02
    for ax in axes:
        assert ax.get_xlabel()
        assert ax.get_ylabel()
    assert axes


def test_curves_are_the_rows(tmp_path, axes):
    rows = list(_curve(3))
    plots.learning_curves(tmp_path / "picture.png", {"hic": rows})
    (loss,), (accuracy,) = (ax.get_lines() for ax in axes)
    np.testing.assert_allclose(
        loss.get_xydata(), [(row["epoch"], row["loss"]) for row in rows]
    )
    tested = [row for row in rows if "test_accuracy" in row]
    np.testing.assert_allclose(
        accuracy.get_xydata(),
        [(row["epoch"], 100 * row["test_accuracy"]) for row in tested],
    )


def test_accuracy_is_percent_over_seconds(tmp_path, axes):
    rows = _ageing(TIMES, ("none", "adabs"), 3)
    plots.accuracy_over_time(tmp_path / "picture.png", rows)
    (ax,) = axes
    assert ax.get_xscale() == "log"
    assert "3 chips" in ax.get_title()
    for line in ax.get_lines():
        np.testing.assert_allclose(
            line.get_xydata(), list(zip(TIMES, (90.0, 89.0, 88.0), strict=True))
        )


def test_every_compensation_is_told_apart_and_has_its_interval(tmp_path, axes):
    rows = _ageing(TIMES, COMPENSATIONS, 3, "hermes_2")
    plots.accuracy_over_time(tmp_path / "picture.png", rows)
    together, compensated = axes
    assert "hermes_2" in together.get_title()
    assert [len(ax.get_lines()) for ax in axes] == [4, 3]
    assert not [line for line in compensated.get_lines() if "no " in line.get_label()]
    for look in ("get_color", "get_marker", "get_label"):
        assert len({getattr(line, look)() for line in together.get_lines()}) == 4
    for ax in axes:
        assert "programming" in ax.get_xlabel()
        assert len(ax.collections) == len(ax.get_lines())
        for band in ax.collections:
            ends = band.get_paths()[0].vertices[:, 1]
            # An interval beyond 100 % is drawn up to there.
            assert ends.min() == pytest.approx(83.0)
            assert ends.max() == pytest.approx(100.0)


def test_devices_that_were_never_written_are_counted(tmp_path, axes):
    cycles = np.array([0, 0, 1, 2, 1000, 10**9])
    plots.wear_histogram(tmp_path / "picture.png", {"binary": cycles}, ENDURANCE)
    (outline,) = axes[0].patches
    left, height = outline.get_xy().T
    assert height[left < 1].max() == 2
    assert left.max() > ENDURANCE


def test_simulated_pulses_are_those_of_the_device():
    g = np.asarray(plots.simulate_pulses(pcm.ideal(), 40, 8))
    assert g.shape == (41, 8)
    expected = np.minimum(0.625 * np.arange(41), 20.0)
    np.testing.assert_allclose(g, np.broadcast_to(expected[:, None], g.shape))
