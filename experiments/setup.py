"""From a configuration to the objects that a run needs."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh

from experiments.config import Config, named
from experiments.parts import Hardware, flag_of
from hic_jax import checks, data, models
from hic_jax.crossbar import LayerCrossbars
from hic_jax.inference.network import Network, accuracy
from hic_jax.inference.quantised import quantised
from hic_jax.path_rules import first_match
from hic_jax.training import steps
from hic_jax.training.chips import MakeTx
from hic_jax.training.mesh import make_mesh, replicate, replicated
from hic_jax.training.recipes import make_tx
from hic_jax.training.split import Split
from hic_jax.training.state import TrainState, init_state, state_shapes


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What a configuration stands for.

    Attributes:
      config: the configuration.
      dataset: images and labels in host memory, not shifted.
      model: the network.
      schedule: learning rate as a function of the step.
      tx: the transformation that trains it.
      make_tx: makes one, from the key of its devices.
      steps_per_epoch: whole batches of the training set.
      mesh: devices that share each batch; all else has a copy on each.
      order_key: shuffles the images; each epoch folds in its number.
      augment_key: augments them, and draws the noise of converters in training; each
        step folds in its number.
      init_key: draws the initial parameters.
      device_key: draws all that the devices do in training.
      read_key: draws the noise of evaluations; each folds in the step.
      chip_key: makes the inference chips.
    """

    config: Config
    dataset: data.Dataset
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
        channels = models.stage_channels(train.channel_plan, train.width)
        dataset = data.load(train.dataset, train.data_dir)
        dataset = dataset.with_validation(train.validation).downscaled(train.downscale)
        data.shift(dataset.test_images[:1], train.shift)  # Whether it can be.
        size = len(dataset.train_labels)
        if train.batch_size > size:
            raise ValueError(
                f"batch_size={train.batch_size}: must be at most {size}, the number of "
                f"training images of {train.dataset}"
            )
        steps_per_epoch = size // train.batch_size
        total = steps_per_epoch * train.epochs
        check_length(config, steps_per_epoch)
        init_key, device_key, augment_key, order_key, read_key, chip_key = (
            jax.random.split(jax.random.key(train.seed), 6)
        )
        model = models.ResNet(
            train.depth,
            channels,
            dataset.num_classes,
            crossbars=crossbars_of(config),
            dtype=train.compute_dtype,
        )
        hardware = config.hardware or Hardware()
        check_layers(hardware, model, dataset.image_shape)
        make_one = functools.partial(
            make_tx,
            config.recipe,
            config.analog,
            config.spec,
            total,
            digital_layers=hardware.digital_paths,
            devices_by_layer=hardware.devices_by_rule,
        )
        return cls(
            config=config,
            dataset=dataset,
            model=model,
            schedule=config.recipe.rates(config.recipe.learning_rate, total),
            tx=make_one(device_key),
            make_tx=make_one,
            steps_per_epoch=steps_per_epoch,
            mesh=make_mesh(train.batch_size, mesh),
            order_key=order_key,
            augment_key=augment_key,
            init_key=init_key,
            device_key=device_key,
            read_key=read_key,
            chip_key=chip_key,
        )

    def split(self, name: str) -> Split:
        """A split ("train" or "test") on every device, shifted as configured."""
        split, shift = Split.of(self.dataset, name), self.config.train.shift
        if shift != "none":
            images = data.shift(np.asarray(split.images), shift)
            split = split.replace(images=jnp.asarray(images))
        return split.over(self.mesh)

    def init_state(self) -> TrainState:
        """The state before the first step, on every device."""
        state = init_state(self.init_key, self.model, self.tx, self.dataset.image_shape)
        return replicate(state, self.mesh)

    def state_shapes(self) -> TrainState:
        """Shapes and shardings of `init_state`, which draws and programs nothing."""
        shapes = state_shapes(
            self.init_key, self.model, self.tx, self.dataset.image_shape
        )
        everywhere = replicated(self.mesh)
        return jax.tree.map(lambda x: x.update(sharding=everywhere), shapes)

    def step(self) -> steps.StepFn:
        """One training step; see `hic_jax.training.steps.make_step`."""
        return steps.make_step(
            self.model,
            self.tx,
            self.augment_key,
            augmentation=self.config.train.augmentation,
            label_smoothing=self.config.train.label_smoothing,
        )

    def runner(self) -> steps.Runner:
        """Runs training steps; see `hic_jax.training.steps.make_runner`."""
        return steps.make_runner(self.step())

    def test_accuracy(self, state: TrainState, test: Split) -> float:
        """Accuracy on the test images, as the devices read now."""
        key = jax.random.fold_in(self.read_key, state.step)
        return accuracy(key, self.model, Network.of(state), test)

    def quantised_accuracy(self, state: TrainState, test: Split, bits: int) -> float:
        """`test_accuracy` with digital kernels rounded to so many bits afterwards."""
        key = jax.random.fold_in(self.chip_key, bits)
        network = quantised(
            key, self.model, Network.of(state), self.split("train"), bits=bits
        )
        return accuracy(key, self.model, network, test)

    def epoch_order(self, epoch: int) -> jax.Array:
        """(steps_per_epoch, batch_size) indices of an epoch's batches."""
        return steps.epoch_order(
            jax.random.fold_in(self.order_key, epoch),
            len(self.dataset.train_labels),
            self.config.train.batch_size,
        )


def crossbars_of(config: Config) -> LayerCrossbars:
    """What computes the layers: nothing is analog where there are no devices."""
    if config.hardware is None or not config.hardware.converters:
        return LayerCrossbars()
    digital = dict.fromkeys(config.hardware.digital_paths)
    return LayerCrossbars(config.crossbar, digital)


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
    hardware: Hardware, model: nn.Module, image_shape: tuple[int, ...]
) -> None:
    """Raises `ValueError` unless the model has the layers that the hardware names."""
    digital, rules = hardware.digital_paths, hardware.devices_by_rule
    if not (digital or rules):
        return
    images = jax.ShapeDtypeStruct((1, *image_shape), "float32")
    shapes = jax.eval_shape(
        lambda key, x: model.init(key, x, train=False), jax.random.key(0), images
    )
    leaves = flatten_dict(shapes["params"])
    layers = ["/".join(path[:-1]) for path in leaves if path[-1] == "kernel"]
    for path in digital:
        checks.one_of("digital_layers", path, layers)
    if set(digital) == set(layers):
        raise ValueError(f"digital_layers={','.join(digital)}: leaves no layer analog")
    with named("devices_by_layer: "):
        first_match([layer for layer in layers if layer not in digital], rules)
