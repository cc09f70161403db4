"""Times of programs that take turns, of their compilation, and their memory."""

import contextlib
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from experiments.benchmark.programs import (
    FP32_STEP,
    HARDWARE,
    Program,
    Size,
    programs,
    state_bytes,
)


def measure(size: Size, repeats: int) -> dict[str, Any]:
    """All figures of a size.

    Args:
      size: what is built.
      repeats: times that every program runs.

    Returns:
      ``programs``, by name: ``median``, ``low`` and ``high`` (quartiles) of the seconds
      of a run, ``of_fp32`` (the median over turns of the quotient with the FP32 step of
      the same turn; None without one), ``compile_cold`` and ``compile_warm`` in
      seconds, ``memory`` in bytes.
    """
    made = programs(size)
    compiled: dict[str, jax.stages.Compiled] = {}
    figures: dict[str, dict[str, Any]] = {}
    with own_cache():
        for name, program in made.items():
            # The same function is the same program, for other contents of its arrays.
            twin = next(
                (n for n in compiled if made[n].function is program.function), None
            )
            if twin is None:
                compiled[name], figures[name] = compile_twice(program)
            else:
                compiled[name], figures[name] = compiled[twin], dict(figures[twin])
    seconds = take_turns(made, compiled, repeats)
    for name, times in seconds.items():
        low, median, high = np.percentile(times, (25, 50, 75)).tolist()
        of_fp32 = None
        if FP32_STEP in seconds:
            of_fp32 = float(np.median(times / seconds[FP32_STEP]))
        figures[name] |= {"median": median, "low": low, "high": high}
        figures[name]["of_fp32"] = of_fp32
    return {"programs": figures}


def take_turns(
    made: dict[str, Program],
    compiled: dict[str, jax.stages.Compiled],
    repeats: int,
) -> dict[str, np.ndarray]:
    """Seconds of every run, (repeats,) by name.

    The programs take turns, so that whatever else the machine does meets all of them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for turn in range(repeats + 1):
        for name, program in made.items():
            started = time.perf_counter()
            program.run(compiled[name])
            if turn:  # The first one warms up.
                seconds[name].append(time.perf_counter() - started)
    return {name: np.array(times) for name, times in seconds.items()}


def compile_twice(program: Program) -> tuple[jax.stages.Compiled, dict[str, Any]]:
    """Compiles into the cache, and again from there; tracing included."""
    seconds = []
    for _ in range(2):
        jax.clear_caches()  # Those in this process.
        started = time.perf_counter()
        compiled = program.traced().lower().compile()
        seconds.append(time.perf_counter() - started)
        if len(seconds) == 1:
            memory = memory_of(compiled)
    cold, warm = seconds
    return compiled, {"compile_cold": cold, "compile_warm": warm, "memory": memory}


def memory_of(compiled: jax.stages.Compiled) -> int | None:
    """Bytes that a program needs, by XLA's plan: arguments, results, temporaries."""
    plan = compiled.memory_analysis()
    if plan is None:
        return None
    return (
        plan.argument_size_in_bytes
        + plan.output_size_in_bytes
        + plan.temp_size_in_bytes
        - plan.alias_size_in_bytes
    )


def peak_memory() -> dict[str, Any]:
    """Most bytes in use so far, and who says so: the device, or else the system."""
    stats = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return {"bytes": stats["peak_bytes_in_use"], "source": "device"}
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024
    return {"bytes": most * unit, "source": "resident set of the process"}


def device_bytes() -> dict[str, float]:
    """Bytes per weight of the device state of `HARDWARE`."""
    return {name: state_bytes(spec) for name, spec in HARDWARE.items()}


@contextlib.contextmanager
def own_cache() -> Iterator[None]:
    """An empty compilation cache, in place of the one that is in use."""
    changes: dict[str, Any] = {
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_enable_compilation_cache": True,
    }
    with tempfile.TemporaryDirectory() as folder:
        changes["jax_compilation_cache_dir"] = folder
        before = {name: getattr(jax.config, name) for name in changes}
        try:
            for name, value in changes.items():
                jax.config.update(name, value)
            compilation_cache.reset_cache()
            yield
        finally:
            for name, value in before.items():
                jax.config.update(name, value)
            compilation_cache.reset_cache()
