"""Set-up: what a configuration puts on crossbars, and what it computes in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import setup
from experiments.config import resolve
from experiments.parts import Hardware
from hic_jax import models
from hic_jax.training.mesh import make_mesh

LAYERS = (
    "stem,head,stage1_block1/conv1,stage1_block1/conv2,"
    "stage2_block1/conv1,stage2_block1/conv2,stage2_block1/projection"
)
MODEL = models.ResNet(8, (2, 3), 10)


def test_analog_layers_are_on_crossbars_and_digital_layers_are_not():
    config = resolve(digital_layers="stem,head", crossbar_adc_bits=6)
    crossbars = setup.crossbars_of(config)
    assert crossbars.of(("stage1_block1", "conv1")).adc_bits == 6
    assert crossbars.of(("stem",)) is None
    assert crossbars.of(("head",)) is None


@pytest.mark.parametrize("fields", [{"algorithm": "fp32"}, {"converters": False}])
def test_without_converters_nothing_is_on_crossbars(fields):
    crossbars = setup.crossbars_of(resolve(**fields))
    assert crossbars.of(("stage1_block1", "conv1")) is None


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("stm", "digital_layers='stm': must be one of .*did you mean 'stem'"),
        ("stem_norm", "digital_layers='stem_norm': must be one of"),
        ("stage1_block1", "digital_layers='stage1_block1': must be one of"),
        (LAYERS, "digital_layers=stem,head,.*: leaves no layer analog"),
    ],
)
def test_digital_layers_that_cannot_be(layers, message):
    with pytest.raises(ValueError, match=message):
        setup.check_layers(Hardware(digital_layers=layers), MODEL, (8, 8, 1))


def test_digital_layers_that_can():
    for layers in ("", "stem,head", "stage2_block1/projection"):
        setup.check_layers(Hardware(digital_layers=layers), MODEL, (8, 8, 1))


@pytest.mark.parametrize(
    ("layers", "rules", "message"),
    [
        ("", "stm=4", "devices_by_layer: rule='stm': must match the beginning"),
        ("stem", "stem=4", "devices_by_layer: rule='stem': must match the beginning"),
        ("", "stage=4,stage2=2", "devices_by_layer: rule='stage2': must match"),
        ("", "(=4", r"devices_by_layer: rule='\(': must be a regular expression"),
        ("", "stem=3", "devices_by_layer=stem=3: must be RULE=NUMBER"),
        ("", "stem", "devices_by_layer=stem: must be RULE=NUMBER"),
        ("", "stem=2,stem=4", "devices_by_layer=stem=2,stem=4: .* each rule once"),
    ],
)
def test_devices_by_layer_that_cannot_be(layers, rules, message):
    with pytest.raises(ValueError, match=message):
        hardware = Hardware(digital_layers=layers, devices_by_layer=rules)
        setup.check_layers(hardware, MODEL, (8, 8, 1))


def test_devices_by_layer_that_can():
    hardware = Hardware(devices_by_layer="stem|head=8,stage1=4,.*projection=1")
    assert hardware.devices_by_rule == {"stem|head": 8, "stage1": 4, ".*projection": 1}
    setup.check_layers(hardware, MODEL, (8, 8, 1))


EXAMPLE = jax.ShapeDtypeStruct((8, 8, 3), jnp.float32)


def test_shards_divide_what_they_can_and_the_rest_is_told(caplog):
    over = make_mesh(2, 1, 3)
    assert setup.shards_of(resolve(), MODEL, EXAMPLE, over) is None
    config = resolve(state_shards=3)
    with caplog.at_level("INFO", logger="absl"):
        shards = setup.shards_of(config, MODEL, EXAMPLE, over)
    assert (shards.count, shards.mesh, shards.axis) == (3, over, "data")
    # 3 x 3 x 2 x 2 has axes of three taps.
    assert "divides no axis" not in caplog.text
    with caplog.at_level("INFO", logger="absl"):
        setup.shards_of(resolve(state_shards=10), MODEL, EXAMPLE, over)
    assert "state_shards=10: divides no axis of stage1_block1/conv1/" in caplog.text
    assert "head/kernel" not in caplog.text  # Of ten classes.


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"state_shards": 7}, r"state_shards=7: must divide .* head/kernel\[3, 10\]"),
        (
            {"state_shards": 2, "algorithm": "tiki_taka"},
            "state_shards=2: must be 0, because tiki_taka goes by lines",
        ),
    ],
)
def test_shards_that_cannot_be(fields, message):
    with pytest.raises(ValueError, match=message):
        setup.shards_of(resolve(**fields), MODEL, EXAMPLE, make_mesh(2, 1))


@pytest.mark.usefixtures("one_block")
def test_validation_and_fewer_pixels_are_those_of_the_data():
    fields = {"channel_plan": "one_block", "validation": 137, "downscale": 2}
    experiment = setup.Experiment.of(resolve(**fields))
    assert experiment.steps_per_epoch == 13
    assert experiment.split("test").images.shape == (137, 4, 4, 1)
    with pytest.raises(ValueError, match="downscale=3: must divide"):
        setup.Experiment.of(resolve(channel_plan="one_block", downscale=3))


def test_images_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    images = np.random.default_rng(0).integers(0, 256, (40, 5, 6), np.uint8)
    np.savez(tmp_path / "mine.npz", images=images, labels=np.arange(40) % 4)
    config = resolve(
        dataset=f"images:{tmp_path / 'mine.npz'}", model="mlp", batch_size=8
    )
    experiment = setup.Experiment.of(config)
    assert (experiment.steps_per_epoch, experiment.dataset.num_classes) == (4, 4)
    assert experiment.split("test").images.shape == (8, 5, 6, 1)


@pytest.mark.usefixtures("one_block")
def test_the_step_compiled_for_the_shapes_of_the_initial_state_is_that_of_it(caplog):
    experiment = setup.Experiment.of(resolve(channel_plan="one_block"))
    run, train = experiment.runner(), experiment.split("train")
    state, batches = experiment.init_state(), experiment.epoch_order(0)[:1]
    with jax.log_compiles():
        run.compile(experiment.state_shapes(), train, batches)
        assert "XLA compilation of jit(step)" in caplog.text
        caplog.clear()
        run(state, train, batches)
    assert "XLA compilation of jit(step)" not in caplog.text


@pytest.mark.parametrize("converters", [True, False])
@pytest.mark.usefixtures("one_block")
def test_bfloat16_is_for_products_and_not_for_devices(converters):
    losses, dtypes = {}, {}
    for name in ("float32", "bfloat16"):
        config = resolve(
            compute_dtype=name, converters=converters, channel_plan="one_block"
        )
        experiment = setup.Experiment.of(config)
        state, metrics = experiment.runner()(
            experiment.init_state(),
            experiment.split("train"),
            experiment.epoch_order(0)[:1],
        )
        losses[name] = float(metrics["loss"][0])
        dtypes[name] = [x.dtype for x in jax.tree.leaves(state)]
        logits = jax.eval_shape(
            lambda model=experiment.model, state=state: model.apply(
                {"params": state.params, "batch_stats": state.batch_stats},
                jnp.zeros((1, 8, 8, 1)),
                train=False,
            )
        )
        assert logits.dtype == jnp.float32
    # Everything that is kept, parameters, statistics and devices, is what it was.
    assert dtypes["bfloat16"] == dtypes["float32"]
    assert jnp.bfloat16 not in dtypes["bfloat16"]
    # A number in bfloat16 is off by up to 0.2 %, and a few layers follow each other.
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)
    assert losses["bfloat16"] != losses["float32"]


def test_pulses_of_single_examples_need_converters():
    fields = {"algorithm": "tiki_taka", "tiki_taka_pulse_counts": "both"}
    message = "tiki_taka_pulse_counts=both: must be net without converters"
    with pytest.raises(ValueError, match=message):
        setup.Experiment.of(resolve(**fields, converters=False))
