"""`hic`: the optax transformation that turns weight updates into device writes."""

import functools
import numbers
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx, struct

from hic_jax import accumulator, checks
from hic_jax.packing import Layout
from hic_jax.pcm import binary, pair
from hic_jax.spec import HICSpec
from hic_jax.weights import HybridWeight, program, unpack_weights, weight_scale


@struct.dataclass
class Events:
    """What happened to all devices in the last update; () float32 each.

    Nothing is dropped on the way from an update to the devices without a count here.

    Attributes:
      accepted_lsbs: absolute LSBs that reached the accumulators.
      clipped_lsbs: absolute LSBs that the update bus cut off; 2^30 for a NaN.
      faulty_lsbs: absolute LSBs by which stuck binary cells changed words.
      set_pulses: SET pulses that carries fired.
      futile_pulses: (2,) those of them that met a device (G+, G-) at ``g_max``, or a
        stuck one.
      refreshed_pairs: pairs that were RESET and rewritten.
      refresh_error: summed absolute change of their differences, uS: what blind,
        noisy rewriting made of them.
    """

    accepted_lsbs: jax.Array
    clipped_lsbs: jax.Array
    faulty_lsbs: jax.Array
    set_pulses: jax.Array
    futile_pulses: jax.Array
    refreshed_pairs: jax.Array
    refresh_error: jax.Array

    @classmethod
    def none(cls) -> "Events":
        """No event yet."""
        zero = jnp.zeros((), jnp.float32)
        return cls(zero, zero, zero, zero, jnp.zeros((2,), jnp.float32), zero, zero)


@struct.dataclass
class HICState:
    """State of `hic`: the devices, a step count and a key.

    Attributes:
      weights: all tensors in one `HybridWeight` of flat arrays, (n,) and (2, n);
        ``scale`` has one entry per tensor. `hybrid_weights` gives them one by one.
      count: () int32, updates so far.
      key: random key, the same throughout; each step folds in its count.
      events: what the last update did.
      layout: where each tensor lies, static.

    It is a pytree for jit, vmap, Orbax and pickle. `flax.serialization` and
    `optax.tree_map_params` do not take it: the one knows no typed keys, the other no
    static fields. An update inside `jax.shard_map` needs ``check_vma=False``.
    """

    weights: HybridWeight
    count: jax.Array
    key: jax.Array
    events: Events
    layout: Layout = struct.field(pytree_node=False)


def hic(spec: HICSpec, key: jax.Array | int) -> optax.GradientTransformationExtraArgs:
    """Holds the parameters it is given in hybrid PCM and updates the devices.

    Put it last in a chain, after the rule that makes the update, and over the leaves
    that are to be analog (`analog_labels` with `optax.partition`). It answers with the
    difference between what the devices now read and ``params``, so that
    `optax.apply_updates` leaves the device-read weights in ``params``. The devices in
    the state are the truth; the float weights are a view of them.

    One update, at hardware time t: round to LSBs, accumulate in the binary cells,
    carry to SET pulses, refresh what is saturated, advance time, read with noise.

    Args:
      spec: the hardware.
      key: a random key or an integer seed. Two transformations need two keys.

    Returns:
      An optax transformation, whose ``update`` needs ``params``.

    Raises:
      ValueError: for a spec that is none; of its ``init``, for leaves that are not real
        floating-point numbers; of its ``update``, without params, or for params or
        updates of other shapes.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, hic_jax
      >>> spec = hic_jax.HICSpec(multilevel=hic_jax.pcm.ideal())
      >>> tx = optax.chain(optax.sgd(0.1), hic_jax.hic(spec, jax.random.key(0)))
      >>> params = {"kernel": jax.random.normal(jax.random.key(1), (8, 8))}
      >>> loss = lambda p: jnp.mean((p["kernel"] @ jnp.ones(8) - 1.0) ** 2)
      >>> state = tx.init(params)
      >>> for _ in range(200):
      ...     updates, state = tx.update(jax.grad(loss)(params), state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> print(f"{loss(params):.2f}")  # 20.73 before
      0.00
    """
    if not isinstance(spec, HICSpec):
        raise ValueError(f"spec={spec!r}: must be a HICSpec")
    key = jax.random.key(key) if isinstance(key, numbers.Integral) else key

    def init_fn(params):
        check_weights(params)
        layout = Layout.of(params)
        leaves = jax.tree.leaves(params)
        scales = [weight_scale(jnp.asarray(leaf), spec) for leaf in leaves]
        target = layout.pack(
            [jnp.asarray(x) * s for x, s in zip(leaves, scales, strict=True)]
        )
        program_key, step_key = jax.random.split(key)
        pairs, cells, word = program(program_key, target, spec)
        return HICState(
            weights=HybridWeight(
                multilevel=pairs,
                binary=cells,
                accumulator=word,
                scale=jnp.stack(scales) if scales else jnp.zeros((0,), jnp.float32),
                time=jnp.zeros((), jnp.float32),
                spec=spec,
            ),
            count=jnp.zeros((), jnp.int32),
            key=step_key,
            events=Events.none(),
            layout=layout,
        )

    def update_fn(updates, state, params=None, **extra_args):
        del extra_args
        if params is None:
            raise ValueError("params=None: hic needs the params that it updates")
        layout, scale = state.layout, state.weights.scale
        given, wanted = Layout.of(params), Layout.of(updates)
        if given.shapes != layout.shapes:
            raise ValueError(f"params={given.tree}: must be as at init, {layout.tree}")
        if wanted != given:
            raise ValueError(
                f"updates={wanted.tree}: must be like params, {given.tree}"
            )
        leaves, treedef = jax.tree.flatten(updates)
        step_key = jax.random.fold_in(state.key, state.count)
        write_key, read_key = jax.random.split(step_key)

        lsbs = layout.pack([u * (scale[i] / spec.lsb) for i, u in enumerate(leaves)])
        count = state.count + 1
        weights, events = _write(write_key, state.weights, lsbs, count)
        weights = weights.replace(time=count * jnp.float32(spec.seconds_per_step))
        normal = jax.random.normal(read_key, lsbs.shape, jnp.float32)
        conductance = pair.read(
            normal, weights.multilevel, weights.time, spec.multilevel
        )
        change = [
            (g / scale[i] - p).astype(p.dtype)
            for i, (g, p) in enumerate(
                zip(layout.unpack(conductance), jax.tree.leaves(params), strict=True)
            )
        ]
        state = state.replace(weights=weights, count=count, events=events)
        return treedef.unflatten(change), state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


