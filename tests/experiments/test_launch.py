"""Starting: the compilation cache is used and quiet, and nothing idle is imported."""

import os
import subprocess
import sys

import pytest

_COMPILE = """
import jax, jax.numpy as jnp
from experiments import launch
launch.prepare_process()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name))
# Long enough for XLA to compile something.
print(float(jax.jit(lambda x: jnp.sort(jnp.sin(x) @ x.T, axis=0).sum())(jnp.eye(4))))
print(sum(name.endswith("/cache_hits") for name in events) > 0)
"""


def _python(code, **environment):
    environment = {k: v for k, v in os.environ.items() if k[:4] != "JAX_"} | environment
    process = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert process.stderr == ""
    return process.stdout.split()


@pytest.mark.parametrize("variable", ["XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"])
def test_the_second_process_loads_what_the_first_compiled_without_a_word(
    tmp_path, variable
):
    first, second = (_python(_COMPILE, **{variable: str(tmp_path)}) for _ in range(2))
    assert (first[1], second[1]) == ("False", "True")
    assert first[0] == second[0]
    assert any(path.name.endswith("-cache") for path in tmp_path.rglob("*"))


def test_nothing_is_imported_that_the_first_step_does_not_need():
    code = """
import sys
from experiments import train
from hic_jax import data
data.load("digits")
idle = ("matplotlib", "orbax.checkpoint", "sklearn", "scipy", "submitit")
print([name for name in idle if name in sys.modules])
"""
    assert _python(code) == ["[]"]
