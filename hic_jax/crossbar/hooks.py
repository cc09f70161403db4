"""Crossbar twins of `jax.lax.dot_general` and `jax.lax.conv_general_dilated`.

They go into any flax layer that takes ``dot_general=`` or ``conv_general_dilated=``,
Linen or nnx, attention included; the layer's kernel is the right operand. In
``jnp.einsum(..., _dot_general=)`` that is the operand whose axes end the result.
"""

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike, DTypeLike

from hic_jax.crossbar.callers import calling_modules
from hic_jax.crossbar.converters import absmax
from hic_jax.crossbar.fresh import take as take_noise
from hic_jax.crossbar.geometry import (
    Geometry,
    convolution_roles,
    matrix_roles,
    tagged,
)
from hic_jax.crossbar.products import Convolution, MatrixProduct
from hic_jax.crossbar.spec import CrossbarSpec
from hic_jax.crossbar.straight_through import Ranges, multiply
from hic_jax.crossbar.totals import take as take_zeros
from hic_jax.sharding import divided_like


def dot_general(spec: CrossbarSpec) -> Callable[..., jax.Array]:
    """A `jax.lax.dot_general` computed by crossbars.

    Rows are the contracted axes, in the order of the dimension numbers; each entry of
    the batch axes has arrays of its own.

    Args:
      spec: arrays and converters, without running ranges and without noise.

    Raises:
      ValueError: for a running range, which needs state, and for noise, which needs
        keys: those of `hic_jax.crossbar.linen` and `hic_jax.crossbar.nnx` have them.

    Examples:
      >>> import flax.linen as nn
      >>> from hic_jax import crossbar
      >>> spec = crossbar.CrossbarSpec(tile_rows=128)
      >>> layer = nn.Dense(10, dot_general=crossbar.dot_general(spec))
    """
    check_pure(spec)

    @functools.wraps(lax.dot_general)
    def crossbar_dot_general(*arguments, **options):
        return multiply_general(spec, Ranges(), None, *arguments, **options)[0]

    return crossbar_dot_general


def conv_general_dilated(spec: CrossbarSpec) -> Callable[..., jax.Array]:
    """A `jax.lax.conv_general_dilated` computed by crossbars.

    Rows are the input channels of a group with all their taps. See `dot_general`.
    """
    check_pure(spec)

    @functools.wraps(lax.conv_general_dilated)
    def crossbar_conv_general_dilated(*arguments, **options):
        return convolve(spec, Ranges(), None, *arguments, **options)[0]

    return crossbar_conv_general_dilated


def check_pure(spec: CrossbarSpec) -> None:
    """Raises `ValueError` for crossbars that need state, or random numbers."""
    remedy = "use LinenDotGeneral, NnxDotGeneral or their convolution twins"
    if spec.runs:
        raise ValueError(
            f"dac_range={spec.dac_range!r}, adc_range={spec.adc_range!r}: a running "
            f"range needs state; {remedy}"
        )
    if spec.adc_noise:
        raise ValueError(
            f"adc_noise={spec.adc_noise}: noise needs a new key for every read; "
            f"{remedy}, which draw them from a stream of random numbers"
        )


def multiply_general(
    spec: CrossbarSpec,
    running: Ranges,
    key: jax.Array | None,
    lhs: ArrayLike,
    rhs: ArrayLike,
    dimension_numbers: Any,
    precision: Any = None,
    preferred_element_type: DTypeLike | None = None,
    *,
    out_sharding: Any = None,
) -> tuple[jax.Array, Ranges]:
    """The product, and the ranges that were seen.

    Args:
      spec: arrays and converters.
      running: running ranges, where the spec asks for them; 0 before there are any.
      key: draws the noise; None without noise.
      lhs: inputs; integers and booleans are taken as numbers of the weights' type.
      rhs: weights.
      dimension_numbers: as of `jax.lax.dot_general`.
      precision: as of `jax.lax.dot_general`.
      preferred_element_type: of the result.
      out_sharding: must be None.

    Raises:
      ValueError: for operands that are not real numbers, and for what a crossbar has
        no use for.
    """
    _check_unset(out_sharding=out_sharding)
    lhs, rhs = _real(lhs, rhs, preferred_element_type)
    (lhs_rows, rhs_rows), (lhs_batch, rhs_batch) = dimension_numbers
    lhs_free = [a for a in range(lhs.ndim) if a not in (*lhs_rows, *lhs_batch)]
    rhs_free = [a for a in range(rhs.ndim) if a not in (*rhs_rows, *rhs_batch)]
    shape = [lhs.shape[a] for a in (*lhs_batch, *lhs_free)]
    shape += [rhs.shape[a] for a in rhs_free]
    geometry = Geometry.of_matrices(lhs.shape, rhs.shape, dimension_numbers)

    def on_arrays(lhs, rhs, running, key, fresh, zeros):
        x = _grouped(lhs, lhs_batch, lhs_free, lhs_rows)
        w = _grouped(rhs, rhs_batch, rhs_rows, rhs_free)
        if fresh is not None:
            variance = _grouped(fresh.variance, rhs_batch, rhs_rows, rhs_free)
            fresh = fresh._replace(variance=variance)
        if zeros is not None:
            zeros = _grouped(zeros, rhs_batch, rhs_rows, rhs_free)
        product = MatrixProduct(precision)
        y, seen = _multiply(product, spec, x, w, running, key, fresh, zeros)
        y = tagged(y, geometry, w.shape, matrix_roles(3, rows=[1], batch=[0]), spec)
        y = y.reshape(shape)
        return y.astype(preferred_element_type or y.dtype), seen

    def digital(lhs, rhs, *_):
        return lax.dot_general(lhs, rhs, dimension_numbers), _scalars(lhs)

    taken = take_noise(), take_zeros(rhs.shape)
    return divided_like(digital, on_arrays, lhs, rhs, running, key, *taken)


