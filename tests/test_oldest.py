import re
import subprocess
import sys

import pytest
from packaging.version import Version

from tests.oldest import PYPROJECT, oldest


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_what_is_pinned_is_at_least_the_oldest():
    pins = (PYPROJECT.parent / "requirements.txt").read_text()
    pinned = dict(re.findall(r"^([\w.-]+)==([\w.+-]+)$", pins, re.M))
    lowest = oldest(PYPROJECT.read_text())
    assert {canonical(name) for name in lowest} <= pinned.keys()
    for name, version in lowest.items():
        assert Version(version) <= Version(pinned[canonical(name)]), name


def test_it_prints_constraints_of_all_that_any_extra_names():
    told = subprocess.check_output([sys.executable, "-m", "tests.oldest"], text=True)
    assert {"jax==0.7.2", "matplotlib==3.9", "equinox==0.13"} <= set(told.split())
    assert len(told.split()) == len(oldest(PYPROJECT.read_text()))


@pytest.mark.parametrize("line", ["a", "a<2", "b>=2"])
def test_a_package_without_one_lowest_version_is_named(line):
    text = f"""[project]
    name = "p"
    dependencies = ["b>=1", "{line}"]"""
    with pytest.raises(ValueError, match=f"{line}: must have one lowest version"):
        oldest(text)


def test_the_project_with_extras_is_no_package_of_others():
    text = """[project]
    name = "p"
    dependencies = ["a>=1.5,!=1.7"]
    [project.optional-dependencies]
    more = ["p[less]", "c[d]>=3"]"""
    assert oldest(text) == {"a": "1.5", "c": "3"}
