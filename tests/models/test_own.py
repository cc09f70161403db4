"""Networks of one's own: what is wrong with one is said before anything is trained."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hic_jax import accounting, models
from hic_jax.crossbar import CrossbarSpec, LayerCrossbars, rngs
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


class Layers(nn.Module):
    """A convolution, BatchNorm and a dense layer, with hooks or without."""

    num_classes: int
    crossbars: LayerCrossbars = LayerCrossbars()

    @nn.compact
    def __call__(self, images, *, train):
        hook = self.crossbars.conv_general_dilated(("conv",))
        x = nn.Conv(3, (3, 3), conv_general_dilated=hook, name="conv")(images)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, name="norm")(x))
        hook = self.crossbars.dot_general(("head",))
        x = x.mean(axis=(1, 2))
        return nn.Dense(self.num_classes, dot_general=hook, name="head")(x)


def hooked(num_classes, crossbars):
    """Takes crossbars, and hands them to its layers."""
    return Layers(num_classes, crossbars)


def bare(num_classes):
    """Knows nothing of crossbars."""
    return Layers(num_classes)


def centred(num_classes):
    """Multiplies by its weights less their mean."""
    return nn.Sequential([lambda x, train: x.reshape(len(x), -1),
                          nn.WeightNorm(nn.Dense(num_classes))])  # fmt: skip


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
            "bare",
            {"crossbars": LayerCrossbars(CrossbarSpec(adc_noise=0.5))},
            r"must take an argument crossbars, for adc_noise=0\.5: noise needs a new",
        ),
        (
            "bare",
            {"crossbars": LayerCrossbars(CrossbarSpec(adc_range="running"))},
            "must take an argument crossbars, for .*adc_range='running': a running",
        ),
        (
            "centred",
            {"crossbars": LayerCrossbars(CrossbarSpec())},
            "params/.*/kernel: reaches a product after '.*' has changed it",
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


@pytest.mark.parametrize("layers", [{}, {"head": None}, {"conv": None}], ids=str)
def test_a_network_without_hooks_is_on_crossbars_as_one_with_them(layers):
    crossbars = LayerCrossbars(CrossbarSpec(dac_bits=4, adc_bits=4), layers)
    networks = [make(name, crossbars=crossbars) for name in ("hooked", "bare")]
    networks.append(make("bare"))
    images = jax.random.normal(jax.random.key(0), (6, 8, 8, 1))
    variables = networks[0].init(jax.random.key(1), images, train=False)
    chex.assert_trees_all_equal(
        networks[1].init(jax.random.key(1), images, train=False), variables
    )

    def loss(params, model):
        logits, updated = model.apply(
            variables | {"params": params}, images, train=True, mutable=["batch_stats"],
            rngs=rngs(jax.random.key(2)),
        )  # fmt: skip
        return jnp.sum(logits**2), (logits, updated)

    made = [
        jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)(
            variables["params"], model
        )
        for model in networks
    ]
    # Sums of float32 in other orders, in one program and the other.
    chex.assert_trees_all_close(made[0], made[1], rtol=1e-5, atol=1e-6)
    off = np.abs(made[1][0][1][0] - made[2][0][1][0])
    assert off.max() > 0.01  # Four bits are far from exact.


def test_crossbars_are_found_under_a_network_without_hooks():
    model = make("bare", crossbars=LayerCrossbars(CrossbarSpec(), {"conv": None}))
    images = jnp.ones((2, 8, 8, 1))
    variables = model.init(jax.random.key(1), images, train=False)

    def forward(params, x):
        return model.apply(variables | {"params": params}, x, train=False)

    found = accounting.products(forward, variables["params"], images)
    tiles = {product.parameter: product.tile for product in found}
    assert tiles == {"conv/kernel": None, "head/kernel": (256, 256)}
    assert hash(model) == hash(make("bare", crossbars=model.crossbars))


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
