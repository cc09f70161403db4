"""Running ranges: what they remember, when they change, what converters do of them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hic_jax import crossbar
from hic_jax.crossbar import CrossbarSpec
from hic_jax.releases import enable_x64
from tests.crossbar import reference
from tests.crossbar.reference import whole

MOMENTUM = 0.75
RUNNING = CrossbarSpec(
    dac_range="running", adc_range="running", range_momentum=MOMENTUM,
    tile_rows=5, tile_columns=2,
)  # fmt: skip
# One shrinks and one grows: later batches are clipped, or leave codes unused.
FACTORS = [1, 0.5, 4, 2]


def dense(x_shape, w_shape):
    return reference.dot_general(x_shape, w_shape, (((1,), (0,)), ((), ())))


def conv(x_shape, w_shape):
    return reference.convolution(x_shape, w_shape, (1, 1), ((0, 0), (0, 0)))


def linen(layer, hook, w):
    """A call in training, one in evaluation, and what is remembered."""
    variables = {"params": {"kernel": jnp.asarray(w)}}
    start = layer.init(jax.random.key(0), jnp.zeros((1, *w.shape[:-1])))
    variables[crossbar.COLLECTION] = start[crossbar.COLLECTION]

    def train(x):
        y, new = layer.apply(variables, x, mutable=[crossbar.COLLECTION])
        variables.update(new)
        return y

    def ranges():
        return np.asarray(variables[crossbar.COLLECTION][hook]["ranges"])

    return train, lambda x: layer.apply(variables, x), ranges


def linen_dense(w, spec=RUNNING):
    hook = crossbar.LinenDotGeneral(spec)
    layer = nn.Dense(w.shape[-1], use_bias=False, dot_general=hook)
    return linen(layer, "DotGeneral_0", w)


def linen_conv(w):
    hook = crossbar.LinenConvGeneralDilated(RUNNING)
    layer = nn.Conv(
        w.shape[-1], w.shape[:2], padding="VALID", use_bias=False,
        conv_general_dilated=hook,
    )  # fmt: skip
    return linen(layer, "ConvGeneralDilated_0", w)


def in_nnx(layer, hook, w):
    layer.kernel[...] = jnp.asarray(w)

    def train(x):
        layer.train()
        return layer(x)

    def evaluate(x):
        layer.eval()
        return layer(x)

    return train, evaluate, lambda: np.asarray(hook.ranges[...])


def nnx_dense(w, spec=RUNNING):
    hook = crossbar.NnxDotGeneral(spec)
    options = {"use_bias": False, "dot_general": hook, "rngs": nnx.Rngs(0)}
    return in_nnx(nnx.Linear(*w.shape, **options), hook, w)


def nnx_conv(w):
    hook = crossbar.NnxConvGeneralDilated(RUNNING)
    layer = nnx.Conv(
        *w.shape[2:], w.shape[:2], padding="VALID", use_bias=False,
        conv_general_dilated=hook, rngs=nnx.Rngs(0),
    )  # fmt: skip
    return in_nnx(layer, hook, w)


DENSE = dense, (5, 12), (12, 3)
CONV = conv, (2, 4, 4, 3), (2, 3, 3, 3)
LAYERS = [(linen_dense, DENSE), (nnx_dense, DENSE), (linen_conv, CONV),
          (nnx_conv, CONV)]  # fmt: skip


@pytest.mark.parametrize(("layer", "case"), LAYERS)
def test_against_numpy(layer, case):
    table, x_shape, w_shape = case
    table, x, w = table(x_shape, w_shape), whole(0, x_shape), whole(1, w_shape)
    train, evaluate, ranges = layer(w)
    assert not ranges().any()
    history = []
    for factor in FACTORS:
        batch = np.float32(factor) * x
        # As they were before the batch; none before the first, whose own range it is.
        total, weight = ranges().T
        known = total / weight if weight.all() else (0, 0)
        expected, seen = reference.forward(RUNNING, table, batch, w, known)
        np.testing.assert_array_equal(train(batch), expected)
        history.append(seen)
        ages = MOMENTUM ** np.arange(len(history))[::-1]
        total, weight = ranges().T
        mean = ages @ np.array(history) / ages.sum()
        np.testing.assert_allclose(total / weight, mean, rtol=1e-6)
    before = ranges()
    expected, _ = reference.forward(RUNNING, table, 9 * x, w, total / weight)
    np.testing.assert_array_equal(evaluate(9 * x), expected)
    np.testing.assert_array_equal(ranges(), before)


def test_beyond_a_known_range_inputs_are_clipped_but_gradients_pass():
    x, w = jnp.asarray(whole(0, (5, 12))), whole(1, (12, 3))
    layer = nn.Dense(3, use_bias=False, dot_general=crossbar.LinenDotGeneral(RUNNING))
    ranges = jnp.array([[2.0, 1.0], [1e4, 1.0]])  # Inputs up to 2.
    variables = {
        "params": {"kernel": w},
        crossbar.COLLECTION: {"DotGeneral_0": {"ranges": ranges}},
    }
    y, transpose = jax.vjp(lambda x: layer.apply(variables, x), x)
    assert np.abs(x).max() == 8
    np.testing.assert_array_equal(y, layer.apply(variables, jnp.clip(x, -2, 2)))
    (x_bar,) = transpose(jnp.ones_like(y))
    table = dense(x.shape, w.shape)
    expected, _ = reference.backward(RUNNING, table, np.asarray(x), w, np.ones((5, 3)))
    np.testing.assert_array_equal(x_bar, expected)


@pytest.mark.parametrize("layer", [linen_dense, nnx_dense])
def test_no_input_at_a_known_range_of_sums(layer):
    # The range of inputs is absmax: nothing tells what a code would stand for.
    spec = CrossbarSpec(adc_range="running")
    train, evaluate, ranges = layer(whole(1, (12, 3)), spec)
    x = jnp.asarray(whole(0, (5, 12)))
    train(x)
    assert ranges().all()
    assert not evaluate(0 * x).any()


def test_ranges_stay_float32_where_float64_is_usual():
    with enable_x64(True):
        train, _, ranges = linen_dense(whole(1, (12, 7)))
        train(jnp.asarray(whole(0, (5, 12))))
        assert ranges().dtype == np.float32


def test_only_the_converters_that_are_there_run():
    assert RUNNING.runs
    none = CrossbarSpec(
        dac_bits=0, adc_bits=0, dac_range="running", adc_range="running"
    )
    assert not none.runs
    assert not CrossbarSpec().runs
    for hook in (crossbar.dot_general, crossbar.conv_general_dilated):
        hook(none)
        for field in ("dac_range", "adc_range"):
            with pytest.raises(ValueError, match=rf"{field}='running'.*use Linen"):
                hook(CrossbarSpec(**{field: "running"}))
