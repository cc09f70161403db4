r"""What a training step of a large network needs, by the plan of its compiled program.

    python -m experiments.benchmark.at_size --json=at_size.json
    python -m experiments.benchmark.at_size --networks=gpt_124m --devices=8
    python -m experiments.benchmark.at_size --networks=gpt_124m --steps=2 --batch_size=1
    python -m experiments.benchmark.at_size --networks=gpt_124m --state_shards=64
    python -m experiments.benchmark.at_size --networks=resnet32 --tpu=v5e:2x4

Nothing is run, and no array is made, unless ``--steps`` asks for it: the step is
compiled for the devices of this machine, of which a CPU stands for as many as are asked
for, or by libtpu for chips of a TPU, which need not be at hand. On more than one device
the state of the weights on devices is in shards. So it is on one with
``--state_shards``: it updates one after the other. Each step is lowered for GPU and
TPU, too.
"""

import itertools
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax import export
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh
from rich.table import Table

import hic_jax
from experiments import cli, launch, terminal, words
from experiments.benchmark import results
from experiments.benchmark.large_networks import NETWORKS, LargeNetwork
from experiments.benchmark.measure import memory_of
from experiments.runs.files import write_text
from hic_jax.crossbar import CrossbarSpec, LayerCrossbars
from hic_jax.training import mesh as meshes
from hic_jax.training import steps
from hic_jax.training.recipes import ALGORITHMS, AnalogRecipe, Recipe, make_tx
from hic_jax.training.state import init_state, state_shapes

PLATFORMS = ("cuda", "tpu")


class Step:
    """A training step of a network, its state sharded over a mesh.

    Attributes:
      mesh: devices that share the batch and the state.
      program: the step, jitted, with a state that is donated.
      arguments: shapes of its arguments, and where they are.
      batch_size: examples that the devices share.
      state_shards: parts of the state of weights on devices; 0 for none.
    """

    def __init__(
        self,
        network: LargeNetwork,
        algorithm: str,
        devices: int,
        batch_size: int,
        converters: bool,
        state_shards: int | None = None,
        chips: Sequence[Any] = (),
    ):
        """Builds the step, for chips of a TPU or for the devices of this machine.

        The state of weights on devices is in so many shards, by default in as many as
        there are devices.

        Raises:
          ValueError: if the devices cannot share the batch, or the state.
        """
        if batch_size % devices:
            raise ValueError(f"devices={devices}: must divide batch_size={batch_size}")
        spec = ALGORITHMS[algorithm]
        if state_shards is None:
            state_shards = devices if devices > 1 else 0
        shards = 0 if spec is None else state_shards
        if shards % devices:
            raise ValueError(f"devices={devices}: must divide state_shards={shards}")
        self._platforms = ("tpu",) if chips else None
        self.mesh = (
            Mesh(np.array(chips[:devices]), (meshes.AXIS,), axis_types=(AxisType.Auto,))
            if chips
            else meshes.make_mesh(batch_size, devices, shards)
        )
        self._network, self.batch_size = network, batch_size
        self.state_shards = shards
        crossbar = CrossbarSpec() if spec is not None and converters else None
        self._model = network.make(LayerCrossbars(crossbar))
        self._tx = make_tx(
            Recipe(), AnalogRecipe(), spec() if spec is not None else None, 1000,
            jax.random.key(0),
            shards=hic_jax.Shards(shards, self.mesh, meshes.AXIS) if shards else None,
        )  # fmt: skip
        step = steps.make_step(
            self._model, self._tx,
            augmentation=network.augmentation, label_smoothing=0.0,
        )  # fmt: skip
        self.program = jax.jit(step, donate_argnums=0)
        state = state_shapes(
            jax.random.key(1), self._model, self._tx, network.shape, network.dtype
        )
        key = jax.eval_shape(lambda: jax.random.key(2))
        indices = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
        examples = network.examples(4 * batch_size).replace(mesh=self.mesh)
        whole = meshes.replicated(self.mesh)
        self.arguments = (
            jax.tree.map(_placed, state, meshes.shardings(state, self.mesh)),
            *jax.tree.map(lambda x: _placed(x, whole), (examples, indices, key)),
        )

    def weights(self) -> int:
        """Weights on devices; of a network without any, those of kernels."""
        params = self.arguments[0].params
        labels = jax.tree.leaves(hic_jax.analog_labels(params))
        leaves = jax.tree.leaves(params)
        return sum(
            x.size for x, label in zip(leaves, labels, strict=True) if label == "analog"
        )

    def state_bytes(self) -> int:
        """Bytes of the training state that one device of the mesh holds."""
        return sum(
            int(np.prod(x.sharding.shard_shape(x.shape))) * x.dtype.itemsize
            for x in jax.tree.leaves(self.arguments[0])
        )

    def planned(self) -> dict[str, Any]:
        """What the compiled step needs on each device, and what they send each other.

        Returns:
          ``memory``, bytes of arguments, results and temporaries; ``sent``, bytes that
          come out of collective operations, by operation and type, as "all-gather f32",
          None for chips of a TPU, whose compiler does not tell; ``compile``, seconds.
        """
        started = time.perf_counter()
        traced = self.program.trace(*self.arguments)
        compiled = traced.lower(lowering_platforms=self._platforms).compile()
        seconds = time.perf_counter() - started
        sent: dict[str, int] = {}
        for operation, kind, size in () if self._platforms else collectives(compiled):
            name = f"{operation} {kind}"
            sent[name] = sent.get(name, 0) + size
        return {
            "memory": memory_of(compiled),
            "sent": None if self._platforms else sent,
            "compile": seconds,
        }

    def lowered(self) -> dict[str, int]:
        """Bytes of the program that is handed to the compiler of each platform."""
        return {
            platform: len(
                export.export(self.program, platforms=[platform])(
                    *self.arguments
                ).mlir_module_serialized
            )
            for platform in PLATFORMS
        }

    def run(self, count: int) -> list[float]:
        """Seconds of so many steps, on zeros, after one that is not counted."""
        _, examples, indices, key = self.arguments
        state = meshes.place(
            init_state(
                jax.random.key(1), self._model, self._tx, self._network.shape,
                self._network.dtype,
            ),
            self.mesh,
        )  # fmt: skip
        examples, indices = jax.tree.map(
            lambda x: jax.device_put(jnp.zeros(x.shape, x.dtype), x.sharding),
            (examples, indices),
        )
        key, seconds = jax.random.key(2), []
        for _ in range(count + 1):
            started = time.perf_counter()
            state, metrics = self.program(state, examples, indices, key)
            jax.block_until_ready((state, metrics))
            seconds.append(time.perf_counter() - started)
        return seconds[1:]


