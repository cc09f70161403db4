"""Two sums that know parameters again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hic_jax.algorithms import fingerprint

LEAVES = [
    jax.random.normal(jax.random.key(0), (300, 200)),
    jnp.arange(-3.0, 5.0, dtype=jnp.bfloat16),
    jnp.zeros((4,)),
]


def test_it_is_the_sum_and_the_sum_of_squares():
    found = fingerprint.of(LEAVES)
    for (total, squares), leaf in zip(found, LEAVES, strict=True):
        wide = np.asarray(leaf, np.float64)
        assert total == pytest.approx(wide.sum(), abs=1e-2)  # float32, 60,000 of them.
        assert squares == pytest.approx((wide**2).sum(), rel=1e-6)
    assert fingerprint.of([]).shape == (0, 2)


def test_sums_in_another_order_are_known_again():
    expected = fingerprint.of(LEAVES)
    turned = [leaf[::-1].T for leaf in LEAVES]
    np.testing.assert_array_equal(fingerprint.parted(expected, turned), [0, 0, 0])


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.at[7, 7].add(2.0),  # One of 60,000 weights.
        lambda x: -x,  # Has the same squares,
        lambda x: x.at[0, 0].multiply(-1.0).at[:9].multiply(-1.0),
        lambda x: x + 1e-4,  # and this almost the same.
        lambda x: 0.9999 * x,
        lambda x: x.at[0].set(jnp.roll(x[0], 1) + 1e-2),
    ],
)
def test_a_change_is_seen_in_its_tensor_alone(change):
    expected = fingerprint.of(LEAVES)
    parted = fingerprint.parted(expected, [change(LEAVES[0]), *LEAVES[1:]])
    np.testing.assert_array_equal(parted, [1, 0, 0])


def test_what_is_not_known_is_not_parted():
    unknown = fingerprint.unknown(3)
    np.testing.assert_array_equal(fingerprint.parted(unknown, LEAVES), [0, 0, 0])