def convolve(
    spec: CrossbarSpec,
    running: Ranges,
    key: jax.Array | None,
    lhs: ArrayLike,
    rhs: ArrayLike,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: DTypeLike | None = None,
    out_sharding: Any = None,
) -> tuple[jax.Array, Ranges]:
    """The convolution, and the ranges that were seen.

    Args:
      spec: arrays and converters.
      running: running ranges, where the spec asks for them; 0 before there are any.
      key: draws the noise; None without noise.
      lhs: inputs; integers and booleans are taken as numbers of the weights' type.
      rhs: weights.
      window_strides: as of `jax.lax.conv_general_dilated`.
      padding: as of `jax.lax.conv_general_dilated`.
      lhs_dilation: as of `jax.lax.conv_general_dilated`.
      rhs_dilation: as of `jax.lax.conv_general_dilated`.
      dimension_numbers: as of `jax.lax.conv_general_dilated`.
      feature_group_count: as of `jax.lax.conv_general_dilated`.
      batch_group_count: must be 1.
      precision: as of `jax.lax.conv_general_dilated`.
      preferred_element_type: of the result.
      out_sharding: must be None.

    Raises:
      ValueError: for operands that are not real numbers, and for what a crossbar has
        no use for; in `flax.linen.ConvLocal`.
    """
    _check_computes()
    _check_unset(
        batch_group_count=None if batch_group_count == 1 else batch_group_count,
        out_sharding=out_sharding,
    )
    lhs, rhs = _real(lhs, rhs, preferred_element_type)
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    product = Convolution(
        window_strides=tuple(window_strides),
        padding=(
            padding if isinstance(padding, str) else tuple((a, b) for a, b in padding)
        ),
        lhs_dilation=tuple(lhs_dilation) if lhs_dilation else None,
        rhs_dilation=tuple(rhs_dilation) if rhs_dilation else None,
        dimension_numbers=numbers,
        feature_group_count=feature_group_count,
        precision=precision,
    )

    def on_arrays(lhs, rhs, running, key, fresh, zeros):
        y, seen = _multiply(product, spec, lhs, rhs, running, key, fresh, zeros)
        # JAX takes none by name with an lhs_dilation, for which alone it matters.
        known = None if isinstance(padding, str) else padding
        geometry = Geometry.of_convolution(
            lhs.shape, rhs.shape, y.shape, numbers, feature_group_count,
            window_strides=window_strides, padding=known,
            lhs_dilation=lhs_dilation, rhs_dilation=rhs_dilation,
        )  # fmt: skip
        y = tagged(y, geometry, rhs.shape, convolution_roles(numbers), spec)
        return y.astype(preferred_element_type or y.dtype), seen

    def digital(lhs, rhs, *_):
        return product(lhs, rhs), _scalars(lhs)

    taken = take_noise(), take_zeros(rhs.shape)
    return divided_like(digital, on_arrays, lhs, rhs, running, key, *taken)


def _scalars(x: jax.Array) -> Ranges:
    """Any that are on the devices of ``x``."""
    return Ranges(jnp.sum(x), jnp.sum(x))


def _multiply(product, spec, x, w, running, key, fresh, zeros):
    """Sets the ranges that the spec fixes, and multiplies."""
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
        weights = absmax(w, kept=product.stack)
        adc = spec.adc_bound * jax.lax.stop_gradient(largest * weights)
    return multiply(product, spec, x, w, Ranges(dac, adc), key, fresh, zeros)


def _real(
    lhs: ArrayLike, rhs: ArrayLike, preferred: DTypeLike | None
) -> tuple[jax.Array, jax.Array]:
    """Both operands as floating-point numbers; the result must be one, too."""
    lhs, rhs = jnp.asarray(lhs), jnp.asarray(rhs)
    common = jnp.result_type(lhs, rhs)
    allowed = "a crossbar computes real numbers: must be of a floating-point type"
    if not jnp.issubdtype(common, jnp.floating):
        raise ValueError(f"lhs.dtype={lhs.dtype}, rhs.dtype={rhs.dtype}: {allowed}")
    if preferred is not None and not jnp.issubdtype(preferred, jnp.floating):
        raise ValueError(f"preferred_element_type={jnp.dtype(preferred)}: {allowed}")
    lhs, rhs = (
        x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(common)
        for x in (lhs, rhs)
    )
    return lhs, rhs


def _grouped(x: jax.Array, *groups: Sequence[int]) -> jax.Array:
    """Transposes to the axes in groups, and flattens each group."""
    x = jnp.transpose(x, [axis for group in groups for axis in group])
    sizes = iter(x.shape)
    return x.reshape([math.prod(next(sizes) for _ in group) for group in groups])


def _check_unset(**options: Any) -> None:
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"{name}={value!r}: a crossbar has no use for it")


def _check_computes() -> None:
    if any(isinstance(module, nn.ConvLocal) for module in calling_modules()):
        raise ValueError(
            "conv_general_dilated: ConvLocal asks it for a shape, and computes without "
            "it: must not be given a crossbar"
        )


def takes_arguments_of(function: Callable) -> Callable[[Callable], Callable]:
    """A decorator of methods: their signature is ``self`` and that of ``function``."""
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    signature = inspect.signature(function)
    parameters = itself, *signature.parameters.values()

    def decorated(method):
        method.__signature__ = signature.replace(parameters=parameters)
        return method

    return decorated
