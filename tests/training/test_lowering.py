"""What runs on other hardware is lowered for it here, whole, by `jax.export`."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax import export
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

import hic_jax
from hic_jax import convolution, inference, models
from hic_jax.crossbar import CrossbarSpec, LayerCrossbars
from hic_jax.inference.network import Network, answers
from hic_jax.training import steps
from hic_jax.training.recipes import AnalogRecipe, Recipe, make_tx
from hic_jax.training.split import Split
from hic_jax.training.state import init_state

PLATFORMS = ("cpu", "cuda", "tpu")
IMAGE_SHAPE, BATCH, DEVICES = (8, 8, 1), 16, 8
MESH = AbstractMesh((DEVICES,), ("data",), axis_types=(AxisType.Auto,))

# With all that can be switched on: every operation has to have a lowering.
SPEC = hic_jax.HICSpec(
    multilevel=hic_jax.pcm.nandakumar_2018(drift_nu_std=0.008), refresh_every=2
)
CROSSBAR = CrossbarSpec(adc_range="running", adc_noise=0.5, tile_rows=32)
MODEL = models.ResNet(8, (4,), 10, crossbars=LayerCrossbars(CROSSBAR))
TX = make_tx(Recipe(), AnalogRecipe(), SPEC, 100, jax.random.key(0))
STEP = steps.make_step(MODEL, TX, augmentation="crop_flip", label_smoothing=0.1)
KEY = jax.random.key(1)


@pytest.fixture(scope="module")
def state():
    return init_state(jax.random.key(2), MODEL, TX, IMAGE_SHAPE)


IMAGES = Split(
    images=jax.ShapeDtypeStruct((2 * BATCH, *IMAGE_SHAPE), "uint8"),
    labels=jax.ShapeDtypeStruct((2 * BATCH,), "int32"),
    mean=jax.ShapeDtypeStruct((1,), "float32"),
    std=jax.ShapeDtypeStruct((1,), "float32"),
)
BATCHES = jax.ShapeDtypeStruct((3, BATCH), "int32")


def _lowered(function, *arguments, devices=1):
    """The program for all platforms."""

    def shape(x):
        sharding = NamedSharding(MESH, PartitionSpec()) if devices > 1 else None
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    program = export.export(jax.jit(function), platforms=PLATFORMS)(
        *jax.tree.map(shape, arguments)
    )
    assert program.platforms == PLATFORMS
    assert program.nr_devices == devices
    return program


@pytest.mark.parametrize("scan", [False, True])
def test_training_is_lowered(state, scan):
    if scan:  # As accelerators run it.
        run, batches = steps.make_runner(STEP, KEY, scan=True), BATCHES
    else:
        run = functools.partial(STEP, key=KEY)
        batches = jax.ShapeDtypeStruct((BATCH,), "int32")
    program = _lowered(run, state, IMAGES, batches)
    _, metrics = jax.tree.unflatten(program.out_tree, program.out_avals)
    assert metrics["loss"].shape == ((3,) if scan else ())


def test_training_on_eight_devices_is_lowered(state):
    images = IMAGES.replace(mesh=MESH)
    run = steps.make_runner(STEP, KEY, scan=True)
    text = _lowered(run, state, images, BATCHES, devices=DEVICES).mlir_module()
    assert f'mesh @mesh = <["data"={DEVICES}]>' in text
    # The batch, of images of 8 x 8 x 1.
    shared = f'<@mesh, [{{"data"}}, {{}}, {{}}, {{}}]> : tensor<{BATCH}x8x8x1xui8>'
    assert shared in text


@pytest.mark.parametrize("devices", [1, DEVICES])
@pytest.mark.parametrize("deploy", [None, hic_jax.pcm.hermes_2()])
def test_drift_and_evaluation_are_lowered(state, deploy, devices):
    def aged_correct(key, network, seconds, images):
        chip = inference.make_chip(key, network, deploy)
        aged = chip.replace(weights=hic_jax.drift(chip.weights, seconds))
        return answers(key, MODEL, aged, images).correct

    # Two chips at once, as accelerators read them.
    chips = jax.vmap(aged_correct, in_axes=(0, None, None, None))
    keys, network = jax.random.split(jax.random.key(0)), Network.of(state)
    images = IMAGES.replace(mesh=MESH) if devices > 1 else IMAGES
    program = _lowered(chips, keys, network, jnp.float32(0), images, devices=devices)
    assert [(x.shape, x.dtype) for x in program.out_avals] == [((2,), jnp.int32)]


@pytest.mark.parametrize("platform", PLATFORMS)
def test_only_the_cpu_is_kept_from_fusing_convolutions(platform):
    program = export.export(jax.jit(convolution.materialised), platforms=[platform])(
        jax.ShapeDtypeStruct((4, 3), "float32")
    )
    assert ("stablehlo.compare" in program.mlir_module()) == (platform == "cpu")
