"""The notebooks: each runs from start to end, and says the same in both its files."""

import os
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest

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
def test_it_runs_from_start_to_end(name, tmp_path):
    command = [sys.executable, "-m", "jupyter", "execute", "--timeout=300"]
    run = subprocess.run(
        [*command, f"--output={tmp_path / name}", str(FOLDER / f"{name}.ipynb")],
        env=os.environ | {"HIC_JAX_FAST": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr  # Ends with the traceback of the cell.
    cells = jupytext.read(tmp_path / f"{name}.ipynb").cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", ()) for output in outputs)
