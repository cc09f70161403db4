"""`on_crossbars`: a function of parameters, its products computed by crossbars."""

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from hic_jax.array_leaves import is_array, parted
from hic_jax.crossbar import CrossbarSpec, fresh
from hic_jax.crossbar.hooks import check_pure
from hic_jax.labels import kernels, told
from hic_jax.packing import path_name
from hic_jax.path_rules import first_match
from hic_jax.rewriting.origins import ACTIVATION, Origin
from hic_jax.rewriting.plans import Planner
from hic_jax.rewriting.programs import evaluate
from hic_jax.tracing import trace_jaxpr

_NO_RULES: Mapping[str, CrossbarSpec | None] = {}


def on_crossbars(
    function: Callable[..., Any],
    spec: CrossbarSpec | None,
    *,
    rules: Mapping[str, CrossbarSpec | None] = _NO_RULES,
    analog: Any = None,
) -> Callable[..., Any]:
    """The same function, whose products with analog weights crossbars compute.

    It knows nothing of crossbars and is left as it is: whenever it is called, its jaxpr
    is searched for matrix products and convolutions one of whose operands is analog
    weights, moved about but otherwise as they are, and these go through the converters
    and tiles of `hic_jax.crossbar`, forward and backward, as with its hooks. That
    reaches into `jax.jit`, `jax.checkpoint`, `jax.lax.scan`, ``while_loop`` and
    ``cond``. The result may be differentiated, mapped, scanned and compiled as the
    function may; outside of `jax.jit` it is traced at every call.

    The model may be one of Linen (``model.apply``), of Haiku, of Equinox, a function of
    one's own, or one of nnx, given as the module or as the state of `flax.nnx.split`.
    What crossbars compute already, by a hook, is left alone.

    Some products are others than with hooks:
      * a function with derivatives of its own (`jax.custom_vjp`, `jax.custom_jvp`) and
        a product inside: the product is computed by crossbars, its derivative digitally
        as its author says;
      * where the function itself maps over weights (`jax.vmap`), JAX has made one
        product of many: without inputs of their own they are columns side by side,
        and of convolutions groups, whose converters share a range.

    Args:
      function: of parameters, a pytree of arrays or an `flax.nnx.Module`, and of other
        arguments. Among these, what is no array (flags, names) is handed on as it is.
      spec: crossbars of analog weights that no rule speaks of; None for none. Running
        ranges and noise need hooks; `hic_jax.crossbar.fresh_noise` may be around.
      rules: crossbars, or None for a digital layer, by regular expressions of which the
        first that matches the beginning of a parameter's path counts.
      analog: labels of the parameters, "analog" or "digital", or a function that tells
        them, as `hic_jax.analog_labels`; what has none is digital. By default analog
        are the weights of products with the other arguments, but for tables in which
        these look something up, of which a warning tells; a rule with a spec makes such
        a table analog, too.

    Returns:
      A function of the same arguments.

    Raises:
      ValueError: for a spec that needs hooks. When it is called: if a module of nnx is
        in another place than that of the first argument; if a rule matches no
        parameter that is left to it; if nothing is analog; if an operation changes
        analog weights on their way to a product, as adding noise to them or normalising
        them does, or no product multiplies by them.

    Examples:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, hic_jax
      >>> from hic_jax import crossbar
      >>> model = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(2)])
      >>> x = jnp.ones((5, 3))
      >>> params = model.init(jax.random.key(0), x)
      >>> spec = crossbar.CrossbarSpec(tile_rows=128)
      >>> rules = {"params/layers_2": None}
      >>> apply = jax.jit(hic_jax.on_crossbars(model.apply, spec, rules=rules))
      >>> for p in hic_jax.accounting.products(apply, params, x):
      ...     print(p.parameter, p.tile)
      params/layers_0/kernel (128, 256)
      params/layers_2/kernel None
    """
    for one in (spec, *rules.values()):
        if one is None:
            continue
        if not isinstance(one, CrossbarSpec):
            raise ValueError(f"spec={one!r}: must be a CrossbarSpec, or None")
        check_pure(one)

    @functools.wraps(function)
    def computed(params: Any, *arguments: Any, **options: Any) -> Any:
        if not isinstance(params, nnx.Module):
            _refuse_modules((params, arguments, options))
            return _computed(function, spec, rules, analog, params, arguments, options)
        _refuse_modules((arguments, options))
        graph, state = nnx.split(params)

        def of_state(state, *arguments, **options):
            module = nnx.merge(graph, state)
            result = function(module, *arguments, **options)
            return result, nnx.state(module)

        result, state = _computed(
            of_state, spec, rules, analog, state, arguments, options
        )
        nnx.update(params, state)  # Statistics, counts of random numbers.
        return result

    return computed


