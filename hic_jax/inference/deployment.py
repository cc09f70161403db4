"""`deploy`: weights, programmed onto a fresh inference chip.

Training writes blind pulses (`hic_jax.algorithms`); an inference chip is written once,
with verification, in the programmed regime (`hic_jax.pcm.programmed`), with what was
trained on devices or in floating point. `hic_jax.read`, `hic_jax.drift` and
`hic_jax.read_params` take both.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import optax
from flax import struct

from hic_jax import checks, packing
from hic_jax.algorithms.scaling import LARGEST_SPREAD, check_weights
from hic_jax.kernel_axes import KernelAxes, axes_of_leaves
from hic_jax.labels import told
from hic_jax.pcm import programmed
from hic_jax.pcm.programmed import ProgrammedSpec
from hic_jax.streams import stream
from hic_jax.weights import AnalogWeight, Pulses, is_analog, read

_NOT_TRAINED = (
    "weights are deployed: size and wear are counted of the weights that were trained"
)


class DeployedWeight(AnalogWeight):
    """Weights on the programmed devices of an inference chip.

    The following holds, for a weight tensor of shape S:
      * weight = (G+ - G-) / scale, with G drifted to ``time`` and never negative
      * one device of a pair was asked for |weight| * scale, the other for zero
      * nothing is written after `deploy`: drift exponents stay, only time moves on

    A stuck device has the conductance that it is stuck at, and a drift exponent of 0.

    Attributes:
      g: (2, *S) float32, uS, (G+, G-) when programming ended.
      nu: (2, *S) float32 drift exponents; None if nothing drifts.
      slow: (2, *S) float32 standard normal draws of the slow noise; None without any.
      spec: the devices, static. Their ``time`` is since programming ended.
    """

    g: jax.Array
    nu: jax.Array | None
    slow: jax.Array | None
    spec: ProgrammedSpec = struct.field(pytree_node=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight tensor."""
        return self.g.shape[1:]

    @property
    def read_shape(self) -> tuple[int, ...]:
        """A draw for each device: no reading is below zero."""
        return self.g.shape

    @property
    def chip_shape(self) -> tuple[int, ...]:
        """None: another chip has conductances of its own, too."""
        raise ValueError(
            "key=...: weights are deployed on a chip of their own; another chip is "
            "made by hic_jax.deploy with another key"
        )

    def conductance(self, normal: jax.Array | None, *, fresh: bool = True) -> jax.Array:
        """G+ - G- at ``time``, uS."""
        g = self._drifted
        if normal is not None and self.spec.read_noise is not None:
            g = programmed.read(
                self.g, g, self.time, normal, self.spec, slow=self.slow, fresh=fresh
            )
        return g[0] - g[1]

    def fresh_variance(self) -> jax.Array | None:
        """Variance of the weights that is new in every product; None without any."""
        spec = self.spec
        if spec.read_noise is None or spec.read_spectrum == "per_read":
            return None
        both = programmed.fresh_variance(self.g, self._drifted, self.time, spec)
        return (both[0] + both[1]) / self.scale**2

    @property
    def _drifted(self) -> jax.Array:
        """Conductances at ``time``, (2, *S) uS."""
        if self.nu is None:
            return self.g
        return programmed.drifted(self.g, self.time, self.nu, self.spec)

    def without(self, *names: str) -> Self:
        """The chip as if it had never had some of its non-idealities.

        What these have done to the conductances in programming stays.

        Raises:
          ValueError: for the spread of drift alone: exponents are drawn in `deploy`.
        """
        spec = self.spec.without(*names)
        if spec.drifts and "drift_spread" in names:
            raise ValueError(
                "without='drift_spread': a deployed chip keeps its own drift exponents;"
                " deploy with a spec that is without their spread"
            )
        return self.replace(spec=spec, nu=self.nu if spec.drifts else None)

    def bits(self) -> dict[str, int]:
        """None: sizes are of what was trained."""
        raise ValueError(_NOT_TRAINED)

    def devices(self) -> dict[str, int]:
        """A multi-level device for each half of a pair."""
        return {"multilevel": self.g.size}

    @property
    def devices_in_products(self) -> int:
        """Both halves of a pair."""
        return len(self.g)

    def pulses(self) -> dict[str, Pulses]:
        """None: how a chip is programmed is not counted."""
        raise ValueError(_NOT_TRAINED)

    def reads(self, steps: int) -> dict[str, int]:
        """None: a chip is not trained."""
        raise ValueError(_NOT_TRAINED)

    def set_back(self, seconds: jax.Array | float) -> Self:
        """None: a chip is not trained on; `hic_jax.drift` makes it older."""
        raise ValueError(
            "weights are deployed, and are not trained on: hic_jax.drift ages them"
        )


