"""Gains and AdaBS on models of others, Linen and nnx, against NumPy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import hic_jax
from hic_jax import compensation, pcm
from hic_jax.streams import stream
from tests.key_recorder import keys_used_once

SPEC = hic_jax.HICSpec(
    multilevel=pcm.nandakumar_2018(drift_nu_std=0.008), refresh_every=0
)
INPUTS, WIDTH = 6, 5
KEY, OTHER = jax.random.split(jax.random.key(4))


# ---- models: two products, each with a BatchNorm behind it


class Block(nn.Module):
    """One product and its BatchNorm."""

    width: int
    norm: dict

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.width, use_bias=False)(x)
        return nn.BatchNorm(use_running_average=False, **self.norm)(x)


class Residual(nn.Module):
    """As flax's own ResNet, it has a list among its fields and cannot be hashed."""

    widths: list
    norm: dict

    @nn.compact
    def __call__(self, x):
        x = nn.relu(Block(self.widths[0], self.norm)(x))
        for width in self.widths[1:]:
            x = x + Block(width, self.norm)(x)
        return x


class Flat(nn.Module):
    """Of another nesting: layers that `setup` makes, BatchNorms in a list."""

    norm: dict

    def setup(self):
        self.kernels = [nn.Dense(WIDTH, use_bias=False) for _ in range(2)]
        self.norms = [
            nn.BatchNorm(use_running_average=False, **self.norm) for _ in range(2)
        ]

    def __call__(self, x):
        for dense, norm in zip(self.kernels, self.norms, strict=True):
            x = nn.relu(norm(dense(x)))
        return x


def linen(model):
    """(params, stats, update) of a Linen model."""
    x = jnp.ones((2, INPUTS))
    variables = model.init(jax.random.key(0), x)
    params, stats = variables["params"], variables["batch_stats"]

    def update(params, stats, x):
        variables = {"params": params, "batch_stats": stats}
        return model.apply(variables, x, mutable=["batch_stats"])[1]["batch_stats"]

    return params, stats, update


# Of flax 0.11.2 a dictionary is a module as it is.
DICT = getattr(nnx, "Dict", dict)


class Nnx(nnx.Module):
    def __init__(self, norm):
        rngs = nnx.Rngs(0)
        self.first = nnx.Linear(INPUTS, WIDTH, use_bias=False, rngs=rngs)
        self.inner = DICT(bn=nnx.BatchNorm(WIDTH, rngs=rngs, **norm))
        self.second = nnx.Linear(WIDTH, WIDTH, use_bias=False, rngs=rngs)
        self.third = nnx.BatchNorm(WIDTH, rngs=rngs, **norm)

    def __call__(self, x):
        return self.third(self.second(nnx.relu(self.inner["bn"](self.first(x)))))


def in_nnx(norm):
    """(params, stats, update) of an nnx model."""
    model = Nnx(norm)
    model.eval()
    graph, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)

    def update(params, stats, x):
        model = nnx.merge(graph, params, stats)
        model.train()
        model(x)
        return nnx.state(model, nnx.BatchStat)

    return params, stats, update


def residual(norm):
    return linen(Residual([WIDTH, WIDTH], norm))


def flat(norm):
    return linen(Flat(norm))


def on_devices(params, spec=SPEC, seconds=hic_jax.YEAR):
    """The kernels of a model on devices, which then drift."""
    parts = {"analog": hic_jax.hic(spec, key=1), "digital": optax.sgd(1.0)}
    state = optax.partition(parts, hic_jax.analog_labels).init(params)
    return hic_jax.drift(hic_jax.analog_weights(state), seconds)


def _named(tree, name):
    """Leaves of that name, in order, float64."""
    return [
        np.asarray(leaf, np.float64)
        for path, leaf in jax.tree.leaves_with_path(tree)
        if name in jax.tree_util.keystr(path)
    ]


def _moments(params, x):
    """Mean and variance that each BatchNorm finds in a batch."""
    moments = []
    for kernel in _named(params, "kernel"):
        x = x @ kernel
        mean, var = x.mean(axis=0), x.var(axis=0)
        moments.append((mean, var))
        x = np.maximum((x - mean) / np.sqrt(var + 1e-5), 0.0)
    return moments


