"""`hic`: the optax transformation that turns weight updates into device writes."""

import warnings
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

from hic_jax import accumulator, fingerprint
from hic_jax.device_state import Events, HICState
from hic_jax.kernel_axes import KernelAxes, axes_of_leaves
from hic_jax.packing import Layout, path_name
from hic_jax.pcm import binary, pair
from hic_jax.scaling import check_weights, weight_scale
from hic_jax.spec import HICSpec
from hic_jax.weights import HybridWeight, program


def hic(
    spec: HICSpec,
    key: jax.Array | int,
    *,
    axes: Mapping[str, KernelAxes] | None = None,
) -> optax.GradientTransformationExtraArgs:
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
      axes: which axes of a parameter are rows, columns and parts of a stack, by its
        path, as `hic_jax.find_kernel_axes` finds them. Without it the last axis is the
        columns.

    Returns:
      An optax transformation, whose ``update`` needs ``params``.

    Raises:
      ValueError: for a spec that is none; of its ``init``, for leaves that are not real
        finite floating-point numbers, or axes that they do not have; of its ``update``,
        without params, for params or updates of other shapes, or a state that was made
        with another spec.

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
      >>> print(f"{loss(params):.1f}")  # 20.7 before
      0.0
    """
    if not isinstance(spec, HICSpec):
        raise ValueError(f"spec={spec!r}: must be a HICSpec")
    key = _typed_key(key)
    names = spec.made_with()

    def init_fn(params):
        if type(params).__name__ == "_ParamsPlaceholder":
            # From optax.tree.map_params, which asks where in the state parameters are:
            # a leaf in the place of all of it says that they are not in it.
            return jnp.zeros(())
        check_weights(params)
        layout = Layout.of(params)
        known = axes_of_leaves(params, axes or {})
        tensors = [jnp.asarray(leaf) for leaf in jax.tree.leaves(params)]
        scales = tuple(
            weight_scale(x, spec, axes) for x, axes in zip(tensors, known, strict=True)
        )
        target = layout.pack([x * s for x, s in zip(tensors, scales, strict=True)])
        undefined = ~jnp.isfinite(target)
        target = jnp.where(undefined, 0.0, target)
        saturated = jnp.abs(target) > spec.reach + spec.multilevel.mean_step
        program_key, step_key = jax.random.split(key)
        pairs, cells, word = program(program_key, target, spec)
        return HICState(
            weights=HybridWeight(
                multilevel=pairs,
                binary=cells,
                accumulator=word,
                scale=scales,
                time=jnp.zeros((), jnp.float32),
                spec=spec,
                axes=tuple(
                    axes or KernelAxes.plain(x.ndim)
                    for x, axes in zip(tensors, known, strict=True)
                ),
            ),
            count=jnp.zeros((), jnp.int32),
            clock_error=jnp.zeros((), jnp.float32),
            key=jax.random.key_data(step_key),
            events=Events.of(
                undefined_weights=_total(undefined), saturated_weights=_total(saturated)
            ),
            answered=fingerprint.unknown(len(tensors)),
            made_with={name: jnp.zeros((), jnp.int8) for name in names},
            layout=layout,
        )

    def update_fn(updates, state, params=None, **extra_args):
        del extra_args
        if params is None:
            raise ValueError("params=None: hic needs the params that it updates")
        layout, weights = state.layout, state.weights
        if different := weights.spec.differences(spec):
            raise ValueError(
                "opt_state was made with another HICSpec (made with != now): "
                f"{'; '.join(different)}"
            )
        given, wanted = Layout.of(params), Layout.of(updates)
        if given.shapes != layout.shapes:
            raise ValueError(f"params={given.tree}: must be as at init, {layout.tree}")
        if wanted != given:
            raise ValueError(
                f"updates={wanted.tree}: must be like params, {given.tree}"
            )
        leaves, treedef = jax.tree.flatten(updates)
        held = jax.tree.leaves(params)
        parted = fingerprint.parted(state.answered, held)
        _warn_of_parted(parted, layout)
        step_key = jax.random.wrap_key_data(state.key, impl=jax.random.key_impl(key))
        step_key = jax.random.fold_in(step_key, state.count)
        write_key, read_key = jax.random.split(step_key)

        lsbs = layout.pack(
            [u * (s / spec.lsb) for u, s in zip(leaves, weights.scale, strict=True)]
        )
        count = state.count + 1
        weights, events = _write(write_key, weights, lsbs, count)
        time, clock_error = _later(weights.time, state.clock_error, spec)
        weights = weights.replace(time=time)
        normal = jax.random.normal(read_key, lsbs.shape, jnp.float32)
        conductance = layout.unpack(
            pair.read(normal, weights.multilevel, time, spec.multilevel)
        )
        change = [
            (g / s - p).astype(p.dtype)
            for g, s, p in zip(conductance, weights.scale, held, strict=True)
        ]
        state = state._replace(
            weights=weights,
            count=count,
            clock_error=clock_error,
            events=events.replace(parted_tensors=_total(parted)),
            answered=fingerprint.of([p + u for p, u in zip(held, change, strict=True)]),
        )
        return treedef.unflatten(change), state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _typed_key(key: jax.Array | int) -> jax.Array:
    """A typed random key, from one, from a seed, or from the data of an old one."""
    if jnp.issubdtype(jnp.result_type(key), jax.dtypes.prng_key):
        return key
    if jnp.ndim(key) == 0 and jnp.issubdtype(jnp.result_type(key), jnp.integer):
        return jax.random.key(key)
    return jax.random.wrap_key_data(key)


def _warn_of_parted(parted: jax.Array, layout: Layout) -> None:
    """Says which parameters are no longer what devices hold; nothing inside jit."""
    if isinstance(parted, jax.core.Tracer) or not parted.any():
        return
    paths = jax.tree_util.tree_leaves_with_path(layout.tree)
    names = [path_name(p) for (p, _), is_so in zip(paths, parted, strict=True) if is_so]
    warnings.warn(
        f"params {', '.join(names)}: are not what the devices answered with; hic must "
        "be last in its chain, and nothing around it may change its updates",
        stacklevel=3,
    )


def _later(
    time: jax.Array, error: jax.Array, spec: HICSpec
) -> tuple[jax.Array, jax.Array]:
    """Adds a step to a clock, and up what rounding does to it (Kahan's sum)."""
    step = jnp.float32(spec.seconds_per_step) - error
    later = time + step
    return later, (later - time) - step


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
    events = Events.of(
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
