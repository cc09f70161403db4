"""All that training changes, and how it begins."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.typing import DTypeLike

from hic_jax import crossbar
from hic_jax.algorithms import analog_states, analog_weights
from hic_jax.weights import read_params


class TrainState(struct.PyTreeNode):
    """All that training changes.

    Attributes:
      step: () int32, updates so far.
      params: parameters of the model; analog leaves as the devices were last read.
      batch_stats: running statistics of BatchNorm.
      ranges: running ranges of converters; empty where they are not used.
      opt_state: state of the optax transformation, device state included.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    ranges: Any
    opt_state: Any


def init_state(
    key: jax.Array,
    model: nn.Module,
    tx: optax.GradientTransformation,
    input_shape: tuple[int, ...],
    input_dtype: DTypeLike = jnp.float32,
) -> TrainState:
    """Initial parameters, programmed onto devices where the transformation has any.

    Args:
      key: draws the parameters.
      model: called with ``(inputs, train=)``.
      tx: the transformation.
      input_shape: shape of one input, as (h, w, c) of an image.
      input_dtype: type of the inputs.
    """
    variables = _compiled_draws()(key, model, input_shape, input_dtype)
    return _programmed(variables, tx)


def state_shapes(
    key: jax.Array,
    model: nn.Module,
    tx: optax.GradientTransformation,
    input_shape: tuple[int, ...],
    input_dtype: DTypeLike = jnp.float32,
) -> TrainState:
    """`jax.ShapeDtypeStruct`s of what `init_state` makes: traced, but not drawn."""
    variables = _compiled_draws().eval_shape(key, model, input_shape, input_dtype)
    return _programmed.eval_shape(variables, tx)


@functools.cache
def _compiled_draws():
    names = ("model", "input_shape", "input_dtype")
    return jit_once(initial_variables, static_argnames=names)


def jit_once(function: Callable, **options: Any) -> Callable:
    """`jax.jit` of draws that are made once.

    On the CPU, LLVM takes longer to optimise the draws of all kernels than anything
    else before the first step (10 s for a ResNet-8, 2 s without).
    """
    quick = {"xla_backend_optimization_level": 0}
    on_cpu = jax.default_backend() == "cpu"
    return jax.jit(function, **options, compiler_options=quick if on_cpu else None)


def initial_variables(
    key: jax.Array,
    model: nn.Module,
    input_shape: tuple[int, ...],
    input_dtype: DTypeLike = jnp.float32,
) -> Any:
    """Variables of the model, drawn, before any device holds them."""
    return model.init(key, jnp.zeros((1, *input_shape), input_dtype), train=False)


def programmed(variables: Any, tx: optax.GradientTransformation) -> TrainState:
    """The state before the first step, from the variables of a model."""
    params = variables["params"]
    opt_state = tx.init(params)
    if analog_states(opt_state):
        # Devices are programmed with noise: train from what they hold.
        params = read_params(params, analog_weights(opt_state))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        ranges=variables.get(crossbar.COLLECTION, {}),
        opt_state=opt_state,
    )


# A program of its own: all devices are one array, whose pulses it pays to optimise.
_programmed = jax.jit(programmed, static_argnames="tx")
