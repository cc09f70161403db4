"""Compensations of drift for any model: what it may do without writing a device.

Digital gains on the outputs of analog layers (`gains`), and running statistics of
BatchNorm that are estimated anew (`adabs`). `hic_jax.inference.compensations` does
both, by name, to the networks of the launchers.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from hic_jax import checks
from hic_jax.streams import stream
from hic_jax.weights import is_analog, read, read_params

# AdaBS as published keeps 0.015 of the old running statistics.
ADABS_KEPT = 0.015

# Which columns share a gain: all of a layer, or none.
PER = ("layer", "column")


def column_currents(weights: Any, *, key: jax.Array | None = None) -> Any:
    """Summed absolute current of every column, its rows driven one at a time.

    One row driven alone makes each column's current the weight between them, so this
    is the sum of what a read of the weights finds.

    Args:
      weights: pytree of weights on devices, which know their rows and columns
        (`hic_jax.KernelAxes`).
      key: draws the read noise; without one the read is exact.

    Returns:
      The same tree with float32 in units of weight: the shape of the weights, but for
      their rows, of which 1 is left.
    """

    def currents(weight, held):
        rows = weight.axes.rows(held.ndim)
        return jnp.sum(jnp.abs(held), axis=rows, keepdims=True)

    if key is not None:
        key = stream(key, "column currents")
    return jax.tree.map(currents, weights, read(weights, key=key), is_leaf=is_analog)


def gains(
    weights: Any, reference: Any, *, per: str = "layer", key: jax.Array | None = None
) -> Any:
    r"""Drift compensation by digital gains on the outputs of analog layers.

    With one for each layer, or each part of a stack of layers, it is global drift
    compensation (GDC); with one for each column the sums go over the rows i alone:

    .. math::
      \alpha = \sum_{ij} |W_{ij}(t_{ref})| / \sum_{ij} |W_{ij}(t)|

    Args:
      weights: pytree of weights on devices, as they are now.
      reference: `column_currents` of the same devices when they were new.
      per: "layer" or "column".
      key: draws the read noise now; without one the read is exact.

    Returns:
      The same tree with float32, broadcastable to the weights: rows are of size 1, and
      so are columns with one gain for each layer. It is 1 where there is no current.
      `with_gains` puts them into parameters.

    Raises:
      ValueError: if ``per`` is another word.

    References:
      Joshi et al., Accurate deep neural network inference using computational
      phase-change memory, Nat. Commun. 11:2473 (2020).

    Examples:
      >>> import jax, jax.numpy as jnp, hic_jax
      >>> from hic_jax import compensation
      >>> params = {"kernel": jnp.linspace(-1, 1, 64).reshape(8, 8)}
      >>> state = hic_jax.hic(hic_jax.HICSpec(), key=0).init(params)
      >>> weights = hic_jax.analog_weights(state)
      >>> new, later, now = jax.random.split(jax.random.key(1), 3)
      >>> reference = compensation.column_currents(weights, key=new)
      >>> aged = hic_jax.drift(weights, hic_jax.YEAR)
      >>> gains = compensation.gains(aged, reference, key=later)
      >>> print(f"{gains['kernel'].item():.1f}")  # (1 year / 38.6 s) ** 0.04
      1.7
      >>> params = hic_jax.read_params(params, aged, key=now)
      >>> params = compensation.with_gains(params, gains)
    """
    checks.one_of("per", per, PER)

    def gain(weight, before, now):
        if per == "layer":
            before, now = (
                jnp.sum(x, axis=weight.axes.columns, keepdims=True)
                for x in (before, now)
            )
        return jnp.where(now > 0, before / jnp.where(now > 0, now, 1.0), 1.0)

    now = column_currents(weights, key=key)
    return jax.tree.map(gain, weights, reference, now, is_leaf=is_analog)


def with_gains(params: Any, gains: Any) -> Any:
    """Parameters whose analog leaves have digital gains on their outputs.

    Args:
      params: the model's parameters, as read.
      gains: of `gains`, of the structure of its weights: digital leaves are
        `optax.MaskedNode`s. None for no gains.

    Returns:
      ``params``, dtypes kept.
    """
    if gains is None:
        return params
    # A factor on an output is one on the column of weights that makes it (but for where
    # between two codes an ADC then finds it).
    return jax.tree.map(
        lambda gain, p: (
            p if isinstance(gain, optax.MaskedNode) else p * gain.astype(p.dtype)
        ),
        gains,
        params,
        is_leaf=lambda x: isinstance(x, optax.MaskedNode),
    )


Update = Callable[[Any, Any, Any], Any]


def adabs(
    update: Update,
    params: Any,
    stats: Any,
    weights: Any,
    batches: Sequence[Any],
    *,
    key: jax.Array | None = None,
    gains: Any = None,
    axis_name: str | None = None,
    fresh: bool = True,
) -> Any:
    r"""Adaptive BatchNorm statistics update, for weights that have drifted.

    Running statistics are updated on a few batches of training images, without labels
    and without augmentation: ``new = p old + (1 - p) batch`` with
    :math:`p = 0.015^{1/n}` over n batches, whatever the momentum of a layer is. Only
    statistics change; no device is written. Every batch reads the devices anew, so the
    statistics are not those of one noisy read.

    Args:
      update: ``update(params, stats, batch)`` runs the model in training mode and
        returns what becomes of the statistics. A pure function. Calls with the same
        function and with batches of one shape are compiled once.
      params: the model's parameters; analog leaves only stand for their shape and
        dtype.
      stats: running statistics, a pytree of which every leaf becomes ``m leaf + (1 -
        m) batch`` with some momentum m, 0 included. Those of frozen layers are no
        part of it: ``update`` knows them.
      weights: the devices now, such as `hic_jax.drift` makes them; of the structure
        of `hic_jax.analog_weights`. None if nothing is analog.
      batches: what ``update`` takes, n of them. 13 of 200 images were published.
      key: draws the read noise; without one every read is exact.
      gains: of `gains`, if the chip has any.
      axis_name: of BatchNorms that average over an axis of `jax.vmap` or
        `jax.shard_map`; each batch then is all that there is on that axis. Not needed
        inside of that axis.
      fresh: whether each read draws the noise that is new in every product, too; False
        where ``update`` adds it to the products (`hic_jax.crossbar.fresh_noise`).

    Returns:
      The new statistics.

    Raises:
      ValueError: if there is no batch, no statistic or one that is no mean, or if
        ``update`` returns others or leaves one as it is.

    References:
      Joshi et al., Accurate deep neural network inference using computational
      phase-change memory, Nat. Commun. 11:2473 (2020).

    Examples:
      >>> import flax.linen as nn, jax, optax, hic_jax
      >>> from hic_jax import compensation
      >>> model = nn.Sequential([nn.Dense(4), nn.BatchNorm(use_running_average=False)])
      >>> images = jax.random.normal(jax.random.key(0), (13, 200, 16))
      >>> variables = model.init(jax.random.key(1), images[0])
      >>> params, stats = variables["params"], variables["batch_stats"]
      >>> parts = {"analog": hic_jax.hic(hic_jax.HICSpec(), 2), "digital": optax.sgd(1)}
      >>> state = optax.partition(parts, hic_jax.analog_labels).init(params)
      >>> weights = hic_jax.analog_weights(state)
      >>> def update(params, stats, images):
      ...     variables = {"params": params, "batch_stats": stats}
      ...     _, new = model.apply(variables, images, mutable=["batch_stats"])
      ...     return new["batch_stats"]
      >>> new, old = (
      ...     compensation.adabs(update, params, stats, devices, images)["layers_1"]
      ...     for devices in (weights, hic_jax.drift(weights, hic_jax.YEAR))
      ... )
      >>> print(f"{(old['var'] / new['var']).mean():.2f}")  # (year / 38.6 s) ** -0.08
      0.35

      In nnx ``graph, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)``, and

      >>> def update(params, stats, images):
      ...     model = nnx.merge(graph, params, stats)
      ...     model.train()
      ...     model(images)
      ...     return nnx.state(model, nnx.BatchStat)
    """
    _check_stats(stats)
    if not len(batches):
        raise ValueError("batches=[]: must hold at least one")
    kept = ADABS_KEPT ** (1 / len(batches))
    running = stats
    for i, batch in enumerate(batches):
        read_key = None if key is None else jax.random.fold_in(stream(key, "adabs"), i)
        held = _held(params, weights, gains, read_key, fresh)
        estimate, shares = _batch_statistics(update, held, running, batch, axis_name)
        if i == 0:
            _check_moved(shares)
        running = jax.tree.map(
            lambda old, new: kept * old + (1 - kept) * new, running, estimate
        )
    return jax.tree.map(lambda new, old: new.astype(old.dtype), running, stats)


def _check_stats(stats: Any) -> None:
    leaves = jax.tree.leaves_with_path(stats)
    if not leaves:
        raise ValueError(
            f"stats={stats}: adabs recalibrates BatchNorm, and the network has none"
        )
    for path, leaf in leaves:
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise ValueError(
                f"stats{jax.tree_util.keystr(path)}: holds {jnp.result_type(leaf)}; "
                "must hold running means alone"
            )


def _check_moved(shares: Any) -> None:
    for path, share in jax.tree.leaves_with_path(shares):
        if not isinstance(share, jax.core.Tracer) and not jnp.any(share > 0):
            raise ValueError(
                f"update: leaves stats{jax.tree_util.keystr(path)} as it is; must run "
                "the model in training mode, with frozen layers no part of stats"
            )


@functools.partial(jax.jit, static_argnames="fresh")
def _held(params, weights, gains, key, fresh):
    """Parameters as one read of the devices gives them, and with gains."""
    if weights is not None:
        params = read_params(params, weights, key=key, fresh=fresh)
    return with_gains(params, gains)


@functools.partial(jax.jit, static_argnames=("update", "axis_name"))
def _batch_statistics(update, params, stats, batch, axis_name):
    """Statistics of one batch alone, and its share 1 - m in what becomes of them."""
    if axis_name is not None:
        update = jax.vmap(
            update, in_axes=None, out_axes=None, axis_size=1, axis_name=axis_name
        )

    def updated(old):
        # A copy, because nnx updates the variables that it merges.
        new = update(params, jax.tree.map(jnp.copy, old), batch)
        given: Any = jax.tree.structure(old)  # To mypy its class has no operators.
        returned = jax.tree.structure(new)
        if given != returned:
            raise ValueError(
                f"update: returns {returned}; must return statistics as they are "
                f"given, {given}"
            )
        return new

    # A layer turns old statistics into m old + (1 - m) batch. Zeros in their place give
    # (1 - m) batch; numbers that are not small beside that then give m.
    zeros = jax.tree.map(
        lambda x: jnp.zeros(x.shape, jnp.promote_types(x.dtype, jnp.float32)), stats
    )
    from_zeros = updated(zeros)
    probes = jax.tree.map(lambda z: jnp.maximum(1.0, jnp.abs(z)), from_zeros)
    shares = jax.tree.map(
        lambda z, probe, new: 1 - (new - z) / probe, from_zeros, probes, updated(probes)
    )
    # Where the share is 0 there is no estimate, and this is NaN.
    return jax.tree.map(jnp.divide, from_zeros, shares), shares
