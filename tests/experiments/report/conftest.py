"""What the tests of figures share."""

import pytest

from tests.experiments import pictures


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """Draws a figure, which is found readable, and returns its axes."""
    saved = pictures.recorded(monkeypatch)

    def draw(function, *arguments, **keywords):
        saved.clear()
        function(tmp_path / "width0.5", *arguments, **keywords)
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {"width0.5.png", "width0.5.svg"}
        axes = saved[0].axes[0]
        assert axes.get_legend() is not None
        return axes

    return draw
