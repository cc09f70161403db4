"""Compiled programs of a process that runs one experiment after another."""

import gc
import logging
from pathlib import Path

import jax

_MAPPINGS = Path("/proc/self/maps")
_MOST_MAPPINGS = Path("/proc/sys/vm/max_map_count")


def drop_if_many() -> None:
    """Drops compiled programs if they take half of what the system can hold of them.

    JAX keeps all that it has compiled, and each network, device and learning rate has
    programs of its own. Linux gives a process 65,530 mappings of memory, of which a
    program takes several, and without one the next program ends the process by a
    segmentation fault: after the readings of some fifty trainings. What is needed again
    comes from the cache on disk. Elsewhere there is no such limit.
    """
    if not (_MAPPINGS.exists() and _MOST_MAPPINGS.exists()):
        return
    with _MAPPINGS.open() as lines:
        mappings = sum(1 for _ in lines)
    if mappings > int(_MOST_MAPPINGS.read_text()) / 2:
        logging.debug("%d mappings of memory: compiled programs are dropped", mappings)
        jax.clear_caches()
        gc.collect()
