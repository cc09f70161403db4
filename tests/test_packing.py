import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hic_jax import packing

TREES = [
    {},
    {"a": jnp.ones(())},
    {"b": jnp.ones((2, 0)), "a": [jnp.ones(3), jnp.ones((2, 2))]},
]


@pytest.mark.parametrize("tree", TREES)
def test_unpacking_undoes_packing(tree):
    leaves = [
        10 * i + jnp.arange(1.0 * x.size).reshape(x.shape)
        for i, x in enumerate(jax.tree.leaves(tree))
    ]
    layout = packing.Layout.of(tree)
    flat = layout.pack(leaves)
    assert flat.shape == (sum(layout.sizes),)
    for leaf, back in zip(leaves, layout.unpack(flat), strict=True):
        np.testing.assert_array_equal(leaf, back)


def test_leading_axes_stay():
    layout = packing.Layout.of([jnp.ones((2, 3)), jnp.ones(4)])
    parts = layout.unpack(jnp.arange(20.0).reshape(2, 10))
    assert [x.shape for x in parts] == [(2, 2, 3), (2, 4)]
    np.testing.assert_array_equal(parts[1], [[6, 7, 8, 9], [16, 17, 18, 19]])


def test_draws_of_several_shapes_are_independent_normals():
    a, b = packing.normals(jax.random.key(0), [(100, 200), (20_000,)])
    # Five standard errors.
    for x in (a, b):
        assert float(x.mean()) == pytest.approx(0.0, abs=0.035)
        assert float(x.std()) == pytest.approx(1.0, abs=0.025)
    assert abs(np.corrcoef(a.ravel(), b)[0, 1]) < 0.035
