"""What every launcher does first: processes, errors, log lines, compilation cache.

A launch may be several processes, each with devices of its own, of which JAX makes one
machine. All do the same; the first alone writes and talks.
"""

import contextlib
import functools
import importlib.util
import logging
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from absl import app, flags
from absl import logging as absl_logging

from experiments import cli, end_at_once, terminal
from hic_jax import checks

# How many processes there are, by what started them: Slurm and Open MPI give a number,
# a TPU pod the names of its hosts.
_COUNTS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
_HOSTS = ("TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES")

# Seconds in which process 0 of several has to answer the others, and in which all have
# to come: JAX aborts a process after 300.
ANSWER_S = 15
COMING_S = 280.0

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
    cli.define(
        "coordinator",
        cli.text("HOST:PORT"),
        None,
        "Address of process 0 of several, for the others to find it, or auto to have "
        "JAX find it. Not needed on Slurm, under Open MPI and where "
        "TPU_WORKER_HOSTNAMES is set.",
    )
    text = "Number of processes, with --coordinator."
    cli.define("num_processes", cli.integer(1), None, text)
    text = "Number of this process, counted from 0, with --coordinator."
    cli.define("process_id", cli.integer(0), None, text)


def run(main: Callable[[list[str]], None], define_flags: Callable[[], None]) -> None:
    """Runs a launcher from the command line: its main, called with what is no flag."""
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
    except (ValueError, OSError, FloatingPointError) as error:
        absl_logging.debug("this ends the program:", exc_info=True)
        sys.exit(f"error: {error}")


def start(argv: list[str]) -> None:
    """Prepares a launch; from here on Ctrl-C is Python's, and what is begun ends well.

    Raises:
      ValueError: at words on the command line that are no flags; as `join_processes`.
    """
    quiet_log()
    if len(argv) > 1:
        raise ValueError(f"unknown arguments: {' '.join(argv[1:])}")
    names = {"coordinator", "num_processes", "process_id"} & set(flags.FLAGS)
    prepare_process(**{name: flags.FLAGS[name].value for name in names})
    if signal.getsignal(signal.SIGINT) is end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def prepare_process(**asked: Any) -> None:
    """What a process needs before it trains; see `join_processes`."""
    quiet_libraries()
    join_processes(**asked)
    use_compilation_cache()


def join_processes(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Joins the other processes, if they are asked for or something started several.

    Args are those of the flags of these names.

    Raises:
      ValueError: if it is not clear how many there are, or where, or they do not come,
        or there is nothing to compute on.
    """
    given = {
        "--coordinator": coordinator,
        "--num_processes": num_processes,
        "--process_id": process_id,
    }
    missing = [name for name, value in given.items() if value is None]
    asked = len(missing) < len(given)
    started = not asked and _are_several(os.environ)
    if coordinator == "auto" or started:
        try:
            with _ending_in_time():
                jax.distributed.initialize()
        except ValueError as error:
            raise ValueError(
                f"JAX does not find the other processes ({error}); give "
                f"{', '.join(given)}"
            ) from error
    elif asked:
        if coordinator is None or num_processes is None or process_id is None:
            raise ValueError(f"several processes need {' and '.join(missing)}, too")
        port = re.fullmatch(r".+:(\d{1,5})", coordinator)
        if not port or int(port[1]) > 65535:
            raise ValueError(f"coordinator={coordinator!r}: must be HOST:PORT or auto")
        checks.integer("process_id", process_id, 0, num_processes - 1)
        with _ending_in_time(coordinator):
            jax.distributed.initialize(coordinator, num_processes, process_id)
    _check_platform()
    if not (asked or started) and jax.process_count() > 1:
        raise ValueError(
            f"there are {jax.process_count()} processes: --coordinator must be given, "
            "or be auto"
        )
    if jax.process_index():
        absl_logging.set_verbosity(absl_logging.WARNING)


@contextlib.contextmanager
def _ending_in_time(coordinator: str | None = None) -> Iterator[None]:
    """Ends the process with one line if process 0 does not answer, or not all come.

    JAX would wait longer, for whatever is at that address, and then abort the process
    from C++; and process 0, which is to answer, begins to inside of its call.

    Raises:
      ValueError: at what JAX itself says of processes that do not come.
    """
    joined = threading.Event()
    started = time.monotonic()

    def watch() -> None:
        while coordinator and not _answers(coordinator):
            if time.monotonic() - started > ANSWER_S:
                return _end(f"coordinator={coordinator}: nobody answers there")
            if joined.wait(0.5):
                return None
        if not joined.wait(started + COMING_S - time.monotonic()):
            _end(f"not all processes have come within {COMING_S:.0f} s")
        return None

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    finally:
        joined.set()


def _answers(coordinator: str) -> bool:
    """Whether JAX is there: its gRPC opens with a frame of settings, of type 4."""
    host, _, port = coordinator.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), 2) as connection:
            return connection.recv(9)[3:4] == b"\x04"
    except OSError:
        return False


def _end(why: str) -> None:
    """Ends the process, whatever its other threads wait for."""
    os.write(2, f"error: {why}\n".encode())
    os._exit(1)


def _check_platform() -> None:
    """Raises `ValueError` unless what JAX is to compute on is there."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # The latter where it skips one.
        raise ValueError(
            f"JAX_PLATFORMS={_jax_config.jax_platforms}: must be what JAX finds on "
            f"this machine, or not be set ({str(error) or 'no such device'})"
        ) from error


def _are_several(environment: Mapping[str, str]) -> bool:
    """Whether what started this process started others beside it."""
    for name in _COUNTS:
        if not environment.get(name, "1").isdecimal():
            raise ValueError(f"{name}={environment[name]!r}: must be an integer")
    counts = (int(environment.get(name, 1)) for name in _COUNTS)
    hosts = (environment.get(name, "").count(",") + 1 for name in _HOSTS)
    return max(*counts, *hosts) > 1


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
