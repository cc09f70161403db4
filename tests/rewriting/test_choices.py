"""What `on_crossbars` takes for analog, by which crossbars, and what it refuses."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax import lax

import hic_jax
from hic_jax import accounting
from hic_jax.crossbar import CrossbarSpec
from tests.crossbar.reference import whole
from tests.rewriting.hooked import HOOKS, ROWS, SPEC, assert_same

DOT = HOOKS[0]

# ---- what is analog, and by which crossbars


def two_layers(params, x):
    return jnp.tanh(x @ params["encoder"]["kernel"]) @ params["head"]["kernel"]


TWO_LAYERS = {
    "encoder": {"kernel": jnp.asarray(whole(0, (6, 4)) / 8), "bias": jnp.zeros(4)},
    "head": {"kernel": jnp.asarray(whole(1, (4, 3)))},
}
X = jnp.asarray(whole(2, (5, 6)))


def specs_found(function, params=TWO_LAYERS, x=X):
    """Rows of the arrays of every kernel; None where it is digital."""
    found = accounting.products(function, params, x)
    return {p.parameter.split("/")[0]: p.tile and p.tile[0] for p in found}


@pytest.mark.parametrize(
    ("spec", "options", "rows"),
    [
        (SPEC, {}, [5, 5]),
        (SPEC, {"rules": {"head": None}}, [5, None]),
        (None, {"rules": {"head": SPEC}}, [None, 5]),
        (SPEC, {"rules": {"enc.*/kernel": CrossbarSpec(tile_rows=3)}}, [3, 5]),
        (SPEC, {"rules": {"head": None, ".": CrossbarSpec(tile_rows=3)}}, [3, None]),
        (SPEC, {"analog": hic_jax.analog_labels}, [5, 5]),
        (SPEC, {"analog": {"encoder": {"kernel": "analog"}}}, [5, None]),
        (
            SPEC,
            {"analog": hic_jax.analog_labels, "rules": {"encoder": None}},
            [None, 5],
        ),
        (None, {}, [None, None]),
    ],
)
def test_rules_and_labels(spec, options, rows):
    under = hic_jax.on_crossbars(two_layers, spec, **options)
    assert list(specs_found(under).values()) == rows


def test_what_it_closes_over_needs_labels():
    def loss(params):
        return two_layers(params, X)

    with pytest.raises(ValueError, match="it closes over counts as neither: analog="):
        hic_jax.on_crossbars(loss, SPEC)(TWO_LAYERS)
    found = hic_jax.on_crossbars(loss, SPEC, analog=hic_jax.analog_labels)(TWO_LAYERS)
    assert_same(found, hic_jax.on_crossbars(two_layers, SPEC)(TWO_LAYERS, X))


def test_hooks_are_left_alone():
    def model(params, x):
        first = DOT(x, params["encoder"]["kernel"], ROWS)
        return first @ params["head"]["kernel"]

    under = hic_jax.on_crossbars(model, CrossbarSpec(tile_rows=2))
    twice = hic_jax.on_crossbars(under, CrossbarSpec(tile_rows=1))
    for function in (under, twice):
        assert specs_found(function) == {"encoder": 5, "head": 2}


def test_operations_are_counted_as_with_hooks():
    def model(dot):
        return lambda w, x: dot(jnp.tanh(dot(x, w["a"], ROWS)), w["b"].T, ROWS)

    w = {"a": jnp.ones((6, 4)), "b": jnp.ones((3, 4))}
    under = hic_jax.on_crossbars(model(lax.dot_general), SPEC)
    found, expected = (
        accounting.products(function, w, X) for function in (under, model(DOT))
    )
    assert found == expected
    assert [(p.tile, p.geometry.macs) for p in found] == [((5, 3), 120), ((5, 3), 60)]
    axes = [hic_jax.find_kernel_axes(f, w, X) for f in (under, model(lax.dot_general))]
    assert axes[0] == axes[1]
    assert hic_jax.analog_labels(w, model=under, inputs=[X]) == dict.fromkeys(
        "ab", "analog"
    )


# ---- what is refused


def normalised(w, x):
    return x @ (w / jnp.linalg.norm(w, axis=0))


def noisy(w, x):
    return x @ (w + 0.1 * jax.random.normal(jax.random.key(0), w.shape))


def modulated(w, x):
    return jnp.einsum("bd,bdh->bh", x, jnp.tanh(x)[:, :, None] * w)


def masked(w, x):
    return jax.jit(lambda w, x: x @ jnp.where(w > 0, w, 0))(w, x)


def chosen(w, x):
    return x @ lax.cond(x[0, 0] > 0, lambda w: w, lambda w: 0.5 * w, w)


def handed_on(w, x):
    start = (jnp.zeros_like(w), x)
    return lax.scan(lambda c, _: ((w, c[1] @ c[0] @ w.T), None), start, length=2)[0]


def beside_others(w, x):
    return x @ jnp.concatenate([w, jnp.cos(x[:, :1].T * jnp.ones((6, 1)))], 1)


def padded(w, x):
    return x @ jnp.pad(w, ((0, 0), (0, 1)), constant_values=1)


def counted(w, x):
    return x @ w.astype(int)


def squared(w, x):
    return x @ (w @ w.T)


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (normalised, "div"), (noisy, "add"), (modulated, "mul"), (masked, "select_n"),
        (chosen, "cond"), (handed_on, "scan"), (beside_others, "concatenate"),
        (squared, "dot_general"), (padded, "pad"), (counted, "convert_element_type"),
    ],
)  # fmt: skip
def test_weights_that_something_changes_are_refused(function, kind):
    params = {"layer": {"v": TWO_LAYERS["encoder"]["kernel"]}}
    model = lambda params, x: function(params["layer"]["v"], x)  # noqa: E731
    labels = {"layer": {"v": "analog"}}
    message = f"layer/v: reaches a product after '{kind}' has changed it"
    with pytest.raises(ValueError, match=message):
        hic_jax.on_crossbars(model, SPEC, analog=labels)(params, X)
    # It may be said to be digital.
    digital = hic_jax.on_crossbars(model, SPEC, analog=labels, rules={"layer/v": None})
    assert_same(digital(params, X), model(params, X))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda w, x: x[:, :4] * w[0], ": is analog, and no product multiplies by it"),
        (lambda w, x: jax.grad(lambda x: jnp.sum(x @ w))(x), "takes a derivative"),
        (lambda w, x: jax.jvp(lambda x: x @ w, (x,), (x,)), "takes a derivative, with"),
        (lambda w, x: jax.grad(jax.jit(lambda x: jnp.sum(x @ w)))(x), "takes a deriv"),
        (lambda w, x: lax.platform_dependent(
            w, x, cpu=lambda w, x: x @ w, default=lambda w, x: x @ (1 * w)),
         "goes into a 'cond' with a product inside"),
        (lambda w, x: lax.ragged_dot(x, w[None], jnp.array([5])),
         "by 'ragged_dot_general', which crossbars do not compute"),
        (lambda w, x: lax.conv(w[None, None], x[None, None, :2, :2], (1, 1), "SAME"),
         "is the image of a convolution"),
        (lambda w, x: jax.shard_map(
            lambda w, x: x @ w, mesh=jax.make_mesh((1,), ("i",)),
            in_specs=jax.P(), out_specs=jax.P())(w, x),
         "goes into a 'shard_map' with a product inside"),
    ],
)  # fmt: skip
def test_what_crossbars_cannot_compute_is_refused(function, message):
    under = hic_jax.on_crossbars(function, SPEC, analog=lambda params: "analog")
    with pytest.raises(ValueError, match=message):
        under(TWO_LAYERS["encoder"]["kernel"], X)


def test_weights_of_one_product_have_the_same_crossbars():
    def model(params, x):
        return x @ jnp.concatenate([params["a"], params["b"]], 1)

    params = dict.fromkeys("ab", TWO_LAYERS["encoder"]["kernel"])
    assert hic_jax.on_crossbars(model, SPEC)(params, X).shape == (5, 8)
    rules = {"a": CrossbarSpec(tile_rows=2)}
    with pytest.raises(ValueError, match="a, b: are weights of one product, and have"):
        hic_jax.on_crossbars(model, SPEC, rules=rules)(params, X)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rules": {"heat": None}}, "rule='heat': must match the beginning of a path"),
        ({"rules": {"head": None, "head/k": SPEC}}, "rule='head/k': must match"),
        ({"analog": {"heat": "analog"}}, "'heat']: there is no such parameter; must"),
        ({"analog": {"head": {"kernel": "pcm"}}}, "kernel'.='pcm': must be one of"),
    ],
)
def test_rules_and_labels_of_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        hic_jax.on_crossbars(two_layers, SPEC, **options)(TWO_LAYERS, X)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (CrossbarSpec(dac_range="running"), "a running range needs state"),
        (CrossbarSpec(adc_noise=0.1), "noise needs a new key"),
        (8, "spec=8: must be a CrossbarSpec, or None"),
    ],
)
def test_crossbars_that_need_more_than_a_function_are_refused(spec, message):
    for given in ((spec, {}), (None, {"rules": {"head": spec}})):
        with pytest.raises(ValueError, match=message):
            hic_jax.on_crossbars(two_layers, given[0], **given[1])


def test_a_module_in_another_place_is_refused():
    layer = nnx.Linear(6, 4, rngs=nnx.Rngs(0))
    under = hic_jax.on_crossbars(lambda w, layer, x: layer(x) @ w, SPEC)
    with pytest.raises(ValueError, match="given a Linear, and what that changes in it"):
        under(TWO_LAYERS["head"]["kernel"], layer, X)
    with pytest.raises(ValueError, match="given a Linear, and what that changes in it"):
        under({"layer": layer}, None, X)
