"""Whatever a user hands over: it works, or one error of ours says why it cannot.

Most cases are traced only (`jax.eval_shape`): whether shapes, dtypes and structures fit
shows there, in milliseconds, and some are run.
"""

import dataclasses
import math
import re
import traceback
from pathlib import Path
from typing import NamedTuple

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hic_jax
from hic_jax import crossbar, pcm
from hic_jax.algorithms import ALGORITHMS
from hic_jax.crossbar import CrossbarSpec

OURS = str(Path(hic_jax.__file__).parent)
# Field and value, and what is wrong or allowed; or what a thing lacks.
CLEAR = re.compile(r"[\w .,\[\]'/+*-]+(=.*| holds no [\w ]+): .+", re.DOTALL)


def cases(n):
    """The same ``n`` cases at every run, however slow the machine is."""
    return settings(
        max_examples=n,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def outcome(function, *arguments):
    """What a function returns; None if it refuses, clearly and by itself."""
    try:
        return function(*arguments)
    except ValueError as error:
        raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
        assert raised_in.startswith(OURS), f"from {raised_in}: {error}"
        assert CLEAR.fullmatch(str(error)), str(error)
        return None


# ---- what is handed over

NUMBERS = st.one_of(
    st.sampled_from([0.0, -1.0, 1e-30, 1e30, math.inf, math.nan, True, "7", None]),
    st.integers(-2, 300),
    st.floats(-1.0, 30.0),
)


class Layer(NamedTuple):
    kernel: object
    bias: object


DTYPES = (
    "float32",
    "bfloat16",
    "float16",
    "float64",
    "int8",
    "int32",
    "complex64",
    "bool",
)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4)


def leaves(dtypes):
    return st.builds(
        jax.ShapeDtypeStruct,
        SHAPES,
        st.sampled_from(dtypes).map(lambda t: jax.dtypes.canonicalize_dtype(t)),
    )


def trees(leaf):
    return st.recursive(
        leaf,
        lambda node: st.one_of(
            st.lists(node, max_size=3),
            st.tuples(node, st.none()),
            st.dictionaries(st.sampled_from("abc"), node, max_size=3),
            st.builds(Layer, node, node),
        ),
        max_leaves=4,
    )


def some_fields(cls, draw_field):
    """Keyword arguments for a few fields of a frozen dataclass."""
    names = [f.name for f in dataclasses.fields(cls)]
    return st.lists(st.sampled_from(names), max_size=3, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({n: draw_field(n) for n in chosen})
    )


def a_spec(draw):
    """A `HICSpec` that is allowed."""
    device = draw(st.sampled_from([pcm.nandakumar_2018, pcm.linear_noisy, pcm.ideal]))()
    if draw(st.booleans()):
        device = dataclasses.replace(
            device, drift_nu_std=0.01, stuck_set=0.1, stuck_reset=0.1
        )
    cells = pcm.BinarySpec(stuck_set=draw(st.sampled_from([0.0, 0.2])))
    return hic_jax.HICSpec(
        multilevel=device,
        binary=cells,
        lsb_bits=draw(st.integers(2, 8)),
        update_bits=draw(st.integers(2, 16)),
        stochastic_rounding=draw(st.booleans()),
        refresh_every=draw(st.sampled_from([0, 1, 10])),
        refresh_verify=draw(st.booleans()),
        rewrite_residue=draw(st.sampled_from(["dropped", "kept"])),
        track_wear=draw(st.booleans()),
    )


SPECS = st.composite(a_spec)()


# ---- specs


@pytest.mark.parametrize(
    "cls",
    [*ALGORITHMS.values(), pcm.MultilevelSpec, pcm.BinarySpec, CrossbarSpec],
)
@cases(60)
@given(data=st.data())
def test_a_spec_holds_what_it_was_given_or_refuses_it(cls, data):
    fields = data.draw(some_fields(cls, lambda name: NUMBERS))
    base = {} if cls is not pcm.MultilevelSpec else vars(pcm.nandakumar_2018())
    made = outcome(lambda: cls(**{**base, **fields}))
    if made is not None:
        assert {name: getattr(made, name) for name in fields} == fields
        hash(made)  # It is an argument of compiled programs.


# ---- the transformation


def ages(params, spec):
    """All that a user does with weights, shapes only."""
    tx = hic_jax.hic(spec, jax.random.key(0))

    def life(params):
        state = tx.init(params)
        updates, state = tx.update(params, state, params)
        weights = hic_jax.analog_weights(state)
        aged = hic_jax.drift(weights, hic_jax.DAY, jax.random.key(1))
        chip = hic_jax.deploy(aged, pcm.hermes_2(), jax.random.key(2))
        later = hic_jax.read_params(params, chip, key=jax.random.key(3))
        return updates, later, optax.apply_updates(params, updates)

    return jax.eval_shape(life, params)


@cases(60)
@given(params=trees(leaves(DTYPES)), spec=SPECS)
def test_any_pytree_is_held_or_refused(params, spec):
    made = outcome(ages, params, spec)
    given_leaves = jax.tree.leaves(params)
    real = all(jnp.issubdtype(x.dtype, jnp.floating) for x in given_leaves)
    assert (made is not None) == (real and bool(given_leaves))
    for tree in made or ():
        assert jax.tree.structure(tree) == jax.tree.structure(params)
        for x, y in zip(jax.tree.leaves(tree), given_leaves, strict=True):
            assert (x.shape, x.dtype) == (y.shape, y.dtype)


