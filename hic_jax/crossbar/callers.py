"""The flax modules that call a hook, which is handed nothing but arrays by them."""

import sys
from collections.abc import Iterator
from types import FrameType

import flax.linen as nn
from flax import nnx


def calling_modules() -> Iterator[nn.Module | nnx.Module]:
    """The modules whose methods are running, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, nn.Module | nnx.Module):
            yield caller
        frame = frame.f_back
