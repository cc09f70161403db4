"""From a configuration to the objects that a run needs."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from absl import logging
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh
from jax.typing import DTypeLike

from experiments import tasks
from experiments.config import Config, named
from experiments.parts import Hardware, flag_of
from hic_jax import checks, models
from hic_jax.crossbar import LayerCrossbars
from hic_jax.inference.network import Network, accuracy
from hic_jax.inference.quantised import quantised
from hic_jax.labels import analog_labels
from hic_jax.packing import cut_axis, path_name
from hic_jax.path_rules import first_match
from hic_jax.shards import Shards
from hic_jax.training import steps
from hic_jax.training.chips import MakeTx
from hic_jax.training.mesh import AXIS, make_mesh, place, shardings
from hic_jax.training.recipes import make_tx
from hic_jax.training.split import Examples
from hic_jax.training.state import (
    TrainState,
    init_state,
    initial_variables,
    state_shapes,
)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What a configuration stands for.

    Attributes:
      config: the configuration.
      task: what is learnt of which data.
      model: the network.
      schedule: learning rate as a function of the step.
      tx: the transformation that trains it.
      make_tx: makes one, from the key of its devices.
      steps_per_epoch: whole batches of an epoch.
      mesh: devices that share each batch, and the shards of weights on devices, if
        there are any; all else has a copy on each.
      order_key: draws which examples make up a batch; each epoch folds in its number.
      augment_key: augments images, and draws the noise of converters in training; each
        step folds in its number.
      init_key: draws the initial parameters.
      device_key: draws all that the devices do in training.
      read_key: draws the noise of evaluations; each folds in the step.
      chip_key: makes the inference chips.
    """

    config: Config
    task: tasks.Task
    model: nn.Module
    schedule: optax.Schedule
    tx: optax.GradientTransformation
    make_tx: MakeTx
    steps_per_epoch: int
    mesh: Mesh
    order_key: jax.Array
    augment_key: jax.Array
    init_key: jax.Array
    device_key: jax.Array
    read_key: jax.Array
    chip_key: jax.Array

    @classmethod
    def of(cls, config: Config, mesh: int | None = None) -> "Experiment":
        """Loads the data and builds network and transformation.

        Args:
          config: what is to be done. Its results do not depend on the mesh.
          mesh: devices that share each batch; None for the most that divide it.

        Raises:
          ValueError: if the data is not there, or does not fit the configuration, or
            the devices do not fit the batch.
        """
        train = config.train
        if models.is_own(train.model):
            models.factory_of(train.model)  # Whether there is one.
        dataset = tasks.load(train)
        model = model_of(config, dataset.num_classes)
        task = tasks.task_of(train, dataset, model)
        steps_per_epoch = task.most // train.batch_size
        total = steps_per_epoch * train.epochs
        check_length(config, steps_per_epoch)
        init_key, device_key, augment_key, order_key, read_key, chip_key = (
            jax.random.split(jax.random.key(train.seed), 6)
        )
        if config.network is not None:
            with named(flag_of("network.", train.algorithm, train.model)):
                config.network.check_shown(task.example.shape)
        else:
            models.check_own(train.model, model, task.example, dataset.num_classes)
        hardware = config.hardware or Hardware()
        check_layers(hardware, model, task.example.shape, task.example.dtype)
        if config.spec and config.spec.fires_both and not hardware.converters:
            flag = flag_of("spec.pulse_counts", train.algorithm)
            raise ValueError(
                f"{flag}=both: must be net without converters, whose crossbars count "
                "the pulses of single examples"
            )
        over = make_mesh(train.batch_size, mesh, hardware.state_shards)
        make_one = functools.partial(
            make_tx,
            config.recipe,
            config.analog,
            config.spec,
            total,
            digital_layers=hardware.digital_paths,
            devices_by_layer=hardware.devices_by_rule,
            shards=shards_of(config, model, task.example, over),
        )
        return cls(
            config=config,
            task=task,
            model=model,
            schedule=config.recipe.rates(config.recipe.learning_rate, total),
            tx=make_one(device_key),
            make_tx=make_one,
            steps_per_epoch=steps_per_epoch,
            mesh=over,
            order_key=order_key,
            augment_key=augment_key,
            init_key=init_key,
            device_key=device_key,
            read_key=read_key,
            chip_key=chip_key,
        )

    @property
    def dataset(self) -> tasks.Data:
        """Data in host memory."""
        return self.task.dataset

    def split(self, name: str) -> Examples:
        """A split ("train" or "test") on every device, shifted as configured."""
        return self.task.split(name).over(self.mesh)

    def init_state(self) -> TrainState:
        """The state before the first step, on the devices of the mesh."""
        example = self.task.example
        state = init_state(
            self.init_key, self.model, self.tx, example.shape, example.dtype
        )
        return place(state, self.mesh)

    def state_shapes(self) -> TrainState:
        """Shapes and shardings of `init_state`, which draws and programs nothing."""
        example = self.task.example
        shapes = state_shapes(
            self.init_key, self.model, self.tx, example.shape, example.dtype
        )
        return jax.tree.map(
            lambda x, sharding: x.update(sharding=sharding),
            shapes,
            shardings(shapes, self.mesh),
        )

    def step(self) -> steps.StepFn:
        """One training step; see `hic_jax.training.steps.make_step`."""
        return steps.make_step(
            self.model,
            self.tx,
            augmentation=self.config.train.augmentation,
            label_smoothing=self.config.train.label_smoothing,
        )

    def runner(self) -> steps.Runner:
        """Runs training steps; see `hic_jax.training.steps.make_runner`."""
        return steps.make_runner(self.step(), self.augment_key)

    def test_accuracy(self, state: TrainState, test: Examples) -> float:
        """Accuracy on the test part, as the devices read now."""
        key = jax.random.fold_in(self.read_key, state.step)
        return accuracy(key, self.model, Network.of(state), test)

    def test_summary(self, state: TrainState) -> dict[str, Any]:
        """What the task has to say of the test part beside the accuracy."""
        key = jax.random.fold_in(self.read_key, state.step)
        test = self.split("test")
        return self.task.summary(key, self.model, Network.of(state), test)

    def sample(self, state: TrainState) -> str | None:
        """Text that the network makes up, as the devices read now; None for images."""
        key = jax.random.fold_in(self.read_key, state.step)
        return self.task.sample(key, self.model, Network.of(state))

    @property
    def compensation(self) -> str:
        """What drift is best compensated by: AdaBS, or GDC for lack of BatchNorm."""
        example = self.task.example
        variables = jax.eval_shape(
            lambda key: initial_variables(
                key, self.model, example.shape, example.dtype
            ),
            self.init_key,
        )
        return "adabs" if "batch_stats" in variables else "gdc"

    def quantised_accuracy(self, state: TrainState, test: Examples, bits: int) -> float:
        """`test_accuracy` with digital kernels rounded to so many bits afterwards."""
        key = jax.random.fold_in(self.chip_key, bits)
        network = quantised(
            key, self.model, Network.of(state), self.split("train"), bits=bits
        )
        return accuracy(key, self.model, network, test)

    def epoch_order(self, epoch: int) -> jax.Array:
        """(steps_per_epoch, batch_size) indices of an epoch's batches."""
        key = jax.random.fold_in(self.order_key, epoch)
        return self.task.order(key, self.config.train.batch_size)


