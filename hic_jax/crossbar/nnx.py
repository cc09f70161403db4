"""Crossbar products for nnx, of any spec.

    nnx.Linear(64, 10, dot_general=crossbar.NnxDotGeneral(spec, rngs=rngs), rngs=rngs)

A hook is a module, and a part of the layer that it is given to. A running range is an
`nnx.BatchStat`, updated until `nnx.Module.eval` is called. Noise is drawn from a stream
of random numbers of the hook's own, in evaluation, too.

A hook with running ranges is for one layer. `nnx.MultiHeadAttention` gives its layers
the same one; ``attention.query.dot_general = NnxDotGeneral(spec)`` gives another one.
"""

import weakref
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jax import lax

from hic_jax.crossbar import running
from hic_jax.crossbar.callers import calling_modules
from hic_jax.crossbar.hooks import convolve, multiply_general, takes_arguments_of
from hic_jax.crossbar.spec import CrossbarSpec
from hic_jax.crossbar.straight_through import Ranges

STREAM = "crossbar"


class _NnxProduct(nnx.Module):
    """A product with its running ranges and its noise.

    Args:
      spec: arrays and converters.
      rngs: where the noise is drawn from, the stream "crossbar" or the default one.

    Raises:
      ValueError: if there is noise, and nothing to draw it from.
    """

    def __init__(
        self, spec: CrossbarSpec, *, rngs: nnx.Rngs | nnx.RngStream | None = None
    ):
        self.spec = spec
        self.use_running_average = False
        if spec.adc_noise:
            if rngs is None:
                raise ValueError(
                    f"adc_noise={spec.adc_noise}: noise needs a new key for every "
                    f"read: {type(self).__name__}(spec, rngs=nnx.Rngs({STREAM}=seed))"
                )
            stream = rngs[STREAM] if isinstance(rngs, nnx.Rngs) else rngs
            self.stream = stream.fork()
        if spec.runs:
            self.ranges = nnx.BatchStat(running.start())
            self.layers = _Layers()

    def _run(self, function: Callable, *arguments: Any, **options: Any) -> jax.Array:
        spec = self.spec
        key = self.stream() if spec.adc_noise else None
        if not spec.runs:
            return function(spec, Ranges(), key, *arguments, **options)[0]
        self.layers.check(self)
        state = self.ranges[...]
        y, seen = function(spec, running.means(state), key, *arguments, **options)
        if not self.use_running_average:
            self.ranges[...] = running.updated(state, seen, spec.range_momentum)
        return y


class NnxDotGeneral(_NnxProduct):
    """`hic_jax.crossbar.dot_general` for nnx layers, with state and noise."""

    @takes_arguments_of(lax.dot_general)
    def __call__(self, *arguments, **options):
        """As `jax.lax.dot_general`."""
        return self._run(multiply_general, *arguments, **options)


class NnxConvGeneralDilated(_NnxProduct):
    """`hic_jax.crossbar.conv_general_dilated` for nnx layers, with state and noise."""

    @takes_arguments_of(lax.conv_general_dilated)
    def __call__(self, *arguments, **options):
        """As `jax.lax.conv_general_dilated`."""
        return self._run(convolve, *arguments, **options)


class _Layers:
    """The layer that calls a hook: one, whose kernel the ranges belong to.

    Of a hook and of its copies; nnx makes some for every transformation. All instances
    are equal, so that no program depends on what is in them.
    """

    def __init__(self):
        self._of: weakref.WeakKeyDictionary[_NnxProduct, weakref.ref[nnx.Module]] = (
            weakref.WeakKeyDictionary()
        )

    def check(self, hook: _NnxProduct) -> None:
        """Raises `ValueError` if a second layer calls a hook, or one without it."""
        layer = _calling_layer(hook)
        if layer is None:
            return
        first = self._of.get(hook, weakref.ref(layer))()
        if first not in (layer, None):
            name = type(hook).__name__
            raise ValueError(
                f"{name}: is called by two layers ({type(first).__name__}, "
                f"{type(layer).__name__}), whose running ranges would be mixed; give "
                f"each layer one of its own"
            )
        self._of[hook] = weakref.ref(layer)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Layers)

    def __hash__(self) -> int:
        return hash(_Layers)

    def __reduce__(self):
        return _Layers, ()


def _calling_layer(hook: _NnxProduct) -> nnx.Module | None:
    """The module that holds a hook and calls it; None if no module does."""
    name, called = type(hook).__name__, False
    for module in calling_modules():
        if module is hook:
            continue
        if isinstance(module, nnx.Module) and any(
            node is hook for _, node in nnx.iter_graph(module)
        ):
            return module
        called = True
    if called:
        raise ValueError(
            f"{name}: is no part of the layer that calls it, and its running ranges "
            f"would be lost; give the layer {name}(spec) itself, and no function "
            "that makes one at every call"
        )
    return None
