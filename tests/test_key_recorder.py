"""The recorder of keys: what it finds, and what it lets pass."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from tests import key_recorder
from tests.key_recorder import keys_used_once, recorded_keys

KEY = jax.random.key(3)


def _two_draws():
    jax.random.normal(KEY, (2,))
    jax.random.uniform(KEY)


def _two_draws_of_equal_keys():
    # The second of two is what folding in a 1 gives: other code, the same key.
    jax.random.bernoulli(jax.random.split(KEY)[1])
    jax.random.permutation(jax.random.fold_in(KEY, 1), 4)


def _two_draws_of_one_seed():
    jax.random.randint(jax.random.key(3), (), 0, 9)
    jax.random.normal(KEY)


def _draw_and_split():
    jax.random.split(KEY)
    jax.random.truncated_normal(KEY, -1.0, 1.0)


def _draw_and_fold_in():
    jax.random.bits(KEY)
    jax.random.fold_in(KEY, 0)


def _two_draws_in_compiled_code():
    jitted = jax.jit(jax.random.normal)
    jitted(KEY)
    jitted(KEY)


def _two_draws_in_a_scan():
    jax.lax.scan(lambda key, _: (key, jax.random.normal(key)), KEY, None, length=2)


def _one_key_of_many_again():
    keys = jax.random.split(KEY, 3)
    jax.vmap(jax.random.normal)(keys)
    jax.random.normal(keys[2])


def _two_draws_under_a_gradient():
    def noisy(x):
        return x * jax.random.normal(KEY) + jax.random.normal(KEY)

    jax.grad(noisy)(1.0)


@pytest.mark.parametrize(
    ("function", "functions"),
    [
        (_two_draws, ["normal", "uniform"]),
        (_two_draws_of_equal_keys, ["bernoulli", "permutation"]),
        (_two_draws_of_one_seed, ["randint", "normal"]),
        (_draw_and_split, ["truncated_normal", "split"]),
        (_draw_and_fold_in, ["bits", "fold_in"]),
        (_two_draws_in_compiled_code, ["normal", "normal"]),
        (_two_draws_in_a_scan, ["normal", "normal"]),
        (_one_key_of_many_again, ["normal", "normal"]),
        (_two_draws_under_a_gradient, ["normal", "normal"]),
    ],
)
def test_a_key_used_twice_is_found(function, functions):
    with pytest.raises(AssertionError, match="keys used more than once") as error:
        with keys_used_once():
            function()
    (fault,) = str(error.value).split("\n")[1:]
    uses = fault.split(": ", 1)[1].split(", ")
    assert [use.split(" at ")[0] for use in uses] == functions
    assert all(use.split(" at ")[1].startswith(__file__[-20:]) for use in uses)


def test_derived_keys_pass():
    class Dropped(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _ in range(2):
                x = nn.Dropout(0.5, deterministic=False)(nn.Dense(3)(x))
            return x

    with keys_used_once() as record:
        first, second, many, *ours = jax.random.split(KEY, 5)
        jax.random.normal(first, (5,))
        jax.random.choice(jax.random.fold_in(second, 0), 5)
        jax.random.gumbel(jax.random.fold_in(second, 1))
        jax.vmap(jax.random.normal)(jax.random.split(many, 3))
        rngs = dict(zip(("params", "dropout"), ours, strict=True))
        Dropped().init_with_output(rngs, jnp.ones((2, 4)))
    drawn = [use.function for uses in record.draws.values() for use in uses]
    # Kernels, whose draw JAX 0.12 begins with another, and what is dropped.
    kernel = "uniform" if jax.__version_info__ >= (0, 12) else "truncated_normal"
    of_flax = 2 * [kernel, "bernoulli"]
    assert drawn == ["normal", "choice", "gumbel", *3 * ["normal"], *of_flax]


def test_an_elementwise_draw_of_one_key_is_one():
    with keys_used_once() as record:
        jax.vmap(lambda x: x + jax.random.normal(KEY))(jnp.ones(3))
    assert [len(uses) for uses in record.draws.values()] == [1]


def test_nothing_drawn_is_no_proof():
    with pytest.raises(AssertionError, match="nothing was drawn"):
        with keys_used_once():
            jax.random.split(KEY)


def test_samplers_are_left_as_they_were():
    before = {name: getattr(jax.random, name) for name in key_recorder._SAMPLERS}
    with pytest.raises(RuntimeError):
        with recorded_keys():
            assert jax.random.normal is not before["normal"]
            raise RuntimeError
    assert {name: getattr(jax.random, name) for name in before} == before
    assert {"normal", "uniform", "bernoulli", "permutation", "randint"} <= set(before)
    assert not {"split", "key", "key_data", "clone"} & set(before)