# Compiled by itself, so that an eager `update` compiles its loops once and not each
# time; inside a user's jit it is inlined as any call.
@jax.jit
def _write(
    key: jax.Array, weights: HybridWeight, lsbs: jax.Array, count: jax.Array
) -> tuple[HybridWeight, Events]:
    """Quantise, accumulate, transfer, refresh: one step's writes to packed devices.

    Args:
      key: rounding, programming and refresh draws.
      weights: packed devices.
      lsbs: (n,) float32, wanted updates in LSBs.
      count: () int32, number of this update, from 1.

    Returns:
      The devices after the writes, at the same time, and what happened.
    """
    spec, time = weights.spec, weights.time
    round_key, set_key, refresh_key = jax.random.split(key, 3)

    uniform = None
    if spec.stochastic_rounding:
        uniform = jax.random.uniform(round_key, lsbs.shape, jnp.float32)
    passed, clipped = accumulator.quantise(lsbs, uniform, spec.update_bits)
    word, carry = accumulator.accumulate(
        weights.accumulator, passed, spec.lsb_bits, spec.word_steps
    )
    cells, held = binary.write(weights.binary, weights.accumulator, word, spec.lsb_bits)
    pairs, futile = pair.set_pulses(
        set_key, weights.multilevel, carry, time, spec.multilevel
    )

    def refresh(pairs):
        due = refresh_due(pairs, spec)
        new = pair.refresh(
            refresh_key, pairs, due, time, spec.multilevel,
            max_pulses=spec.refresh_pulses, verify=spec.refresh_verify,
        )  # fmt: skip
        error = pair.read(None, new, time, spec.multilevel)
        error -= pair.read(None, pairs, time, spec.multilevel)
        return new, _total(due), _total(jnp.where(due, error, 0.0))

    def leave(pairs):
        zero = jnp.zeros((), jnp.float32)
        return pairs, zero, zero

    refreshed = error = jnp.zeros((), jnp.float32)
    if spec.refresh_every:
        pairs, refreshed, error = jax.lax.cond(
            count % spec.refresh_every == 0, refresh, leave, pairs
        )
    events = Events(
        accepted_lsbs=_total(passed),
        clipped_lsbs=_total(clipped),
        faulty_lsbs=_total(held.astype(jnp.int32) - word),
        set_pulses=_total(carry),
        futile_pulses=jnp.sum(futile, axis=-1, dtype=jnp.float32),
        refreshed_pairs=refreshed,
        refresh_error=error,
    )
    weights = weights.replace(multilevel=pairs, binary=cells, accumulator=held)
    return weights, events


def refresh_due(pairs: pair.PairState, spec: HICSpec) -> jax.Array:
    """Pairs whose devices are high, and hold much in common: (n,) bool.

    The look is ideal: at what was written, without read noise and drift since.
    """
    high = jnp.max(pairs.g, axis=0) > spec.refresh_above
    return high & (jnp.min(pairs.g, axis=0) > spec.refresh_common)


def _total(x: jax.Array) -> jax.Array:
    """Sum of absolute values, () float32."""
    return jnp.sum(jnp.abs(x.astype(jnp.float32)))


