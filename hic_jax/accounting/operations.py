"""What the hardware does in an inference, in a step of training, in all of it.

Counted are the products with weights, the conversions around them, and all pulses and
reads of devices. Not counted: activations, normalisation and the optimizer's own
arithmetic, the digital sums over tiles, and the movement of data.
"""

import collections
import dataclasses
import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from hic_jax import checks
from hic_jax.accounting.tensors import analog_tensors
from hic_jax.accounting.wear import device_pulses
from hic_jax.crossbar import CrossbarSpec
from hic_jax.tracing import Product
from hic_jax.weights import AnalogWeight


@dataclasses.dataclass(frozen=True, kw_only=True)
class Operations:
    """Numbers of operations; they add up, and multiply by a number of repetitions.

    Attributes:
      analog_macs: multiply-accumulates by arrays of multi-level devices, one per weight
        (a pair of devices, or more or fewer) and input vector.
      digital_macs: multiply-accumulates of digital layers, their gradients included,
        and of products of activations.
      gradient_macs: digital multiply-accumulates that make the gradients of analog
        weights.
      dac_conversions: inputs, or errors, at the rows, or columns, of every array.
        Converters of 0 bits, ideal ones, are counted as others.
      adc_conversions: sums at the columns, or rows, of every array.
      idle_adc_conversions: conversions beside these, of ADCs at which no weight is
        read. Whether they are made is up to the hardware.
      product_reads: reads of multi-level devices in products, of each once per input
        vector that it multiplies.
      multilevel_reads: other reads of multi-level devices: to find pairs to refresh,
        and to verify what is written.
      multilevel_sets: SET pulses on multi-level devices; up pulses on two-sided ones.
      multilevel_resets: RESET pulses on multi-level devices; down pulses on two-sided
        ones.
      binary_reads: reads of binary cells, every word once per step, before it is
        updated.
      binary_sets: SET pulses on binary cells.
      binary_resets: RESET pulses on binary cells.
    """

    analog_macs: int = 0
    digital_macs: int = 0
    gradient_macs: int = 0
    dac_conversions: int = 0
    adc_conversions: int = 0
    idle_adc_conversions: int = 0
    product_reads: int = 0
    multilevel_reads: int = 0
    multilevel_sets: int = 0
    multilevel_resets: int = 0
    binary_reads: int = 0
    binary_sets: int = 0
    binary_resets: int = 0

    def __add__(self, other: "Operations") -> "Operations":
        return Operations(
            **{name: n + getattr(other, name) for name, n in vars(self).items()}
        )

    def __mul__(self, times: int) -> "Operations":
        return Operations(**{name: times * n for name, n in vars(self).items()})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Passes:
    """Operations of a batch, pass by pass; an inference is the forward pass alone.

    Attributes:
      forward: inputs through the layers.
      backward: errors through the layers, except into the first.
      gradient: products of inputs and errors, all digital.
    """

    forward: Operations = Operations()
    backward: Operations = Operations()
    gradient: Operations = Operations()

    def __add__(self, other: "Passes") -> "Passes":
        return Passes(
            **{name: n + getattr(other, name) for name, n in vars(self).items()}
        )

    @property
    def total(self) -> Operations:
        """Operations of a step of training."""
        return self.forward + self.backward + self.gradient


def passes(products: Sequence[Product], weights: Any, crossbar: CrossbarSpec) -> Passes:
    """Operations of the products that `hic_jax.accounting.products` found.

    Args:
      products: of a model whose parameters were traced in a tree like ``weights``.
      weights: pytree of weights on devices, which says what is analog; ``{}`` for
        nothing.
      crossbar: arrays of analog products that no crossbars compute in the model.

    Returns:
      The operations of the batch with which the model was traced. An analog weight
      that takes part in no product costs nothing, and a warning names it.

    Raises:
      ValueError: if no analog weight takes part in any product.
    """
    analog = analog_tensors(weights)
    used = {name for p in products for name in (p.parameter, *p.others)}
    unused = sorted(analog.keys() - used)
    if analog and not analog.keys() & used:
        raise ValueError(
            f"weights: none, as {unused[0]!r}, takes part in a product that was "
            "traced; must be of the tree of parameters that was traced"
        )
    if unused:
        warnings.warn(
            "no operations are counted for analog weights that take part in no product "
            f"that was traced: {', '.join(unused)}",
            stacklevel=2,
        )
    return sum(
        (_passes(p, analog.get(p.parameter or ""), crossbar) for p in products),
        Passes(),
    )