def model_of(config: Config, num_classes: int) -> nn.Module:
    """The network of a configuration.

    Raises:
      ValueError: if it is the user's own, and cannot be made.
    """
    arguments: dict[str, Any] = {
        "num_classes": num_classes,
        "width": config.train.width,
        "crossbars": crossbars_of(config),
        "dtype": config.train.compute_dtype,
    }
    if config.network is None:
        return models.make_own(config.train.model, **arguments)
    return config.network.make(**arguments)


def crossbars_of(config: Config) -> LayerCrossbars:
    """What computes the layers: nothing is analog where there are no devices."""
    if config.hardware is None or not config.hardware.converters:
        return LayerCrossbars()
    digital = dict.fromkeys(config.hardware.digital_paths)
    return LayerCrossbars(config.crossbar, digital)


def shards_of(
    config: Config, model: nn.Module, example: jax.ShapeDtypeStruct, mesh: Mesh
) -> Shards | None:
    """Parts of the state of devices, spread over a mesh; None if it is in one.

    Kernels that they cannot divide are told.

    Raises:
      ValueError: for an algorithm that cannot be divided, or if no kernel can.
    """
    hardware = config.hardware
    if config.spec is None or hardware is None or not hardware.state_shards:
        return None
    count = hardware.state_shards
    if config.spec.by_lines:
        raise ValueError(
            f"state_shards={count}: must be 0, because {config.train.algorithm} goes "
            "by lines of arrays, which parts would cut"
        )
    variables = jax.eval_shape(
        lambda key: initial_variables(key, model, example.shape, example.dtype),
        jax.random.key(0),
    )
    labels = analog_labels(variables["params"], digital=hardware.digital_paths)
    leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
    analog = [
        (f"{path_name(path)}{list(leaf.shape)}", cut_axis(leaf.shape, count))
        for (path, leaf), label in zip(leaves, jax.tree.leaves(labels), strict=True)
        if label == "analog"
    ]
    whole = [name for name, cut in analog if cut is None]
    if len(whole) == len(analog):
        raise ValueError(
            f"state_shards={count}: must divide an axis of an analog kernel, of "
            f"{', '.join(whole)}"
        )
    if whole:
        logging.info(
            "state_shards=%d: divides no axis of %s: each device of the mesh holds "
            "a copy of their state", count, ", ".join(whole),
        )  # fmt: skip
    return Shards(count, mesh, AXIS)


