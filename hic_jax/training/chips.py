"""Many chips at once: what this package does with one, over an axis of chips.

A chip is a sample of the devices with a training of its own: initial weights, order
and augmentation of the images, writes, reads, all by its own keys. The images are
shared. Chip i of many draws what it draws alone (with JAX's default generator), and
computes the same but for rounding: another shape is another order of sums.

A state of chips is a `TrainState` whose leaves have a leading axis of chips, but for
those without dimensions: counts of steps, which chips that are trained at once have in
common. So a refresh that is due every tenth step remains one that most steps leave out;
with a count for each chip, all steps would compute it.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from hic_jax import checks
from hic_jax.training import steps
from hic_jax.training.split import Examples
from hic_jax.training.state import TrainState, initial_variables, jit_once, programmed
from hic_jax.training.steps import StepFn

AXIS = "chips"
_EACH, _ALL = PartitionSpec(AXIS), PartitionSpec()

# On an accelerator, which one small network leaves mostly idle. A choice, not measured.
PER_DEVICE = 8


def default_at_once() -> int:
    """How many chips to compute at once.

    On the CPU one: a convolution with kernels of its own for each chip is a grouped
    one, three times slower there than one after the other. Of several processes, too,
    whose devices share each chip. On accelerators `PER_DEVICE` for each of them.
    """
    if jax.default_backend() == "cpu" or jax.process_count() > 1:
        return 1
    return PER_DEVICE * jax.local_device_count()


def check_at_once(name: str, count: int | None) -> None:
    """Raises `ValueError` unless so many chips can be computed at once."""
    if count is None:
        return
    checks.integer(name, count, 1)
    if count > 1 and jax.process_count() > 1:
        raise ValueError(
            f"{name}={count}: must be 1 with {jax.process_count()} processes, whose "
            "devices share each chip"
        )


def make_mesh(chips: int) -> Mesh:
    """A mesh of devices for so many chips: all, or as many as there are chips."""
    return Mesh(np.array(jax.local_devices()[:chips]), (AXIS,))


def filled(members: Sequence[Any], mesh: Mesh, at_least: int = 1) -> list[Any]:
    """The members, and the last one again: equally many for each device.

    Args:
      members: one for each chip of a group.
      mesh: devices that they are spread over.
      at_least: how many there must be in all.
    """
    count = mesh.size * math.ceil(max(len(members), at_least) / mesh.size)
    return [*members, *[members[-1]] * (count - len(members))]


def spread(tree: Any, mesh: Mesh) -> Any:
    """Puts each chip of a tree of chips on its device."""
    shardings = jax.tree.map(
        lambda x: NamedSharding(mesh, _EACH if jnp.ndim(x) else _ALL), tree
    )
    return jax.device_put(tree, shardings)


def everywhere(tree: Any, mesh: Mesh) -> Any:
    """Puts a copy of what all chips share on each device; batches are not split."""

    def whole(x):
        return x.replace(mesh=None) if isinstance(x, Examples) else x

    tree = jax.tree.map(whole, tree, is_leaf=lambda x: isinstance(x, Examples))
    return jax.device_put(tree, NamedSharding(mesh, _ALL))


def stack(trees: Sequence[Any]) -> Any:
    """One tree of chips, from that of each.

    Raises:
      ValueError: if they have done different numbers of steps.
    """

    def join(*leaves):
        if not _is_count(leaves[0]):
            return jnp.stack(leaves)
        counts = sorted(set(map(int, leaves)))
        if len(counts) > 1:
            raise ValueError(
                f"states: have counts of {counts}; chips that are trained at once must "
                "have done the same number of steps"
            )
        return jnp.copy(leaves[0])  # Runners donate it.

    return jax.tree.map(join, *trees)


def unstack(tree: Any, chips: int) -> list[Any]:
    """The tree of each of the first chips, on one device: the inverse of `stack`."""
    device = jax.local_devices()[0]
    return [
        jax.device_put(
            jax.tree.map(lambda x, i=i: x[i] if jnp.ndim(x) else jnp.copy(x), tree),
            device,
        )
        for i in range(chips)
    ]


def _is_count(x: Any) -> bool:
    """Whether a leaf of one chip's state is a count of steps."""
    return jnp.ndim(x) == 0 and jnp.issubdtype(x.dtype, jnp.integer)


