"""What operations cost in energy: an estimate, by a table that can be replaced."""

import dataclasses
import json

from hic_jax import checks
from hic_jax.accounting.operations import Operations

_J_PER_PJ = 1e-12


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnergyTable:
    """Energy of each operation, pJ. All of it is an estimate.

    The defaults are figures of different hardware, none of it the simulated one: whole
    chips and single cells, of nodes from 90 to 14 nm, and all as others quote them.
    They tell orders of magnitude; replace them by those of your own hardware.

    Attributes:
      analog_mac_pj: a multiply-accumulate by an array, with its share of the
        converters: 0.205, of the 64-core HERMES chip in 14 nm, four devices per weight,
        9.76 TOPS/W with one phase of reading, at which 65,536 take 13.4 nJ (Le Gallo et
        al., Nat. Electron. 2023). With four phases it is 0.81; the core alone, 10.5
        TOPS/W (Khaddam-Aljameh et al., VLSI 2021), has 0.19. These hold for an array
        that is used in full: with few of its rows or columns in use, the converters'
        share per multiplication is larger.
      dac_conversion_pj: a digital-to-analog conversion: 0, because it is included in
        analog_mac_pj; for a table that parts them.
      adc_conversion_pj: an analog-to-digital conversion: 0, because it is included in
        analog_mac_pj; for a table that parts them.
      digital_mac_pj: a multiply-accumulate in 32 bits, memory included: 24, from
        14.35 uJ per training image of a perceptron of 198,760 weights, three products
        each (Nandakumar et al., Front. Neurosci. 14:406, 2020).
      gradient_mac_pj: a multiply-accumulate that makes the gradient of an analog
        weight: 0.312, from 62.03 nJ per image for the whole update of a perceptron of
        198,760 weights held by PCM (Nandakumar et al., Front. Neurosci. 14:406, 2020,
        as quoted by Li et al., arXiv:2510.02516), accumulation included.
      multilevel_set_pj: a SET pulse on a multi-level device: 13.5, that of a full SET
        of a cell (Lee et al., ISCA 2009); 45 according to Bedeschi et al. (150 ns). A
        partial one takes less.
      multilevel_reset_pj: a RESET pulse on a multi-level device: 19.2 (Lee et al., ISCA
        2009); 64.8 according to Bedeschi et al. (40 ns).
      multilevel_read_pj: a read of one multi-level device by itself: 2 (the cell of Lee
        et al., ISCA 2009, as in NVSim; Bedeschi et al. have the same).
      binary_set_pj: a SET pulse on a binary cell: 13.5, as multilevel_set_pj.
      binary_reset_pj: a RESET pulse on a binary cell: 19.2, as multilevel_reset_pj.
      binary_read_pj: a read of one binary cell by itself: 2, as multilevel_read_pj.
    """

    analog_mac_pj: float = 0.205
    dac_conversion_pj: float = 0.0
    adc_conversion_pj: float = 0.0
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
      >>> ops = Operations(analog_macs=10**9, binary_sets=10**6)
      >>> print(f"{energy(ops, EnergyTable())['total']:.3g} J")
      0.000218 J
    """
    parts = {
        name: count * _J_PER_PJ * getattr(table, f"{name.removesuffix('s')}_pj")
        for name, count in vars(operations).items()
        if name != "product_reads"
    }
    return parts | {"total": sum(parts.values())}
