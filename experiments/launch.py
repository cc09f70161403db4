"""What every launcher does first: error messages, log lines, the compilation cache."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import orbax.checkpoint
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
    others = tuple(str(Path(m.__file__).parent) for m in (jax, orbax.checkpoint))

    def ours_or_grave(record) -> bool:
        grave = record.levelno >= logging.WARNING and not record.exc_info
        return grave or not record.pathname.startswith(others)

    absl_logging.get_absl_handler().addFilter(ours_or_grave)


def use_compilation_cache() -> None:
    """Keeps compiled programs between runs, in the user's cache folder.

    Not on the CPU, where XLA doubts every program that it loads from there, at length.
    """
    if jax.default_backend() == "cpu":
        return
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    jax.config.update(
        "jax_compilation_cache_dir", os.path.join(cache, "hic_jax", "compiled")
    )
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