def is_deployed(weights: Any) -> bool:
    """Whether any of the weights in a pytree is on an inference chip."""
    leaves = jax.tree.leaves(weights, is_leaf=is_analog)
    return any(isinstance(leaf, DeployedWeight) for leaf in leaves)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clip:
    """Which weights are cut off, so that the others get more of the devices' range.

    Of two limits the lower one counts. Without any the largest weight is ``g_max``.

    Attributes:
      sigmas: largest weight, in root mean squares of what shares a scale, 0.1 to 1e6.
      percentile: share of the magnitudes that are no larger than the largest weight, %,
        0 to 100; above 0.
    """

    sigmas: float = 1e6
    percentile: float = 100.0

    def __post_init__(self):
        checks.within("sigmas", self.sigmas, 0.1, 1e6)
        checks.above("percentile", self.percentile, 0.0)
        checks.at_most("percentile", self.percentile, 100.0)

    def largest(self, weight: jax.Array, axis: Sequence[int]) -> jax.Array:
        """The largest weight that is kept, over some axes, which stay with size 1."""
        size = jnp.abs(weight)
        peak = jnp.max(size, axis=axis, keepdims=True, initial=0.0)
        if self.percentile < 100 and weight.size:
            kept = jnp.percentile(
                size, self.percentile, axis=tuple(axis), keepdims=True
            )
            peak = jnp.minimum(peak, kept)
        relative = size / jnp.where(peak > 0, peak, 1.0)  # Whose square is no overflow.
        mean = jnp.mean(relative**2, axis=axis, keepdims=True) if weight.size else 0.0
        return jnp.minimum(peak, self.sigmas * jnp.sqrt(mean) * peak)


def deploy(
    weights: Any,
    spec: ProgrammedSpec,
    key: jax.Array,
    *,
    labels: Any = None,
    axes: Mapping[str, KernelAxes] | None = None,
    clip: Clip = Clip(),
) -> Any:
    r"""Programs weights onto a fresh chip of another kind of device.

    Weights on devices are read once, at their time and with their read noise, as a
    controller would; floating-point parameters are taken as they are. Each tensor, or
    each part that had a scale of its own in training, is scaled so that its largest
    weight is ``g_max``, and of a pair one device gets the magnitude, the other zero:

    .. math::
      G^\pm_T = g_{max} \min(\max(\pm W, 0) / W_{max}, 1)

    Args:
      weights: `analog_weights(opt_state)`, aged or not; `optax.MaskedNode`s stay. With
        labels a model's parameters.
      spec: of the chip's devices, such as `hic_jax.pcm.nandakumar_2019()`.
      key: the chip: read noise of the trained devices, programming noise, drift
        exponents, which devices are stuck, slow noise. Another key is another chip.
      labels: "analog" or "digital" for each parameter, or a function that tells it, as
        `hic_jax.analog_labels`.
      axes: of parameters, by path, as `hic_jax.find_kernel_axes` finds them; weights on
        devices know theirs.
      clip: what is cut off; nothing by default.

    Returns:
      The same tree with a `DeployedWeight` in place of every weight, at time 0, and an
      `optax.MaskedNode` in place of digital parameters.

    Raises:
      ValueError: if nothing is analog, the weights are deployed already, or ``spec``
        is of another regime; for axes of what is none of the parameters.

    References:
      Joshi et al., Accurate deep neural network inference using computational
      phase-change memory, Nat. Commun. 11:2473 (2020).

    Examples:
      >>> import jax, jax.numpy as jnp, hic_jax
      >>> params = {"kernel": jnp.linspace(-1, 1, 64).reshape(8, 8)}
      >>> spec, labels = hic_jax.pcm.nandakumar_2019(), hic_jax.analog_labels
      >>> chip = hic_jax.deploy(params, spec, jax.random.key(1), labels=labels)
      >>> new, old = hic_jax.read([chip, hic_jax.drift(chip, seconds=hic_jax.YEAR)])
      >>> lost = jnp.sum(jnp.abs(old["kernel"])) / jnp.sum(jnp.abs(new["kernel"]))
      >>> print(f"{lost:.1f}")  # (1 year / 20 s) ** -0.049 is 0.50
      0.5
    """
    if not isinstance(spec, ProgrammedSpec):
        raise ValueError(f"spec={spec!r}: must be a ProgrammedSpec")
    leaves = jax.tree.leaves(weights, is_leaf=is_analog)
    if is_deployed(weights):
        raise ValueError(
            "weights are deployed already: another chip is made of the trained ones, "
            "with another key"
        )
    on_devices = any(map(is_analog, leaves))
    if on_devices and not (labels is None and axes is None):
        raise ValueError("labels, axes: are for parameters; weights on devices know")
    if labels is not None:
        weights, known = _analog_alone(weights, labels, axes or {})
        return _deploy_params(weights, known, spec, key, clip)
    if not leaves or not all(map(is_analog, leaves)):
        raise ValueError(
            "weights hold no analog weight, or others beside them: must be a tree of "
            "them, as hic_jax.analog_weights makes it, or parameters with labels=..."
        )
    return _deploy(weights, spec, key, clip)


def _analog_alone(
    params: Any, labels: Any, axes: Mapping[str, KernelAxes]
) -> tuple[Any, tuple[KernelAxes | None, ...]]:
    """The analog parameters, masked nodes for the others, and what is known of axes."""
    alone = jax.tree.map(
        lambda label, x: x if label == "analog" else optax.MaskedNode(),
        told(labels, params),
        params,
    )
    if not jax.tree.leaves(alone):
        raise ValueError("labels: no parameter is analog")
    check_weights(alone)
    return alone, tuple(axes_of_leaves(alone, axes))


