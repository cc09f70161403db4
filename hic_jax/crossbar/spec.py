"""`CrossbarSpec`: the arrays and converters around the devices."""

import dataclasses
import typing

from hic_jax import checks

Range = typing.Literal["absmax", "fixed", "running"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossbarSpec:
    """Arrays of devices and the converters at their edges.

    An array multiplies at one go: digital-to-analog converters (DACs) drive its rows
    with the inputs, and analog-to-digital converters (ADCs) read the sums of its
    columns. A layer of more rows is cut into tiles, whose sums are added digitally. In
    the backward pass errors drive the columns of the same arrays and the rows are read.

    Converters are symmetric: of b bits, codes from -(2^(b-1) - 1) to 2^(b-1) - 1.

    Attributes:
      tile_rows: rows of an array; 0 for as many as a layer needs.
      tile_columns: columns of an array, over which a backward product sums; 0 for as
        many as a layer needs.
      dac_bits: width of the digital-to-analog converters (DACs) of the inputs in the
        forward pass, bits, 2 to 16; 0 for none.
      adc_bits: width of the analog-to-digital converters (ADCs) of the sums in the
        forward pass, bits, 2 to 16; 0 for none.
      error_dac_bits: width of the DACs of the errors in the backward pass, bits, 2 to
        16; 0 for none.
      error_adc_bits: width of the ADCs of the sums in the backward pass, bits, 2 to 16;
        0 for none.
      dac_range: how the largest input of a DAC is set in the forward pass: absmax, of
        each example (an image; a row of a matrix), as arrays see one after the other;
        fixed, to dac_bound; running, a mean over past batches. In the backward pass it
        is always absmax: errors shrink a thousandfold in training, and differ as much
        between examples.
      adc_range: how the largest sum of an ADC is set in the forward pass: absmax, of
        each example and tile, over all columns and groups of the tile; fixed, to
        adc_bound; running, a mean over past batches. In the backward pass it is always
        absmax.
      dac_bound: largest input of a DAC whose range is fixed, 1e-6 to 1e6.
      adc_bound: largest sum of an ADC whose range is fixed, in units of the largest
        input times the largest weight of the layer, or of a matrix of its own in a
        stack, 1e-6 to 1e6.
      range_momentum: share of a running range that one batch keeps, 0 to below 1.
      adc_noise: standard deviation of the noise of a sum as an ADC reads it, in both
        passes, as a share of the ADC's range, 0 to 1 (0.004 is 0.04 at a bound of 10,
        the standard of IBM's aihwkit). Every read takes a new key, from the layer's
        stream "crossbar". Drawing it takes longer than the product, on a CPU.
    """

    tile_rows: int = 256
    tile_columns: int = 256
    dac_bits: int = 8
    adc_bits: int = 8
    error_dac_bits: int = 8
    error_adc_bits: int = 8
    dac_range: Range = "absmax"
    adc_range: Range = "absmax"
    dac_bound: float = 4.0
    adc_bound: float = 10.0
    range_momentum: float = 0.99
    adc_noise: float = 0.0

    def __post_init__(self):
        for name in ("tile_rows", "tile_columns"):
            checks.integer(name, getattr(self, name), 0)
        for name in ("dac_bits", "adc_bits", "error_dac_bits", "error_adc_bits"):
            checks.integer(name, getattr(self, name), 0, 16)
            if getattr(self, name) == 1:
                raise ValueError(f"{name}=1: must be 0 (none) or in [2, 16]")
        for name in ("dac_range", "adc_range"):
            checks.one_of(name, getattr(self, name), typing.get_args(Range))
        for name in ("dac_bound", "adc_bound"):
            checks.above(name, getattr(self, name), 0.0)
            # So that codes times bounds, and their inverses, stay in float32.
            checks.within(name, getattr(self, name), 1e-6, 1e6)
        checks.at_least("range_momentum", self.range_momentum, 0.0)
        checks.below("range_momentum", self.range_momentum, 1.0)
        checks.at_least("adc_noise", self.adc_noise, 0.0)
        checks.at_most("adc_noise", self.adc_noise, 1.0)

    @property
    def runs(self) -> bool:
        """Whether a range is a running mean, which needs state."""
        return (self.dac_bits > 0 and self.dac_range == "running") or (
            self.adc_bits > 0 and self.adc_range == "running"
        )
