"""What operations cost in energy: an estimate, by a table that can be replaced."""

import dataclasses
import json

from hic_jax import checks
from hic_jax.accounting.operations import Operations

_J_PER_PJ = 1e-12

# Rows of an array of which adc_conversion_pj is known.
_ROWS = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnergyTable:
    """Energy of each operation, pJ. All of it is an estimate.

    The defaults are figures of different hardware, none of it the simulated one: whole
    chips and single cells, of nodes from 90 to 14 nm, and all as others quote them.
    They tell orders of magnitude; replace them by those of your own hardware.

    What an array takes is known of one that is used in full, and networks seldom do:
    all of it is charged to the columns, as if those without weights were switched off.
    `full_arrays` and `whole_arrays` are the bounds of it.

    Attributes:
      analog_mac_pj: a multiply-accumulate by an array: 0, because it is included in
        adc_conversion_pj; for a table that parts them.
      dac_conversion_pj: a digital-to-analog conversion: 0, because it is included in
        adc_conversion_pj; for a table that parts them.
      adc_conversion_pj: an analog-to-digital conversion, with a column's share of all
        that the array takes: 52.3, of the 64-core HERMES chip in 14 nm, four devices
        per weight, 9.76 TOPS/W with one phase of reading, at which the 65,536
        multiplications of 256 columns take 13.4 nJ (Le Gallo et al., Nat. Electron.
        2023). With four phases it is 206; the core alone, 10.5 TOPS/W
        (Khaddam-Aljameh et al., VLSI 2021), has 48.8.
      idle_adc_conversion_pj: a conversion at a column, or row, without weights: 0,
        because it is switched off; as adc_conversion_pj where it is not.
      digital_mac_pj: a multiply-accumulate in 32 bits, memory included: 24, from
        14.35 uJ per training image of a perceptron of 198,760 weights, three products
        each (Nandakumar et al., Front. Neurosci. 14:406, 2020).
      gradient_mac_pj: a multiply-accumulate that makes the gradient of an analog
        weight: 0.312, from 62.03 nJ per image for the whole update of a perceptron of
        198,760 weights held by PCM (Nandakumar et al., Front. Neurosci. 14:406, 2020,
        as quoted by Li et al., arXiv:2510.02516), accumulation included.
      multilevel_set_pj: a SET pulse on a multi-level device: 13.5, that of a full SET
        of a cell (Lee et al., ISCA 2009); 45 according to Bedeschi et al. (150 ns). A
        partial one takes less. The pulses of two-sided devices, which take others, are
        charged as these.
      multilevel_reset_pj: a RESET pulse on a multi-level device: 19.2 (Lee et al., ISCA
        2009); 64.8 according to Bedeschi et al. (40 ns).
      multilevel_read_pj: a read of one multi-level device by itself: 2 (the cell of Lee
        et al., ISCA 2009, as in NVSim; Bedeschi et al. have the same).
      binary_set_pj: a SET pulse on a binary cell: 13.5, as multilevel_set_pj.
      binary_reset_pj: a RESET pulse on a binary cell: 19.2, as multilevel_reset_pj.
      binary_read_pj: a read of one binary cell by itself: 2, as multilevel_read_pj.
    """

    analog_mac_pj: float = 0.0
    dac_conversion_pj: float = 0.0
    adc_conversion_pj: float = 52.3
    idle_adc_conversion_pj: float = 0.0
    digital_mac_pj: float = 24.0
    gradient_mac_pj: float = 0.312
    multilevel_set_pj: float = 13.5
    multilevel_reset_pj: float = 19.2
    multilevel_read_pj: float = 2.0
    binary_set_pj: float = 13.5
    binary_reset_pj: float = 19.2
    binary_read_pj: float = 2.0

    def __post_init__(self):
        for name, value in vars(self).items():
            checks.at_least(name, value, 0.0)

    def full_arrays(self) -> "EnergyTable":
        """The table that charges arrays by multiplications, as if used in full.

        A lower bound: 256 rows share what a column takes.
        """
        return dataclasses.replace(
            self,
            analog_mac_pj=self.analog_mac_pj + self.adc_conversion_pj / _ROWS,
            adc_conversion_pj=0.0,
            idle_adc_conversion_pj=0.0,
        )

    def whole_arrays(self) -> "EnergyTable":
        """The table that charges whole arrays, as if nothing were ever switched off.

        An upper bound: columns without weights take what others do.
        """
        return dataclasses.replace(self, idle_adc_conversion_pj=self.adc_conversion_pj)

    @classmethod
    def from_json(cls, text: str) -> "EnergyTable":
        """A table from a JSON object; fields that it lacks have their defaults.

        Raises:
          ValueError: if it is no JSON object, or a field is unknown or no energy.
        """
        fields = json.loads(text)
        if not isinstance(fields, dict):
            raise ValueError("an energy table must be a JSON object of numbers in pJ")
        for name in fields:
            checks.one_of("field", name, [f.name for f in dataclasses.fields(cls)])
        return cls(**fields)


def energy(operations: Operations, table: EnergyTable) -> dict[str, float]:
    """Energy of operations: an estimate, in J.

    Args:
      operations: how many there are.
      table: energy of each.

    Returns:
      J for every kind of operation, by its name in `Operations`, and their ``total``.
      (Reads of devices in products are part of the multiply-accumulates.)

    Examples:
      >>> ops = Operations(adc_conversions=10**7, binary_sets=10**6)
      >>> print(f"{energy(ops, EnergyTable())['total']:.3g} J")
      0.000536 J
    """
    parts = {
        name: count * _J_PER_PJ * getattr(table, f"{name.removesuffix('s')}_pj")
        for name, count in vars(operations).items()
        if name != "product_reads"
    }
    return parts | {"total": sum(parts.values())}
