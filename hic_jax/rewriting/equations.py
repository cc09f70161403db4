"""What equations of a jaxpr are called, and how one is computed: JAX 0.10.

All that may be another in another version of JAX is in this file.
"""

import itertools
from collections.abc import Callable
from typing import Any

from jax.extend import core

# Calls of one inner program, with the operands of the equation for arguments.
JIT = ("jit", "pjit")
REMAT = ("remat2", "checkpoint", "remat")
CUSTOM_JVP = ("custom_jvp_call",)
CUSTOM_VJP = ("custom_vjp_call",)
CALLS = (*JIT, *REMAT, *CUSTOM_JVP, *CUSTOM_VJP, "closed_call", "core_call")

# Products; of the last no crossbar computes any.
MATRICES, CONVOLUTION = "dot_general", "conv_general_dilated"
PRODUCTS = (MATRICES, CONVOLUTION, "ragged_dot_general")

# Operations that leave entries as they are, elsewhere or in another real type.
REARRANGEMENTS = frozenset(
    "broadcast_in_dim concatenate convert_element_type copy copy_p device_put "
    "expand_dims mesh_cast name optimization_barrier pad pvary reshape reshard rev "
    "sharding_constraint slice split squeeze stack stop_gradient transpose "
    "unstack".split()
)


def function_of(jaxpr: core.Jaxpr, equation: core.JaxprEqn) -> Callable[..., Any]:
    """An equation of a program as a function from its operands to its results."""
    is_variable = [not isinstance(atom, core.Literal) for atom in equation.invars]
    variables = list(dict.fromkeys(itertools.compress(equation.invars, is_variable)))
    alone = jaxpr.replace(
        constvars=(), invars=variables, outvars=equation.outvars, eqns=[equation]
    )
    computed = core.jaxpr_as_fun(core.ClosedJaxpr(alone, ()))

    def function(*operands):
        pairs = zip(equation.invars, operands, strict=True)
        given = dict(itertools.compress(pairs, is_variable))
        return computed(*(given[variable] for variable in variables))

    return function


def of_derivative(equation: core.JaxprEqn) -> bool:
    """Whether `jax.grad` or the like has made it, while the program was traced."""
    names = str(equation.source_info.name_stack)
    return "jvp(" in names or "transpose(" in names
