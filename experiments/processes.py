"""Several processes, each with devices of its own, of which JAX makes one machine.

All do the same; the first alone writes and talks.
"""

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from absl import logging

from experiments import cli
from hic_jax import checks

# How many processes there are, by what started them: Slurm and Open MPI give a number,
# a TPU pod the names of its hosts.
_COUNTS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
_HOSTS = ("TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES")

# Seconds in which process 0 of several has to answer the others, and in which all have
# to come: JAX aborts a process after 300.
ANSWER_S = 15
COMING_S = 280.0


def define_flags() -> None:
    """Flags that say where the other processes are."""
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


def join(
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
        logging.set_verbosity(logging.WARNING)


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
    config: Any = jax.config  # Its attributes are made at run time.
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # The latter where it skips one.
        raise ValueError(
            f"JAX_PLATFORMS={config.jax_platforms}: must be what JAX finds on "
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
