"""Set-up for all tests: every program is compiled once per run, or once for all."""

import ctypes
import gc
import os
import shutil
import tempfile

import jax
import psutil
import pytest

from hic_jax import models

# Most of what tests do is to compile programs that run a few times only. So they, and
# the processes that they start, compile in a fifth of the time what is slower to run.
# What was in $XLA_FLAGS has the last word.
FLAGS = ["--xla_cpu_parallel_codegen_split_count=1"]
if jax.__version_info__ < (0, 12):  # From then on XLA has no other emitters.
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
SETTINGS = {
    "XLA_FLAGS": " ".join([*FLAGS, os.environ.get("XLA_FLAGS", "")]),
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    # Most programs are one operation, and are slower to compile than to read.
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    # What is freed stays with the process (the C library of Linux), as the next program
    # needs it: a tenth of the time of a compilation.
    **dict.fromkeys(
        ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"), str(1_000_000_000)
    ),
    "MALLOC_TOP_PAD_": str(64_000_000),
}


def pytest_configure(config):
    if hasattr(config, "workerinput"):
        return  # A worker has its environment from the process that started it.
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        # All share what they compile. With the variable it stays for later runs.
        folder = tempfile.mkdtemp(prefix="hic_jax-tests-")
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        jax.config.update("jax_compilation_cache_dir", folder)
    os.environ.update(SETTINGS)
    # Of this process, which has imported JAX already.
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


# Files of few tests that take long come first: last, they would keep one worker busy
# while the others have nothing to do.
LONG = {
    "test_notebooks", "test_kills", "test_examples", "test_benchmark", "test_compare",
    "test_processes", "test_field", "test_ablate", "test_chips", "test_mesh",
    "test_training", "test_together", "test_demo", "test_independence",
}  # fmt: skip


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.stem not in LONG)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish():
    """Lets Python look for garbage less often, and not in what stays to the end.

    Modules and tests are a million objects, and tracing has Python look through all
    that there are again and again: a fifth of the time of a training of a few steps.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)  # Instead of 700 new objects.


# Where a worker drops programs, some of which it has to load again: at a third of its
# share of the memory. Of 16 GB, which four of them have on a hosted runner with the
# processes that they start, that is 1.3 GB, and less would be no room for anything. At
# more than 3 GB it might run out of mappings of memory, of which Linux gives a process
# 65,530 and a compiled program takes several: one per 0.1 MB.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
MOST_BYTES = min(max(psutil.virtual_memory().total / WORKERS / 3, 1.3e9), 3e9)


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
def one_block():
    """A plan of channels of one stage, where three of a ResNet would do no more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.CHANNEL_PLANS, "one_block", (4,))
        yield
