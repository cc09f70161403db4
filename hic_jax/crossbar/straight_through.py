"""The product of a crossbar, forward and backward, between its converters."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from hic_jax.convolution import materialised
from hic_jax.crossbar import converters
from hic_jax.crossbar.converters import absmax
from hic_jax.crossbar.fresh import Fresh, with_noise
from hic_jax.crossbar.products import Convolution, MatrixProduct
from hic_jax.crossbar.spec import CrossbarSpec

# Numbers of a product's two random streams: the noise of either pass.
_FORWARD, _BACKWARD = 0, 1


class Ranges(NamedTuple):
    """Largest input and largest partial sum, in the layer's units.

    Given to a product, they are what its converters assume: () or of the rank of inputs
    and sums; None or 0 stands for the absmax of each example. A product answers with
    those that it saw, ().

    Attributes:
      dac: float32 largest input.
      adc: float32 largest partial sum.
    """

    dac: jax.Array | None = None
    adc: jax.Array | None = None


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def multiply(
    product: MatrixProduct | Convolution,
    spec: CrossbarSpec,
    x: jax.Array,
    w: jax.Array,
    ranges: Ranges,
    key: jax.Array | None = None,
    fresh: Fresh | None = None,
    zeros: jax.Array | None = None,
) -> tuple[jax.Array, Ranges]:
    r"""``product(x, w)`` as a crossbar computes it.

    With D and A for the converters, x and w cut into tiles t:

    .. math::
      y = \sum_t A(D(x)_t w_t), \quad
      \bar x = \sum_t A'(D'(\bar y)_t w_t^T), \quad
      \bar w = D(x)^T D'(\bar y), \quad
      \bar z = |D(x)|^T |D'(\bar y)|

    The gradient passes straight through the converters, clipped or not; the one of the
    weights is computed digitally, from codes in units of each example (which bfloat16
    rounds to eight bits). Derivatives of the gradient pass straight through, too.

    Args:
      product: what is computed.
      spec: the arrays and converters.
      x: inputs.
      w: weights, as read now.
      ranges: what the converters assume.
      key: draws the noise of all reads, those of the backward pass on a stream of
        their own; None without noise.
      fresh: noise of the weights that is new in every product of the forward pass.
      zeros: of the shape of ``w``, whose gradient z is to be a sum of absolute values
        (`hic_jax.crossbar.gradient_totals`); None without.

    Returns:
      The result, and the ranges that were seen.
    """
    del zeros
    y, seen, _ = _forward(product, spec, x, w, ranges, key, fresh)
    return y, seen


def _forward(product, spec, x, w, ranges, key, fresh):
    largest = absmax(x, kept=product.input_examples)
    bound = _known_or(ranges.dac, largest)
    codes = converters.to_codes(x, bound, spec.dac_bits)
    unit = converters.unit(bound, spec.dac_bits)
    bound, unit = (
        _moved(v, product.input_examples, product.result_examples)
        for v in (bound, unit)
    )
    adc_bound = ranges.adc
    if adc_bound is not None:  # In codes; where there is no input, at no range.
        adc_bound = jnp.where(bound < converters.TINY, 0.0, adc_bound / unit)
    examples = product.result_examples
    columns = _adcs(
        examples, adc_bound, spec.adc_bits, spec.adc_noise, _stream(key, _FORWARD)
    )

    def read(tile, sums, variances=None):
        if fresh is not None:
            noise_key = jax.random.fold_in(fresh.key, tile)
            sums = with_noise(sums, variances, noise_key)
        most = jnp.max(unit * absmax(sums, kept=examples), initial=0.0)
        return columns(tile, sums), most

    pairs = [(codes, w)]
    if fresh is not None:
        pairs.append((codes**2, fresh.variance.astype(w.dtype)))
    y, most = product.add_up(read, spec.tile_rows, *pairs)
    seen = Ranges(jnp.max(largest, initial=0.0), most)
    return y * unit.astype(y.dtype), seen, (codes, unit)


def _forward_for_gradient(product, spec, x, w, ranges, key, fresh, zeros):
    y, seen, (codes, unit) = _forward(product, spec, x, w, ranges, key, fresh)
    return (y, seen), (codes, unit, w, ranges, key, zeros)


def _backward(product, spec, residuals, cotangents):
    codes, unit, w, ranges, key, zeros = residuals
    error, _ = cotangents
    bound = absmax(error, kept=product.result_examples)
    error_codes = converters.to_codes(error, bound, spec.error_dac_bits)
    error_unit = converters.unit(bound, spec.error_dac_bits)
    codes, error_codes = materialised(codes), materialised(error_codes)
    rows = _adcs(
        product.input_examples, None, spec.error_adc_bits, spec.adc_noise,
        _stream(key, _BACKWARD),
    )  # fmt: skip
    x_bar, _ = product.add_up_transposed(
        lambda tile, sums: (rows(tile, sums), jnp.zeros(())),
        spec.tile_columns, error_codes, w, codes,
    )  # fmt: skip
    # Examples of different units add up.
    codes_, weighted, w_ = map(_wide, (codes, error_codes, w))
    weighted = materialised(weighted * (unit * error_unit).astype(weighted.dtype))
    w_bar = _outer(product, codes_, weighted, w_)
    z_bar = None
    if zeros is not None:
        z_bar = _outer(product, jnp.abs(codes_), jnp.abs(weighted), w_)
        z_bar = z_bar.astype(zeros.dtype)
    error_unit = _moved(error_unit, product.result_examples, product.input_examples)
    return (
        (x_bar * error_unit.astype(x_bar.dtype)).astype(codes.dtype),
        w_bar.astype(w.dtype),
        jax.tree.map(jnp.zeros_like, ranges),
        None,
        None,
        z_bar,
    )


multiply.defvjp(_forward_for_gradient, _backward)


def _outer(product, codes, errors, w):
    """Products of all inputs and errors, added up for each weight."""
    (added,) = jax.linear_transpose(lambda w: product(codes, w), w)(errors)
    return added


def _adcs(examples, bound, bits, noise, key):
    """What converters make of the sums of a tile: a function of its number and them."""

    def read(tile, x):
        limit = _known_or(bound, absmax(x, kept=examples))
        if noise:
            tile_key = jax.random.fold_in(key, tile)
            normal = jax.random.normal(tile_key, x.shape, x.dtype)
            x = x + noise * limit.astype(x.dtype) * normal
        return converters.convert(x, limit, bits)

    return read


def _stream(key: jax.Array | None, number: int) -> jax.Array | None:
    return None if key is None else jax.random.fold_in(key, number)


def _wide(x: jax.Array) -> jax.Array:
    """``x``; float32 for float16, which holds neither small errors nor large sums."""
    return x.astype(jnp.float32) if x.dtype == jnp.float16 else x


def _moved(x: jax.Array, source: tuple[int, ...], to: tuple[int, ...]) -> jax.Array:
    """Values of the examples, along the axes where the other operand has those.

    One value for all examples stays what it is.
    """
    return jnp.moveaxis(x, source, to) if x.ndim else x


def _known_or(bound: jax.Array | None, seen: jax.Array) -> jax.Array:
    return seen if bound is None else jnp.where(bound > 0, bound, seen)
