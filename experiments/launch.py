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
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping

import jax
from absl import app, flags
from absl import logging as absl_logging

from experiments import terminal
from hic_jax import checks

# How many processes there are, by what started them: Slurm and Open MPI give a number,
# a TPU pod the names of its hosts.
_COUNTS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
_HOSTS = ("TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES")

# Seconds in which process 0 of several has to answer the others.
ANSWER_S = 20.0


class _MeshParser(flags.ArgumentParser):
    """A number of devices; None for auto."""

    syntactic_help = "auto, or a number of devices"

    def parse(self, argument):
        if argument in (None, "auto"):
            return None
        if str(argument).isdecimal() and int(argument) > 0:
            return int(argument)
        raise ValueError(f"must be {self.syntactic_help}")


def define_flags() -> None:
    """Flags that say on what a launch runs, which changes no result."""
    flags.DEFINE(
        _MeshParser(),
        "mesh",
        None,
        "Devices that share each batch equally. The default, auto, is as many as there "
        "are, of all processes, and divide the batch.",
    )
    flags.DEFINE_string(
        "coordinator",
        None,
        "HOST:PORT where process 0 of several is to be found by the others. Not needed "
        "on Slurm, under Open MPI and where TPU_WORKER_HOSTNAMES is set; auto asks JAX "
        "to find it elsewhere.",
    )
    flags.DEFINE_integer(
        "num_processes", None, "With --coordinator: how many.", lower_bound=1
    )
    flags.DEFINE_integer(
        "process_id", None, "With --coordinator: which this is, from 0.", lower_bound=0
    )


@contextlib.contextmanager
def clear_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Ends the program with the message alone, for errors that the user can mend."""
    try:
        yield
    except kinds as error:
        sys.exit(f"error: {error}")


def start(argv: list[str]) -> None:
    """Prepares a launch.

    Raises:
      app.UsageError: at words on the command line that are no flags.
    """
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    quiet_log()
    names = {"coordinator", "num_processes", "process_id"} & set(flags.FLAGS)
    asked = {name: flags.FLAGS[name].value for name in names}
    with clear_errors(ValueError):
        prepare_process(**asked)


def prepare_process(**asked: str | int | None) -> None:
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

    Args:
      coordinator: HOST:PORT of process 0, or auto for what JAX finds.
      num_processes: how many there are.
      process_id: which this is.

    Raises:
      ValueError: if it is not clear how many there are, or where.
    """
    given = {
        "--coordinator": coordinator,
        "--num_processes": num_processes,
        "--process_id": process_id,
    }
    missing = [name for name, value in given.items() if value is None]
    asked = len(missing) < len(given)
    if coordinator == "auto" or (not asked and _are_several(os.environ)):
        try:
            jax.distributed.initialize()
        except ValueError as error:
            raise ValueError(
                f"JAX does not find the other processes ({error}); give "
                f"{', '.join(given)}"
            ) from error
    elif asked:
        if missing:
            raise ValueError(f"several processes need {' and '.join(missing)}, too")
        if not re.fullmatch(r".+:\d+", coordinator):
            raise ValueError(f"coordinator={coordinator!r}: must be HOST:PORT or auto")
        checks.integer("process_id", process_id, 0, num_processes - 1)
        with _answering(coordinator):
            jax.distributed.initialize(coordinator, num_processes, process_id)
    elif jax.process_count() > 1:
        raise ValueError(
            f"there are {jax.process_count()} processes: --coordinator must be given, "
            "or be auto"
        )
    if jax.process_index():
        absl_logging.set_verbosity(absl_logging.WARNING)


@contextlib.contextmanager
def _answering(coordinator: str) -> Iterator[None]:
    """Ends the process with one line if nobody answers there for `ANSWER_S`.

    JAX would wait ten times as long and then abort it from C++; and process 0, which is
    to answer, begins to inside of its call.
    """
    joined = threading.Event()

    def watch() -> None:
        host, _, port = coordinator.rpartition(":")
        until = time.monotonic() + ANSWER_S
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                socket.create_connection((host.strip("[]"), int(port)), 2).close()
                return
            if joined.wait(0.5):
                return
        text = f"error: coordinator={coordinator}: nobody answers there\n"
        os.write(2, text.encode())
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        joined.set()


def _are_several(environment: Mapping[str, str]) -> bool:
    """Whether what started this process started others beside it."""
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
    return tuple(path for spec in found for path in spec.submodule_search_locations)


def use_compilation_cache() -> None:
    """Keeps compiled programs between runs.

    In ``$JAX_COMPILATION_CACHE_DIR`` or else the user's cache folder. JAX's key of a
    program holds the versions and flags of XLA and the instructions that the processor
    has, so that none is loaded that was made for another machine or another JAX.
    """
    if jax.config.jax_compilation_cache_dir is None:
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
    if jax.config.jax_logging_level == "NOTSET":  # Nobody asked for another one.
        jax.config.update("jax_logging_level", "CRITICAL")
        # That was for C++; this gives Python's loggers back what they had.
        jax.config.update("jax_logging_level", "NOTSET")
