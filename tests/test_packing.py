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


def test_a_part_has_the_same_slice_of_every_tensor():
    tree = [jnp.arange(24.0).reshape(3, 8), 100 + jnp.arange(8.0).reshape(4, 2)]
    layout = packing.Layout.of(tree, parts=2)
    packed = layout.pack(tree)
    # The first is cut between its columns 3 and 4, the second between its rows.
    left = np.sort(tree[0][:, :4], axis=None)
    np.testing.assert_array_equal(np.sort(packed[0, :12]), left)
    np.testing.assert_array_equal(packed[1, 12:], [104, 105, 106, 107])
    two = jnp.stack([packed, -packed])
    for leaf, back in zip(tree, layout.unpack(two), strict=True):
        np.testing.assert_array_equal(back, [leaf, -leaf])


@pytest.mark.parametrize(
    ("shape", "parts", "axis"),
    [
        ((3, 3, 16, 32), 8, 3),
        ((3, 3, 16, 16), 8, 3),
        ((64, 10), 8, 0),
        ((5, 3), 2, None),
        ((), 2, None),
        ((0, 4), 4, 1),
    ],
)
def test_tensors_are_cut_along_the_longest_axis_that_can_be(shape, parts, axis):
    assert packing.cut_axis(shape, parts) == axis


def test_a_tensor_that_cannot_be_cut_is_named():
    with pytest.raises(ValueError, match=r"params a/b\[5, 3\]: must have an axis that"):
        packing.Layout.of({"a": {"b": jnp.ones((5, 3))}}, parts=2)
