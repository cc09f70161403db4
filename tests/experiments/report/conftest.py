"""What the tests of figures share."""

import pytest

from experiments import plots


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """Draws a figure and returns its axes."""
    drawn = {}

    class Figure(plots.Figure):
        def savefig(self, file, *, format):
            drawn[format] = self.axes
            super().savefig(file, format=format)

    monkeypatch.setattr(plots, "Figure", Figure)

    def draw(function, *arguments):
        function(tmp_path / "width0.5", *arguments)
        written = {path.name for path in tmp_path.iterdir()}
        assert written == {"width0.5.png", "width0.5.svg"}
        axes = drawn["png"][0]
        assert axes.get_legend() is not None
        return axes

    return draw
