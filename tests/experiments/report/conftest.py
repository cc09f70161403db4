"""What the tests of the report share: run folders, figures."""

import json

import pytest

from experiments.config import resolve
from experiments.report import runs
from tests.experiments import pictures

SUMMARY = {"test_accuracy": 0.9, "inference_bits": 80_000, "write_erase_cycles": None}


@pytest.fixture
def write(tmp_path):
    """Writes a run folder with a configuration and returns its path.

    Of `stored`, values take the place of what this version would have stored.
    """

    def write(name, summary=SUMMARY, epochs_done=None, stored=None, **fields):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        config = resolve(**fields)
        content = json.loads(config.to_json())
        for field, value in (stored or {}).items():
            content["hardware" if field == "preset" else "train"][field] = value
        (folder / "config.json").write_text(json.dumps(content))
        if summary is not None:
            (folder / "summary.json").write_text(json.dumps(summary))
        if epochs_done is not None:
            row = json.dumps({"step": 1, "epoch": epochs_done, "loss": 1.0})
            (folder / "metrics.jsonl").write_text(f"{row}\n")
        return folder

    return write


@pytest.fixture
def read():
    """Reads run folders, none of which is left out."""

    def read(*folders):
        found, left_out = runs.read_all(folders)
        assert left_out == {}
        return found

    return read


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
