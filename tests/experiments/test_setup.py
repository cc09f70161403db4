"""Set-up: which layers a configuration puts on crossbars."""

import pytest

from experiments import setup
from experiments.config import TrainConfig, resolve
from hic_jax import models

LAYERS = (
    "stem,head,stage1_block1/conv1,stage1_block1/conv2,"
    "stage2_block1/conv1,stage2_block1/conv2,stage2_block1/projection"
)
MODEL = models.ResNet(8, (2, 3), 10)


def test_analog_layers_are_on_crossbars_and_digital_layers_are_not():
    config = resolve(TrainConfig(digital_layers="stem,head"), {"crossbar_adc_bits": 6})
    crossbars = setup.crossbars_of(config)
    assert crossbars.of(("stage1_block1", "conv1")).adc_bits == 6
    assert crossbars.of(("stem",)) is None
    assert crossbars.of(("head",)) is None


@pytest.mark.parametrize("fields", [{"algorithm": "fp32"}, {"converters": False}])
def test_without_converters_nothing_is_on_crossbars(fields):
    crossbars = setup.crossbars_of(resolve(TrainConfig(**fields)))
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
