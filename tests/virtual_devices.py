"""Functions called in another process, which has more than one device."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax

import hic_jax


def call(file, function, *arguments, devices):
    """What a function of a file returns, as JSON carries it, on so many CPU devices."""
    script = f"""
import json, runpy
print(json.dumps(runpy.run_path({file!r})[{function!r}](*{arguments!r})))
"""
    flags = [
        os.environ.get("XLA_FLAGS", ""),
        f"--xla_force_host_platform_device_count={devices}",
    ]
    if jax.__version_info__ >= (0, 10):  # Of 0.7.2 the flag is not known.
        # On a busy machine one device may wait long for another.
        flags.append("--xla_cpu_collective_call_terminate_timeout_seconds=600")
    environment = os.environ | {
        "XLA_FLAGS": " ".join(flags),
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(Path(hic_jax.__file__).parents[1]),
    }
    process = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)