# Of the reading of trained devices, programming, drift, stuck devices, slow noise.
def _keys(key: jax.Array) -> jax.Array:
    return jax.random.split(stream(key, "deploy"), 5)


@functools.partial(jax.jit, static_argnames=("spec", "clip"))
def _deploy(weights: Any, spec: ProgrammedSpec, key: jax.Array, clip: Clip) -> Any:
    held = read(weights, key=_keys(key)[0])
    trained = jax.tree.leaves(weights, is_leaf=is_analog)
    scales = [
        _chip_scale(w, t, spec.g_max, clip)
        for w, t in zip(jax.tree.leaves(held), trained, strict=True)
    ]
    return _programmed(held, scales, [t.axes for t in trained], spec, key)


@functools.partial(jax.jit, static_argnames=("axes", "spec", "clip"))
def _deploy_params(
    params: Any,
    axes: tuple[KernelAxes | None, ...],
    spec: ProgrammedSpec,
    key: jax.Array,
    clip: Clip,
) -> Any:
    held = jax.tree.map(lambda x: x.astype(jnp.float32), params)
    tensors = jax.tree.leaves(held)
    scales = [
        _first_scale(w, a, spec.g_max, clip) for w, a in zip(tensors, axes, strict=True)
    ]
    known = [a or KernelAxes.plain(w.ndim) for w, a in zip(tensors, axes, strict=True)]
    return _programmed(held, scales, known, spec, key)


def _programmed(
    held: Any,
    scales: Sequence[jax.Array],
    axes: Sequence[KernelAxes],
    spec: ProgrammedSpec,
    key: jax.Array,
) -> Any:
    """Weights on a chip, each with a scale in uS per unit of weight."""
    _, write_key, nu_key, stuck_key, slow_key = _keys(key)
    layout = packing.Layout.of(held)
    wanted = layout.pack(
        [w * s for w, s in zip(jax.tree.leaves(held), scales, strict=True)]
    )
    wanted = jnp.clip(wanted, -spec.g_max, spec.g_max)
    target = jnp.stack([jnp.maximum(wanted, 0.0), jnp.maximum(-wanted, 0.0)])

    g, nu = target, None
    if spec.write_std is not None:
        g = programmed.write(target, _normal(write_key, target), spec)
    if spec.drifts:
        nu = programmed.drift_exponents(target, _normal(nu_key, target), spec)
    if spec.stuck_set or spec.stuck_reset:
        uniform = jax.random.uniform(stuck_key, target.shape, jnp.float32)
        g, nu = programmed.stick(g, nu, uniform, spec)

    slow = _normal(slow_key, target) if spec.has_slow_noise else None
    each = len(scales) * [None]
    return layout.treedef.unflatten(
        [
            DeployedWeight(
                g=g,
                nu=nu,
                slow=slow,
                scale=s,
                time=jnp.float32(0.0),
                time_rest=jnp.float32(0.0),
                spec=spec,
                axes=a,
            )
            for g, nu, slow, s, a in zip(
                layout.unpack(g),
                each if nu is None else layout.unpack(nu),
                each if slow is None else layout.unpack(slow),
                scales,
                axes,
                strict=True,
            )
        ]
    )


def _chip_scale(
    weight: jax.Array, trained: AnalogWeight, g_max: float, clip: Clip
) -> jax.Array:
    """Scale on a chip, one for whatever had one in training, uS per unit of weight."""
    before = trained.scale
    if not before.ndim:
        return _scale(weight, range(weight.ndim), g_max, clip).reshape(())
    shared = [a for a, n in enumerate(before.shape) if n == 1]
    own = _scale(weight, shared, g_max, clip)
    if trained.axes.stack:
        return own
    common = _scale(weight, range(weight.ndim), g_max, clip)
    return jnp.where(jnp.all(before == before.reshape(-1)[:1]), common, own)


def _first_scale(
    weight: jax.Array, axes: KernelAxes | None, g_max: float, clip: Clip
) -> jax.Array:
    """As devices of training would share it; see `hic_jax.algorithms.scaling`."""
    stack = axes.stack if axes else (0,) if weight.ndim > 2 else ()
    common = _scale(weight, range(weight.ndim), g_max, clip)
    if not stack:
        return common.reshape(())
    own = _scale(weight, [a for a in range(weight.ndim) if a not in stack], g_max, clip)
    if axes:
        return own
    spread = jnp.max(own, initial=0.0) / jnp.min(own, initial=jnp.inf)
    return jnp.where(spread <= LARGEST_SPREAD, common, own)


def _scale(
    weight: jax.Array, shared: Sequence[int], g_max: float, clip: Clip
) -> jax.Array:
    """Scale of what shares one over some axes, which stay with size 1."""
    largest = clip.largest(weight, tuple(shared))
    return g_max / jnp.where(largest > 0, largest, 1.0)


def _normal(key: jax.Array, like: jax.Array) -> jax.Array:
    return jax.random.normal(key, like.shape, jnp.float32)
