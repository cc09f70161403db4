"""`deploy`: trained weights, programmed onto a fresh inference chip.

Training writes blind pulses (`hic_jax.algorithms`); an inference chip is written once,
with verification, in the programmed regime (`hic_jax.pcm.programmed`). `hic_jax.read`,
`hic_jax.drift` and `hic_jax.read_params` take both.
"""

import functools
from typing import Any, Self

import jax
import jax.numpy as jnp
from flax import struct

from hic_jax import packing
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


def deploy(weights: Any, spec: ProgrammedSpec, key: jax.Array) -> Any:
    r"""Programs trained weights onto a fresh chip of another kind of device.

    The weights are read once, at their time and with their read noise, as a controller
    would; each tensor, or each part that had a scale of its own in training, is scaled
    so that its largest weight is ``g_max``, and of a pair one device gets the
    magnitude, the other zero:

    .. math::
      G^\pm_T = g_{max} \max(\pm W, 0) / \max|W|

    Args:
      weights: `analog_weights(opt_state)`, aged or not; `optax.MaskedNode`s stay.
      spec: of the chip's devices, such as `hic_jax.pcm.nandakumar_2019()`.
      key: the chip: read noise of the trained devices, programming noise, drift
        exponents, which devices are stuck, slow noise. Another key is another chip.

    Returns:
      The same tree with a `DeployedWeight` in place of every weight, at time 0.

    Raises:
      ValueError: if nothing is analog, the weights are deployed already, or ``spec``
        is of another regime.

    References:
      Joshi et al., Accurate deep neural network inference using computational
      phase-change memory, Nat. Commun. 11:2473 (2020).

    Examples:
      >>> import jax, jax.numpy as jnp, hic_jax
      >>> tx = hic_jax.hic(hic_jax.HICSpec(), jax.random.key(0))
      >>> state = tx.init({"kernel": jnp.linspace(-1, 1, 64).reshape(8, 8)})
      >>> weights = hic_jax.analog_weights(state)
      >>> spec = hic_jax.pcm.nandakumar_2019()
      >>> chip = hic_jax.deploy(weights, spec, jax.random.key(1))
      >>> new, old = hic_jax.read([chip, hic_jax.drift(chip, seconds=hic_jax.YEAR)])
      >>> lost = jnp.sum(jnp.abs(old["kernel"])) / jnp.sum(jnp.abs(new["kernel"]))
      >>> print(f"{lost:.1f}")  # (1 year / 20 s) ** -0.049 is 0.50
      0.5
    """
    if not isinstance(spec, ProgrammedSpec):
        raise ValueError(f"spec={spec!r}: must be a ProgrammedSpec")
    leaves = jax.tree.leaves(weights, is_leaf=is_analog)
    if any(isinstance(leaf, DeployedWeight) for leaf in leaves):
        raise ValueError(
            "weights are deployed already: another chip is made of the trained ones, "
            "with another key"
        )
    if not leaves or not all(map(is_analog, leaves)):
        raise ValueError(
            "weights hold no analog weight, or others beside them: must be a tree of "
            "them, as hic_jax.analog_weights makes it"
        )
    return _deploy(weights, spec, key)


@functools.partial(jax.jit, static_argnames="spec")
def _deploy(weights: Any, spec: ProgrammedSpec, key: jax.Array) -> Any:
    keys = jax.random.split(stream(key, "deploy"), 5)
    read_key, write_key, nu_key, stuck_key, slow_key = keys
    held = read(weights, key=read_key)
    layout = packing.Layout.of(held)
    tensors = jax.tree.leaves(held)
    trained = jax.tree.leaves(weights, is_leaf=is_analog)
    scales = [
        _chip_scale(w, t, spec.g_max) for w, t in zip(tensors, trained, strict=True)
    ]
    wanted = layout.pack([w * s for w, s in zip(tensors, scales, strict=True)])
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
    each = len(tensors) * [None]
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
                axes=t.axes,
            )
            for g, nu, slow, s, t in zip(
                layout.unpack(g),
                each if nu is None else layout.unpack(nu),
                each if slow is None else layout.unpack(slow),
                scales,
                trained,
                strict=True,
            )
        ]
    )


def _chip_scale(weight: jax.Array, trained: AnalogWeight, g_max: float) -> jax.Array:
    """Scale on a chip, one for whatever had one in training, uS per unit of weight."""

    def scale_of(peak):
        return g_max / jnp.where(peak > 0, peak, 1.0)

    size, before = jnp.abs(weight), trained.scale
    common = scale_of(jnp.max(size, initial=0.0))
    if not before.ndim:
        return common
    shared = tuple(a for a, n in enumerate(before.shape) if n == 1)
    own = scale_of(jnp.max(size, axis=shared, keepdims=True, initial=0.0))
    if trained.axes.stack:
        return own
    return jnp.where(jnp.all(before == before.reshape(-1)[:1]), common, own)


def _normal(key: jax.Array, like: jax.Array) -> jax.Array:
    return jax.random.normal(key, like.shape, jnp.float32)