def _refuse_modules(arguments: Any) -> None:
    def is_module(x):
        return isinstance(x, nnx.Module)

    for x in jax.tree.leaves(arguments, is_leaf=is_module):
        if is_module(x):
            raise ValueError(
                f"function: is given a {type(x).__name__}, and what that changes in "
                "itself would be lost; must be given a module as its first argument"
            )


def _computed(
    function: Callable[..., Any],
    spec: CrossbarSpec | None,
    rules: Mapping[str, CrossbarSpec | None],
    analog: Any,
    params: Any,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
) -> Any:
    """What `on_crossbars` does in a call."""
    arrays, with_arrays = parted((params, arguments, options))
    shapes = {
        path_name(path): np.shape(x)
        for path, x in jax.tree_util.tree_leaves_with_path(params)
        if is_array(x)
    }
    with_results: list[Callable] = []

    def of_arrays(*arrays):
        params, arguments, options = with_arrays(arrays)
        results, rebuilt = parted(function(params, *arguments, **options))
        with_results.append(rebuilt)
        return results

    with fresh.left_to_rewriting():
        program = jax.make_jaxpr(of_arrays)(*arrays)
    specs = _specs(program.jaxpr, shapes, spec, rules, analog, params)
    source = fresh.acting()
    noisy = {} if source is None else _noisy(source, shapes)
    followed = dict.fromkeys(noisy) | specs
    planner = Planner(followed, noisy)
    origins = [Origin.of_weight(n) if n in followed else ACTIVATION for n in shapes]
    origins += [ACTIVATION] * (len(arrays) - len(origins))
    plan, _ = planner.plan(program.jaxpr, origins)
    for path in specs:
        if path in planner.seen and path not in planner.multiplied:
            raise ValueError(
                f"{path}: is analog, and no product multiplies by it; must be digital"
            )
    results = evaluate(program.jaxpr, program.consts, plan, arrays)
    return with_results[0](results)


def _noisy(
    source: fresh.Source, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, str]:
    """Paths in the variances of the parameters that have some."""
    found = {}
    for path, variance in source.variances.items():
        for name in (path, f"params/{path}"):
            if name in shapes:
                if shapes[name] != variance.shape:
                    raise ValueError(
                        f"variances: {path} has the shape {variance.shape}; must have "
                        f"that of the parameter, {shapes[name]}"
                    )
                found[name] = path
    return found


def _specs(
    jaxpr: Any,
    shapes: dict[str, tuple[int, ...]],
    spec: CrossbarSpec | None,
    rules: Mapping[str, CrossbarSpec | None],
    analog: Any,
    params: Any,
) -> dict[str, CrossbarSpec]:
    """Crossbars of all analog weights, by path."""
    ruled = first_match(shapes, rules)
    if analog is None:
        traced = trace_jaxpr(jaxpr, shapes)
        found = kernels(traced, {path: len(shape) for path, shape in shapes.items()})
        tables = [p for p in shapes if p in found & traced.tables and p not in ruled]
        if tables:
            warnings.warn(
                "digital, as tables in which the inputs look something up: "
                f"{', '.join(tables)}; a rule may say otherwise",
                stacklevel=1,  # Python shows it once, however often it is traced.
            )
        found = {p for p in found if p not in traced.tables or ruled.get(p)}
        if not found:
            raise ValueError(
                "function: multiplies none of its first argument with the others but "
                "for tables; what it closes over counts as neither: analog=... tells"
            )
    else:
        found = _labelled(told(analog, params), shapes)
    chosen = {path: ruled.get(path, spec) for path in shapes if path in found}
    return {path: one for path, one in chosen.items() if one is not None}


def _labelled(labels: Any, shapes: dict[str, tuple[int, ...]]) -> set[str]:
    """Paths with the label "analog"."""
    named = {
        path_name(path): label
        for path, label in jax.tree_util.tree_leaves_with_path(labels)
    }
    for path, label in named.items():
        if path not in shapes and label == "analog":
            raise ValueError(
                f"analog[{path!r}]: there is no such parameter; must be among "
                f"{', '.join(shapes)}"
            )
    return {path for path, label in named.items() if label == "analog"}
