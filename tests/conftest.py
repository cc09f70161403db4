"""Set-up for all tests: every program is compiled once per run, or once for all."""

import ctypes
import gc
import os
import shutil
import tempfile
from pathlib import Path

import jax
import psutil
import pytest

from hic_jax import models


def pytest_configure(config):
    # Most programs are one operation, and are slower to compile than to read.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    if jax.config.jax_compilation_cache_dir is not None:
        return  # $JAX_COMPILATION_CACHE_DIR: what is compiled stays for later runs.
    # Workers of one run share what they compile, which is most of what tests do.
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    folder = Path(tempfile.gettempdir()) / f"hic_jax-tests-{run}"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if not hasattr(config, "workerinput"):
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


# A worker is to stay below 2 GB: four of them share the 16 GB of a hosted runner with
# the processes that they start. Nor does it run out of mappings of memory, of which
# Linux gives a process 65,530 and a compiled program takes several: one per 0.1 MB.
MOST_BYTES = 1_300_000_000


@pytest.fixture(autouse=True)
def few_programs():
    """Drops compiled programs after a test, if they take much memory."""
    yield
    if psutil.Process().memory_info().rss > MOST_BYTES:
        jax.clear_caches()
        gc.collect()
        # The C library of Linux keeps what is freed, unless it is told.
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
            trim(0)


@pytest.fixture(scope="module")
def quick_compilation():
    """For tests whose programs run a few times only."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def one_block():
    """A plan of channels of one stage, where three of a ResNet would do no more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.CHANNEL_PLANS, "one_block", (4,))
        yield
