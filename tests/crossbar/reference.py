"""What a crossbar computes, multiplication by multiplication, in NumPy.

Any product is a table of its multiplications, y[o] += x[i] w[j]; arrays and converters
are the same for all. Operands are whole numbers of few bits: sums of them are exact in
float32, whatever the order, so that results can be compared bit for bit.
"""

import dataclasses
import functools
import math

import numpy as np

F32 = np.float32


def whole(seed, shape, most=8):
    """Whole numbers in [-most, most], float32."""
    rng = np.random.default_rng(seed)
    return rng.integers(-most, most, shape, endpoint=True).astype(F32)


# ---- tables of multiplications


@dataclasses.dataclass(frozen=True)
class Table:
    """A row for every multiplication: flat indices, and where in the array it sits.

    Inputs drive features of several taps each (a matrix product has one), errors drive
    columns. Examples are numbered, for each input and for each entry of the result; so
    are matrices of a stack, for each weight and for each entry of the result.
    """

    x_example: np.ndarray
    y_example: np.ndarray
    x: np.ndarray
    w: np.ndarray
    y: np.ndarray
    shape: tuple[int, ...]  # Of the result.
    feature: np.ndarray
    column: np.ndarray
    w_matrix: np.ndarray
    y_matrix: np.ndarray
    tap: np.ndarray | int = 0
    taps: int = 1


@functools.cache
def dot_general(x_shape, w_shape, dimension_numbers):
    (x_rows, w_rows), (x_batch, w_batch) = map(_lists, dimension_numbers)
    x_free = [a for a in range(len(x_shape)) if a not in x_rows + x_batch]
    w_free = [a for a in range(len(w_shape)) if a not in w_rows + w_batch]
    batch = [x_shape[a] for a in x_batch]
    free = [x_shape[a] for a in x_free]
    rows = [x_shape[a] for a in x_rows]
    columns = [w_shape[a] for a in w_free]
    sizes = [*batch, *free, *rows, *columns]
    index = np.indices(sizes).reshape(len(sizes), -1)
    ends = np.cumsum([len(batch), len(free), len(rows)])
    in_batch, in_free, row, column = np.split(index, ends)
    x = np.empty((len(x_shape), index.shape[1]), int)
    x[x_batch], x[x_free], x[x_rows] = in_batch, in_free, row
    w = np.empty((len(w_shape), index.shape[1]), int)
    w[w_batch], w[w_free], w[w_rows] = in_batch, column, row
    shape = (*batch, *free, *columns)
    examples = np.arange(math.prod(batch + free)).reshape(batch + free)
    x_order = [*x_batch, *x_free, *x_rows]
    x_example = np.broadcast_to(
        examples.reshape(examples.shape + (1,) * len(rows)), batch + free + rows
    )
    y_example = examples.reshape(examples.shape + (1,) * len(columns))
    matrices = np.arange(math.prod(batch)).reshape(batch)
    w_matrix = np.broadcast_to(
        matrices.reshape(batch + [1] * len(rows + columns)), batch + rows + columns
    )
    y_matrix = matrices.reshape(batch + [1] * len(free + columns))
    return Table(
        x_example=np.transpose(x_example, np.argsort(x_order)),
        y_example=np.broadcast_to(y_example, shape),
        x=_flat(x, x_shape),
        w=_flat(w, w_shape),
        y=_flat([*in_batch, *in_free, *column], shape),
        shape=shape,
        feature=_flat(row, rows),
        column=_flat(column, columns),
        w_matrix=np.transpose(w_matrix, np.argsort([*w_batch, *w_rows, *w_free])),
        y_matrix=np.broadcast_to(y_matrix, shape),
    )


