"""GPT: each character is predicted by those before it, and by nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hic_jax.crossbar import CrossbarSpec, LayerCrossbars
from hic_jax.labels import analog_labels
from hic_jax.models import GPT, GPTSpec
from hic_jax.packing import path_name

CONTEXT, VOCABULARY = 6, 31


def _model(crossbars=None, context=CONTEXT):
    crossbars = crossbars or LayerCrossbars()
    return GPT(context, 1, 2, 8, VOCABULARY, crossbars)


def _characters(rows, length=CONTEXT):
    return jax.random.randint(jax.random.key(1), (rows, length), 0, VOCABULARY)


def _params(model):
    return model.init(jax.random.key(0), _characters(1), train=False)


@pytest.mark.parametrize(
    "crossbars", [LayerCrossbars(), LayerCrossbars(CrossbarSpec())], ids=["exact", "8b"]
)
def test_a_later_character_changes_nothing_before_it(crossbars):
    model, characters = _model(crossbars), _characters(2)
    params = _params(model)
    logits = jax.jit(lambda x: model.apply(params, x, train=False))
    before = logits(characters)
    for place in (1, CONTEXT - 1):
        other = characters.at[0, place].set((characters[0, place] + 1) % VOCABULARY)
        after = logits(other)
        # Converters have a range for each character, so that they tell nothing either.
        np.testing.assert_array_equal(after[0, :place], before[0, :place])
        np.testing.assert_array_equal(after[1], before[1])
        changed = np.any(np.asarray(after != before)[0, place:], axis=-1)
        assert changed.all()


def test_the_order_of_characters_counts():
    model = _model()
    params = _params(model)
    one, two = jnp.array([[3, 4, 5]]), jnp.array([[4, 3, 5]])
    logits = jax.jit(lambda x: model.apply(params, x, train=False))
    last = [logits(x)[0, -1] for x in (one, two)]
    assert not np.allclose(*last)


def test_an_untrained_network_is_about_as_good_as_guessing():
    model, characters = _model(), _characters(500)
    logits = jax.jit(model.apply, static_argnames="train")(
        _params(model), characters[:, :-1], train=False
    )
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, characters[:, 1:])
    # Logits of variance 1, as the usual kernel makes them of normalised inputs, cost
    # half a nat; of 8 channels and 31 characters the variance is off by a quarter.
    assert float(loss.mean()) == pytest.approx(np.log(VOCABULARY) + 0.5, abs=0.25)


def test_tables_are_digital_and_kernels_analog():
    params = _params(_model())["params"]
    labels = jax.tree_util.tree_leaves_with_path(analog_labels(params))
    digital = {path_name(p) for p, label in labels if label == "digital"}
    assert {p for p in digital if not p.endswith(("bias", "scale"))} == {
        "characters/embedding",
        "positions/embedding",
    }
    assert params["head"]["kernel"].shape == (8, VOCABULARY)


@pytest.mark.parametrize(("width", "features"), [(0.01, 3), (0.5, 63), (2.0, 255)])
def test_channels_are_a_multiple_of_the_heads(width, features):
    spec = GPTSpec(heads=3, features=127)
    model = spec.make(
        num_classes=5, width=width, crossbars=LayerCrossbars(), dtype="float32"
    )
    assert model.features == features


@pytest.mark.parametrize("field", ["context", "layers", "heads", "features"])
def test_sizes_that_cannot_be(field):
    for value in (0, -1, 1.5, 10**6):
        with pytest.raises(ValueError, match=rf"^{field}={value}: must be"):
            GPTSpec(**{field: value})
