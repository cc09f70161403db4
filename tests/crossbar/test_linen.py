"""Hooks in Linen layers: what is kept belongs to the layer, whoever has the hook."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hic_jax import crossbar
from hic_jax.crossbar import CrossbarSpec

RUNNING = CrossbarSpec(dac_range="running", adc_range="running", range_momentum=0.5)
HOOK = crossbar.LinenDotGeneral(RUNNING)
TOKENS = jax.random.normal(jax.random.key(0), (3, 5, 8))


class TwoLayers(nn.Module):
    """Layers of one shape, the second of which sees inputs a hundred times larger."""

    hooks: tuple

    @nn.compact
    def __call__(self, x):
        first, second = self.hooks
        self.sow("intermediates", "inputs", x)
        x = 100 * nn.relu(nn.Dense(8, dot_general=first)(x))
        self.sow("intermediates", "inputs", x)
        return nn.Dense(8, dot_general=second)(x)


def trained(model, x):
    """Variables after a batch."""
    variables = model.init(jax.random.key(1), x)
    _, changed = model.apply(variables, x, mutable=[crossbar.COLLECTION])
    return variables | changed


def largest_inputs(variables):
    """What each range of inputs has seen."""
    states = jax.tree.leaves(variables[crossbar.COLLECTION])
    return [float(state[0, 0] / state[0, 1]) for state in states]


def test_layers_with_one_hook_have_ranges_of_their_own():
    shared, apart = TwoLayers((HOOK, HOOK)), TwoLayers(
        (HOOK, crossbar.LinenDotGeneral(RUNNING))
    )  # fmt: skip
    variables = trained(shared, TOKENS)
    _, seen = shared.apply(
        variables | {crossbar.COLLECTION: jax.tree.map(
            jnp.zeros_like, variables[crossbar.COLLECTION])},
        TOKENS, mutable=["intermediates"],
    )  # fmt: skip
    inputs = [float(jnp.abs(x).max()) for x in seen["intermediates"]["inputs"]]
    np.testing.assert_allclose(largest_inputs(variables), inputs, rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, variables, trained(apart, TOKENS))


@pytest.mark.parametrize("hooks", [
    {"qkv_dot_general": HOOK, "out_dot_general": HOOK},
    {"qkv_dot_general_cls": functools.partial(crossbar.LinenDotGeneral, RUNNING),
     "out_dot_general_cls": lambda: HOOK},
])  # fmt: skip
def test_attention_has_a_range_for_each_product(hooks):
    variables = trained(nn.MultiHeadDotProductAttention(2, **hooks), TOKENS)
    ranges = variables[crossbar.COLLECTION]
    assert set(ranges) == {"query", "key", "value", "out"}
    sums = {
        name: float(state["DotGeneral_0"]["ranges"][1, 0])
        for name, state in ranges.items()
    }
    assert len(set(sums.values())) == 4


class Twice(nn.Module):
    """One layer, applied to what it made."""

    def setup(self):
        self.layer = nn.Dense(8, use_bias=False, dot_general=HOOK)

    def __call__(self, x):
        return self.layer(self.layer(x))


def test_a_layer_applied_twice_has_one_range_that_sees_both():
    variables = trained(Twice(), TOKENS)
    (state,) = jax.tree.leaves(variables[crossbar.COLLECTION])
    assert state[0, 1] == 0.75  # Two batches at 0.5.
    first = float(jnp.abs(TOKENS).max())
    layer = nn.Dense(8, use_bias=False, dot_general=HOOK)
    fresh = {"params": variables["params"]["layer"]}
    fresh |= layer.init(jax.random.key(0), TOKENS) | fresh
    between, _ = layer.apply(fresh, TOKENS, mutable=[crossbar.COLLECTION])
    expected = 0.25 * first + 0.5 * float(jnp.abs(between).max())
    np.testing.assert_allclose(state[0, 0], expected, rtol=1e-5)


class OfOnesOwn(nn.Module):
    """A layer of two kernels, which calls one hook for both."""

    @nn.compact
    def __call__(self, x):
        for name in ("one", "other"):
            w = self.param(name, nn.initializers.normal(), (8, 8))
            x = 10 * HOOK(x, w, (((2,), (0,)), ((), ())))
        return x


def test_calls_of_one_layer_have_ranges_of_their_own():
    one, other = largest_inputs(trained(OfOnesOwn(), TOKENS))
    assert one == pytest.approx(float(jnp.abs(TOKENS).max()))
    assert other < 0.5 * one


def test_outside_of_a_layer_there_is_nowhere_to_keep_a_range():
    with pytest.raises(ValueError, match="LinenDotGeneral: must be called by a Linen"):
        HOOK(jnp.ones((2, 3)), jnp.ones((3, 4)), (((1,), (0,)), ((), ())))
