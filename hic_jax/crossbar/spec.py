"""`CrossbarSpec`: the arrays and converters around the devices."""

import dataclasses

from hic_jax import checks

RANGES = ("absmax", "fixed", "running")


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
      tile_columns: columns of an array, which a backward product sums over; 0 likewise.
      dac_bits: width of the inputs' converters, 2 to 16; 0 is none.
      adc_bits: width of the outputs' converters, 2 to 16; 0 is none.
      error_dac_bits: of the converters for errors in the backward pass.
      error_adc_bits: of the converters for what comes of them.
      dac_range: how the largest input is set: absmax, of each example (an image; a
        row of a matrix), as arrays see one after the other; fixed, to dac_bound;
        running, a mean over past batches (see `hic_jax.crossbar.running`). Errors
        shrink a thousandfold in training, and differ as much between examples: theirs
        is always absmax.
      adc_range: likewise for the sums; absmax is each tile's own, over all its columns
        and groups.
      dac_bound: largest input where that is fixed.
      adc_bound: largest sum where that is fixed, in units of the largest input times
        the largest weight of the layer.
      range_momentum: share of a running range that one batch keeps.
      adc_noise: standard deviation of the noise of a sum as it is read, in both
        passes, as a share of the converter's range (0.004 is 0.04 at a bound of 10,
        the standard of IBM's aihwkit). Every read takes a new key (see
        `hic_jax.crossbar.linen` and `hic_jax.crossbar.nnx`). Drawing it takes longer
        than the product, on a CPU.
    """

    tile_rows: int = 256
    tile_columns: int = 256
    dac_bits: int = 8
    adc_bits: int = 8
    error_dac_bits: int = 8
    error_adc_bits: int = 8
    dac_range: str = "absmax"
    adc_range: str = "absmax"
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
            checks.one_of(name, getattr(self, name), RANGES)
        for name in ("dac_bound", "adc_bound"):
            checks.above(name, getattr(self, name), 0.0)
        checks.at_least("range_momentum", self.range_momentum, 0.0)
        checks.below("range_momentum", self.range_momentum, 1.0)
        checks.at_least("adc_noise", self.adc_noise, 0.0)

    @property
    def runs(self) -> bool:
        """Whether a range is a running mean, which needs state."""
        return (self.dac_bits > 0 and self.dac_range == "running") or (
            self.adc_bits > 0 and self.adc_range == "running"
        )
