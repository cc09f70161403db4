"""The notebooks: each runs from start to end, and says the same in both its files."""

from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "experiments" / "notebooks"
NAMES = ("quick_start", "your_own_model", "what_a_pcm_device_does", "read_a_sweep")


def test_all_are_tested():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(NAMES)
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_both_files_say_the_same(name):
    script, notebook = (
        jupytext.read(FOLDER / f"{name}.{ending}") for ending in ("py", "ipynb")
    )
    cells = [[(c.cell_type, c.source) for c in nb.cells] for nb in (script, notebook)]
    assert cells[0] == cells[1], "make notebooks writes the second file anew"
    assert not any(cell.get("outputs") for cell in notebook.cells)


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_from_start_to_end(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HIC_JAX_FAST", "1")
    notebook = jupytext.read(FOLDER / f"{name}.ipynb")
    # An error in a cell is raised here, with its traceback.
    NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    data = [
        output.data
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "data" in output
    ]
    assert any("image/png" in outputs for outputs in data)
