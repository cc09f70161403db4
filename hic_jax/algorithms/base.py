"""One optax transformation for every algorithm that trains weights on devices.

It packs all tensors into one array, scales their updates, lets the algorithm write,
reads the devices and answers with the difference; and it keeps an eye on whether what
it gets back is what the devices hold. What an algorithm does with an update is its own
(`hic_jax.algorithms.pairs.PairSpec`).
"""

import functools
import warnings
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from hic_jax.algorithms import fingerprint, identity, pulsed
from hic_jax.algorithms.events import Events, total
from hic_jax.algorithms.pairs import PairSpec
from hic_jax.algorithms.scaling import check_weights
from hic_jax.algorithms.state import AnalogState
from hic_jax.kernel_axes import KernelAxes, axes_of_leaves
from hic_jax.packing import Layout, path_name
from hic_jax.shards import Shards
from hic_jax.weights import AnalogWeight


def analog(
    spec: PairSpec,
    key: jax.Array | int,
    *,
    axes: Mapping[str, KernelAxes] | None = None,
    shards: Shards | None = None,
    pace: optax.Schedule | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Holds the parameters it is given on devices, and writes updates onto them.

    Put it last in a chain, after the rule that makes the update, and over the leaves
    that are to be analog (`analog_labels` with `optax.partition`). It answers with the
    difference between what the devices now read and ``params``, so that
    `optax.apply_updates` leaves the device-read weights in ``params``. The devices in
    the state are the truth; the float weights are a view of them.

    One update, at hardware time t: write as the algorithm does, advance time, read with
    noise.

    Args:
      spec: the algorithm and its hardware.
      key: a random key or an integer seed. Two transformations need two keys.
      axes: which axes of a parameter are rows, columns and parts of a stack, by its
        path, as `hic_jax.find_kernel_axes` finds them. Without it the last axis is the
        columns.
      shards: equal parts of the state, which the devices of a mesh share, and each
        updates one after the other; None for a single one, wherever the parameters are.
      pace: of transfers between arrays, by the number of updates before: the learning
        rate over its highest value, 0 to 1. What an array has collected moves the next
        one on and on, whatever becomes of updates. None leaves it at 1.

    Returns:
      An optax transformation, whose ``update`` needs ``params``; and, if pulses of
      single examples are to be fired (``pulse_counts="both"``), as keywords
      ``gradients``, of which the rule has made the updates, and ``gradient_totals``, as
      `hic_jax.crossbar.gradient_totals` makes them.

    Raises:
      ValueError: for a spec that is none, or one that goes by lines of arrays with
        shards, which cut them; of its ``init``, for leaves that are not real finite
        floating-point numbers, axes that they do not have, or leaves that cannot be
        divided; of its ``update``, without params, or gradients and totals where they
        are needed, for any of them, or updates, of other shapes, or a state that was
        made with another spec, or in other parts.
    """
    checked(spec, PairSpec)
    key = _typed_key(key)
    names = identity.made_with(spec)
    parts = None if shards is None else checked_shards(shards, spec).count
    if parts is not None:
        names += (f"shards={parts}",)

    def init_fn(params):
        if type(params).__name__ == "_ParamsPlaceholder":
            # From optax.tree.map_params, which asks where in the state parameters are:
            # a leaf in the place of all of it says that they are not in it.
            return jnp.zeros(())
        if not jax.tree.leaves(params):
            # Nothing is to be stored: no arrays of no devices, which Orbax refuses.
            return optax.EmptyState()
        check_weights(params)
        layout = Layout.of(params, parts)
        known = axes_of_leaves(params, axes or {})
        tensors = [jnp.asarray(leaf) for leaf in jax.tree.leaves(params)]
        scales = tuple(
            spec.scale(x, axes) for x, axes in zip(tensors, known, strict=True)
        )
        target = layout.pack([x * s for x, s in zip(tensors, scales, strict=True)])
        undefined = ~jnp.isfinite(target)
        target = jnp.where(undefined, 0.0, target)
        saturated = jnp.abs(target) > spec.reach + spec.multilevel.mean_step
        program_key, step_key = jax.random.split(key)
        told = {"shapes": layout.shapes} if spec.by_lines else {}
        all_axes = tuple(
            axes or KernelAxes.plain(x.ndim)
            for x, axes in zip(tensors, known, strict=True)
        )

        def make(key, target):
            return spec.init(
                key,
                target,
                scale=(),
                time=jnp.zeros((), jnp.float32),
                time_rest=jnp.zeros((), jnp.float32),
                axes=all_axes,
                **told,
            )

        made = make if shards is None else functools.partial(shards.make, make)
        weights, events = made(program_key, target)
        return AnalogState(
            weights=weights.replace(scale=scales),
            count=jnp.zeros((), jnp.int32),
            clock_error=jnp.zeros((), jnp.float32),
            key=jax.random.key_data(step_key),
            events=events.replace(
                undefined_weights=total(undefined), saturated_weights=total(saturated)
            ),
            answered=fingerprint.unknown(len(tensors)),
            made_with={name: jnp.zeros((), jnp.int8) for name in names},
            layout=layout,
        )

    def update_fn(
        updates, state, params=None, *, gradients=None, gradient_totals=None, **extra
    ):
        del extra
        if params is None:
            raise ValueError("params=None: devices need the params that they update")
        given, of_updates = Layout.of(params), Layout.of(updates)
        if of_updates != given:
            raise ValueError(
                f"updates={of_updates.tree}: must be like params, {given.tree}"
            )
        if isinstance(state, optax.EmptyState):
            if given.shapes:
                raise ValueError(
                    f"params={given.tree}: must be as at init, without any"
                )
            return updates, state
        layout, weights = state.layout, state.weights
        if different := identity.differences(weights.spec, spec):
            raise ValueError(
                "opt_state was made with another specification (made with != now): "
                f"{'; '.join(different)}"
            )
        if layout.parts != parts:
            raise ValueError(
                f"shards={shards}: must have as many parts as opt_state, {layout.parts}"
            )
        if given.shapes != layout.shapes:
            raise ValueError(f"params={given.tree}: must be as at init, {layout.tree}")
        leaves, treedef = jax.tree.flatten(updates)
        held = jax.tree.leaves(params)
        parted = fingerprint.parted(state.answered, held)
        _warn_of_parted(parted, layout)
        step_key = jax.random.wrap_key_data(state.key, impl=jax.random.key_impl(key))
        step_key = jax.random.fold_in(step_key, state.count)
        write_key, read_key = jax.random.split(step_key)

        wanted = layout.pack(
            [u * (s / spec.unit) for u, s in zip(leaves, weights.scale, strict=True)]
        )
        cancelled = None
        if spec.fires_both:
            each = zip(
                leaves,
                _leaves_of("gradients", gradients, params),
                _leaves_of("gradient_totals", gradient_totals, params),
                weights.scale,
                strict=True,
            )
            cancelled = layout.pack(
                [pulsed.cancelled(*part) * (s / spec.unit) for *part, s in each]
            )
        count = state.count + 1
        told = {} if cancelled is None else {"cancelled": cancelled}
        if spec.by_lines and pace is not None:
            told["pace"] = jnp.asarray(pace(state.count), jnp.float32)
        weights, events = _write(write_key, weights, wanted, count, told, shards)
        time, clock_error = _later(weights.time, state.clock_error, spec)
        weights = weights.replace(time=time)
        conductance = layout.unpack(_read(read_key, weights, shards))
        change = [
            (g / s - p).astype(p.dtype)
            for g, s, p in zip(conductance, weights.scale, held, strict=True)
        ]
        state = state._replace(
            weights=weights,
            count=count,
            clock_error=clock_error,
            events=events.replace(parted_tensors=total(parted)),
            answered=fingerprint.of([p + u for p, u in zip(held, change, strict=True)]),
        )
        return jax.tree.unflatten(treedef, change), state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _leaves_of(name: str, tree: Any, params: Any) -> list[jax.Array]:
    """Leaves of a tree at the paths of params, which may be fewer than it has."""
    if tree is None:
        raise ValueError(f"{name}=None: devices need them with pulse_counts='both'")
    known = {path_name(p): x for p, x in jax.tree_util.tree_leaves_with_path(tree)}
    found = []
    for path, param in jax.tree_util.tree_leaves_with_path(params):
        leaf = known.get(path_name(path))
        if leaf is None or jnp.shape(leaf) != jnp.shape(param):
            what = "nothing" if leaf is None else f"the shape {jnp.shape(leaf)}"
            raise ValueError(
                f"{name}: has {what} for {path_name(path)}; must have the shape "
                f"{jnp.shape(param)}, as params"
            )
        found.append(leaf)
    return found


def _typed_key(key: Any) -> jax.Array:
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
        f"params {', '.join(names)}: are not what the devices answered with; they must "
        "be last in their chain, and nothing around it may change its updates",
        stacklevel=3,
    )


def _later(
    time: jax.Array, error: jax.Array, spec: PairSpec
) -> tuple[jax.Array, jax.Array]:
    """Adds a step to a clock, and up what rounding does to it (Kahan's sum)."""
    step = jnp.float32(spec.seconds_per_step) - error
    later = time + step
    return later, (later - time) - step


# Compiled by itself, so that an eager `update` compiles its loops once and not each
# time; inside a user's jit it is inlined as any call.
@functools.partial(jax.jit, static_argnames="shards")
def _write(
    key: jax.Array,
    weights: AnalogWeight,
    update: jax.Array,
    count: jax.Array,
    told: dict[str, jax.Array],
    shards: Shards | None,
) -> tuple[AnalogWeight, Events]:
    def write(key, weights, update, count, told):
        before = weights.full_counters()
        weights, events = weights.spec.update(
            key, weights.following(), update, count, **told
        )
        full = weights.full_counters() - before
        return weights, events.replace(full_counters=full)

    written = write if shards is None else functools.partial(shards.update, write)
    # Scales of tensors have no axis of weights.
    scale, weights = weights.scale, weights.replace(scale=())
    weights, events = written(key, weights, update, count, told)
    return weights.replace(scale=scale), events


@functools.partial(jax.jit, static_argnames="shards")
def _read(key: jax.Array, weights: AnalogWeight, shards: Shards | None) -> jax.Array:
    """What the devices show, with a draw of read noise: (n,) or (parts, n / parts)."""

    def read(key, weights):
        normal = jax.random.normal(key, weights.read_shape, jnp.float32)
        return weights.conductance(normal), ()

    made = read if shards is None else functools.partial(shards.make, read)
    conductance, _ = made(key, weights.replace(scale=()))
    return conductance


def checked_shards(shards: Any, spec: PairSpec) -> Shards:
    """Shards that the algorithm can be divided into; else raises `ValueError`."""
    if not isinstance(shards, Shards):
        raise ValueError(f"shards={shards!r}: must be hic_jax.Shards")
    if spec.by_lines:
        raise ValueError(
            f"shards={shards}: must be None, because {type(spec).__name__} goes by "
            "lines of arrays, which parts would cut"
        )
    return shards


def checked(spec: Any, kind: type) -> Any:
    """The spec, if it is of that kind; else raises `ValueError`."""
    if not isinstance(spec, kind):
        raise ValueError(f"spec={spec!r}: must be a {kind.__name__}")
    return spec
