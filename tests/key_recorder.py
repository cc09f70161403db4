"""What is drawn from which key: finds random numbers that are not independent.

    with keys_used_once():
        step(state, batch)

fails if two draws inside used one key, or if one key was drawn from and others were
derived from it, too. Keys are compared by value, so it does not matter by which way
(`split`, `fold_in`, a seed) the same key came about twice.

Inside, programs are traced anew, as one that was compiled before would draw unseen. One
draw for all elements of a `jax.vmap` (``in_axes=None``) is one draw; keys of its
elements, and those in other traced code, count one by one. What was imported by name
before (``from jax.random import normal``) is not seen.
"""

import collections
import contextlib
import dataclasses
import functools
import inspect
import traceback
from pathlib import Path

import jax
import numpy as np
import pytest

_DERIVE = ("split", "fold_in")
# Identity functions of a key, and what makes keys of integers.
_NEITHER = ("clone", "key", "key_data", "key_impl", "PRNGKey", "wrap_key_data")
# Where samplers are called: by others, and by JAX itself (`jax.nn.initializers`).
_MODULES = (jax.random, inspect.getmodule(jax.random.normal))
_SAMPLERS = [
    name
    for name, function in vars(jax.random).items()
    if inspect.isfunction(function)
    and name not in (*_DERIVE, *_NEITHER)
    and next(iter(inspect.signature(function).parameters)) == "key"
]


@dataclasses.dataclass(frozen=True)
class Use:
    """One call of a function of `jax.random`: its name, and the line that called it."""

    function: str
    line: str

    def __str__(self):
        return f"{self.function} at {self.line}"


class Record:
    """Uses of every key.

    Attributes:
      draws: for each key, as a tuple of integers, its draws in their order.
      derivations: for each key those by which other keys were made of it.
    """

    def __init__(self):
        self.draws = collections.defaultdict(list)
        self.derivations = collections.defaultdict(list)

    def faults(self):
        """A line for each key with uses that are not independent."""
        return [
            f"key {key}: " + ", ".join(map(str, uses))
            for key, draws in self.draws.items()
            if len(uses := draws + self.derivations.get(key, [])) > 1
        ]

    def _note(self, use, keys):
        uses = self.derivations if use.function in _DERIVE else self.draws
        for key in np.reshape(keys, (-1, keys.shape[-1])):
            uses[tuple(key.tolist())].append(use)


# Those that are open, the innermost last. A program that was traced in one serves in
# later ones, too: it tells whichever is open when it runs.
_open: list[Record] = []


def _tell(function, key):
    """Has a use of a key noted, when its value is known."""
    use = Use(function, _calling_line())

    def note(keys):
        # As NumPy has them: to reshape an array of JAX is a program, which would wait
        # for a place among those that wait for this callback.
        _open[-1]._note(use, np.asarray(keys))

    data = jax.random.key_data(key)
    if isinstance(data, jax.core.Tracer):
        jax.debug.callback(note, data)
    else:
        note(np.asarray(data))


def _calling_line():
    """The innermost line that is neither here nor in JAX."""
    ours = str(Path(__file__))
    for frame in reversed(traceback.extract_stack()):
        if frame.filename != ours and "/jax/" not in frame.filename:
            return f"{Path(frame.filename).name}:{frame.lineno}"
    return "?"


@contextlib.contextmanager
def recorded_keys():
    """A `Record` of what is drawn inside, in which nothing is judged."""
    record = Record()
    inside = []  # Samplers call one another, and derive keys to do so.

    def watched(name, function):
        @functools.wraps(function)
        def watch(key, *args, **kwargs):
            if not inside:
                _tell(name, key)
            inside.append(name)
            try:
                return function(key, *args, **kwargs)
            finally:
                inside.pop()

        return watch

    # Programs are kept by this setting, too, which nothing else here uses; on a CPU it
    # changes no number.
    traced_anew = jax.default_matmul_precision("highest")
    with pytest.MonkeyPatch.context() as patch, traced_anew:
        for name in (*_DERIVE, *_SAMPLERS):
            function = watched(name, getattr(jax.random, name))
            for module in _MODULES:
                patch.setattr(module, name, function)
        _open.append(record)
        try:
            yield record
        finally:
            jax.effects_barrier()
            _open.pop()


@contextlib.contextmanager
def keys_used_once():
    """Fails if random numbers that are drawn inside are not independent."""
    with recorded_keys() as record:
        yield record
    faults = record.faults()
    assert not faults, "\n".join(["keys used more than once", *faults])
    assert record.draws, "nothing was drawn"
