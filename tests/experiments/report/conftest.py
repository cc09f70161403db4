"""What the tests of figures share."""

import pytest

from experiments import plots


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """Draws a figure and returns its axes."""
    drawn = {}

    class Figure(plots.Figure):
        def savefig(self, path, **keywords):
            drawn[path.name] = self.axes
            super().savefig(path, **keywords)

    monkeypatch.setattr(plots, "Figure", Figure)

    def draw(function, *arguments):
        function(tmp_path / "width0.5", *arguments)
        assert set(drawn) == {"width0.5.png", "width0.5.svg"}
        axes = drawn["width0.5.png"][0]
        assert axes.get_legend() is not None
        return axes

    return draw
