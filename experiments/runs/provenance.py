"""What made a run: which version, where and when.

``provenance.json`` in a run folder is a list with an entry for each start that differs
from the one before it in more than its date: a run that another version goes on with
has two. Nothing is decided by it.
"""

import datetime
import functools
import json
import platform
import reprlib
import subprocess
from pathlib import Path
from typing import Any

import jax

import hic_jax
from experiments.runs import files, stored

FILE = "provenance.json"


def circumstances() -> dict[str, Any]:
    """What this process computes with: the fields of an entry.

    ``device`` is the kind, ``devices`` are those of all processes; ``commit`` is absent
    where there is none.
    """
    known = commit()
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "hic_jax": hic_jax.__version__,
        **({"commit": known} if known else {}),
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "host": platform.node(),
        "processes": jax.process_count(),
    }


@functools.cache
def commit(file: Path = Path(__file__)) -> str | None:
    """That of the repository of a file: without one, of this code.

    Returns:
      The hash, ending in -dirty if tracked files have changed since; None if there is
      no git, or no repository that tracks the file.
    """
    describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        # What is installed may lie inside the repository of another project.
        _git(file.parent, "ls-files", "--error-unmatch", file.name)
        return _git(file.parent, *describe)
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *words: str) -> str:
    process = subprocess.run(
        ["git", *words], cwd=folder, capture_output=True, text=True, check=True
    )
    return process.stdout.strip()


def read(folder: Path) -> list[dict[str, Any]]:
    """The entries of a run folder; none if it is of a version that wrote none.

    Raises:
      ValueError: if the file holds anything else.
    """
    path = folder / FILE
    entries = stored.parsed(path.read_bytes()) if path.exists() else []
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise ValueError("must be a list of objects")
    for name, value in (field for entry in entries for field in entry.items()):
        if not isinstance(value, str | int):
            raise ValueError(
                f"{name}={reprlib.repr(value)}: must be a word or a number"
            )
    return entries


def add_start(folder: Path) -> None:
    """Adds an entry for a start now, unless the last one says the same.

    Raises:
      RunFolderError: if the file holds anything else.
    """
    try:
        entries, now = read(folder), circumstances()
    except ValueError as error:
        raise stored.fault(folder, FILE, error) from error
    if not entries or entries[-1] | {"date": now["date"]} != now:
        files.write_text(folder / FILE, json.dumps([*entries, now], indent=2) + "\n")