def _batches(count, size=20, scale=1.0):
    rng = np.random.default_rng(0)
    # Images as they are: neither centred nor of one spread.
    return scale * rng.normal(0.5, np.linspace(0.5, 2, INPUTS), (count, size, INPUTS))


def _other(stats):
    """Running statistics other than those of the start."""
    return jax.tree.map(lambda s: s * 0 + 1 + jnp.arange(s.size), stats)


def _check_law(new, stats, expected_moments, rtol):
    """new = p old + (1 - p) batch, batch by batch."""
    kept = 0.015 ** (1 / len(expected_moments))
    means, variances = _named(stats, "mean"), _named(stats, "var")
    for moments in expected_moments:
        for i, (mean, var) in enumerate(moments):
            means[i] = kept * means[i] + (1 - kept) * mean
            variances[i] = kept * variances[i] + (1 - kept) * var
    for name, expected in (("mean", means), ("var", variances)):
        for a, b in zip(_named(new, name), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


# ---- AdaBS

CASES = {
    "list field": (residual, {}),
    "axis": (residual, {"axis_name": "batch"}),
    "no momentum": (residual, {"momentum": 0.0}),
    "slow variance": (flat, {"use_fast_variance": False, "momentum": 0.9}),
    "another nesting": (flat, {"momentum": 0.5}),
    "nnx": (in_nnx, {}),
    "nnx axis": (in_nnx, {"axis_name": "batch", "momentum": 0.0}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("count", [1, 4])
def test_adabs_follows_its_formula_in_any_model(case, count):
    make, norm = CASES[case]
    params, stats, update = make(norm)
    stats, weights, batches = _other(stats), on_devices(params), _batches(count)
    new = compensation.adabs(
        update, params, stats, weights, batches, axis_name=norm.get("axis_name")
    )
    assert jax.tree.structure(new) == jax.tree.structure(stats)
    held = hic_jax.read_params(params, weights)
    # float32 sums of 20 squares; flax's momentum, 0.99, is known to 1e-7 / 0.01.
    _check_law(new, stats, [_moments(held, x) for x in batches], rtol=3e-5)


def test_such_a_model_is_no_static_argument():
    with pytest.raises(TypeError, match="unhashable"):
        hash(Residual([WIDTH, WIDTH], {}))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_adabs_takes_statistics_of_any_size(momentum):
    params, stats, update = flat({"momentum": momentum})
    weights, batches = on_devices(params), _batches(2, scale=1e4)
    new = compensation.adabs(update, params, stats, weights, batches)
    held = hic_jax.read_params(params, weights)
    # Variances of 1e8 to 1 part in 1e7 / (1 - momentum), and sums of 20 squares.
    _check_law(new, stats, [_moments(held, x) for x in batches], rtol=1e-5)


def test_adabs_inside_of_an_axis_takes_all_that_is_on_it():
    params, stats, update = residual({"axis_name": "batch"})
    weights, batches = on_devices(params), _batches(3)

    def adabs(parts):
        return compensation.adabs(update, params, stats, weights, parts)

    parts = batches.reshape(3, 2, 10, INPUTS).swapaxes(0, 1)
    halves = jax.vmap(lambda parts: adabs(list(parts)), axis_name="batch")(parts)
    held = hic_jax.read_params(params, weights)
    for half in range(2):
        new = jax.tree.map(lambda s, half=half: s[half], halves)
        # As above.
        _check_law(new, stats, [_moments(held, x) for x in batches], rtol=3e-5)


def test_adabs_keeps_the_dtype_of_statistics():
    norm = {"dtype": jnp.bfloat16, "param_dtype": jnp.bfloat16}
    norm["force_float32_reductions"] = False
    params, stats, update = residual(norm)
    assert all(x.dtype == jnp.bfloat16 for x in jax.tree.leaves(stats))
    batches = _batches(2)
    with jax.disable_jit():  # A compiler may keep more bits than it is asked for.
        new = compensation.adabs(update, params, stats, None, batches)
    assert all(x.dtype == jnp.bfloat16 for x in jax.tree.leaves(new))
    # Products, means and squares have 8 bits, and variances are differences of squares.
    # Momenta of 8 bits would leave 1 - 0.99 with errors of tens of percent.
    _check_law(new, stats, [_moments(params, x) for x in batches], rtol=2**-6)


def test_adabs_reads_what_the_chip_infers_with():
    params, stats, update = residual({})
    weights, batches = on_devices(params), _batches(2)
    gains = jax.tree.map(
        lambda w: jnp.linspace(0.5, 3.0, w.shape[-1]),
        hic_jax.read(weights),
    )
    new = compensation.adabs(update, params, stats, weights, batches, gains=gains)
    held = compensation.with_gains(hic_jax.read_params(params, weights), gains)
    expected = [_moments(held, x) for x in batches]
    _check_law(new, stats, expected, rtol=3e-5)  # As above.
    # Without devices the parameters are what counts.
    digital = compensation.adabs(update, held, stats, None, batches)
    _check_law(digital, stats, expected, rtol=3e-5)


@pytest.mark.parametrize("make", [residual, in_nnx])
def test_every_batch_reads_the_devices_anew(make):
    params, stats, update = make({})
    weights = on_devices(params)
    batch = np.ones((2, INPUTS))

    def means(count):
        def of(key):
            return compensation.adabs(
                update, params, stats, weights, [batch] * count, key=key
            )

        new = jax.vmap(of)(jax.random.split(KEY, 200))
        return _named(new, "mean")[0]

    # The weights of n reads are (1 - p) p^i: their squares add up to this.
    kept = 0.015 ** (1 / 5)
    expected = (1 - kept) / (1 + kept) * (1 - kept**10) / 0.985**2  # 0.41
    one, five = (np.var(means(count), axis=0).mean() for count in (1, 5))
    # 1000 samples of each: the standard error is 6 % of it. One read for all gives 1.
    assert five / one == pytest.approx(expected, rel=0.25)


def test_reads_of_adabs_are_independent():
    params, stats = {"kernel": jnp.ones((INPUTS, 2))}, {"mean": jnp.zeros(2)}
    weights, batches = on_devices(params), _batches(3)

    def update(params, stats, x):
        return {"mean": 0.5 * stats["mean"] + 0.5 * (x @ params["kernel"]).mean(0)}

    with keys_used_once() as record:
        compensation.adabs(update, params, stats, weights, batches, key=KEY)
    assert len(record.draws) == 3


def test_a_model_is_compiled_once():
    params, stats, update = residual({})
    weights, traced = on_devices(params), []

    def traced_update(params, stats, batch):
        traced.append(batch)
        return update(params, stats, batch)

    for key in (KEY, OTHER):
        compensation.adabs(traced_update, params, stats, weights, _batches(4), key=key)
    # Twice: a layer's momentum takes two updates of its statistics.
    assert len(traced) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batches": []}, r"batches=\[\]: must hold at least one"),
        ({"stats": {}}, r"stats=\{\}: adabs recalibrates BatchNorm"),
        ({"stats": {"n": jnp.int32(3)}}, r"stats\['n'\]: holds int32; must hold run"),
        (
            {"update": lambda params, stats, x: {"batch_stats": stats}},
            r"update: returns PyTreeDef\(\{'batch_stats': .*; must return statistics",
        ),
        (
            {"update": lambda params, stats, x: stats},
            r"update: leaves stats\['Block_0'\]\['BatchNorm_0'\]\['mean'\] as it is",
        ),
    ],
)
def test_what_adabs_cannot_do_is_said(change, message):
    params, stats, update = residual({})
    weights = on_devices(params)
    arguments = {"update": update, "stats": stats, "batches": _batches(1)} | change
    with pytest.raises(ValueError, match=message):
        compensation.adabs(params=params, weights=weights, **arguments)


def test_a_frozen_layer_is_no_part_of_the_statistics():
    class Frozen(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.BatchNorm(use_running_average=True, name="frozen")(x)
            return Block(WIDTH, {}, name="block")(x)

    params, stats, update = linen(Frozen())
    stats, batches = _other(stats), _batches(2)
    with pytest.raises(ValueError, match=r"leaves stats\['frozen'\]\['mean'\] as it"):
        compensation.adabs(update, params, stats, None, batches)
    frozen = {"frozen": stats["frozen"]}

    def update_block(params, block, x):
        return update(params, frozen | {"block": block}, x)["block"]

    new = compensation.adabs(update_block, params, stats["block"], None, batches)
    mean, var = (np.asarray(stats["frozen"][k], np.float64) for k in ("mean", "var"))
    seen = (batches - mean) / np.sqrt(var + 1e-5)
    expected = [_moments(params, x) for x in seen]
    _check_law(new, stats["block"], expected, rtol=3e-5)  # As above.


# ---- gains


def test_currents_are_those_of_rows_driven_one_at_a_time():
    params, _, _ = residual({})
    weights = on_devices(params)
    currents = _named(compensation.column_currents(weights), "kernel")
    for current, kernel in zip(
        currents, _named(hic_jax.read(weights), "kernel"), strict=True
    ):
        one_by_one = np.zeros(kernel.shape[1])
        for row in np.eye(len(kernel)):
            one_by_one += abs(row @ kernel)
        np.testing.assert_allclose(current[0], one_by_one, rtol=1e-5)  # float32 sums.


@pytest.mark.parametrize("make", [residual, in_nnx])
@pytest.mark.parametrize("per", ["layer", "column"])
@pytest.mark.parametrize("key", [None, KEY], ids=["exact", "noisy"])
def test_gains_make_up_for_what_drift_took_of_the_currents(make, per, key):
    params, _, _ = make({})
    new, old = (on_devices(params, seconds=t) for t in (0.0, hic_jax.YEAR))
    reference = compensation.column_currents(new, key=None if key is None else OTHER)
    gains = compensation.gains(old, reference, per=per, key=key)

    def totals(params):
        axis = {"layer": (0, 1), "column": 0}[per]
        return [abs(kernel).sum(axis) for kernel in _named(params, "kernel")]

    def read(weights, key):  # As the currents were read.
        key = None if key is None else stream(key, "column currents")
        return hic_jax.read_params(params, weights, key=key)

    held = read(old, key)
    mended = compensation.with_gains(held, gains)
    before = read(new, None if key is None else OTHER)
    # float32 sums of up to 30.
    for a, b in zip(totals(mended), totals(before), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    for a, b in zip(totals(held), totals(before), strict=True):
        assert np.all(a < 0.8 * b)  # A year takes 0.42 of it, give or take read noise.
    # Nothing but kernels is scaled.
    for name in ("scale", "bias"):
        np.testing.assert_array_equal(_named(mended, name), _named(params, name))


@pytest.mark.parametrize("per", ["layer", "column"])
def test_without_a_current_the_gain_is_1(per):
    params = {"kernel": jnp.zeros((4, 3)), "other": jnp.ones((4, 3)).at[:, 1].set(0.0)}
    spec = hic_jax.HICSpec(multilevel=pcm.ideal(), refresh_every=0)
    weights = hic_jax.analog_weights(hic_jax.hic(spec, 0).init(params))
    reference = jax.tree.map(lambda c: 2 * c, compensation.column_currents(weights))
    gains = compensation.gains(weights, reference, per=per)
    np.testing.assert_array_equal(
        gains["kernel"], [[1.0] * (1 if per == "layer" else 3)]
    )
    expected = [[2.0]] if per == "layer" else [[2.0, 1.0, 2.0]]
    np.testing.assert_array_equal(gains["other"], expected)


def test_gains_keep_the_dtype_of_parameters():
    params = {"kernel": jnp.ones((4, 3), jnp.bfloat16), "bias": jnp.ones(3)}
    gains = {"kernel": jnp.array([1.0, 2.0, 0.5]), "bias": optax.MaskedNode()}
    mended = compensation.with_gains(params, gains)
    assert mended["kernel"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(mended["kernel"], np.tile([1.0, 2.0, 0.5], (4, 1)))
    assert compensation.with_gains(params, None) is params


def test_gains_are_per_layer_or_column():
    params, _, _ = residual({})
    weights = on_devices(params)
    reference = compensation.column_currents(weights)
    with pytest.raises(ValueError, match=r"per='colum': .*mean 'column'"):
        compensation.gains(weights, reference, per="colum")
