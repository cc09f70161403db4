"""The notebooks: each runs from start to end, and says the same in both its files."""

import importlib.util
import os

import jupytext
import nbclient
import nbformat
import pytest

from experiments import write_notebooks
from experiments.write_notebooks import FOLDER, ROOT, with_address

NAMES = (
    "quick_start",
    "your_own_device",
    "your_own_model",
    "what_a_pcm_device_does",
    "read_a_sweep",
)
ADDRESS = "https://github.com/somebody/hic_jax.git"


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


@pytest.mark.parametrize("name", NAMES)
def test_what_its_cells_put_out_is_stored(name):
    path = FOLDER / f"{name}.ipynb"
    assert path.stat().st_size < 500_000  # What a browser shows without delay.
    cells = [c for c in nbformat.read(path, as_version=4).cells if c["source"]]
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    pictures = [o for o in outputs if "image/png" in o.get("data", ())]
    assert len(pictures) >= 2
    assert "error" not in {o.output_type for o in outputs}
    # No sliders, which nobody can move before it runs; no bars or warnings.
    assert not any("widget" in kind for o in outputs for kind in o.get("data", ()))
    assert {o.name for o in outputs if o.output_type == "stream"} <= {"stdout"}


@pytest.mark.parametrize("name", NAMES)
def test_the_badge_and_the_first_cell_are_of_the_repository_that_is_named(name):
    text = (FOLDER / f"{name}.py").read_text()
    assert with_address(text, name, write_notebooks.repository()) == text
    # Once there is another one.
    named = with_address(text, name, ADDRESS)
    badge = named.splitlines()[1]
    assert badge.endswith(
        "(https://colab.research.google.com/github/somebody/hic_jax/blob/main/"
        f"experiments/notebooks/{name}.ipynb)"
    )
    assert named.count(f'\nREPOSITORY = "{ADDRESS}"\n') == 1
    assert with_address(named, name, "") == with_address(text, name, "")


def test_colab_opens_github_only(tmp_path, monkeypatch):
    monkeypatch.setattr(write_notebooks, "ROOT", tmp_path)
    project = tmp_path / "pyproject.toml"
    project.write_text("[project]\n")
    assert write_notebooks.repository() == ""
    urls = '[project.urls]\nRepository = "{}"\n'
    project.write_text(urls.format(ADDRESS))
    assert write_notebooks.repository() == ADDRESS
    project.write_text(urls.format("https://example.org/a/b"))
    with pytest.raises(ValueError, match=r"^project\.urls\.Repository=https://example"):
        write_notebooks.repository()


class _Kernel:
    """What a notebook finds in IPython."""

    def __init__(self):
        self.magics = []

    def run_line_magic(self, name, line):
        self.magics.append((name, line))


@pytest.mark.parametrize("name", NAMES)
def test_the_first_cell_installs_what_is_not_there(name, tmp_path, monkeypatch):
    text = (FOLDER / f"{name}.py").read_text()

    def run_first_cell(address):
        cells = jupytext.reads(
            with_address(text, name, address), fmt="py:percent"
        ).cells
        code = next(cell.source for cell in cells if cell.cell_type == "code")
        kernel = _Kernel()
        exec(code, {"get_ipython": lambda: kernel})
        return kernel.magics

    assert run_first_cell("") == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.chdir(FOLDER)
    root = ROOT.as_uri()
    local = ("pip", f"install -q 'hic-jax[experiments] @ {root}'")
    assert run_first_cell("") == run_first_cell(ADDRESS) == [local]
    monkeypatch.chdir(tmp_path)
    remote = ("pip", f"install -q 'hic-jax[experiments] @ git+{ADDRESS}'")
    assert run_first_cell(ADDRESS) == [remote]
    with pytest.raises(AssertionError, match=r"^REPOSITORY: must be the address"):
        run_first_cell("")


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A notebook of one cell, whose runs are counted, not made."""
    runs = []

    class Client:
        def __init__(self, notebook, **options):
            self.notebook = notebook

        def execute(self):
            runs.append(os.environ["HIC_JAX_STATIC"])
            (cell,) = (c for c in self.notebook.cells if c.cell_type == "code")
            cell["execution_count"] = 1
            self.notebook.metadata["widgets"] = {"state": len(runs)}
            cell["outputs"] = [
                nbformat.v4.new_output("stream", name=name, text=f"{len(runs)}")
                for name in ("stdout", "stderr")
            ]

    monkeypatch.setenv("HIC_JAX_STATIC", "0")
    monkeypatch.setattr(write_notebooks.nbclient, "NotebookClient", Client)
    monkeypatch.setattr(write_notebooks, "FOLDER", tmp_path)
    (tmp_path / "small.py").write_text("# %% [markdown]\n# One.\n\n# %%\nprint(1)\n")
    return tmp_path, runs


def test_outputs_are_kept_until_the_code_changes(small):
    folder, runs = small
    script, path = folder / "small.py", folder / "small.ipynb"

    def outputs():
        code = nbformat.read(path, as_version=4).cells[1]
        return [(output.name, output.text) for output in code.outputs]

    assert write_notebooks.write("small", "")
    assert outputs() == [("stdout", "1")]
    first = path.read_text()
    assert "widgets" not in first
    assert not write_notebooks.write("small", "")
    assert path.read_text() == first
    script.write_text(script.read_text().replace("One.", "Two."))
    assert not write_notebooks.write("small", "")
    assert "Two." in path.read_text()
    assert outputs() == [("stdout", "1")]
    script.write_text(script.read_text().replace("print(1)", "print(2)"))
    assert write_notebooks.write("small", "")
    assert outputs() == [("stdout", "2")]
    assert runs == ["1", "1"]


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_from_start_to_end(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HIC_JAX_FAST", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell["outputs"] = []
    where = {"metadata": {"path": str(tmp_path)}}
    client = nbclient.NotebookClient(notebook, timeout=300, resources=where)
    client.execute()  # An error has the traceback of the cell.
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", ()) for output in outputs)
