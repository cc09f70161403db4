"""Many devices: each batch is split over a mesh, all else has a copy on each device.

Unless weights on devices are in shards (`hic_jax.Shards`): then these are spread over
the mesh, and with them what has the shape of weights, as parameters and momentum.

The program is that of one device. `jax.jit` divides it by these shardings and adds what
the devices have to tell each other, so that a mean over a batch, as in the loss and in
BatchNorm, is over the whole batch, and random numbers are the same on any mesh: results
do not depend on the number of devices, but for the order in which float32 is summed.
"""

import functools
from typing import Any

import jax
from absl import logging
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from hic_jax import checks
from hic_jax.algorithms import AnalogState, analog_states
from hic_jax.packing import cut_axis

AXIS = "data"


def make_mesh(batch_size: int, mesh: int | None = None, shards: int = 0) -> Mesh:
    """A mesh of devices of all processes, as many of each.

    Args:
      batch_size: of training.
      mesh: how many devices; None for the most that divide the batch, and the shards.
      shards: of the state of weights on devices; 0 for none.

    Raises:
      ValueError: if there are not so many, they cannot share the batch, or the shards,
        equally, or the processes cannot share them equally.
    """
    processes, most = jax.process_count(), jax.device_count()
    if mesh is None:
        counts = range(processes, most + 1, processes)
        fitting = [n for n in counts if batch_size % n == 0 and shards % n == 0]
        if not fitting:
            name, value = "batch_size", batch_size
            if batch_size % processes == 0:
                name, value = "state_shards", shards
            raise ValueError(
                f"{name}={value}: must be a multiple of {processes}, the number of "
                "processes"
            )
        mesh = fitting[-1]
        if mesh < most:
            logging.info(
                "mesh=%d: %d devices are idle, as no larger number divides "
                "batch_size=%d%s", mesh, most - mesh, batch_size,
                f" and state_shards={shards}" if shards else "",
            )  # fmt: skip
    checks.integer("mesh", mesh, 1)
    if mesh > most:
        raise ValueError(f"mesh={mesh}: must be at most {most}, the number of devices")
    if mesh % processes:
        raise ValueError(
            f"mesh={mesh}: must be a multiple of {processes}, the number of processes"
        )
    if batch_size % mesh:
        raise ValueError(f"mesh={mesh}: must divide batch_size={batch_size}")
    if shards % mesh:
        raise ValueError(f"mesh={mesh}: must divide state_shards={shards}")
    each = mesh // processes
    devices = [d for p in range(processes) for d in _devices_of(p)[:each]]
    return jax.make_mesh((mesh,), (AXIS,), (AxisType.Auto,), devices=devices)


def _devices_of(process: int) -> list[jax.Device]:
    return [d for d in jax.devices() if d.process_index == process]


def replicate(tree: Any, mesh: Mesh | None) -> Any:
    """``tree`` with a copy of every array on every device; as it is without a mesh.

    Of several processes, each brings the same values. Inside `jax.jit` it says where
    the arrays are to be.
    """
    return tree if mesh is None else _replicate(tree, mesh)


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of what has a copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def place(state: Any, mesh: Mesh | None) -> Any:
    """A training state on the devices where `shardings` has it; see `replicate`."""
    return state if mesh is None else _place(state, mesh)


def shardings(state: Any, mesh: Mesh) -> Any:
    """Where the arrays of a training state are to be.

    Args:
      state: a tree of arrays, or of their shapes, with the state of an optimizer in it.
      mesh: one from `make_mesh`.

    Returns:
      The same tree of `jax.sharding.NamedSharding`: a copy on every device, but if
      weights on devices are in shards. Then each device of the mesh holds as many of
      these, and a slice of all else that has an axis to cut, of two axes or more.
    """
    parts = max((s.layout.parts or 1 for s in analog_states(state)), default=1)

    def of(x):
        if not isinstance(x, AnalogState):
            cut = cut_axis(x.shape, parts) if x.ndim > 1 and parts > 1 else None
            return _along(cut, mesh)
        everywhere = jax.tree.map(lambda _: replicated(mesh), x)
        if x.layout.parts is None:
            return everywhere
        # Scales of tensors are no arrays of parts.
        weights = jax.tree.map(
            lambda w: _along(w.ndim - 2 if w.ndim else None, mesh),
            x.weights.replace(scale=()),
        )
        scale = everywhere.weights.scale
        return everywhere._replace(weights=weights.replace(scale=scale))

    return jax.tree.map(of, state, is_leaf=lambda x: isinstance(x, AnalogState))


def _along(axis: int | None, mesh: Mesh) -> NamedSharding:
    """The sharding of what is divided along an axis, or along none."""
    spec = () if axis is None else (*[None] * axis, AXIS)
    return NamedSharding(mesh, PartitionSpec(*spec))


# Outside of jit, only a compiled program takes what each process has to a mesh of all.
@functools.partial(jax.jit, static_argnames="mesh")
def _replicate(tree: Any, mesh: Mesh) -> Any:
    return jax.lax.with_sharding_constraint(tree, replicated(mesh))


@functools.partial(jax.jit, static_argnames="mesh")
def _place(state: Any, mesh: Mesh) -> Any:
    return jax.lax.with_sharding_constraint(state, shardings(state, mesh))


def share(x: jax.Array, mesh: Mesh | None) -> jax.Array:
    """A batch, (n, ...), inside `jax.jit`: every device holds an equal share.

    As it is without a mesh, or if the devices cannot share it equally.
    """
    if mesh is None or x.shape[0] % mesh.size:
        return x
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    return jax.lax.with_sharding_constraint(x, sharding)