def hybrid_weights(opt_state: Any) -> Any:
    """The `HybridWeight`s in an optimizer state, wherever `hic` sits in it.

    Args:
      opt_state: state of any optax transformation that contains `hic`, once or, for
        different leaves, several times; that of an `nnx.Optimizer`, too.

    Returns:
      A pytree of the structure of the parameters: a `HybridWeight` for every analog
      leaf, `optax.MaskedNode()` for every digital one.

    Raises:
      ValueError: if there is no `hic` in it, no leaf is analog, or several are not over
        leaves of one tree.
    """
    states = [
        s
        for s in jax.tree.leaves(opt_state, is_leaf=lambda x: isinstance(x, HICState))
        if isinstance(s, HICState)
    ]
    states = [nnx.as_pure(s) for s in states if s.layout.shapes]
    if not states:
        raise ValueError(
            "opt_state holds no analog weight: chain hic_jax.hic(...) into the "
            "optimizer, over at least one leaf"
        )
    trees = [unpack_weights(s.weights, s.layout) for s in states]
    return functools.reduce(_merged, trees)


def _merged(one: Any, other: Any) -> Any:
    """Two trees that leave out what the other may have: a leaf, or all below a node."""
    if isinstance(one, optax.MaskedNode):
        return other
    if isinstance(other, optax.MaskedNode) or isinstance(one, HybridWeight):
        return one
    children, treedef = jax.tree.flatten(one, is_leaf=lambda x: x is not one)
    others, other_treedef = jax.tree.flatten(other, is_leaf=lambda x: x is not other)
    if treedef != other_treedef:
        raise ValueError(
            f"opt_state holds hic over trees of different structures, {treedef} and "
            f"{other_treedef}: ask for the weights of each by itself"
        )
    return treedef.unflatten(map(_merged, children, others))


def age(opt_state: Any, seconds: jax.Array | float) -> Any:
    """An optimizer state whose devices drift for a while, unused, and then train on.

    `drift` is for reading; this is for going on: what is written afterwards is young,
    what is not stays old.

    Args:
      opt_state: state of any optax transformation that contains `hic`.
      seconds: s, not negative.

    Returns:
      The state ``seconds`` later. What the devices then read is not in ``params`` yet:
      ``read_params(params, hybrid_weights(opt_state), key=key)``.

    Raises:
      ValueError: at negative seconds.
    """
    checks.seconds(seconds)

    def older(state):
        if not isinstance(state, HICState):
            return state
        # The clock is a float32 that counts steps: after a year on it, a step of 0.1 s
        # would be lost. So the writes move into the past instead.
        pairs = state.weights.multilevel
        # A map, because an nnx.Optimizer holds variables instead of arrays.
        written_at = jax.tree.map(lambda x: x - seconds, pairs.written_at)
        pairs = pairs.replace(written_at=written_at)
        return state.replace(weights=state.weights.replace(multilevel=pairs))

    return jax.tree.map(older, opt_state, is_leaf=lambda x: isinstance(x, HICState))


def check_weights(params: Any) -> None:
    """Raises `ValueError` unless all leaves are real floating-point arrays."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(
                f"params{jax.tree_util.keystr(path)}={dtype}{list(jnp.shape(leaf))}: "
                "devices hold real floating-point weights"
            )


def analog_labels(params: Any, *, digital: Sequence[str] = ()) -> Any:
    """Labels for `optax.partition`: which leaves PCM crossbars hold.

    Kernels are analog: leaves of two or more dimensions, except embedding tables
    (looked up, not multiplied) and whatever is called a bias or a scale. What else is
    not multiplied, such as the class token of a transformer, has to be named.

    Args:
      params: a model's parameters (flax Linen, nnx state, any pytree).
      digital: paths of layers or leaves that are digital nevertheless, as ``head`` or
        ``stage1_block1/conv1``.

    Returns:
      The same tree with "analog" or "digital" for each leaf.

    Raises:
      ValueError: if there is nothing at one of the paths.
    """
    if isinstance(digital, str):
        raise ValueError(f"digital={digital!r}: must be a sequence of paths")
    digital = tuple(digital)
    unseen = set(digital)

    def label(path, leaf):
        names = jax.tree_util.keystr(path, simple=True, separator="/")
        # The leaf of an nnx.State is the value of what has a name.
        own = names.lower().removesuffix("/value").split("/")[-1]
        kernel = jnp.ndim(leaf) >= 2 and not (
            "embedding" in own or own in ("bias", "scale")
        )
        chosen = {layer for layer in digital if f"{names}/".startswith(f"{layer}/")}
        unseen.difference_update(chosen)
        return "analog" if kernel and not chosen else "digital"

    labels = jax.tree_util.tree_map_with_path(label, params)
    if unseen:
        raise ValueError(f"digital={min(unseen)!r}: there is no parameter of that path")
    return labels
