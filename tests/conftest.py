"""Set-up for all tests: every program is compiled once per run, or once for all."""

import gc
import os
import shutil
import tempfile
from pathlib import Path

import jax
import pytest

from hic_jax import models


def pytest_configure(config):
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    if jax.config.jax_compilation_cache_dir is not None:
        return  # $JAX_COMPILATION_CACHE_DIR: what is compiled stays for later runs.
    # Workers of one run share what they compile, which is most of what tests do.
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    folder = Path(tempfile.gettempdir()) / f"hic_jax-tests-{run}"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if not hasattr(config, "workerinput"):
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


# Linux gives a process 65,530 mappings of memory, and each compiled program takes
# several: the one that gets none ends the process with a segmentation fault.
MOST_MAPPINGS = 15_000


@pytest.fixture(scope="module", autouse=True)
def few_programs():
    """Drops compiled programs after a file of tests, if there are many."""
    yield
    mappings = Path("/proc/self/maps")
    if mappings.exists() and mappings.read_text().count("\n") > MOST_MAPPINGS:
        jax.clear_caches()
        gc.collect()


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
