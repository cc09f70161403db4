"""What launchers print: whole results, by one process, and a quiet log."""

import io
import logging
import sys

import jax
import pytest
from absl import flags
from absl import logging as absl_logging

from experiments import launch, terminal

ROWS = [("hic-width1-seed0", "98.4 +- 0.4 %"), ("[bold] :smile: " + 50 * "word ", "7")]


def _shown(capsys, *parts):
    terminal.show(*parts)
    return capsys.readouterr().out


def test_a_table_in_a_file_is_plain_and_whole(capsys):
    path = "/a/folder" + 40 * "/of/a/long/path"
    title = "a title that is longer than its table, " + path
    table = terminal.table(("run", "accuracy"), ROWS, title=title)
    out = _shown(capsys, table, path)
    lines = [line.strip() for line in out.splitlines() if line.strip()]
    assert lines[0] == title and lines[1].split() == ["run", "accuracy"]
    for name, number in ROWS:
        assert any(x.startswith(name.strip()) and x.endswith(number) for x in lines)
    assert lines[-1] == path
    assert "\x1b" not in out and "…" not in out


def test_a_narrow_terminal_folds_and_cuts_nothing_off(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # As if it were a terminal.
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    out = _shown(capsys, terminal.table(("run", "accuracy"), ROWS))
    assert "…" not in out
    assert out.count("word") == 50 and "[bold]" in out and ":smile:" in out
    assert "98.4 +- 0.4 %" in " ".join(out.split())


def test_a_letter_that_the_terminal_lacks_loses_no_result(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    terminal.show(terminal.table(("share", "found"), [("7 %", "3 × 10⁻⁷")]))
    out.flush()
    assert b"7 %" in out.buffer.getvalue() and b"3 ? 10??" in out.buffer.getvalue()


def test_the_first_process_talks(capsys, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    terminal.show(terminal.table(("run",), [("a",)]), "b")
    terminal.note("c")
    with terminal.bar(2, desc="d", unit="steps") as bar:
        bar.update(2)
    assert capsys.readouterr() == ("", "")


def test_bars_are_for_terminals_and_notes_for_all(capsys):
    with terminal.bar(2, desc="runs", unit="runs") as bar:
        bar.update()
        terminal.note("one: 98.4 %")
    assert capsys.readouterr() == ("", "one: 98.4 %\n")


@pytest.fixture
def log(monkeypatch):
    """The log as absl sets it up when a program starts, and as it was in the end."""
    verbosity, level = absl_logging.get_verbosity(), logging.root.level
    monkeypatch.setattr(logging.root, "handlers", [absl_logging.get_absl_handler()])
    absl_logging.set_verbosity(absl_logging.INFO)
    yield
    absl_logging.set_verbosity(verbosity)
    logging.root.setLevel(level)


def _log_something(capsys):
    absl_logging.info("a detail")
    absl_logging.warning("a checkpoint is damaged")
    return capsys.readouterr().err


@pytest.mark.usefixtures("log")
def test_warnings_are_plain_lines_and_details_are_left_out(capsys, monkeypatch):
    monkeypatch.setattr(flags.FLAGS["verbosity"], "present", 0)
    launch.quiet_log()
    assert _log_something(capsys) == "warning: a checkpoint is damaged\n"


@pytest.mark.usefixtures("log")
def test_details_are_asked_for(capsys, monkeypatch):
    monkeypatch.setattr(flags.FLAGS["verbosity"], "present", 1)
    launch.quiet_log()
    monkeypatch.setattr(
        absl_logging.get_absl_handler().python_handler, "stream", sys.stderr
    )
    err = _log_something(capsys)
    assert "a detail" in err and "a checkpoint is damaged" in err
