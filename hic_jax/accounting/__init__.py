"""What a network of hybrid weights costs: memory, wear, operations, energy."""

from hic_jax.accounting.size import model_size, optimizer_bits
from hic_jax.accounting.wear import ENDURANCE_CYCLES, device_pulses, endurance

__all__ = [
    "ENDURANCE_CYCLES",
    "device_pulses",
    "endurance",
    "model_size",
    "optimizer_bits",
]
