"""The examples that people copy: docstrings and the README."""

import contextlib
import doctest
import importlib
import io
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import hic_jax

README = Path(__file__).parent.parent / "README.md"
MODULES = [
    "hic_jax",
    *(m.name for m in pkgutil.walk_packages(hic_jax.__path__, "hic_jax.")),
]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_print_what_they_say(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_docstrings_have_examples():
    finder = doctest.DocTestFinder()
    modules = map(importlib.import_module, MODULES)
    assert sum(bool(t.examples) for m in modules for t in finder.find(m)) >= 2


def test_readme_examples_print_what_they_say():
    """Each goes on where the one before it ended."""
    examples = re.findall(
        r"```python\n(.*?)```\n+```text\n(.*?)```", README.read_text(), re.DOTALL
    )
    assert len(examples) == 2
    names: dict = {}
    for code, expected in examples:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(code, str(README), "exec"), names)
        number = re.compile(r"\d+\.?\d*")
        assert number.sub("N", out.getvalue()) == number.sub("N", expected)
        # Another processor rounds differently, and 300 steps make something of that.
        np.testing.assert_allclose(
            [float(x) for x in number.findall(out.getvalue())],
            [float(x) for x in number.findall(expected)],
            rtol=0.5,
        )
