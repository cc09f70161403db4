"""The programs that are measured: training steps and what devices do."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import hic_jax
from experiments.parts import COMPUTE_DTYPES
from hic_jax import checks, models
from hic_jax.crossbar import CrossbarSpec, LayerCrossbars
from hic_jax.inference.network import Network, answers
from hic_jax.pcm import BinarySpec, nandakumar_2018
from hic_jax.training import steps
from hic_jax.training.recipes import ALGORITHMS, AnalogRecipe, Recipe, make_tx
from hic_jax.training.split import Split
from hic_jax.training.state import TrainState, init_state

IMAGE_SHAPE = (32, 32, 3)
CLASSES = 10

# What the others of the same run are compared with, if it is there.
FP32_STEP = "fp32 step"
STEPS = {
    FP32_STEP: ("fp32", None),
    "hic step, no converters": ("hic", None),
    "hic step": ("hic", CrossbarSpec()),
}
# Share of the pairs that a refresh finds due, as in a training that is under way.
DUE = 0.03

# Devices of which nothing more is known than their weights, and everything.
HARDWARE = {
    "without wear and spread": hic_jax.HICSpec(track_wear=False),
    "with everything": hic_jax.HICSpec(
        multilevel=dataclasses.replace(
            nandakumar_2018(drift_nu_std=0.008), stuck_set=1e-3, stuck_reset=1e-3
        ),
        binary=BinarySpec(stuck_set=1e-3, stuck_reset=1e-3),
    ),
}


@dataclasses.dataclass(frozen=True, order=True)
class Size:
    """What is built.

    Attributes:
      depth: layers of the ResNet, 6n + 2.
      width: multiplier of the ResNet's channels.
      batch_size: images per step.
      chips: how many are simulated at once. With more than one there are no training
        steps.
      channel_plan: hic or textbook.
      compute_dtype: number format of the network, "fp32 step" included: float32 or
        bfloat16.
    """

    depth: int = 32
    width: float = 1.0
    batch_size: int = 100
    chips: int = 1
    channel_plan: str = "hic"
    compute_dtype: str = "float32"

    def __post_init__(self):
        models.check_depth(self.depth)
        models.stage_channels(self.channel_plan, self.width)
        checks.one_of("compute_dtype", self.compute_dtype, COMPUTE_DTYPES)
        for name in ("batch_size", "chips"):
            # A million images of 32x32 are 12 GB: more would fail only when built.
            checks.integer(name, getattr(self, name), 1, 10**6)

    def __str__(self):
        return (
            f"ResNet-{self.depth} ({self.channel_plan}), width {self.width:g}, "
            f"batch {self.batch_size}, chips {self.chips}, {self.compute_dtype}"
        )

    def model(self, crossbar: CrossbarSpec | None = None) -> models.ResNet:
        """The network on crossbars, or computed digitally."""
        channels = models.stage_channels(self.channel_plan, self.width)
        return models.ResNet(
            self.depth,
            channels,
            CLASSES,
            crossbars=LayerCrossbars(crossbar),
            dtype=self.compute_dtype,
        )


@dataclasses.dataclass
class Program:
    """Something to be compiled and run.

    Attributes:
      function: pure function of arrays.
      arguments: arguments of every call, beside the state.
      state: first argument of the function, and what it returns first: donated, and
        passed on from call to call. None if it has no state.
      calls: number of calls that are one run; more than one where what a chip does is
        not vmapped.
    """

    function: Callable
    arguments: tuple[Any, ...]
    state: Any = None
    calls: int = 1

    def traced(self) -> jax.stages.Traced:
        """The program, traced anew."""
        has_state = self.state is not None
        arguments = (self.state, *self.arguments) if has_state else self.arguments
        program = jax.jit(
            lambda *x: self.function(*x), donate_argnums=(0,) if has_state else ()
        )
        return program.trace(*arguments)

    def run(self, compiled: jax.stages.Compiled) -> None:
        """Runs once, and waits for it."""
        for _ in range(self.calls):
            if self.state is None:
                jax.block_until_ready(compiled(*self.arguments))
            else:
                result = compiled(self.state, *self.arguments)
                self.state, _ = jax.block_until_ready(result)


def programs(size: Size) -> dict[str, Program]:
    """All programs of a size, by name."""
    made = training_steps(size) if size.chips == 1 else {}
    return made | device_programs(size)


def training_steps(size: Size) -> dict[str, Program]:
    """The training steps of `STEPS`."""
    return {
        name: training_step(size, algorithm, crossbar)
        for name, (algorithm, crossbar) in STEPS.items()
    }


def training_step(size: Size, algorithm: str, crossbar: CrossbarSpec | None) -> Program:
    """A training step of an algorithm, its products on crossbars or exact."""
    model, spec = size.model(crossbar), ALGORITHMS[algorithm]
    tx = make_tx(
        Recipe(), AnalogRecipe(), spec() if spec else None, 1000, jax.random.key(0)
    )
    step = steps.make_step(model, tx, augmentation="crop_flip", label_smoothing=0.0)
    state = init_state(jax.random.key(1), model, tx, IMAGE_SHAPE)
    images, indices = random_images(size.batch_size), jnp.arange(size.batch_size)
    return Program(step, (images, indices, jax.random.key(2)), state)


def device_programs(size: Size) -> dict[str, Program]:
    """What the devices of all chips do by themselves, and the network on them."""
    model = size.model(CrossbarSpec())
    variables = init_state(jax.random.key(1), model, optax.identity(), IMAGE_SHAPE)
    params = variables.params
    # Of the size that training makes, so that the usual share of words overflows.
    updates = jax.tree.map(
        lambda x: 0.01 * jnp.std(x) * jax.random.normal(jax.random.key(4), x.shape),
        params,
    )
    spec = hic_jax.HICSpec()

    def on_chip(key):
        return optax.masked(hic_jax.hic(spec, key), is_analog)

    # All chips share the count, so that a refresh is one for all or for none.
    shapes = jax.eval_shape(lambda key: on_chip(key).init(params), jax.random.key(0))
    axes = counted(jax.tree.map(lambda _: 0, shapes), None)
    update = over_chips(
        lambda state, *x: on_chip(0).update(x[0], state, x[1])[::-1],
        size.chips,
        in_axes=(axes, None, None),
        out_axes=(axes, 0),
    )
    keys = chip_keys(size.chips, 5)
    init = over_chips(lambda key: on_chip(key).init(params), size.chips, out_axes=axes)
    state = jax.jit(init)(chip_keys(size.chips, 0))
    weights = jax.jit(over_chips(hic_jax.analog_weights, size.chips, in_axes=(axes,)))(
        state
    )
    refreshing = counted(with_due_pairs(state), jnp.int32(spec.refresh_every - 1))

    def read(weights, key):
        return hic_jax.read(weights, key=key)

    def drift(weights, key):
        return hic_jax.read(hic_jax.drift(weights, hic_jax.YEAR), key=key)

    return {
        "device update": Program(update, (state, updates, params)),
        "device update, refresh": Program(update, (refreshing, updates, params)),
        "reading": Program(over_chips(read, size.chips), (weights, keys)),
        "drift and reading": Program(over_chips(drift, size.chips), (weights, keys)),
        "evaluation": evaluation(size, model, variables, weights, keys),
    }


def is_analog(params: Any) -> Any:
    """Which leaves are analog."""
    return jax.tree.map(lambda label: label == "analog", hic_jax.analog_labels(params))


def counted(state: optax.MaskedState, count: Any) -> optax.MaskedState:
    """The state with another count of updates."""
    return state._replace(inner_state=state.inner_state._replace(count=count))


def with_due_pairs(state: optax.MaskedState) -> optax.MaskedState:
    """The state with `DUE` of its pairs at 7 and 5 uS, that is due for a refresh."""
    weights = state.inner_state.weights
    pairs, shape = weights.multilevel, weights.accumulator.shape
    due = jax.random.uniform(jax.random.key(6), shape) < DUE
    g = jnp.where(due[..., None, :], jnp.array([[7.0], [5.0]]), pairs.g)
    g = g.astype(pairs.devices.g.dtype)
    pairs = pairs.replace(devices=pairs.devices.replace(g=g))
    weights = weights.replace(multilevel=pairs)
    return state._replace(inner_state=state.inner_state._replace(weights=weights))


def over_chips(function: Callable, chips: int, **axes: Any) -> Callable:
    """A function of one chip, vmapped where there are several."""
    return function if chips == 1 else jax.vmap(function, **axes)


def chip_keys(chips: int, seed: int) -> jax.Array:
    """A key for every chip; no axis for a single one."""
    key = jax.random.key(seed)
    return key if chips == 1 else jax.random.split(key, chips)


def evaluation(
    size: Size, model: models.ResNet, state: TrainState, weights: Any, keys: Any
) -> Program:
    """A batch of test images on every chip: one read of the weights, one forward pass.

    Vmapped over chips where `hic_jax.inference` does so: not on the CPU.
    """
    network = Network.of(state)
    test = random_images(size.batch_size)

    def evaluate(weights, key):
        chip = network.replace(weights=weights)
        return answers(key, model, chip, test, batch_size=size.batch_size).correct

    if size.chips > 1 and jax.default_backend() == "cpu":
        first = jax.tree.map(lambda x: x[0], (weights, keys))
        return Program(evaluate, first, calls=size.chips)
    return Program(over_chips(evaluate, size.chips), (weights, keys))


def random_images(batch_size: int) -> Split:
    """A set of one batch."""
    image_key, label_key = jax.random.split(jax.random.key(3))
    shape = (batch_size, *IMAGE_SHAPE)
    return Split(
        images=jax.random.randint(image_key, shape, 0, 256).astype(jnp.uint8),
        labels=jax.random.randint(label_key, (batch_size,), 0, CLASSES),
        mean=jnp.full(3, 0.5),
        std=jnp.full(3, 0.25),
    )


def state_bytes(spec: hic_jax.HICSpec, weights: int = 4096) -> float:
    """Bytes per weight of the arrays that hold its devices, measured from them.

    What all weights share, as a clock, is left out.
    """
    params = {"kernel": jax.random.normal(jax.random.key(0), (weights, 1))}
    state: Any = hic_jax.hic(spec, jax.random.key(1)).init(params)
    held = state.weights
    arrays = jax.tree.leaves((held.multilevel, held.binary, held.accumulator))
    return sum(x.nbytes for x in arrays if x.ndim) / weights