def chips_of(topology: str) -> Sequence[Any]:
    """Chips of a TPU that its compiler knows, whether they are at hand or not.

    Raises:
      ValueError: for a topology that it does not know, or for lack of libtpu.
    """
    # Without them it asks the network which TPU this machine is.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", topology.partition(":")[0] + "-8")
    try:
        return topologies.get_topology_desc(
            platform="tpu", topology_name=topology
        ).devices
    except Exception as error:  # Of many types, by what is missing.
        raise ValueError(
            f"tpu={topology}: must be a topology that the package libtpu knows, which "
            f"has to be installed: {error}"
        ) from error


def _placed(x: Any, sharding: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


def collectives(compiled: jax.stages.Compiled) -> list[tuple[str, str, int]]:
    """What the devices of a mesh send each other: operation, type and bytes of each."""
    names = r"(?:all-(?:gather|reduce|to-all)|reduce-scatter|collective-[a-z]+)"
    pattern = rf"= (.*?) ({names}(?:-start)?)\("
    found = []
    for types, operation in re.findall(pattern, compiled.as_text() or ""):
        arrays = re.findall(r"(\w+)\[([\d,]*)\]", types)
        if operation.endswith("-start"):
            operation = operation.removesuffix("-start")
            if operation != "all-reduce":  # Of what goes in, and what comes out.
                arrays = arrays[len(arrays) // 2 :]
        for kind, shape in arrays:
            count = int(np.prod([int(n) for n in shape.split(",") if n]))
            bits = re.search(r"\d+", kind)
            size = int(bits.group()) // 8 if bits else 1  # A pred is a byte.
            found.append((operation, kind, count * size))
    return found


def main(argv: list[str]) -> None:
    """Plans every step that the flags list, and shows them in a table."""
    options = flags.FLAGS
    if max(options.devices) > 1 and not options.tpu:  # Of a CPU, before JAX starts it.
        jax.config.update("jax_num_cpu_devices", max(options.devices))
    launch.start(argv)
    if options.json:
        results.check_writable(Path(options.json))
    if options.tpu and options.steps:
        raise ValueError(f"steps={options.steps}: must be 0 with --tpu")
    chips = chips_of(options.tpu) if options.tpu else ()
    if chips and max(options.devices) > len(chips):
        raise ValueError(
            f"devices={max(options.devices)}: must be at most {len(chips)}, the chips "
            f"of {options.tpu}"
        )
    asked = {
        (name, algorithm, devices): Step(
            NETWORKS[name],
            algorithm,
            devices,
            options.batch_size or NETWORKS[name].batch_size,
            options.converters,
            options.state_shards,
            chips,
        )
        for name, algorithm, devices in itertools.product(
            options.networks, options.algorithms, options.devices
        )
    }
    result = results.circumstances("experiments.benchmark.at_size", sys.argv[1:])
    result["steps"] = []
    for (name, algorithm, devices), step in asked.items():
        terminal.note(f"{name}, {algorithm}, {devices} devices")
        row = {
            "network": name, "algorithm": algorithm, "devices": devices,
            "batch_size": step.batch_size, "state_shards": step.state_shards,
            "weights": step.weights(),
            "state": step.state_bytes(), **step.planned(), "lowered": step.lowered(),
        }  # fmt: skip
        if options.steps:
            row["seconds"] = step.run(options.steps)
        result["steps"].append(row)
        if options.json:
            write_text(Path(options.json), json.dumps(result, indent=2) + "\n")
    terminal.show(table(result["steps"]))


def table(rows: Iterable[dict[str, Any]]) -> Table:
    """A row for each step."""
    heads = (
        "", "algorithm", "devices", "batch", "weights", "state of one", "step of one",
        "sent", "lowered", "a step",
    )  # fmt: skip
    return terminal.table(
        heads,
        [
            (
                row["network"],
                row["algorithm"],
                f"{row['devices']}",
                f"{row['batch_size']}",
                f"{row['weights'] / 1e6:.1f} M",
                _bytes(row["state"]),
                _bytes(row["memory"]),
                _bytes(sum(row["sent"].values())) if row["sent"] else "",
                ", ".join(row["lowered"]),
                f"{np.median(row['seconds']):.1f} s" if "seconds" in row else "",
            )
            for row in rows
        ],
    )


def _bytes(size: int | None) -> str:
    return "" if size is None else words.si(size, "B")


def define_flags() -> None:
    """Flags of this launcher."""
    cli.define_list(
        "networks",
        "gpt_124m,resnet50",
        f"Networks, of {', '.join(NETWORKS)}.",
        kind=cli.Choice(NETWORKS),
    )
    cli.define_list(
        "algorithms",
        "fp32,hic",
        "Training algorithms; of all but fp32 weights are on devices.",
        kind=cli.Choice(ALGORITHMS),
    )
    cli.define_list(
        "devices",
        "1,8",
        "Accelerators that share the batch, and the state of weights on devices.",
        kind=cli.integer(1, 1024),
    )
    cli.define(
        "batch_size", cli.integer(1), None, "Examples of a step.",
        usual=", ".join(f"{x.batch_size} of {name}" for name, x in NETWORKS.items()),
    )  # fmt: skip
    cli.define(
        "state_shards", cli.integer(0), None,
        "Parts of the state of weights on devices, a multiple of --devices, each of "
        "which updates its own one after the other; 0 for none.",
        usual="as many as --devices, if there are several",
    )  # fmt: skip
    cli.define_switch("converters", True, "Whether products are those of crossbars.")
    cli.define("steps", cli.integer(0), 0, "Steps that are run here, as well.")
    cli.define(
        "tpu", cli.text("TOPOLOGY"), None, "Chips of a TPU that the steps are compiled "
        "for in the place of this machine, as v5e:2x4; libtpu has to be installed.",
    )  # fmt: skip
    cli.define("json", cli.path(), None, "File for all figures.")


if __name__ == "__main__":
    launch.run(main, define_flags)