def check_length(config: Config, steps_per_epoch: int) -> None:
    """Raises `ValueError` unless all steps, and the age of devices, can be counted."""
    epochs = config.train.epochs
    steps = steps_per_epoch * epochs
    if steps > checks.INT32_MAX:
        raise ValueError(
            f"epochs={epochs}: must be at most {checks.INT32_MAX // steps_per_epoch}, "
            f"with {steps_per_epoch} steps each, so that all steps can be counted"
        )
    if config.spec is None:
        return
    seconds = config.spec.seconds_per_step
    if steps * seconds > checks.SECONDS_MAX:
        flag = flag_of("spec.seconds_per_step", config.train.algorithm)
        raise ValueError(
            f"{flag}={seconds}: must be at most "
            f"{checks.SECONDS_MAX / steps:.3g}, with {steps} steps in all, so that no "
            f"device gets older than {checks.SECONDS_MAX:g} s"
        )


def check_layers(
    hardware: Hardware,
    model: nn.Module,
    input_shape: tuple[int, ...],
    input_dtype: DTypeLike = jnp.float32,
) -> None:
    """Raises `ValueError` unless the model has the layers that the hardware names."""
    digital, rules = hardware.digital_paths, hardware.devices_by_rule
    if not (digital or rules):
        return
    inputs = jax.ShapeDtypeStruct((1, *input_shape), input_dtype)
    shapes = jax.eval_shape(
        lambda key, x: model.init(key, x, train=False), jax.random.key(0), inputs
    )
    leaves = flatten_dict(shapes["params"])
    layers = ["/".join(path[:-1]) for path in leaves if path[-1] == "kernel"]
    for path in digital:
        checks.one_of("digital_layers", path, layers)
    if set(digital) == set(layers):
        raise ValueError(f"digital_layers={','.join(digital)}: leaves no layer analog")
    with named("devices_by_layer: "):
        first_match([layer for layer in layers if layer not in digital], rules)