def axes_of_chips(tree: Any) -> Any:
    """The axes that `jax.vmap` is to map, for a tree of chips."""
    return jax.tree.map(lambda x: 0 if jnp.ndim(x) else None, tree)


MakeTx = Callable[[jax.Array], optax.GradientTransformation]


def init_states(
    init_keys: jax.Array,
    device_keys: jax.Array,
    model: nn.Module,
    make_tx: MakeTx,
    input_shape: tuple[int, ...],
    input_dtype: DTypeLike = jnp.float32,
) -> TrainState:
    """`state.init_state` of every chip.

    Args:
      init_keys: (chips,) keys of the initial parameters.
      device_keys: (chips,) keys of the devices.
      model: called with ``(inputs, train=)``.
      make_tx: the transformation, from the key of its devices.
      input_shape: shape of one input, as (h, w, c) of an image.
      input_dtype: type of the inputs.

    Returns:
      A state of chips.
    """
    return _compiled_init()(
        init_keys, device_keys, model, make_tx, input_shape, input_dtype
    )


@functools.cache
def _compiled_init():
    names = ("model", "make_tx", "input_shape", "input_dtype")
    return jit_once(_init_states, static_argnames=names)


def _init_states(init_keys, device_keys, model, make_tx, input_shape, input_dtype):
    def init(init_key, device_key):
        variables = initial_variables(init_key, model, input_shape, input_dtype)
        return programmed(variables, make_tx(device_key))

    state = jax.eval_shape(init, init_keys[0], device_keys[0])
    counts = jax.tree.map(lambda x: None if _is_count(x) else 0, state)
    return jax.vmap(init, out_axes=counts)(init_keys, device_keys)


def make_step(
    model: nn.Module,
    tx: optax.GradientTransformation,
    *,
    mesh: Mesh,
    augmentation: str,
    label_smoothing: float,
) -> StepFn:
    """`steps.make_step` of every chip, each on its device of a mesh.

    Args:
      model: called with ``(inputs, train=)``.
      tx: makes the updates; what it was made with, such as its key, is in the states.
      mesh: one from `make_mesh`, whose size must divide the number of chips.
      augmentation: name of one of `hic_jax.data.POLICIES`.
      label_smoothing: share of the target that is spread over all classes.

    Returns:
      ``step(states, train, indices, keys)``, for a state of chips, (chips, batch)
      indices and (chips,) keys, which returns the new one and a dict of (chips,)
      float32 metrics. `steps.make_runner` runs many, of (k, chips, batch) indices.
    """
    step_of_one = steps.make_step(
        model, tx, augmentation=augmentation, label_smoothing=label_smoothing
    )

    def step(states, train, indices, keys):
        axes = axes_of_chips(states)
        specs = jax.tree.map(lambda x: _EACH if jnp.ndim(x) else _ALL, states)
        of_device = jax.vmap(
            step_of_one, in_axes=(axes, None, 0, 0), out_axes=(axes, 0)
        )
        return jax.shard_map(
            of_device,
            mesh=mesh,
            in_specs=(specs, _ALL, _EACH, _EACH),
            out_specs=(specs, _EACH),
            # Chips have nothing to tell each other: there is nothing to be checked, and
            # loops inside would have to say for each value that it is of one device.
            check_vma=False,
        )(states, train, indices, keys)

    return step


def epoch_orders(keys: jax.Array, order: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """The order of an epoch for every chip: (steps, chips, batch_size) indices.

    Args:
      keys: (chips,) keys.
      order: that of one chip, such as `steps.epoch_order` has of its key.
    """
    return jax.vmap(order, out_axes=1)(keys)
