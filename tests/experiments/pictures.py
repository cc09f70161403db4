"""What every picture has to be: readable."""

import itertools
import re

from matplotlib.backends.backend_agg import FigureCanvasAgg

from experiments import drawing


def recorded(monkeypatch):
    """A list of the figures that are saved from now on, each found readable."""
    saved = []

    class Figure(drawing.Figure):
        def savefig(self, *arguments, **keywords):
            super().savefig(*arguments, **keywords)
            if self not in saved:
                saved.append(self)
                check_readable(self)

    monkeypatch.setattr(drawing, "Figure", Figure)
    return saved


def unrendered(monkeypatch):
    """Figures are made from now on, but not rendered, which takes long."""

    def savefig(self, file, **_):
        file.write(b"<svg/>")

    monkeypatch.setattr(drawing.Figure, "savefig", savefig)


def check_readable(figure):
    """No words overlap on an axis or leave the picture, none are small or say 1e+09."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    legends = [*figure.legends, *filter(None, (a.get_legend() for a in figure.axes))]
    whole = figure.bbox.padded(1.0)
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            shown = _shown(axis)
            words = [label.get_text() for label in shown]
            assert len(set(words)) == len(words), words
            boxes = [label.get_window_extent(renderer) for label in shown]
            for one, other in itertools.combinations(boxes, 2):
                assert not one.overlaps(other), words
    for text in filter(lambda text: text.get_text(), _texts(figure, legends)):
        box = text.get_window_extent(renderer)
        assert whole.contains(*box.min), text
        assert whole.contains(*box.max), text
        assert text.get_fontsize() >= 8, text
        assert not re.search(r"\de[+-]\d", text.get_text()), text
    for legend in legends:
        box = legend.get_window_extent(renderer)
        assert not any(box.overlaps(axes.bbox) for axes in figure.axes)


def _shown(axis):
    """Labels of the ticks that are within the limits."""
    low, high = sorted(axis.get_view_interval())
    return [
        tick.label1
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        if low <= tick.get_loc() <= high
        and tick.label1.get_visible()
        and tick.label1.get_text()
    ]


def _texts(figure, legends):
    for axes in figure.axes:
        yield from (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts)
        yield from (*_shown(axes.xaxis), *_shown(axes.yaxis))
    for legend in legends:
        yield from (legend.get_title(), *legend.get_texts())


def words_of_legend(figure):
    """The note of a figure's legend, and its labels."""
    (legend,) = [
        *figure.legends, *filter(None, (a.get_legend() for a in figure.axes))
    ]  # fmt: skip
    note = legend.get_title().get_text().replace("\n", " ")
    return note, [text.get_text() for text in legend.get_texts()]


def lines(axes):
    """By label, the lines."""
    return {line.get_label(): line for line in axes.get_lines()}


def points(axes):
    """By label, the container of measured points with their error bars."""
    return {bars.get_label(): bars for bars in axes.containers}


def ends(bars):
    """(points, 2) lower and upper ends of error bars."""
    return [sorted(line[:, 1]) for line in bars.lines[2][0].get_segments()]
