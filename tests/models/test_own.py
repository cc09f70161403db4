"""Networks of one's own: what is wrong with one is said before anything is trained."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hic_jax import models
from hic_jax.crossbar import CrossbarSpec, LayerCrossbars
from hic_jax.models.own import factory_of, is_own

IMAGE = jax.ShapeDtypeStruct((8, 8, 1), jnp.float32)


class Net(nn.Module):
    """The least that can be trained: flat images, one layer, no fields but these."""

    num_classes: int
    channels: int = 3

    @nn.compact
    def __call__(self, images, *, train):
        return nn.Dense(self.num_classes)(images.reshape(len(images), -1))


def plain(num_classes):
    """Takes nothing but what it has to."""
    return Net(num_classes)


def wide(num_classes, width, dtype):
    """Takes a width."""
    return Net(num_classes, channels=round(3 * width))


def of_all(**arguments):
    """Takes whatever there is."""
    return Net(arguments["num_classes"], channels=len(arguments))


def other(num_classes):
    """Gives other logits than it is asked for."""
    return Net(num_classes + 1)


def without_kernels(num_classes):
    """Has nothing to train."""
    return nn.Sequential([lambda x, train: jnp.zeros((len(x), num_classes))])


def no_module(num_classes):
    """Returns something else."""
    return num_classes


def without_classes():
    """Cannot know how many there are."""
    return Net(10)


NUMBER = 3


def make(name, width=1.0, crossbars=None, dtype="float32"):
    """The network of a factory here, for images of ten classes."""
    name = f"{__name__}:{name}"
    model = models.make_own(
        name,
        num_classes=10,
        width=width,
        crossbars=crossbars or LayerCrossbars(),
        dtype=dtype,
    )
    models.check_own(name, model, IMAGE, 10)
    return model


def test_a_factory_is_given_what_it_takes():
    assert make("plain") == Net(10)
    assert make("Net") == Net(10)
    assert make("wide", width=2.0) == Net(10, channels=6)
    assert make("of_all", crossbars=LayerCrossbars(CrossbarSpec())).channels == 4


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("plain", {"width": 2.0}, "must take an argument width for width=2"),
        ("plain", {"dtype": "bfloat16"}, "argument dtype for compute_dtype=bfloat16"),
        (
            "wide",
            {"crossbars": LayerCrossbars(CrossbarSpec())},
            "must take an argument crossbars for converters .--noconverters",
        ),
        ("without_classes", {}, "must take an argument num_classes"),
        ("no_module", {}, "returns a int; must return a flax.linen.Module"),
        ("other", {}, r"gives logits of \(1, 11\); must give \(1, 10\)"),
        ("without_kernels", {}, "has no kernel"),
        ("NUMBER", {}, "NUMBER is no function in"),
        ("absent", {}, "absent is not there in"),
    ],
)
def test_a_factory_that_will_not_do(name, arguments, message):
    with pytest.raises(ValueError, match=rf"^model={__name__}:{name}: .*{message}"):
        make(name, **arguments)


def test_a_module_that_cannot_be_imported(tmp_path, monkeypatch):
    (tmp_path / "broken_net.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"broken_net cannot be .*ZeroDivisionError"):
        factory_of("broken_net:make")
    with pytest.raises(ValueError, match=r"no_such_net cannot be .*ModuleNotFound"):
        factory_of("no_such_net:make")


def test_a_network_that_does_not_run_on_the_data():
    name = f"{__name__}:plain"
    with pytest.raises(ValueError, match=r"cannot be called with inputs of \(1, 6\)"):
        models.check_own(name, nn.Dense(3), jax.ShapeDtypeStruct((6,), jnp.int32), 3)


@pytest.mark.parametrize(
    ("name", "own"),
    [("a:b", True), ("a.b:c", True), ("gpt", False), ("a:", False), ("a b:c", False)],
)
def test_names_of_ones_own(name, own):
    assert is_own(name) is own


def test_the_network_is_that_of_the_factory():
    x = np.ones((2, 8, 8, 1), np.float32)
    model = make("plain")
    params = model.init(jax.random.key(0), x, train=False)
    assert model.apply(params, x, train=False).shape == (2, 10)
