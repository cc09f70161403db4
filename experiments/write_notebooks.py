"""Writes the .ipynb of every notebook from its .py, with what its cells put out.

    python -m experiments.write_notebooks                # make notebooks
    python -m experiments.write_notebooks quick_start    # this one only

A notebook is run if its code has changed, or if there is no .ipynb of it; otherwise the
outputs that it has are kept. Its badge opens it on Colab, and its first cell installs
the project there: from the repository that pyproject.toml names in ``project.urls``.
While none is named, the badge opens Colab's own search for a repository.
"""

import os
import re
import tomllib
from pathlib import Path

import jupytext
import nbclient
import nbformat
from absl import app, logging
from nbformat import NotebookNode

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "experiments" / "notebooks"
COLAB = "https://colab.research.google.com/github/"
GITHUB = "https://github.com/"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def repository() -> str:
    """The address in pyproject.toml; empty while there is none.

    Raises:
      ValueError: if Colab cannot open it.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    address = project.get("urls", {}).get("Repository", "")
    if address and not address.startswith(GITHUB):
        raise ValueError(
            f"project.urls.Repository={address}: must begin with {GITHUB}, which is "
            "what Colab opens"
        )
    return address


def with_address(text: str, name: str, address: str) -> str:
    """The text of a notebook's .py, its badge and first cell with an address."""
    link = COLAB
    if address:
        place = address.removeprefix(GITHUB).removesuffix(".git").strip("/")
        link += f"{place}/blob/main/experiments/notebooks/{name}.ipynb"
    text = re.sub(rf"\({re.escape(COLAB)}[^)]*\)", f"({link})", text, count=1)
    return re.sub(
        r'^REPOSITORY = ".*"$', f'REPOSITORY = "{address}"', text, count=1, flags=re.M
    )


def has_outputs_of(stored: NotebookNode, notebook: NotebookNode) -> bool:
    """Whether the code of a stored notebook is this one's, and was run."""
    codes = [
        [cell.source for cell in nb.cells if cell.cell_type == "code"]
        for nb in (stored, notebook)
    ]
    return codes[0] == codes[1] and any(cell.get("outputs") for cell in stored.cells)


def run(notebook: NotebookNode) -> None:
    """Runs all cells, with what they put out stored in them.

    Raises:
      nbclient.exceptions.CellExecutionError: if a cell fails.
    """
    os.environ["HIC_JAX_STATIC"] = "1"  # Pictures, not sliders.
    client = nbclient.NotebookClient(
        notebook, timeout=3600, record_timing=False, resources={"metadata": {}}
    )
    client.execute()
    for cell in notebook.cells:
        # Progress bars and warnings are of the machine that it ran on.
        cell["outputs"] = [
            output
            for output in cell.get("outputs", [])
            if output.get("name") != "stderr"
        ]
        if cell.cell_type != "code":
            del cell["outputs"]


def write(name: str, address: str) -> bool:
    """Writes a notebook; returns whether it was run."""
    script, path = FOLDER / f"{name}.py", FOLDER / f"{name}.ipynb"
    script.write_text(with_address(script.read_text(), name, address))
    notebook = jupytext.read(script)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell{number}"  # Jupytext's are random.
    stored = nbformat.v4.new_notebook()
    if path.exists():
        stored = nbformat.read(path, as_version=4)
    stale = not has_outputs_of(stored, notebook)
    if stale:
        run(notebook)
    else:
        code = (cell for cell in stored.cells if cell.cell_type == "code")
        for cell in notebook.cells:
            if cell.cell_type == "code":
                old = next(code)
                cell["outputs"] = old.outputs
                cell["execution_count"] = old.execution_count
    # Not what a run adds: versions of the machine, and sliders that nobody sees.
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL})
    nbformat.write(notebook, path)
    return stale


def main(argv: list[str]) -> None:
    """Writes all notebooks, or those that are named."""
    address = repository()
    for name in argv[1:] or sorted(path.stem for path in FOLDER.glob("*.py")):
        done = "ran and wrote" if write(name, address) else "wrote"
        logging.info("%s %s.ipynb", done, name)


if __name__ == "__main__":
    app.run(main)
