"""Set-up: what a configuration puts on crossbars, and what it computes in."""

import jax
import jax.numpy as jnp
import pytest

from experiments import setup
from experiments.config import resolve
from hic_jax import models

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
        setup.check_digital_layers(tuple(layers.split(",")), MODEL, (8, 8, 1))


def test_digital_layers_that_can():
    for layers in ((), ("stem", "head"), ("stage2_block1/projection",)):
        setup.check_digital_layers(layers, MODEL, (8, 8, 1))


@pytest.mark.usefixtures("quick_compilation", "one_block")
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
@pytest.mark.usefixtures("quick_compilation", "one_block")
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
