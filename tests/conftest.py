"""Set-up for all tests: every program is compiled once per run."""

import os
import shutil
import tempfile
from pathlib import Path

import jax


def pytest_configure(config):
    # Workers of one run share what they compile, which is most of what tests do.
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    folder = Path(tempfile.gettempdir()) / f"hic_jax-tests-{run}"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    if not hasattr(config, "workerinput"):
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
