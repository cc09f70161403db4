"""The folder of a report: what was made for it goes in, and nothing of others is lost.

``report_files.json`` lists the files of the report with their SHA-256, for the next one
in the same folder. That one replaces and removes what is listed and as it was written;
a file that is not, because somebody put it there or changed it, is refused by name.
"""

import hashlib
import json
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from experiments.runs import files

PAGE = "report.html"
LISTED = "report_files.json"

# Names that files of a report may have: none leads out of the folder.
_NAME = re.compile(r"(?!\.)[\w.+-]+\.(html|csv|png|svg)")

_SUM = re.compile(r"[0-9a-f]{64}")

# Names of files, with the sums of what may be in them.
_Made = set[tuple[str, str]]


def check(out: Path) -> None:
    """Raises `ValueError` if a report cannot go there, as far as is known before it."""
    _refuse_others(out, [PAGE], _listed(out))


def publish(made: Path, out: Path) -> None:
    """Puts the files of a report into its folder, and takes out an earlier one's.

    Args:
      made: folder of the files, and of nothing else.
      out: the folder, which may hold an earlier report and other files.

    Raises:
      ValueError: if a file would be lost that no report made. Then nothing is changed.
    """
    contents = {path.name: path.read_bytes() for path in sorted(made.iterdir())}
    earlier = _listed(out)
    _refuse_others(out, contents, earlier)
    now = {(name, _sum(content)) for name, content in contents.items()}
    out.mkdir(parents=True, exist_ok=True)
    _list(out, earlier | now)  # Whenever this is killed, what is there is listed.
    for name, content in contents.items():
        files.write_bytes(out / name, content)
    for name in {name for name, _ in earlier} - contents.keys():
        (out / name).unlink(missing_ok=True)
    _list(out, now)


def _listed(out: Path) -> _Made:
    """What earlier reports wrote; nothing if there is no list."""
    path = out / LISTED
    if not path.exists():
        return set()
    try:
        made = {(name, sum_) for name, sum_ in json.loads(path.read_text())["files"]}
        for name, sum_ in made:
            if not _NAME.fullmatch(name) or not _SUM.fullmatch(sum_):
                raise ValueError(f"files: {name!r}, {sum_!r} is no file of a report")
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise ValueError(
            f"out={out}: {LISTED} is not as a report writes it ({error}); choose "
            "another folder"
        ) from error
    return made


def _list(out: Path, made: _Made) -> None:
    text = json.dumps({"files": sorted(made)}, indent=2) + "\n"
    files.write_text(out / LISTED, text)


def _refuse_others(out: Path, names: Iterable[str], made: _Made) -> None:
    """Raises if a file that is to be replaced or removed is not as it was made."""
    for name in sorted({*names, *(name for name, _ in made)}):
        path = out / name
        try:
            regular = stat.S_ISREG(path.lstat().st_mode)
        except FileNotFoundError:
            continue
        if not regular or (name, _sum(path.read_bytes())) not in made:
            raise ValueError(
                f"out={out}: {name} was not written by a report, or was changed since; "
                "move it away, or choose another folder"
            )


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
