"""What every launcher does first: error messages, log lines, the compilation cache."""

import contextlib
import importlib.util
import logging
import os
import sys
from collections.abc import Iterator

import jax
from absl import app
from absl import logging as absl_logging


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
    prepare_process()


def prepare_process() -> None:
    """What a process needs before it trains."""
    quiet_libraries()
    use_compilation_cache()


def quiet_libraries() -> None:
    """Keeps the log to this project's own lines, and to others' warnings.

    What they log of an exception that reaches us anyhow is left out: it is told once.
    """
    found = (importlib.util.find_spec(name) for name in ("jax", "orbax"))
    others = tuple(path for spec in found for path in spec.submodule_search_locations)

    def ours_or_grave(record) -> bool:
        grave = record.levelno >= logging.WARNING and not record.exc_info
        return grave or not record.pathname.startswith(others)

    absl_logging.get_absl_handler().addFilter(ours_or_grave)


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
