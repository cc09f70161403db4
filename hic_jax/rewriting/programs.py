"""A jaxpr, computed anew with the products of a plan on crossbars."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core

from hic_jax.crossbar import CrossbarSpec, fresh
from hic_jax.crossbar.hooks import convolve, multiply_general
from hic_jax.crossbar.straight_through import Ranges
from hic_jax.releases import sizes_of_scan
from hic_jax.rewriting import equations
from hic_jax.rewriting.plans import Changed, Plan

Values = Sequence[Any]


def evaluate(
    jaxpr: core.Jaxpr, consts: Values, plan: Plan, arguments: Values
) -> list[Any]:
    """Results of a program, whose other equations are computed as they were.

    Args:
      jaxpr: the program.
      consts: values of its constants.
      plan: what of it crossbars compute.
      arguments: values of its arguments.
    """
    known = dict(zip(jaxpr.constvars, consts, strict=True))
    known.update(zip(jaxpr.invars, arguments, strict=True))

    def value(atom: core.Var | core.Literal) -> Any:
        return atom.val if isinstance(atom, core.Literal) else known[atom]

    for number, equation in enumerate(jaxpr.eqns):
        operands = [value(atom) for atom in equation.invars]
        change = plan.get(number)
        if change is None:
            made = equations.function_of(jaxpr, equation)(*operands)
        elif isinstance(change, Changed):
            made = [_product(jaxpr, equation, change, operands)]
        else:
            made = _call(jaxpr, equation, change, operands)
        known.update(zip(equation.outvars, made, strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def _product(
    jaxpr: core.Jaxpr, equation: core.JaxprEqn, change: Changed, operands: Values
) -> jax.Array:
    noise = _noise(change)
    if change.spec is not None:
        with fresh.for_a_product(noise):
            return _on_crossbars(equation, change.spec, change.weights, operands)
    as_it_was = equations.function_of(jaxpr, equation)
    (y,) = as_it_was(*operands)
    if noise is None:
        return y
    squares = [jnp.square(x) for x in operands]
    squares[change.weights] = noise.variance.astype(operands[change.weights].dtype)
    return fresh.with_noise(y, as_it_was(*squares)[0], noise.key)


def _noise(change: Changed) -> fresh.Fresh | None:
    """The noise of a product, its variance where its weights are."""
    source = fresh.acting()
    if source is None or change.noisy is None or change.moved is None:
        return None
    noise = source.call(change.noisy)
    return noise._replace(variance=change.moved(noise.variance))


def _on_crossbars(
    equation: core.JaxprEqn, spec: CrossbarSpec, side: int, operands: Values
) -> jax.Array:
    options = dict(equation.params)
    if equation.primitive.name == equations.CONVOLUTION:
        return convolve(spec, Ranges(), None, *operands, **options)[0]
    if side == 1:
        return multiply_general(spec, Ranges(), None, *operands, **options)[0]
    rows, batch = options["dimension_numbers"]
    options["dimension_numbers"] = rows[::-1], batch[::-1]
    if isinstance(options["precision"], tuple):  # Of each operand.
        options["precision"] = options["precision"][::-1]
    weights, inputs = operands
    y, _ = multiply_general(spec, Ranges(), None, inputs, weights, **options)
    # Columns come last there, and are to come before the positions.
    count = weights.ndim - len(rows[0]) - len(batch[0])
    ends, begins = range(y.ndim - count, y.ndim), range(len(batch[0]), y.ndim)
    return jnp.moveaxis(y, ends, begins[:count])


def _call(
    jaxpr: core.Jaxpr,
    equation: core.JaxprEqn,
    plans: tuple[Plan, ...],
    operands: Values,
) -> list[Any]:
    """Results of an equation that calls programs in which something is changed."""
    kind, fields = equation.primitive.name, equation.params
    if kind == "scan":
        return _scan(fields, plans, operands)
    if kind == "while":
        return _while(fields, plans, operands)
    if kind == "cond":
        branches = map(_function, fields["branches"], plans)
        return lax.switch(operands[0], list(branches), *operands[1:])
    (plan,) = plans
    inner = _function(fields.get("jaxpr") or fields["call_jaxpr"], plan)
    as_it_was = equations.function_of(jaxpr, equation)
    if kind in equations.JIT and fresh.acting() is None:  # Noise is no argument of it.
        fields = fields | {"jaxpr": jax.make_jaxpr(inner)(*operands)}
        changed = equations.function_of(jaxpr, equation.replace(params=fields))
        return changed(*operands)
    if kind in equations.REMAT:
        options = {name: fields[name] for name in ("prevent_cse", "policy")}
        return jax.checkpoint(inner, **options)(*operands)
    if kind in equations.CUSTOM_JVP:
        return _custom_jvp(inner, as_it_was)(*operands)
    if kind in equations.CUSTOM_VJP:
        return _custom_vjp(inner, as_it_was)(*operands)
    return inner(*operands)


def _function(program: core.Jaxpr | core.ClosedJaxpr, plan: Plan) -> Callable:
    """An inner program, changed, as a function of its arguments."""
    if isinstance(program, core.ClosedJaxpr):
        return lambda *xs: evaluate(program.jaxpr, program.consts, plan, xs)
    return lambda *xs: evaluate(program, [], plan, xs)


def _scan(fields: dict[str, Any], plans: tuple[Plan, ...], operands: Values) -> Any:
    body = _function(fields["jaxpr"], plans[0])
    constant, carried = sizes_of_scan(fields)
    consts, start = operands[:constant], operands[constant : constant + carried]

    def one_round(carry, xs):
        made = body(*consts, *carry, *xs)
        return made[:carried], made[carried:]

    end, stacked = lax.scan(
        one_round,
        list(start),
        list(operands[constant + carried :]),
        length=fields["length"],
        reverse=fields["reverse"],
        unroll=fields["unroll"],
    )
    return [*end, *stacked]


def _while(fields: dict[str, Any], plans: tuple[Plan, ...], operands: Values) -> Any:
    ends, goes = fields["cond_nconsts"], fields["body_nconsts"]
    condition = _function(fields["cond_jaxpr"], plans[0])
    body = _function(fields["body_jaxpr"], plans[1])
    of_condition, of_body = operands[:ends], operands[ends : ends + goes]
    return lax.while_loop(
        lambda carry: condition(*of_condition, *carry)[0],
        lambda carry: body(*of_body, *carry),
        list(operands[ends + goes :]),
    )


def _custom_jvp(changed: Callable, as_it_was: Callable) -> Callable:
    """A function with the results of one and the derivative of another."""
    function = jax.custom_jvp(changed)

    @function.defjvp
    def derivative(primals, tangents):
        _, made = jax.jvp(as_it_was, primals, tangents)
        return function(*primals), made

    return function


def _custom_vjp(changed: Callable, as_it_was: Callable) -> Callable:
    """As `_custom_jvp`, for a derivative that only goes backward."""
    function = jax.custom_vjp(changed)

    def forward(*operands):
        _, transpose = jax.vjp(as_it_was, *operands)
        return changed(*operands), transpose

    function.defvjp(forward, lambda transpose, errors: transpose(errors))
    return function