@functools.cache
def convolution(
    x_shape, w_shape, strides, padding,
    lhs_dilation=(1, 1), rhs_dilation=(1, 1), groups=1,
):  # fmt: skip
    """Of (b, h, w, c) with (kh, kw, c / groups, n)."""
    n_batch, *size, _ = x_shape
    *window, features, outputs = w_shape
    spread = [(n - 1) * d + 1 for n, d in zip(size, lhs_dilation, strict=True)]
    reach = [(n - 1) * d + 1 for n, d in zip(window, rhs_dilation, strict=True)]
    result = [
        (spread[a] + sum(padding[a]) - reach[a]) // strides[a] + 1 for a in (0, 1)
    ]
    index = np.indices((n_batch, *result, *window, features, outputs))
    b, i, j, u, v, feature, output = index.reshape(7, -1)
    row = i * strides[0] + u * rhs_dilation[0] - padding[0][0]
    column = j * strides[1] + v * rhs_dilation[1] - padding[1][0]
    # Neither padding nor between dilated inputs.
    there = (0 <= row) & (row < spread[0]) & (row % lhs_dilation[0] == 0)
    there &= (0 <= column) & (column < spread[1]) & (column % lhs_dilation[1] == 0)
    group, output_of_group = np.divmod(output, outputs // groups)
    x = b, row // lhs_dilation[0], column // lhs_dilation[1], group * features + feature
    shape = (n_batch, *result, outputs)
    examples = np.arange(n_batch).reshape(-1, 1, 1, 1)
    return Table(
        x_example=np.broadcast_to(examples, x_shape),
        y_example=np.broadcast_to(examples, shape),
        x=_flat([a[there] for a in x], x_shape),
        w=_flat([a[there] for a in (u, v, feature, output)], w_shape),
        y=_flat([a[there] for a in (b, i, j, output)], shape),
        shape=shape,
        feature=feature[there],
        column=output_of_group[there],
        w_matrix=np.zeros(w_shape, int),
        y_matrix=np.zeros(shape, int),
        tap=(u * window[1] + v)[there],
        taps=math.prod(window),
    )


def _lists(pair):
    return [list(axes) for axes in pair]


def _flat(index, shape):
    """Flat indices into an array of that shape."""
    if not shape:
        return np.zeros(np.shape(index)[1:], int)
    return np.ravel_multi_index(tuple(index), tuple(shape))


# ---- arrays


def array_of(feature, tap, taps, size):
    """Number of the array that holds a row: whole features where one has the room."""
    if not size:
        return np.zeros_like(feature)
    if taps <= size:
        return feature // (size // taps)
    return feature * math.ceil(taps / size) + tap // size


# ---- converters


def codes(x, bound, bits):
    if not bits:
        return x
    most = F32(2 ** (bits - 1) - 1)
    bound = np.asarray(bound, F32)
    per_unit = np.where(bound > 0, most / np.where(bound > 0, bound, F32(1)), F32(0))
    return np.clip(np.rint(x * per_unit), -most, most)


def unit(bound, bits):
    return np.asarray(bound, F32) * F32(1 / (2 ** (bits - 1) - 1)) if bits else F32(1)


def absmax(x, examples=None):
    """Of everything; or, with its number for each entry, of each example."""
    if examples is None:
        return F32(np.max(np.abs(x), initial=0))
    largest = np.zeros(np.max(examples, initial=0) + 1, F32)
    np.maximum.at(largest, examples.ravel(), np.abs(x).ravel())
    return largest[examples]


def read(sums, examples, bits, bound=None):
    """Sum over arrays, each after its converter."""
    total = F32(0)
    for s in sums:
        limit = absmax(s, examples)
        if bound is not None:
            limit = np.where(bound > 0, bound, limit)
        total = total + codes(s, limit, bits) * unit(limit, bits)
    return total


# ---- products


def forward(spec, table, x, w, ranges=(0, 0)):
    """The result, and the largest input and sum; 0 in ``ranges`` is not known yet."""
    known = {"absmax": 0, "fixed": spec.dac_bound, "running": ranges[0]}[spec.dac_range]
    seen = absmax(x, table.x_example)
    bound = np.full_like(seen, known) if known else seen
    drive = codes(x, bound, spec.dac_bits)
    # Of each example, where the result has its entries.
    (bound, driven, step) = (
        _of_result(table, v) for v in (bound, seen, unit(bound, spec.dac_bits))
    )
    largest = _moved(absmax(w, table.w_matrix), table.w_matrix, table.y_matrix)
    limit = {
        "absmax": F32(0),
        "fixed": F32(spec.adc_bound) * ((bound if spec.dac_bits else driven) * largest),
        "running": F32(ranges[1]),
    }[spec.adc_range]
    limit = np.where(step > 0, limit / np.where(step > 0, step, F32(1)), F32(0))
    array = array_of(table.feature, table.tap, table.taps, spec.tile_rows)
    sums = _add_up(array, table.y, drive.flat[table.x] * w.flat[table.w], table.shape)
    y = read(sums, table.y_example, spec.adc_bits, limit) * step
    return y, (absmax(x), absmax(sums * step))


def backward(spec, table, x, w, error):
    """Straight-through gradients of inputs and weights, at a range of absmax or fixed.

    Whatever clips: the gradient does not know.
    """
    x_bound = absmax(x, table.x_example)
    if spec.dac_range == "fixed":
        x_bound = np.full_like(x_bound, spec.dac_bound)
    x_codes = codes(x, x_bound, spec.dac_bits)
    x_step = _of_result(table, unit(x_bound, spec.dac_bits))
    bound = absmax(error, table.y_example)
    drive, step = codes(error, bound, spec.error_dac_bits), F32(1)
    if spec.error_dac_bits:
        step = unit(bound, spec.error_dac_bits)
    array = array_of(table.column, 0, 1, spec.tile_columns)
    sums = _add_up(array, table.x, drive.flat[table.y] * w.flat[table.w], x.shape)
    x_bar = read(sums, table.x_example, spec.error_adc_bits)
    x_bar = x_bar * _of_input(table, step)
    drive = drive * (x_step * step)
    products = x_codes.flat[table.x] * drive.flat[table.y]
    (w_bar,) = _add_up(np.zeros_like(table.w), table.w, products, w.shape)
    return x_bar, w_bar


def _of_result(table, values):
    """What inputs have one of for each example, for each entry of the result."""
    return _moved(values, table.x_example, table.y_example)


def _of_input(table, values):
    return _moved(values, table.y_example, table.x_example)


def _moved(values, examples, others):
    if not np.ndim(values):
        return np.full(others.shape, values, F32)
    each = np.zeros(np.max(examples, initial=0) + 1, F32)
    each[examples.ravel()] = values.ravel()
    return each[others]


def _add_up(array, index, products, shape):
    """(arrays, *shape) sums of products by array and flat index of the result."""
    sums = np.zeros((max(array, default=0) + 1, math.prod(shape)), F32)
    np.add.at(sums, (array, index), products)
    return sums.reshape(-1, *shape)