@cases(40)
@given(trees(leaves(("float32",))), trees(leaves(("float32",))))
def test_updates_fit_the_parameters_or_are_refused(params, updates):
    tx = hic_jax.hic(hic_jax.HICSpec(), 0)
    state = jax.eval_shape(tx.init, params)
    made = outcome(jax.eval_shape, tx.update, updates, state, params)
    fits = jax.tree.structure(params) == jax.tree.structure(updates) and all(
        x.shape == y.shape
        for x, y in zip(jax.tree.leaves(params), jax.tree.leaves(updates), strict=False)
    )
    assert (made is not None) == fits


# ---- crossbars


@st.composite
def crossbar_specs(draw):
    bits = st.sampled_from([0, 2, 8])
    return CrossbarSpec(
        tile_rows=draw(st.sampled_from([0, 1, 7, 256])),
        tile_columns=draw(st.sampled_from([0, 1, 7, 256])),
        dac_bits=draw(bits),
        adc_bits=draw(bits),
        dac_range=draw(st.sampled_from(["absmax", "fixed"])),
        adc_range=draw(st.sampled_from(["absmax", "fixed"])),
        adc_noise=draw(st.sampled_from([0.0, 0.01])),
    )


@st.composite
def convolutions(draw):
    """Arguments of a convolution: inputs, kernel, strides, padding, groups."""
    spatial = draw(st.integers(1, 3))
    sides = st.lists(st.integers(1, 3), min_size=spatial, max_size=spatial)
    groups = draw(st.integers(1, 2))
    features = groups * draw(st.integers(0, 3))
    x = (draw(st.integers(0, 2)), *(2 + side for side in draw(sides)), features)
    w = (*draw(sides), features // groups, groups * draw(st.integers(0, 3)))
    padding = draw(st.sampled_from(["SAME", "VALID", ((1, 0),) * spatial]))
    return x, w, draw(sides), padding, groups


def shapes_of_product(function, x, w):
    """Shapes of a product and of its gradients."""

    def both(x, w):
        y, pullback = jax.vjp(function, x, w)
        return y, *pullback(y)

    return jax.eval_shape(both, x, w)


@cases(60)
@given(st.data())
def test_crossbars_compute_whatever_lax_computes(data):
    spec = data.draw(crossbar_specs())
    dtype = data.draw(st.sampled_from(["float32", "bfloat16", "float16"]))
    if data.draw(st.booleans()):
        x_shape, w_shape, strides, padding, groups = data.draw(convolutions())
        letters = "HWD"[: len(strides)]

        def product(convolve):
            return lambda x, w: convolve(
                x, w, strides, padding, feature_group_count=groups,
                dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
            )  # fmt: skip

        ours, theirs = crossbar.NnxConvGeneralDilated, jax.lax.conv_general_dilated
    else:
        rows = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=2))
        batch = data.draw(st.lists(st.integers(0, 3), max_size=1))
        x_shape = (*batch, *data.draw(st.lists(st.integers(0, 3), max_size=2)), *rows)
        w_shape = (*batch, *rows, *data.draw(st.lists(st.integers(0, 3), max_size=2)))
        last = tuple(range(len(x_shape) - len(rows), len(x_shape)))
        first = tuple(range(len(batch), len(batch) + len(rows)))
        together = tuple(range(len(batch)))

        def product(multiply):
            numbers = ((last, first), (together, together))
            return lambda x, w: multiply(x, w, numbers)

        ours, theirs = crossbar.NnxDotGeneral, jax.lax.dot_general
    x, w = (jax.ShapeDtypeStruct(shape, dtype) for shape in (x_shape, w_shape))

    def on_crossbars(x, w):
        return product(ours(spec, rngs=nnx.Rngs(0)))(x, w)

    assert shapes_of_product(on_crossbars, x, w) == shapes_of_product(
        product(theirs), x, w
    )


# ---- what is run, not only traced


ODD_SHAPES = [(), (0,), (1,), (3, 0), (1, 1, 1, 1, 1), (2, 3, 1, 2, 3), (2, 2)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_odd_weights_train_and_age(dtype):
    params = {str(shape): jnp.full(shape, 0.5, dtype) for shape in ODD_SHAPES}
    tx = hic_jax.hic(hic_jax.HICSpec(), 0)
    state = tx.init(params)
    updates = jax.tree.map(lambda p: jnp.full_like(p, 0.1), params)
    change, state = tx.update(updates, state, params)
    params = optax.apply_updates(params, change)
    weights = hic_jax.analog_weights(state)
    aged = hic_jax.read_params(params, hic_jax.drift(weights, hic_jax.YEAR))
    now = hic_jax.read(weights)
    for name, x in aged.items():
        assert (x.shape, x.dtype) == (params[name].shape, params[name].dtype)
        # The year takes (3.15e7 / 38.6)^-0.04 = 0.58 of every conductance.
        np.testing.assert_allclose(
            np.float32(x), 0.58 * np.float32(now[name]), rtol=0.02, atol=1e-6
        )
