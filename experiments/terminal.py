"""What launchers say on a terminal: results on standard output, all else beside them.

Of several processes, the first alone talks. Where nobody looks on, in a file or a pipe,
there are no colours and no bars, and lines are as long as they have to be.
"""

import copy
import logging
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import jax
import rich.box
import rich.console
import rich.table
from tqdm import tqdm

# A bar of a width that stays, whatever stands beside it.
BAR_FORMAT = "{desc} |{bar:16}| {n_fmt}/{total_fmt} {unit}, {remaining} left{postfix}"


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    title: str = "",
    words: Collection[int] = (0,),
) -> rich.table.Table:
    """A table of results.

    Args:
      heads: heads of the columns; a table whose heads are all empty has none.
      rows: texts, one for each column.
      title: stands above the table.
      words: columns of words, which begin at the left; numbers end at the right.
    """
    shown, box = any(heads), rich.box.SIMPLE_HEAD if any(heads) else None
    result = rich.table.Table(title=title, box=box, show_header=shown, pad_edge=False)
    for i, head in enumerate(heads):
        result.add_column(
            head, justify="left" if i in words else "right", overflow="fold"
        )
    for row in rows:
        result.add_row(*row)
    return result


def show(*parts: str | rich.table.Table) -> None:
    """Prints lines and tables of results on standard output."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # No result is lost for a letter.
    console = console_of()
    for part in parts:
        if not isinstance(part, str) and part.title:
            # Above a table that is narrower, rich would fold it.
            console.print(part.title, style="bold", soft_wrap=True)
            part = copy.copy(part)
            part.title = None
        console.print(part, soft_wrap=isinstance(part, str))


def console_of(*, stderr: bool = False) -> rich.console.Console:
    """Standard output, or standard error."""
    console = rich.console.Console(
        stderr=stderr,
        markup=False,
        emoji=False,
        highlight=False,
        quiet=jax.process_index() > 0,
    )
    if not console.is_terminal:
        console.width = 1000  # No result is cut off.
    return console


def note(line: str) -> None:
    """Prints a line on standard error, above the bars."""
    if jax.process_index() == 0:
        tqdm.write(line, file=sys.stderr)


def bar(total: int, *, disable: bool = False, **options: Any) -> tqdm:
    """A bar on standard error, where that is a terminal; one in another is transient.

    Args:
      total: how many there are to be done.
      disable: whether it is not to be seen even there.
      **options: others of `tqdm`.
    """
    return tqdm(
        total=total,
        disable=disable or jax.process_index() > 0 or None,  # None asks the terminal.
        leave=None,
        bar_format=BAR_FORMAT,
        dynamic_ncols=True,
        **options,
    )


class LogLines(logging.Handler):
    """Prints log records on standard error, above the bars: ``warning: MESSAGE``."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a record."""
        line = f"{record.levelname.lower()}: {record.getMessage()}"
        tqdm.write(line, file=sys.stderr)
