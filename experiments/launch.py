"""What every launcher does first: flags, errors, log lines, compilation cache."""

import contextlib
import functools
import gc
import importlib.util
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
from absl import app, flags
from absl import logging as absl_logging

from experiments import cli, end_at_once, processes, terminal
from hic_jax.data.located import NO_DOWNLOAD

# Its attributes are made at run time, where no type checker sees them.
_jax_config: Any = jax.config


def _devices(word: str) -> int | None:
    """What ``--mesh`` says: a number of devices, None for auto."""
    if word == "auto":
        return None
    if not (word.isdecimal() and int(word) > 0):
        raise ValueError
    return int(word)


def define_flags(workdir: str, default: str | None = None) -> None:
    """Flags of every launcher: its folder, and on what it runs.

    Args:
      workdir: what the folder is of, a sentence.
      default: the folder; without one, it has to be given.
    """
    cli.define("workdir", cli.path(), default, workdir, required=default is None)
    cli.define(
        "mesh",
        cli.Kind(_devices, "auto, or a number of devices", "NUMBER"),
        None,
        "Devices that share each batch equally, or auto: as many as there are, of all "
        "processes, and divide the batch.",
        usual="auto",
    )
    cli.define_switch(
        "no_download",
        False,
        "Whether data sets that are not prepared are refused; nothing is downloaded.",
    )
    processes.define_flags()


def run(main: Callable[[list[str]], None], define_flags: Callable[[], None]) -> None:
    """Runs a launcher from the command line: its main, called with what is no flag."""
    # What is imported stays to the end. To look for garbage in it again and again, as
    # tracing has Python do, took a fifth of the time up to the first step.
    gc.freeze()
    define_flags()
    app.run(functools.partial(told, main), flags_parser=parse)


def parse(argv: list[str]) -> list[str]:
    """Reads the flags, or shows what there are, or ends with what is wrong."""
    if set(argv[1:]) & set(cli.HELP_WORDS):
        show_page(cli.help_page(sys.modules["__main__"].__doc__ or ""))
        sys.exit()
    with clear_errors():
        return cli.parse(argv)


def show_page(text: str) -> None:
    """Prints, to whom may have read enough of it before its end, as ``head`` has."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python would try once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def told(main: Callable[[list[str]], None], argv: list[str]) -> None:
    """Runs ``main``, and ends well at an error that the user can mend, or at Ctrl-C."""
    try:
        with clear_errors():
            main(argv)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """Ends the program with the message of an error that the user can mend.

    A value that is not allowed, a file that is damaged, a full disk, a training that
    diverged: nothing that a traceback would help with. ``--verbosity=1`` shows it.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        absl_logging.debug("this ends the program:", exc_info=True)
        sys.exit(f"error: {error}")


def start(argv: list[str]) -> None:
    """Prepares a launch; from here on Ctrl-C is Python's, and what is begun ends well.

    Raises:
      ValueError: at words on the command line that are no flags; as `processes.join`.
    """
    quiet_log()
    if len(argv) > 1:
        raise ValueError(f"unknown arguments: {' '.join(argv[1:])}")
    if "no_download" in flags.FLAGS and flags.FLAGS.no_download:
        os.environ[NO_DOWNLOAD] = "1"  # Of the processes of a sweep, too.
    names = {"coordinator", "num_processes", "process_id"} & set(flags.FLAGS)
    prepare_process(**{name: flags.FLAGS[name].value for name in names})
    if signal.getsignal(signal.SIGINT) is end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def prepare_process(**asked: Any) -> None:
    """What a process needs before it trains; see `processes.join`."""
    quiet_libraries()
    processes.join(**asked)
    use_compilation_cache()


def quiet_log() -> None:
    """Leaves warnings and errors of the log, as plain lines.

    With ``--verbosity`` all is logged that it asks for, with times and places.
    """
    handler = absl_logging.get_absl_handler()
    if flags.FLAGS["verbosity"].present or handler not in logging.root.handlers:
        return
    absl_logging.set_verbosity(absl_logging.WARNING)
    lines = terminal.LogLines()
    lines.addFilter(_ours_or_grave)
    logging.root.removeHandler(handler)
    logging.root.addHandler(lines)


def quiet_libraries() -> None:
    """Keeps the log to this project's own lines, and to others' warnings.

    What they log of an exception that reaches us anyhow is left out: it is told once.
    """
    absl_logging.get_absl_handler().addFilter(_ours_or_grave)


def _ours_or_grave(record: logging.LogRecord) -> bool:
    grave = record.levelno >= logging.WARNING and not record.exc_info
    return grave or not record.pathname.startswith(_others())


@functools.cache
def _others() -> tuple[str, ...]:
    """Folders of libraries that log much."""
    found = (importlib.util.find_spec(name) for name in ("jax", "orbax"))
    return tuple(
        path for spec in found if spec for path in spec.submodule_search_locations or ()
    )


def use_compilation_cache() -> None:
    """Keeps compiled programs between runs.

    In ``$JAX_COMPILATION_CACHE_DIR`` or else the user's cache folder. JAX's key of a
    program holds the versions and flags of XLA and the instructions that the processor
    has, so that none is loaded that was made for another machine or another JAX.
    """
    if _jax_config.jax_compilation_cache_dir is None:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        folder = os.path.join(cache, "hic_jax", "compiled")
        jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    if jax.default_backend() == "cpu":
        _quiet_loading()


def _quiet_loading() -> None:
    """Has XLA's C++ code log nothing but what ends the process.

    Of every program that it loads on a CPU with AVX-512, XLA says twice, and on two
    thousand characters, that the processor lacks an instruction: +prefer-no-gather and
    +prefer-no-scatter, which are hints to the compiler (openxla/xla#44565). What really
    fails raises an exception.
    """
    if _jax_config.jax_logging_level == "NOTSET":  # Nobody asked for another one.
        jax.config.update("jax_logging_level", "CRITICAL")
        # That was for C++; this gives Python's loggers back what they had.
        jax.config.update("jax_logging_level", "NOTSET")
