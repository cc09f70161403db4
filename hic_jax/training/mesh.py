"""Many devices: each batch is split over a mesh, all else has a copy on each device.

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

AXIS = "data"


def make_mesh(batch_size: int, mesh: int | None = None) -> Mesh:
    """A mesh of devices of all processes, as many of each.

    Args:
      batch_size: of training.
      mesh: how many devices; None for the most that divide the batch.

    Raises:
      ValueError: if there are not so many, they cannot share the batch equally, or the
        processes cannot share them equally.
    """
    processes, most = jax.process_count(), jax.device_count()
    if mesh is None:
        counts = range(processes, most + 1, processes)
        fitting = [count for count in counts if batch_size % count == 0]
        if not fitting:
            raise ValueError(
                f"batch_size={batch_size}: must be a multiple of {processes}, the "
                "number of processes"
            )
        mesh = fitting[-1]
        if mesh < most:
            logging.info(
                "mesh=%d: %d devices are idle, as no larger number divides "
                "batch_size=%d", mesh, most - mesh, batch_size,
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


# Outside of jit, only a compiled program takes what each process has to a mesh of all.
@functools.partial(jax.jit, static_argnames="mesh")
def _replicate(tree: Any, mesh: Mesh) -> Any:
    return jax.lax.with_sharding_constraint(tree, replicated(mesh))


def share(x: jax.Array, mesh: Mesh | None) -> jax.Array:
    """A batch, (n, ...), inside `jax.jit`: every device holds an equal share.

    As it is without a mesh, or if the devices cannot share it equally.
    """
    if mesh is None or x.shape[0] % mesh.size:
        return x
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    return jax.lax.with_sharding_constraint(x, sharding)