def array_counts(
    products: Sequence[Product], weights: Any, crossbar: CrossbarSpec
) -> dict[str, int]:
    """Number of arrays that hold each analog weight, by its path; see `passes`.

    A product may take a part of a weight, as that of one layer of a scan does: there
    are as many parts as make up the weight, in arrays of their own. Of several products
    counts the one that takes the most arrays.
    """
    analog = analog_tensors(weights)
    found: dict[str, int] = {}
    for p in products:
        if p.parameter in analog:
            parts = math.ceil(analog[p.parameter].size / max(1, p.geometry.weights))
            count = parts * p.geometry.array_count(_spec_of(p, crossbar))
            found[p.parameter] = max(count, found.get(p.parameter, 0))
    return found


def writes(
    weights: Any, *, steps: int, carried_pulses: float | None = None
) -> Operations:
    """Pulses that the devices have received, and the reads that went with them.

    The writing of the initial weights is included. Reads: of every multi-level device
    at every look for pairs to refresh; before each pulse of a verified write, and one
    that finds it done; after each pulse of the second half of a zero-shifting; of every
    device of a pair that was written, where the residue is kept; of every accumulator
    word at every step, also where its update is rounded to nothing.

    Args:
      weights: pytree of weights on devices with wear tracked.
      steps: of training that they have seen.
      carried_pulses: pulses that carries fired, blind, in all steps (the event
        ``set_pulses``); all others were verified, where the spec says so. Without it,
        reads of verified writes are not counted.

    Returns:
      Operations without products.
    """
    checks.integer("steps", steps, 0)
    pulses = device_pulses(weights)
    sums = {
        kind: [int(x.sum(dtype=np.int64)) for x in both]
        for kind, both in pulses.items()
    }
    tensors = analog_tensors(weights).values()
    reads: collections.Counter[str] = collections.Counter()
    for weight in tensors:
        reads.update(weight.reads(steps))
    sets, resets = sums["multilevel"]
    verified = 0
    if carried_pulses is not None:
        written = _written(tensors)
        if all(w.spec.refresh_verify for w in tensors):
            blind = round(carried_pulses) if all(w.spec.blind for w in tensors) else 0
            verified = max(0, written.pulses - blind) + written.sides + written.looks
        if all(w.spec.rewrite_residue == "kept" for w in tensors):
            verified += written.devices  # To find what the weight then holds.
    none = (0, 0)
    return Operations(
        multilevel_reads=reads["multilevel"] + verified,
        multilevel_sets=sets,
        multilevel_resets=resets,
        binary_reads=reads["binary"],
        binary_sets=sums.get("binary", none)[0],
        binary_resets=sums.get("binary", none)[1],
    )


class _Written(NamedTuple):
    """What the writing of weights took, and what may have been carried blind.

    Attributes:
      pulses: on multi-level devices, of carries, refreshes and the first writing.
      sides: devices that were written to a target.
      devices: all those of the weights they belong to.
      looks: reads after pulses of a zero-shifting.
    """

    pulses: int
    sides: int
    devices: int
    looks: int


def _written(weights: Iterable[AnalogWeight]) -> _Written:
    total = np.zeros(4, int)
    for weight in weights:
        both = weight.pulses()["multilevel"]
        sets, resets = (int(x.sum(dtype=np.int64)) for x in both)
        if weight.spec.multilevel.TWO_SIDED:
            # Once, at first; what alternated before was read in its second half.
            held = both[0].size
            shifted = weight.spec.zero_shift_pulses * held
            first = held // weight.spec.held_by
            total += (sets + resets - shifted, first, held, shifted // 2)
        else:
            # All devices of a pair are RESET, those of a side written.
            total += (sets, resets // 2, resets, 0)
    return _Written(*(int(x) for x in total))


def _passes(
    product: Product, weight: AnalogWeight | None, crossbar: CrossbarSpec
) -> Passes:
    """Operations of one product, with a weight on devices or a digital one."""
    geometry = product.geometry
    macs = product.repeats * geometry.macs
    if weight is None:
        return Passes(
            forward=Operations(digital_macs=macs),
            backward=Operations(digital_macs=macs * product.backward_products),
            gradient=Operations(digital_macs=macs * (product.parameter is not None)),
        )
    spec = _spec_of(product, crossbar)

    def analog_pass(dac: int, adc: int, idle: int) -> Operations:
        return Operations(
            analog_macs=macs,
            dac_conversions=product.repeats * dac,
            adc_conversions=product.repeats * adc,
            idle_adc_conversions=product.repeats * idle,
            product_reads=weight.devices_in_products * macs,
        )

    idle_forward, idle_backward = geometry.idle_conversions(spec)
    return Passes(
        forward=analog_pass(*geometry.forward_conversions(spec), idle_forward),
        backward=analog_pass(*geometry.backward_conversions(spec), idle_backward)
        * product.backward_products,
        gradient=Operations(gradient_macs=macs),
    )


def _spec_of(product: Product, crossbar: CrossbarSpec) -> CrossbarSpec:
    if product.tile is None:
        return crossbar
    rows, columns = product.tile
    return dataclasses.replace(crossbar, tile_rows=rows, tile_columns=columns)
