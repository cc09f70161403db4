"""Prints the oldest versions that pyproject.toml allows, as constraints for pip."""

import re
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def oldest(text: str) -> dict[str, str]:
    """The lowest version of each package that a pyproject.toml names, by its name.

    Args:
      text: of the file.

    Raises:
      ValueError: if a package has no lowest version, or two.
    """
    project = tomllib.loads(text)["project"]
    extras = project.get("optional-dependencies", {}).values()
    found: dict[str, str] = {}
    for line in [*project["dependencies"], *(line for each in extras for line in each)]:
        name = re.match(r"[\w.-]+", line)[0]
        if name == project["name"]:
            continue  # The project with others of its extras.
        lowest = re.search(r">=([\w.]+)", line)
        if not lowest or found.setdefault(name, lowest[1]) != lowest[1]:
            raise ValueError(f"{line}: must have one lowest version, >=")
    return found


if __name__ == "__main__":
    for name, version in oldest(PYPROJECT.read_text()).items():
        print(f"{name}=={version}")
