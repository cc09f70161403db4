"""Crossbar twins of `jax.lax.dot_general` and `jax.lax.conv_general_dilated`.

They go into any flax layer that takes ``dot_general=`` or ``conv_general_dilated=``,
Linen or nnx, attention included; the layer's kernel is the right operand.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from hic_jax.crossbar.converters import absmax
from hic_jax.crossbar.geometry import (
    Geometry,
    convolution_roles,
    matrix_roles,
    tagged,
)
from hic_jax.crossbar.products import Convolution, MatrixProduct
from hic_jax.crossbar.spec import CrossbarSpec
from hic_jax.crossbar.straight_through import Ranges, multiply


def dot_general(spec: CrossbarSpec) -> Callable[..., jax.Array]:
    """A `jax.lax.dot_general` computed by crossbars.

    Rows are the contracted axes, in the order of the dimension numbers; each entry of
    the batch axes has arrays of its own.

    Args:
      spec: arrays and converters, without a running range.

    Raises:
      ValueError: for a running range, which needs state: use the modules of
        `hic_jax.crossbar.running`.

    Examples:
      >>> import flax.linen as nn
      >>> from hic_jax import crossbar
      >>> spec = crossbar.CrossbarSpec(tile_rows=128)
      >>> layer = nn.Dense(10, dot_general=crossbar.dot_general(spec))
    """
    _check_stateless(spec)

    def crossbar_dot_general(lhs, rhs, dimension_numbers, **options):
        y, _ = multiply_general(spec, Ranges(), lhs, rhs, dimension_numbers, **options)
        return y

    return crossbar_dot_general


def conv_general_dilated(spec: CrossbarSpec) -> Callable[..., jax.Array]:
    """A `jax.lax.conv_general_dilated` computed by crossbars.

    Rows are the input channels of a group with all their taps. See `dot_general`.
    """
    _check_stateless(spec)

    def crossbar_conv_general_dilated(lhs, rhs, *arguments, **options):
        y, _ = convolve(spec, Ranges(), lhs, rhs, *arguments, **options)
        return y

    return crossbar_conv_general_dilated


def _check_stateless(spec: CrossbarSpec) -> None:
    if spec.runs:
        raise ValueError(
            f"dac_range={spec.dac_range!r}, adc_range={spec.adc_range!r}: a running "
            "range needs state; use LinenDotGeneral, NnxDotGeneral or their "
            "convolution twins"
        )


def multiply_general(
    spec: CrossbarSpec,
    running: Ranges,
    lhs: jax.Array,
    rhs: jax.Array,
    dimension_numbers: Any,
    precision: Any = None,
    preferred_element_type: Any = None,
    **options: Any,
) -> tuple[jax.Array, Ranges]:
    """The product, and the ranges that were seen.

    Args:
      spec: arrays and converters.
      running: running ranges, where the spec asks for them; 0 before there are any.
      lhs: inputs.
      rhs: weights.
      dimension_numbers: as of `jax.lax.dot_general`.
      precision: as of `jax.lax.dot_general`.
      preferred_element_type: of the result.
      **options: others of `jax.lax.dot_general`; none may be set.
    """
    _check_unset("dot_general", options)
    (lhs_rows, rhs_rows), (lhs_batch, rhs_batch) = dimension_numbers
    lhs_free = [a for a in range(lhs.ndim) if a not in (*lhs_rows, *lhs_batch)]
    rhs_free = [a for a in range(rhs.ndim) if a not in (*rhs_rows, *rhs_batch)]
    shape = [lhs.shape[a] for a in (*lhs_batch, *lhs_free)]
    shape += [rhs.shape[a] for a in rhs_free]
    x = _grouped(lhs, lhs_batch, lhs_free, lhs_rows)
    w = _grouped(rhs, rhs_batch, rhs_rows, rhs_free)
    y, seen = _multiply(MatrixProduct(precision), spec, x, w, running)
    geometry = Geometry.of_matrices(lhs.shape, rhs.shape, dimension_numbers)
    y = tagged(y, geometry, w.shape, matrix_roles(3, rows=[1], batch=[0]), spec)
    return y.reshape(shape).astype(preferred_element_type or y.dtype), seen


def convolve(
    spec: CrossbarSpec,
    running: Ranges,
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    **options: Any,
) -> tuple[jax.Array, Ranges]:
    """The convolution, and the ranges that were seen.

    Args:
      spec: arrays and converters.
      running: running ranges, where the spec asks for them; 0 before there are any.
      lhs: inputs.
      rhs: weights.
      window_strides: this and the following as of `jax.lax.conv_general_dilated`.
      padding: likewise.
      lhs_dilation: likewise.
      rhs_dilation: likewise.
      dimension_numbers: likewise.
      feature_group_count: likewise.
      precision: likewise.
      preferred_element_type: of the result.
      **options: others of it; none may be set.
    """
    if options.get("batch_group_count") == 1:
        del options["batch_group_count"]
    _check_unset("conv_general_dilated", options)
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    product = Convolution(
        window_strides=tuple(window_strides),
        padding=padding if isinstance(padding, str) else tuple(map(tuple, padding)),
        lhs_dilation=lhs_dilation and tuple(lhs_dilation),
        rhs_dilation=rhs_dilation and tuple(rhs_dilation),
        dimension_numbers=numbers,
        feature_group_count=feature_group_count,
        precision=precision,
    )
    y, seen = _multiply(product, spec, lhs, rhs, running)
    geometry = Geometry.of_convolution(
        lhs.shape, rhs.shape, y.shape, numbers, feature_group_count,
        window_strides=window_strides, padding=padding,
        lhs_dilation=lhs_dilation, rhs_dilation=rhs_dilation,
    )  # fmt: skip
    y = tagged(y, geometry, rhs.shape, convolution_roles(numbers), spec)
    return y.astype(preferred_element_type or y.dtype), seen


def _multiply(product, spec, x, w, running):
    """Sets the ranges that the spec fixes, and multiplies."""
    x, w = jnp.asarray(x), jnp.asarray(w)
    dac = {
        "absmax": None,
        "fixed": jnp.float32(spec.dac_bound),
        "running": running.dac,
    }[spec.dac_range]
    adc = None
    if spec.adc_range == "running":
        adc = running.adc
    elif spec.adc_range == "fixed":
        largest = dac
        if dac is None or not spec.dac_bits:
            kept, to = product.input_examples, product.result_examples
            largest = jnp.moveaxis(absmax(x, kept=kept), kept, to)
        adc = spec.adc_bound * jax.lax.stop_gradient(largest * absmax(w))
    return multiply(product, spec, x, w, Ranges(dac, adc))


def _grouped(x: jax.Array, *groups: Sequence[int]) -> jax.Array:
    """Transposes to the axes in groups, and flattens each group."""
    x = jnp.transpose(x, [axis for group in groups for axis in group])
    sizes = iter(x.shape)
    return x.reshape([math.prod(next(sizes) for _ in group) for group in groups])


def _check_unset(name: str, options: dict[str, Any]) -> None:
    given = {key: value for key, value in options.items() if value is not None}
    if given:
        raise ValueError(f"{name}: a crossbar has no use for {given}")
